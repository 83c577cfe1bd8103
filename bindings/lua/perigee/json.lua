--- JSON: RFC 8259, strict on input, exact on numbers.
---
--- `[]` and `{}` stay apart both ways: a decoded list carries a mark (a
--- metatable) that it is one, and `json.array` gives it to a list of yours.

local core = require "perigee.core.json"

local M = {}

---@class perigee.json.EncodeOptions
---@field pretty boolean?  # indented by two spaces, names in order

---@class perigee.json.DecodeOptions
---@field max_depth integer?  # nested lists and objects; at most 1000
---@field max_bytes integer?  # of the text

--- JSON's null: truthy, so compare with it. Equal to `cjson.null`.
M.null = core.null

--- A list that is and stays empty; writing to it raises.
---@type table
M.empty_array = core.empty_array

--- Writes a value as JSON.
---
--- An empty table is `{}` unless it is marked as a list. Numbers are written in
--- the shortest form that reads back the same, 64-bit integers of the FFI with
--- all their digits. What JSON can't say is an error that names its place: NaN,
--- infinity, functions, a table that contains itself, a list with holes, items
--- and names in one table, text that is not UTF-8.
---@param value any
---@param options perigee.json.EncodeOptions?
---@return string? text
---@return perigee.Error? err  # kind: "invalid", "too_large"
function M.encode(value, options) -- luacheck: ignore
end

--- Reads JSON. Null is `json.null`; of equal names the last wins.
---@param text string
---@param options perigee.json.DecodeOptions?
---@return any value
---@return perigee.Error? err  # kind: "invalid" with the byte, "too_large"
function M.decode(text, options) -- luacheck: ignore
end

M.encode = core.encode
M.decode = core.decode

--- Marks a table as a list, so that it is `[]` when it is empty.
---@generic T: table
---@param list T?  # a new table without
---@return T list
function M.array(list)
  if list == nil then
    list = {}
  elseif type(list) ~= "table" then
    error("a list is expected", 2)
  elseif list == core.empty_array then
    return list
  end
  local mark = getmetatable(list)
  if mark ~= nil and mark ~= core.array_mark then
    error("the list has a metatable of its own", 2)
  end
  return setmetatable(list, core.array_mark)
end

--- A text as JSON takes it: of one that is not UTF-8, each byte beyond ASCII
--- becomes U+FFFD.
---@param text string
---@return string
function M.text(text)
  if M.encode(text) then
    return text
  end
  return (text:gsub("[\128-\255]", "\239\191\189"))
end

--- Whether a table carries the mark of a list.
---@param value any
---@return boolean
function M.is_array(value)
  return type(value) == "table"
    and (getmetatable(value) == core.array_mark or value == core.empty_array)
end

return M
