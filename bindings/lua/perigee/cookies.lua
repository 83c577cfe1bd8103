--- A cookie jar for the HTTP client: RFC 6265, kept in memory.
---
--- It knows no list of public suffixes: a cookie for a domain without a dot, or
--- for an address, stays with its host.

local time = require "perigee.time"

local M = {}

local COOKIES_MAX = 1000
local PER_DOMAIN_MAX = 50
local COOKIE_MAX_BYTES = 4096

local MONTHS = {}
for i, name in ipairs { "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug",
  "sep", "oct", "nov", "dec" } do
  MONTHS[name] = i
end

---@class perigee.CookieJar
---@field private list table[]
local Jar = {}
Jar.__index = Jar

-- Days since 1970 of a date of the Gregorian calendar.
local function days_of(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (month - 3) + 2) / 5) + day - 1
  return era * 146097 + of_era * 365 + math.floor(of_era / 4)
    - math.floor(of_era / 100) + of_year - 719468
end

-- Any of the forms that servers write, as RFC 6265, section 5.1.1; nil: none.
local function date_of(text)
  local hour, minute, second = text:match "(%d%d?):(%d%d?):(%d%d?)"
  local rest = text:gsub("%d%d?:%d%d?:%d%d?", " ")
  local month = MONTHS[(rest:lower():match "%f[%a](%a%a%a)%a*[%s-]+%d%d%d*"
    or rest:lower():match "%d%d?[%s-]+(%a%a%a)" or "")]
  local day = tonumber((rest:match "%f[%d](%d%d?)%f[%D]"))
  local year = tonumber((rest:match "(%d%d%d%d)"
    or rest:match "%-(%d%d)%f[%D]"))
  if not (hour and month and day and year) then
    return nil
  end
  if year < 100 then
    year = year + (year >= 70 and 1900 or 2000)
  end
  return (days_of(year, month, day) * 86400 + hour * 3600 + minute * 60
    + second) * 1000
end

local function is_address(host)
  return host:find(":", 1, true) ~= nil or host:find "^[%d.]+$" ~= nil
end

local function domain_matches(host, domain)
  return host == domain or not is_address(host)
    and host:sub(-#domain - 1) == "." .. domain
end

local function path_matches(path, wanted)
  return path == wanted or path:sub(1, #wanted) == wanted
    and (wanted:sub(-1) == "/" or path:sub(#wanted + 1, #wanted + 1) == "/")
end

local function default_path(path)
  local folder = path:match "^(/.*)/[^/]*$"
  return folder or "/"
end

local function trim(text)
  return text:match "^[ \t]*(.-)[ \t]*$"
end

-- What a Set-Cookie from that URL means; nil: nothing that is kept.
local function parse(url, text)
  local pair, rest = text:match "^([^;]*)(.*)$"
  local name, value = pair:match "^([^=]*)=(.*)$"
  if not name or #text > COOKIE_MAX_BYTES
    or text:find "[%z\1-\8\10-\31\127]" then
    return nil
  end
  local cookie = { name = trim(name), value = trim(value), host_only = true,
    domain = url.host, path = default_path(url.path) }
  local max_age
  for part in rest:gmatch ";([^;]*)" do
    local key, given = part:match "^([^=]*)=?(.*)$"
    key, given = trim(key):lower(), trim(given)
    if key == "expires" then
      cookie.until_ms = date_of(given)
    elseif key == "max-age" and given:find "^%-?%d+$" then
      max_age = tonumber(given)
    elseif key == "domain" and given ~= "" then
      cookie.domain, cookie.host_only = given:lower():gsub("^%.", ""), false
    elseif key == "path" and given:sub(1, 1) == "/" then
      cookie.path = given
    elseif key == "secure" then
      cookie.secure = true
    end
  end
  if max_age then
    cookie.until_ms = max_age <= 0 and 0 or time.now() + max_age * 1000
  end
  if cookie.name == "" or not domain_matches(url.host, cookie.domain)
    or cookie.secure and url.scheme ~= "https" then
    return nil
  end
  if cookie.domain == url.host or not cookie.domain:find(".", 1, true) then
    cookie.host_only = cookie.host_only or is_address(url.host)
      or not cookie.domain:find(".", 1, true)
  end
  return cookie
end

local function is_same(a, b)
  return a.name == b.name and a.domain == b.domain and a.path == b.path
end

local function drop(list, unwanted)
  local kept = {}
  for _, cookie in ipairs(list) do
    if not unwanted(cookie) then
      kept[#kept + 1] = cookie
    end
  end
  return kept
end

-- The oldest ones make room.
local function make_room(list, domain)
  local same, first = 0, nil
  for i, cookie in ipairs(list) do
    if cookie.domain == domain then
      same, first = same + 1, first or i
    end
  end
  if same >= PER_DOMAIN_MAX then
    table.remove(list, first)
  elseif #list >= COOKIES_MAX then
    table.remove(list, 1)
  end
end

local function place_of(url)
  return { host = url.host, scheme = url.scheme,
    path = url.target:match "^[^?]*" }
end

--- Keeps what an answer's Set-Cookie fields say.
---@param url perigee.Url
---@param fields string|string[]|nil
function Jar:store(url, fields)
  local place = place_of(url)
  for _, text in ipairs(type(fields) == "table" and fields or { fields }) do
    local cookie = parse(place, text)
    if cookie then
      self.list = drop(self.list, function(other)
        return is_same(cookie, other)
      end)
      if not cookie.until_ms or cookie.until_ms > time.now() then
        make_room(self.list, cookie.domain)
        self.list[#self.list + 1] = cookie
      end
    end
  end
end

--- The Cookie field for a request; nil: none is due.
---@param url perigee.Url
---@return string?
function Jar:header(url)
  local place, now_ms, due = place_of(url), time.now(), {}
  self.list = drop(self.list, function(cookie)
    return cookie.until_ms and cookie.until_ms <= now_ms
  end)
  for order, cookie in ipairs(self.list) do
    local host_fits = cookie.host_only and place.host == cookie.domain
      or not cookie.host_only and domain_matches(place.host, cookie.domain)
    if host_fits and path_matches(place.path, cookie.path)
      and (not cookie.secure or place.scheme == "https") then
      due[#due + 1] = { cookie = cookie, order = order }
    end
  end
  table.sort(due, function(a, b)
    if #a.cookie.path ~= #b.cookie.path then
      return #a.cookie.path > #b.cookie.path
    end
    return a.order < b.order
  end)
  for i, entry in ipairs(due) do
    due[i] = entry.cookie.name .. "=" .. entry.cookie.value
  end
  return due[1] and table.concat(due, "; ") or nil
end

--- The value of the cookie of that name; the newest, when there are several.
---@param name string
---@return string?
function Jar:get(name)
  for i = #self.list, 1, -1 do
    if self.list[i].name == name then
      return self.list[i].value
    end
  end
  return nil
end

--- Forgets all.
function Jar:clear()
  self.list = {}
end

--- An empty jar: the option `cookies` of requests that share it.
---@return perigee.CookieJar
function M.jar()
  return setmetatable({ list = {} }, Jar)
end

--- The Cookie field for what the option `cookies` is.
---@param cookies perigee.CookieJar|table<string, string>
---@param url perigee.Url
---@return string?
function M.header(cookies, url)
  if getmetatable(cookies) == Jar then
    return cookies:header(url)
  end
  local parts = {}
  for name, value in pairs(cookies) do
    if type(name) ~= "string" or name:find '[^%w!#$%%&\'*+%-.^_`|~]'
      or tostring(value):find '[%c%s",;\\]' then
      error("cookies: a name or value that a cookie cannot carry", 0)
    end
    parts[#parts + 1] = name .. "=" .. tostring(value)
  end
  table.sort(parts)
  return parts[1] and table.concat(parts, "; ") or nil
end

--- Whether answers are to be kept in it.
---@param cookies any
---@return boolean
function M.is_jar(cookies)
  return getmetatable(cookies) == Jar
end

return M
