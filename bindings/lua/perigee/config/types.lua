--- Types of settings: what a value may be, how text becomes one, and how it is
--- written down in the effective configuration (times in milliseconds, sizes in
--- bytes).

local json = require "perigee.json"
local suggest = require "perigee.config.suggest"

local M = {}

---@class perigee.config.Type
---@field kind string
---@field default any
---@field secret boolean?    # masked wherever configuration is shown
---@field required boolean?
---@field min number?
---@field max number?
---@field values string[]?   # of an enum
---@field of perigee.config.Type?      # of a list's or a map's values
---@field fields table<string, perigee.config.Type>?  # of a section
---@field options perigee.config.Type[]?  # of a union, tried in turn
---@field check (fun(value: any): string?)?  # what is wrong with it, or nil

local DURATION_UNITS = { ms = 1, s = 1000, m = 60000, h = 3600000,
  d = 86400000 }
local SIZE_UNITS = { b = 1, k = 1024, kb = 1024, kib = 1024,
  m = 1048576, mb = 1048576, mib = 1048576,
  g = 1073741824, gb = 1073741824, gib = 1073741824 }

-- What timers take, and what C keeps such numbers in.
local DURATION_MAX = 2147483647
local EXACT_MAX = 9007199254740992

local function constructor(kind)
  return function(attributes)
    local result = { kind = kind }
    for key, value in pairs(attributes or {}) do
      result[key] = value
    end
    return result
  end
end

M.boolean = constructor "boolean"
M.integer = constructor "integer"
M.number = constructor "number"
M.string = constructor "string"
M.duration = constructor "duration"
M.size = constructor "size"
M.enum = constructor "enum"
M.list = constructor "list"
M.map = constructor "map"
M.union = constructor "union"
M.open = constructor "open"
M.off = constructor "off" -- false, where something else may stand instead

--- A table with these keys and no others.
---@param fields table<string, perigee.config.Type>
---@param attributes table?
function M.section(fields, attributes)
  local result = constructor "section"(attributes)
  result.fields = fields
  return result
end

local ARRAY = getmetatable(json.array {})

--- Marks a table as a list, so that an empty one stays `[]`.
M.array = json.array

--- Whether a table counts as a list: marked, or with something at 1.
function M.is_list(value)
  return getmetatable(value) == ARRAY or value[1] ~= nil
end

local function quote(value)
  if type(value) == "string" then
    return #value > 60 and '"' .. value:sub(1, 57) .. '..."'
      or '"' .. value .. '"'
  end
  if type(value) == "table" then
    return M.is_list(value) and "a list" or "a table"
  end
  if type(value) == "function" then
    return "a function"
  end
  return tostring(value)
end
M.quote = quote

local function bounds(what, t)
  local min, max = t.min, t.max
  if min and max then
    return ("%s from %s to %s"):format(what, min, max)
  elseif min == 0 then
    return what .. " that is not negative"
  elseif min then
    return ("%s of at least %s"):format(what, min)
  elseif max then
    return ("%s of at most %s"):format(what, max)
  end
  return what
end

-- The same for what has a unit; from 0 on goes without saying.
local function bounds_in(what, t, unit)
  local min = t.min and t.min > 0 and t.min or nil
  if not min and not t.max then
    return what
  end
  return bounds(what, { min = min, max = t.max }) .. " " .. unit
end

local describe

local DESCRIBE = {
  boolean = function() return "true or false" end,
  integer = function(t) return bounds("an integer", t) end,
  number = function(t) return bounds("a number", t) end,
  string = function() return "a string" end,
  duration = function(t)
    return bounds_in('a duration ("500ms", "30s", "5m" or milliseconds)', t,
      "ms")
  end,
  size = function(t)
    return bounds_in('a size ("64kb", "16mb" or bytes)', t, "bytes")
  end,
  enum = function(t)
    return 'one of "' .. table.concat(t.values, '", "') .. '"'
  end,
  list = function() return "a list" end,
  map = function() return "a table" end,
  section = function() return "a table" end,
  open = function() return "a value" end,
  off = function() return "false" end,
  union = function(t)
    local texts = {}
    for i, option in ipairs(t.options) do
      texts[i] = describe(option)
    end
    return table.concat(texts, ", or ")
  end,
}

function describe(t)
  return t.describe or DESCRIBE[t.kind](t)
end
M.describe = describe

local function in_bounds(number, t)
  return (not t.min or number >= t.min) and (not t.max or number <= t.max)
end

local function is_integer(value)
  return type(value) == "number" and value == math.floor(value)
    and value > -EXACT_MAX and value < EXACT_MAX
end

-- "1.5s" -> 1500; nil when it is none.
local function with_unit(value, units)
  if type(value) == "number" then
    return value == value and value or nil
  end
  if type(value) ~= "string" then
    return nil
  end
  local digits, unit = value:match "^%s*(%d+%.?%d*)%s*(%a*)%s*$"
  if not digits then
    return nil
  end
  local factor = unit == "" and 1 or units[unit:lower()]
  return factor and tonumber(digits) * factor
end

local function quantity(units, default_max)
  return function(t, value)
    local number = with_unit(value, units)
    if not number or number < 0 or number > (t.max or default_max)
      or not in_bounds(number, t) then
      return nil
    end
    return math.ceil(number)
  end
end

-- Each gives the normalised value, or nil when it is not of the type.
local LEAF = {
  boolean = function(_, value)
    if type(value) == "boolean" then return value end
  end,
  integer = function(t, value)
    if is_integer(value) and in_bounds(value, t) then return value end
  end,
  number = function(t, value)
    if type(value) == "number" and value - value == 0 and in_bounds(value, t)
    then
      return value
    end
  end,
  string = function(_, value)
    if type(value) == "string" and not value:find "%z" then return value end
  end,
  duration = quantity(DURATION_UNITS, DURATION_MAX),
  size = quantity(SIZE_UNITS, EXACT_MAX),
  enum = function(t, value)
    for _, known in ipairs(t.values) do
      if value == known then return value end
    end
  end,
  off = function(_, value)
    if value == false then return value end
  end,
}

-- Types that the text of a number may stand for in a message's hint.
local function hint(t, value)
  if type(value) ~= "string" then
    return ""
  end
  if t.kind == "enum" then
    local near = suggest.nearest(value, { unpack(t.values) })
    return near and ('; did you mean "%s"?'):format(near) or ""
  end
  local parsed = M.parse(t, value)
  if (t.kind == "integer" or t.kind == "number" or t.kind == "boolean")
    and parsed ~= nil and type(parsed) ~= "string" then
    return ("; without the quotes it is one")
  end
  return ""
end

local validate

local function join(path, key)
  return path == "" and tostring(key) or path .. "." .. tostring(key)
end
M.join = join

local function sorted_keys(value)
  local keys = {}
  for key in pairs(value) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    return tostring(a) < tostring(b)
  end)
  return keys
end
M.sorted_keys = sorted_keys

local function unknown_key(t, path, key, fault)
  local names = {}
  for name in pairs(t.fields) do
    names[#names + 1] = name
  end
  local near = suggest.nearest(key, names)
  fault(join(path, key), near
    and ('unknown key; did you mean "%s"?'):format(join(path, near))
    or "unknown key")
end

local function validate_section(t, value, path, fault)
  local result = {}
  for _, key in ipairs(sorted_keys(value)) do
    if not t.fields[key] then
      unknown_key(t, path, key, fault)
    end
  end
  for _, key in ipairs(sorted_keys(t.fields)) do
    local field, given = t.fields[key], value[key]
    if given ~= nil then
      result[key] = validate(field, given, join(path, key), fault)
    elseif field.required then
      fault(join(path, key), "is required: " .. describe(field))
    elseif field.default ~= nil then
      result[key] = validate(field, field.default, join(path, key), fault)
    end
  end
  return result
end

local function validate_list(t, value, path, fault)
  local result, count = {}, 0
  for key in pairs(value) do
    count = count + 1
    if type(key) ~= "number" then
      fault(join(path, key), "is a name in a list")
      return nil
    end
  end
  if count ~= #value then
    fault(path, "is a list with holes")
    return nil
  end
  for i, item in ipairs(value) do
    result[i] = validate(t.of, item, join(path, i), fault)
  end
  return M.array(result)
end

local function validate_map(t, value, path, fault)
  local result = {}
  for _, key in ipairs(sorted_keys(value)) do
    local named = type(key) == "string"
      and (t.any_key or key:find "^[%a_][%w_-]*$")
    if not named then
      fault(join(path, key), "is not a name (letters, digits, _ and -)")
    else
      result[key] = validate(t.of, value[key], join(path, key), fault)
    end
  end
  return result
end

-- Whether value has the outer shape of the type, so that its faults are told
-- with their own keys rather than "must be a, or b".
local function has_shape(t, value)
  if type(value) ~= "table" then
    return LEAF[t.kind] ~= nil and LEAF[t.kind](t, value) ~= nil
  end
  if t.kind == "list" then
    return M.is_list(value) or next(value) == nil
  end
  return (t.kind == "section" or t.kind == "map")
    and (not M.is_list(value))
end

local TABLES = { section = validate_section, list = validate_list,
  map = validate_map }

local function mismatch(t, value, path, fault)
  local shown = t.secret and "" or (", not " .. quote(value))
  fault(path, "must be " .. describe(t) .. shown .. hint(t, value))
  return nil
end

--- Checks a value and gives it in its normal form. Every fault goes to
--- fault(path, message).
---@param t perigee.config.Type
---@param value any
---@param path string  # dotted, "" for the root
---@param fault fun(path: string, message: string)
---@return any
function validate(t, value, path, fault)
  if t.kind == "open" then
    return value
  end
  if t.kind == "union" then
    for _, option in ipairs(t.options) do
      if has_shape(option, value) then
        return validate(option, value, path, fault)
      end
    end
    return mismatch(t, value, path, fault)
  end
  local result
  if TABLES[t.kind] then
    if type(value) ~= "table" or not has_shape(t, value) then
      return mismatch(t, value, path, fault)
    end
    result = TABLES[t.kind](t, value, path, fault)
  else
    result = LEAF[t.kind](t, value)
    if result == nil then
      return mismatch(t, value, path, fault)
    end
  end
  local wrong = result ~= nil and t.check and t.check(result)
  if wrong then
    fault(path, wrong)
  end
  return result
end
M.validate = validate

local BOOLEANS = { ["true"] = true, ["1"] = true, yes = true, on = true,
  ["false"] = false, ["0"] = false, no = false, off = false }

local function parse_number(text)
  -- tonumber also takes "0x10", "1e5" and blanks.
  return text:find "^[+-]?%d+%.?%d*$" and tonumber(text) or nil
end

local function decode_json(text)
  return (json.decode(text))
end

-- Lists and maps from JSON lose json.null and the codec's own marks here.
local function plain(value)
  if type(value) ~= "table" then
    return (type(value) ~= "userdata" and type(value) ~= "cdata") and value
      or nil
  end
  local result = {}
  for key, item in pairs(value) do
    result[key] = plain(item)
  end
  return #result > 0 and M.array(result) or result
end

local function parse_list(t, text)
  local result = {}
  if text:find "^%s*%[" then
    local decoded = decode_json(text)
    return decoded and M.array(plain(decoded)) or text
  end
  for item in text:gmatch "[^,]+" do
    result[#result + 1] = M.parse(t.of, item:match "^%s*(.-)%s*$")
  end
  return M.array(result)
end

--- The defaults of a type, as the lowest layer of a configuration.
---@param t perigee.config.Type
---@return any
function M.defaults(t)
  if t.kind ~= "section" then
    return t.default
  end
  local result = {}
  for key, field in pairs(t.fields) do
    result[key] = M.defaults(field)
  end
  return result
end

--- Text from the environment or a flag as a value of the type. What cannot be
--- one stays text, for validate to complain of.
---@param t perigee.config.Type
---@param text string
---@return any
function M.parse(t, text)
  local kind = t.kind
  if kind == "boolean" or kind == "off" then
    local value = BOOLEANS[text:lower()]
    if value == nil then return text end
    return value
  elseif kind == "integer" or kind == "number" then
    return parse_number(text) or text
  elseif kind == "list" then
    return parse_list(t, text)
  elseif kind == "section" or kind == "map" then
    return plain(text:find "^%s*{" and decode_json(text) or text)
  elseif kind == "union" then
    for _, option in ipairs(t.options) do
      local value = M.parse(option, text)
      if has_shape(option, value) then return value end
    end
  elseif kind == "open" then
    return M.guess(text)
  end
  return text
end

--- Text without a type: true, false, numbers as they would be printed, JSON
--- lists and objects; else the text itself.
---@param text string
---@return any
function M.guess(text)
  if text == "true" or text == "false" then
    return text == "true"
  end
  local number = parse_number(text)
  if number and tostring(number) == text then
    return number
  end
  if text:find "^%s*[%[{]" then
    local decoded = decode_json(text)
    if decoded ~= nil then return plain(decoded) end
  end
  return text
end

return M
