--- Which proxy a request goes through, if any.

local config = require "perigee.config"
local errors = require "perigee.error"
local urls = require "perigee.url"

local M = {}

local PROXY = config.get "client.proxy"
local NO_PROXY = config.get "client.no_proxy"

local function from_environment(scheme)
  for _, name in ipairs { scheme .. "_proxy", "all_proxy" } do
    -- HTTP_PROXY in capitals is a header's name in CGI: not heeded.
    local value = os.getenv(name)
      or name ~= "http_proxy" and os.getenv(name:upper())
    if value and value ~= "" then
      return value
    end
  end
  return nil
end

-- One entry of a no_proxy list: a host, a domain with what is below it, either
-- with a port; or "*".
local function is_exempt(entry, url)
  local host, port = entry:match "^(.-):(%d+)$"
  if host and not host:find(":", 1, true) then
    if tonumber(port) ~= url.port then
      return false
    end
    entry = host
  end
  entry = entry:lower():gsub("^%[(.*)%]$", "%1"):gsub("^%*?%.", "")
  return entry == "*" or url.host == entry
    or entry ~= "" and url.host:sub(-#entry - 1) == "." .. entry
end

local function goes_direct(list, url)
  for entry in (list or ""):gmatch "[^%s,]+" do
    if is_exempt(entry, url) then
      return true
    end
  end
  return false
end

local function refuse(text, ...)
  local err = errors.new("invalid", text, ...)
  err.code = "bad_proxy"
  return nil, err
end

--- The proxy for a URL: { host, port, authorization }, false for none; or nil
--- and an error. choice is the option of the request; nil: the configuration's.
---@param url perigee.Url
---@param choice string|boolean|nil # a URL, "env", or false
---@param no_proxy string? # of the request
---@return table|false|nil proxy
---@return perigee.Error? err
function M.find(url, choice, no_proxy)
  if choice == nil then
    choice = PROXY
    no_proxy = no_proxy or NO_PROXY
  end
  if choice == "env" then
    choice = from_environment(url.scheme)
    no_proxy = no_proxy or os.getenv "no_proxy" or os.getenv "NO_PROXY"
  end
  if not choice or choice == "" or goes_direct(no_proxy, url) then
    return false
  end
  if not choice:find "://" then
    choice = "http://" .. choice
  end
  local proxy, err = urls.parse(choice)
  if not proxy then
    return nil, err
  end
  if proxy.scheme ~= "http" then
    return refuse("proxy: a proxy that is spoken to by http:// expected")
  end
  return {
    host = proxy.host, port = proxy.port,
    authorization = proxy.user and urls.basic(proxy.user),
  }
end

return M
