--- The values of all layers laid over one another, each with where it came
--- from.

local types = require "perigee.config.types"

local M = {}
M.__index = M

---@class perigee.config.Tree
---@field root table                     # merged, not yet checked
---@field sources table<string, string>  # by dotted path
---@field covered { path: string, value: any, source: string }[]  # what a higher layer has replaced, but for the defaults


local function is_map(value)
  return type(value) == "table" and not types.is_list(value)
end

local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local result = {}
  for key, item in pairs(value) do
    result[key] = copy(item)
  end
  return setmetatable(result, getmetatable(value))
end

---@param defaults table  # the lowest layer; what is of it has no source
---@return perigee.config.Tree
function M.new(defaults)
  return setmetatable({ root = copy(defaults), sources = {}, covered = {} },
    M)
end

-- What was a table is replaced: nothing below it has a source any more.
local function forget(sources, path)
  local prefix = path .. "."
  for known in pairs(sources) do
    if known:sub(1, #prefix) == prefix then
      sources[known] = nil
    end
  end
end

local function cover(self, path, value)
  local source = self.sources[path]
  if source and not is_map(value) then
    self.covered[#self.covered + 1] = { path = path, value = value,
      source = source }
  end
end

local function merge(self, target, value, path, source)
  for _, key in ipairs(types.sorted_keys(value)) do
    local name, item = types.join(path, key), value[key]
    local before = target[key]
    if is_map(item) and is_map(before) then
      merge(self, before, item, name, source)
    else
      cover(self, name, before)
      if type(before) == "table" then
        forget(self.sources, name)
      end
      self.sources[name] = source(name)
      if is_map(item) then
        target[key] = {}
        merge(self, target[key], item, name, source)
      else
        target[key] = copy(item)
      end
    end
  end
end

--- Lays a table over what is there. Lists are replaced, tables merged.
---@param value table
---@param source fun(path: string): string
function M:merge(value, source)
  merge(self, self.root, value, "", source)
end

-- The key as it is spelt in the schema or the tree, whatever the case.
local function spelling(fields, values, key)
  if type(values) == "table" and values[key] ~= nil
    or fields and fields[key] then
    return key
  end
  for _, set in ipairs { fields or {}, type(values) == "table" and values
    or {} } do
    for known in pairs(set) do
      if type(known) == "string" and known:lower() == key:lower() then
        return known
      end
    end
  end
  return nil
end

local function alternatives(t)
  if t and t.kind == "union" then
    for _, option in ipairs(t.options) do
      if option.kind == "section" then
        return option
      end
    end
  end
  return t
end

--- Follows keys through a type and the values: the keys in their spelling, the
--- type at the end (nil: unknown), whether something by that name exists.
---@param t perigee.config.Type
---@param keys string[]
---@return string[] path, perigee.config.Type? type, boolean known, any value
function M:locate(t, keys)
  local path, value, known = {}, self.root, true
  for i, key in ipairs(keys) do
    t = alternatives(t)
    local name = spelling(t and t.fields, value, key)
    known = known and name ~= nil
    path[i] = name or key
    if t and t.fields then
      t = t.fields[path[i]]
    elseif t and t.kind == "map" then
      t, known = t.of, true
    elseif t and t.kind ~= "open" then
      t = nil
    elseif t and t.at then
      t = t.at(path[i])
    end
    value = type(value) == "table" and value[path[i]] or nil
  end
  return path, t, known, value
end

--- Sets one value below the tables that lead there.
---@param path string[]
---@param value any
---@param source string
function M:set(path, value, source)
  local nested = value
  for i = #path, 1, -1 do
    nested = { [path[i]] = nested }
  end
  self:merge(nested, function()
    return source
  end)
end

--- The source of a path, or of the nearest table above it.
---@param path string
---@return string?
function M:source(path)
  local name = path
  while name do
    if self.sources[name] then
      return self.sources[name]
    end
    name = name:match "^(.*)%.[^.]*$"
  end
  return nil
end

return M
