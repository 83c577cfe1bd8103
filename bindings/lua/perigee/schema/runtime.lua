--- What compiled schemas call while they run.

local json = require "perigee.json"

local M = {}

local null = json.null
local is_marked = json.is_array
local byte, floor, abs, fmod = string.byte, math.floor, math.abs, math.fmod

M.null = null
M.FAULTS_MAX = 100
M.FULL = {} -- raised when so many have been found

--- Whether a table with a metatable is a list.
M.is_marked = is_marked

--- A list has items, or the mark of a list; any other table is an object.
function M.is_array(value)
  return type(value) == "table" and (value[1] ~= nil or is_marked(value))
end

local is_array = M.is_array

--- Characters of a UTF-8 text.
function M.length(text)
  local count = 0
  for i = 1, #text do
    local b = byte(text, i)
    if b < 0x80 or b >= 0xc0 then
      count = count + 1
    end
  end
  return count
end

local function same_fields(a, b)
  for key, value in next, a do
    if not M.equal(value, b[key]) then
      return false
    end
  end
  for key in next, b do
    if a[key] == nil then
      return false
    end
  end
  return true
end

--- Equality of JSON values: by content; a list is no object.
function M.equal(a, b)
  if a == b then
    return true
  end
  if type(a) ~= "table" or type(b) ~= "table" or is_array(a) ~= is_array(b) then
    return false
  end
  return same_fields(a, b)
end

function M.is_one_of(value, list)
  for i = 1, #list do
    if M.equal(value, list[i]) then
      return true
    end
  end
  return false
end

-- One text for equal values, so that a thousand of them are told apart without
-- a million comparisons.
local function canonical(value)
  if type(value) == "number" then
    return ("%.17g"):format(value + 0) -- -0 + 0 is 0
  elseif type(value) ~= "table" then
    return type(value) .. ":" .. tostring(value)
  end
  local parts = {}
  if is_array(value) then
    for i = 1, #value do
      local part = canonical(value[i])
      parts[i] = #part .. "=" .. part
    end
    return "[" .. table.concat(parts) .. "]"
  end
  for key, item in pairs(value) do
    local part = canonical(item)
    parts[#parts + 1] = #key .. "=" .. key .. #part .. "=" .. part
  end
  table.sort(parts)
  return "{" .. table.concat(parts) .. "}"
end

--- Whether no two items of a list are equal.
function M.is_unique(list)
  local seen = {}
  for i = 1, #list do
    local value = list[i]
    -- Tables are keys of their text; a string can't be one of these by chance.
    local key = value
    if type(value) == "table" then
      key = "\0" .. canonical(value)
    elseif type(value) == "string" then
      key = "\1" .. value
    elseif value == 0 then
      key = 0 -- and -0
    end
    if seen[key] then
      return false
    end
    seen[key] = true
  end
  return true
end

local function is_near_integer(value)
  local nearest = floor(value + 0.5)
  return nearest ~= 0 and abs(value - nearest) <= abs(value) * 1e-15
end

--- Whether value is a multiple, as far as doubles can tell.
function M.is_multiple(value, of)
  if fmod(value, of) == 0 then
    return true
  end
  if value % 1 == 0 and (of % 1 == 0 or is_near_integer(1 / of)) then
    return of % 1 ~= 0 -- every integer is a multiple of 0.01
  end
  return abs(value / of) < 2 ^ 53 and is_near_integer(value / of)
end

--- Copies a default, so that no two values share it.
function M.copy(value)
  if type(value) ~= "table" then
    return value
  end
  local copy = {}
  for key, item in next, value do
    copy[key] = M.copy(item)
  end
  return is_array(value) and json.array(copy) or copy
end

function M.merge(into, from)
  for key in next, from do
    into[key] = true
  end
end

function M.escape(key)
  return (tostring(key):gsub("~", "~0"):gsub("/", "~1"))
end

function M.fault(out, pointer, detail)
  out[#out + 1] = { pointer = pointer, detail = detail }
  if #out >= M.FAULTS_MAX then
    error(M.FULL, 0)
  end
end

--- Whether value is of a type of that name.
function M.is_type(value, name)
  local kind = type(value)
  if kind == "table" then
    return name == (is_array(value) and "array" or "object")
  elseif kind == "number" then
    return name == "number" or name == "integer" and value % 1 == 0
  end
  return kind == name or name == "null" and value == null
end

local function to_number(text)
  if not text:find("^%-?%d") or text:find("%s") then
    return nil
  end
  local value = json.decode(text)
  return type(value) == "number" and value or nil
end

local BOOLEANS = { ["true"] = true, ["false"] = false }

local converters = {
  number = function(value)
    return type(value) == "string" and to_number(value) or nil
  end,
  integer = function(value)
    local number = type(value) == "string" and to_number(value)
    return number and number % 1 == 0 and number or nil
  end,
  boolean = function(value)
    return BOOLEANS[value]
  end,
  null = function(value)
    return value == "" and null or nil
  end,
  string = function(value)
    if type(value) == "number" or type(value) == "boolean" then
      return (json.encode(value))
    end
  end,
  array = function(value)
    if type(value) ~= "table" and value ~= null then
      return json.array { value }
    end
  end,
}

--- The value as one of the types: nil when it is one already, or can't be made
--- one.
function M.coerce(value, types)
  for i = 1, #types do
    if M.is_type(value, types[i]) then
      return nil
    end
  end
  for i = 1, #types do
    local convert = converters[types[i]]
    local converted
    if convert then
      converted = convert(value)
    end
    if converted ~= nil then
      return converted
    end
  end
  return nil
end

return M
