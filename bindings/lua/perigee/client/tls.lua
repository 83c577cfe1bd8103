--- The option `tls` of requests: whom to trust, and as whom to go.

local options = require "perigee.options"

local M = {}

local blame = options.blame

local TYPES = { ca = "string", cert = "string", key = "string",
  verify = "boolean", server_name = "string", min_version = "string" }

local NOTHING = {}

local function refuse(what)
  blame("tls" .. what)
end

--- What C is to know of it; raises for a wrong call.
---@param given perigee.TlsOptions
---@return table
function M.check(given)
  options.check(given, TYPES, "tls")
  for name, value in pairs(given) do
    if type(value) ~= TYPES[name] then
      refuse((".%s: a %s expected"):format(name, TYPES[name]))
    end
  end
  if (given.cert == nil) ~= (given.key == nil) then
    refuse(": cert and key go together")
  end
  local version = given.min_version
  if version and version ~= "1.2" and version ~= "1.3" then
    refuse('.min_version: "1.2" or "1.3" expected')
  end
  return { ca = given.ca, cert = given.cert, key = given.key,
    insecure = given.verify == false, server_name = given.server_name,
    from_1_3 = version == "1.3" }
end

--- The same for one URL; nil for plain http.
---@param tls table? # of check
---@param url perigee.Url
---@return table?
function M.for_url(tls, url)
  if url.scheme ~= "https" then
    return nil
  end
  tls = tls or NOTHING
  return { ca = tls.ca, cert = tls.cert, key = tls.key,
    insecure = tls.insecure, from_1_3 = tls.from_1_3,
    server_name = tls.server_name or url.host }
end

--- Another host is trusted by the same rules, and is not told who we are.
---@param tls table?
function M.stray(tls)
  if tls then
    tls.cert, tls.key, tls.server_name = nil, nil, nil
  end
end

return M
