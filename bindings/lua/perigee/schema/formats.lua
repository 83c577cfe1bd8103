--- The formats of JSON Schema 2020-12 that are checked: functions that say
--- whether a string has the format.

local regex = require "perigee.schema.regex"

local M = {}

local DAYS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_date(text)
  local year, month, day = text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)$")
  if not year then
    return false
  end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  local last = DAYS[month]
  if month == 2 and (year % 4 == 0 and year % 100 ~= 0 or year % 400 == 0) then
    last = 29
  end
  return last ~= nil and day >= 1 and day <= last
end

-- RFC 3339, full-time. A leap second is 23:59:60 UTC.
local function is_time(text)
  local hour, minute, second, rest =
    text:match("^(%d%d):(%d%d):(%d%d)(.*)$")
  if not hour then
    return false
  end
  rest = rest:gsub("^%.%d+", "")
  local sign, off_hour, off_minute = rest:match("^([+-])(%d%d):(%d%d)$")
  if not sign and rest ~= "Z" and rest ~= "z" then
    return false
  end
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  off_hour, off_minute = tonumber(off_hour or 0), tonumber(off_minute or 0)
  if hour > 23 or minute > 59 or off_hour > 23 or off_minute > 59 then
    return false
  end
  if second < 60 then
    return true
  end
  local offset = off_hour * 60 + off_minute
  local utc = hour * 60 + minute - (sign == "-" and -offset or offset)
  return second == 60 and utc % 1440 == 1439
end

local function is_date_time(text)
  local date, time = text:match("^(.-)[Tt ](.+)$")
  return date ~= nil and text:sub(11, 11) ~= " " and is_date(date)
    and is_time(time)
end

-- RFC 3339, appendix A.
local is_duration = regex.new(
  "^P(?:[0-9]+W|(?=[0-9T])(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?"
    .. "|[0-9]+M(?:[0-9]+D)?|[0-9]+D)?(?:T(?=[0-9])"
    .. "(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S))?)$")

local function is_hostname(text)
  if #text > 253 or text == "" then
    return false
  end
  for label in (text .. "."):gmatch("([^.]*)%.") do
    if #label > 63 or not label:find("^%w[%w-]*$") or label:sub(-1) == "-" then
      return false
    end
  end
  return true
end

local function is_ipv4(text)
  local a, b, c, d =
    text:match("^(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)$")
  if not a then
    return false
  end
  for _, part in ipairs { a, b, c, d } do
    if tonumber(part) > 255 or #part > 1 and part:sub(1, 1) == "0" then
      return false
    end
  end
  return true
end

-- Groups of hexadecimal digits; how many, or nil.
local function count_groups(text)
  if text == "" then
    return 0
  end
  local count = 0
  for group in (text .. ":"):gmatch("([^:]*):") do
    if not group:find("^%x%x?%x?%x?$") then
      return nil
    end
    count = count + 1
  end
  return count
end

local function is_ipv6(text)
  local front, last = text:match("^(.*:)(%d+%.%d+%.%d+%.%d+)$")
  if front then
    if not is_ipv4(last) then
      return false
    end
    text = front .. "0:0" -- as two groups
  end
  local left, right = text:match("^(.-)::(.*)$")
  if not left then
    return count_groups(text) == 8
  end
  if right:find("::", 1, true) then
    return false
  end
  local a, b = count_groups(left), count_groups(right)
  return a ~= nil and b ~= nil and a + b <= 7
end

local ATOM = "^[%w!#$%%&'*+/=?^_`{|}~-]+$"

local function is_local_part(text)
  if text:find('^".*"$') then
    return #text > 2 and not text:sub(2, -2):find('[%c"\\]')
  end
  if text == "" or #text > 64 then
    return false
  end
  for atom in (text .. "."):gmatch("([^.]*)%.") do
    if not atom:find(ATOM) then
      return false
    end
  end
  return true
end

local function is_email(text)
  local name, host = text:match("^(.+)@([^@]+)$")
  if not name or not is_local_part(name) then
    return false
  end
  local literal = host:match("^%[(.*)%]$")
  if literal then
    return is_ipv4(literal)
      or literal:sub(1, 5) == "IPv6:" and is_ipv6(literal:sub(6))
  end
  return is_hostname(host)
end

local URI_CHARACTERS = "^[%w%-._~:/?#%[%]@!$&'()*+,;=%%]*$"

local function is_authority(text)
  local host = text:gsub("^[^@]*@", "")
  local inside, port = host:match("^%[(.-)%](.*)$")
  if inside then
    return (is_ipv6(inside) or inside:find("^[vV]%x+%.[%w%-._~:!$&'()*+,;=]+$")
      ~= nil) and port:find("^:?%d*$") ~= nil
  end
  return not host:find("[%[%]]") and host:find("^[^:]*:?%d*$") ~= nil
    and not text:find("[@].*[@]")
end

local function is_reference(text)
  if not text:find(URI_CHARACTERS) then
    return false
  end
  if text:gsub("%%%x%x", ""):find("%", 1, true) then
    return false
  end
  local front, fragment = text:match("^([^#]*)#?(.*)$")
  if fragment:find("[#%[%]]") then
    return false
  end
  local rest = front:gsub("^%a[%w+.-]*:", "")
  local authority, path = rest:match("^//([^/?]*)(.*)$")
  if authority then
    return is_authority(authority) and not path:find("[%[%]]")
  end
  -- Without a scheme the first segment has no colon.
  return not rest:find("[%[%]]")
    and (rest ~= front or not rest:find("^[^/?]*:"))
end

local function is_uri(text)
  return text:find("^%a[%w+.-]*:") ~= nil and is_reference(text)
end

-- Characters over U+007F count as ordinary ones.
local function as_ascii(text)
  return (text:gsub("[\128-\255]+", "a"))
end

local function is_uuid(text)
  return #text == 36 and text:find(
    "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"
  ) ~= nil
end

local function is_pointer(text)
  return (text == "" or text:sub(1, 1) == "/") and not text:find("~[^01]")
    and text:sub(-1) ~= "~"
end

local function is_relative_pointer(text)
  local digits, rest = text:match("^(%d+)(.*)$")
  return digits ~= nil and (digits == "0" or digits:sub(1, 1) ~= "0")
    and (rest == "#" or is_pointer(rest))
end

local function is_template(text)
  if text:find('[%c "\'<>\\^`|]') then
    return false
  end
  local outside = text:gsub("{[+#./;?&]?[%w_.%%,:*]+}", "")
  return not outside:find("[{}]")
end

M.checks = {
  date = is_date,
  time = is_time,
  ["date-time"] = is_date_time,
  duration = is_duration,
  email = is_email,
  ["idn-email"] = function(text)
    return is_email(as_ascii(text))
  end,
  hostname = is_hostname,
  ["idn-hostname"] = function(text)
    return is_hostname(as_ascii(text))
  end,
  ipv4 = is_ipv4,
  ipv6 = is_ipv6,
  uri = is_uri,
  ["uri-reference"] = is_reference,
  iri = function(text)
    return is_uri(as_ascii(text))
  end,
  ["iri-reference"] = function(text)
    return is_reference(as_ascii(text))
  end,
  ["uri-template"] = is_template,
  uuid = is_uuid,
  ["json-pointer"] = is_pointer,
  ["relative-json-pointer"] = is_relative_pointer,
  regex = function(text)
    return regex.new(text) ~= nil
  end,
}

return M
