--- URLs of the http scheme: taken apart, joined, and made of tables.

local crypto = require "perigee.crypto"
local errors = require "perigee.error"

local M = {}

---@class perigee.Url
---@field scheme string    # "http" or "https"
---@field host string      # lower case, without brackets
---@field port integer
---@field authority string # host and port as the Host field has them
---@field target string    # path and query, escaped
---@field user string?     # "user:password", as it was

local PORTS = { http = 80, https = 443 }

-- Said without what may be secret: credentials, the query.
local function bad(url, why)
  local shown = url:match("^[^?#]*"):gsub("^(.-://)[^/]*@", "%1")
  local err = errors.new("invalid", "%s: %s", shown:sub(1, 200), why)
  err.code = "bad_url"
  return nil, err
end

local function percent(char)
  return ("%%%02X"):format(char:byte())
end

--- Escapes all but letters, digits and -._~ (a blank becomes %20).
---@param text string|number
---@return string
function M.escape(text)
  return (tostring(text):gsub("[^%w%-%._~]", percent))
end

local function form_escape(text)
  return (M.escape(text):gsub("%%20", "+"))
end

local function add_pairs(parts, key, value, escape)
  if type(value) == "table" then
    for _, each in ipairs(value) do
      parts[#parts + 1] = escape(key) .. "=" .. escape(tostring(each))
    end
  else
    parts[#parts + 1] = escape(key) .. "=" .. escape(tostring(value))
  end
end

--- { a = 1, b = { 2, 3 } } -> "a=1&b=2&b=3", in order of the keys.
---@param values table
---@param form boolean? # as a form has it: + for a blank
---@return string
function M.encode(values, form)
  local keys, parts = {}, {}
  for key in pairs(values) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    add_pairs(parts, key, values[key], form and form_escape or M.escape)
  end
  return table.concat(parts, "&")
end

local function split_port(authority)
  local host, port = authority:match "^(%[[%x:%.]+%]):?(%d*)$"
  if host then
    return host:sub(2, -2), port
  end
  return authority:match "^([%w%-%._]+):?(%d*)$"
end

-- What browsers escape in a target, so that no byte can break the line.
local function clean_target(target)
  return (target:gsub('[%z\1-\32"<>\\^`{|}\127-\255]', percent))
end

--- Takes an http or https URL apart; its fragment is dropped.
---@param url string
---@return perigee.Url? parts
---@return perigee.Error? err # kind "invalid", code "bad_url"
function M.parse(url)
  if url:find "%c" then
    return bad(url, "a URL without control characters expected")
  end
  local scheme, rest = url:match "^(%a[%w+.-]*)://(.*)$"
  scheme = scheme and scheme:lower()
  if not PORTS[scheme] then
    return bad(url, "a URL with http:// or https:// expected")
  end
  local authority, target = rest:gsub("#.*$", ""):match "^([^/?\\]*)(.*)$"
  local user, place = authority:match "^(.*)@(.*)$"
  local host, port = split_port(place or authority)
  local number = tonumber(port ~= "" and port or PORTS[scheme])
  if not host or not number or number < 1 or number > 65535 then
    return bad(url, "malformed host or port")
  end
  host = host:lower()
  local shown = host:find(":", 1, true) and "[" .. host .. "]" or host
  return {
    scheme = scheme,
    host = host,
    port = number,
    authority = number == PORTS[scheme] and shown or shown .. ":" .. number,
    target = clean_target(target:sub(1, 1) == "/" and target or "/" .. target),
    user = user,
  }
end

--- The credentials of HTTP's Basic scheme that a URL's "user:password" means; a
--- user without a password has an empty one.
---@param user string
---@return string
function M.basic(user)
  local name, password = user:match "^([^:]*):?(.*)$"
  local text = (name .. ":" .. password):gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end)
  return "Basic " .. crypto.base64.encode(text)
end

--- With more behind the query.
---@param target string
---@param query string
---@return string
function M.with_query(target, query)
  if query == "" then
    return target
  end
  return target .. (target:find("?", 1, true) and "&" or "?") .. query
end

-- RFC 3986, section 5.2.4.
local function remove_dots(path)
  local out = {}
  local last = path:match "/%.%.?$" and "/" or ""
  for segment in path:gmatch "/([^/]*)" do
    if segment == ".." then
      out[#out] = nil
    elseif segment ~= "." then
      out[#out + 1] = segment
    end
  end
  local joined = "/" .. table.concat(out, "/")
  return last ~= "" and joined:sub(-1) ~= "/" and joined .. "/" or joined
end

--- Where a Location leads that came with an answer from base.
---@param base perigee.Url
---@param location string
---@return perigee.Url? parts
---@return perigee.Error? err
function M.resolve(base, location)
  if location:find "^%a[%w+.-]*:" then
    return M.parse(location)
  end
  if location:sub(1, 2) == "//" then
    return M.parse(base.scheme .. ":" .. location)
  end
  local prefix = base.scheme .. "://" .. base.authority
  local path = base.target:match "^[^?]*"
  local own, query = location:gsub("#.*$", ""):match "^([^?]*)(.*)$"
  if own == "" then
    own = path
    query = query ~= "" and query or base.target:sub(#path + 1)
  elseif own:sub(1, 1) ~= "/" then
    own = path:match "^.*/" .. own
  end
  return M.parse(prefix .. remove_dots(own) .. query)
end

return M
