--- Schema: JSON Schema 2020-12, compiled to Lua.
---
--- A definition becomes a function that says in one pass whether a value fits;
--- only for one that does not are its faults looked for.

local check_options = require("perigee.options").check
local document = require "perigee.schema.document"
local emitter = require "perigee.schema.emitter"
local errors = require "perigee.error"
local runtime = require "perigee.schema.runtime"
require "perigee.schema.emit_logic"

local M = {}

---@class perigee.schema.Options
---@field coerce boolean?   # "5" becomes 5 where a number is asked for
---@field defaults boolean? # fill in absent members that have a default
---@field formats boolean?  # whether `format` is checked; see docs/schema.md
---@field documents table<string, table>? # other schemas by URI, for `$ref`

---@class perigee.schema.Fault
---@field pointer string  # JSON pointer to the part, "" for the whole
---@field detail string

---@alias perigee.schema.Validator
---| fun(value: any, prefix: string?): any, perigee.Error?

local PRELUDE = [[
local K, check, track, pure_check, pure_track, explain, R = ...
local type, next, getmetatable = type, next, getmetatable
local null, is_marked, length, equal = R.null, R.is_marked, R.length, R.equal
local is_one_of, is_unique = R.is_one_of, R.is_unique
local is_multiple = R.is_multiple
local copy, merge, escape, fault = R.copy, R.merge, R.escape, R.fault
local coerce, push, pop, find = R.coerce, R.push, R.pop, R.find
]]

local Compiled = {}
Compiled.__index = Compiled

-- The stack of resources entered, and the search in it for a dynamic anchor.
local function dynamic_scope(doc, emit)
  local stack, top = {}, 0
  local R = setmetatable({}, { __index = runtime })
  function R.reset()
    stack[1], top = doc.root.resource.number, 1
  end
  function R.push(number)
    top = top + 1
    stack[top] = number
  end
  function R.pop()
    top = top - 1
  end
  function R.find(name)
    for i = 1, top do
      local resource = doc.ordered[stack[i]]
      local node = resource.dynamic[name]
      if node then
        return emit:number(node), resource.number
      end
    end
    error("no dynamic anchor " .. name)
  end
  return R
end

-- Only a name that several resources have needs the stack.
local function is_dynamic(doc)
  local seen = {}
  for _, resource in ipairs(doc.ordered) do
    for name in pairs(resource.dynamic) do
      if seen[name] then
        return true
      end
      seen[name] = true
    end
  end
  return false
end

function Compiled:load(source)
  local chunk = assert(loadstring(PRELUDE .. source, "=schema"))
  local f = self.functions
  chunk(self.emit.constants, f.check, f.track, f.pure_check, f.pure_track,
    f.explain, self.runtime)
end

local function refuse(doc)
  if doc.faults[1] then
    table.sort(doc.faults)
    error("schema: " .. table.concat(doc.faults, "\n"), 0)
  end
end

local function new_compiled(definition, options)
  local doc = document.new(definition, options)
  refuse(doc)
  local self = setmetatable({
    doc = doc, root = doc.root, emit = emitter.new(doc, options),
    functions = {
      check = {}, track = {}, pure_check = {}, pure_track = {}, explain = {},
    },
  }, Compiled)
  if type(doc.root) == "boolean" then
    return self
  end
  repeat -- a reference may bring in documents that change the answer
    local resources = #doc.ordered
    self.emit = emitter.new(doc, options)
    self.emit.dynamic = is_dynamic(doc)
    self.emit:fn("check", doc.root)
    self.source = self.emit:flush()
  until #doc.ordered == resources
  refuse(doc)
  self.runtime = self.emit.dynamic and dynamic_scope(doc, self.emit)
    or runtime
  self:load(self.source)
  self.number = self.emit:number(doc.root)
  self.recursive = self.emit:is_recursive()
  self.types = options.coerce and self.emit:types_of(doc.root)
  return self
end

local function collect(self, value, prefix)
  local out = {}
  if value == nil or self.root == false then
    return { {
      pointer = prefix,
      detail = value == nil and "is required" or "is not allowed",
    } }
  end
  if not self.explain then
    self.emit:fn("explain", self.root)
    self:load(self.emit:flush())
    self.explain = self.functions.explain[self.number]
  end
  if self.emit.dynamic then
    self.runtime.reset()
  end
  local ok, err = pcall(self.explain, value, prefix, out, {})
  if not ok and err ~= runtime.FULL then
    out[#out + 1] = { pointer = prefix, detail = "is nested too deep" }
  end
  if not out[1] then
    out[1] = { pointer = prefix, detail = "is invalid" }
  end
  return out
end

local function refusal(self, value, prefix)
  local faults = collect(self, value, prefix or "")
  local first = faults[1]
  local err = errors.new("invalid", ("%s %s%s"):format(
    first.pointer == "" and "the value" or first.pointer, first.detail,
    faults[2] and (" (and %d more)"):format(#faults - 1) or ""))
  err.errors = faults
  return nil, err
end

local function plain_validator(self)
  local check = self.functions.check[self.number]
  return function(value, prefix)
    if value ~= nil and check(value) then
      return value
    end
    return refusal(self, value, prefix)
  end
end

local function careful_validator(self)
  local check = self.functions.check[self.number]
  local types, reset = self.types, self.runtime.reset
  local recursive = self.recursive
  return function(value, prefix)
    if types then
      local coerced = runtime.coerce(value, types)
      if coerced ~= nil then
        value = coerced
      end
    end
    if reset then
      reset()
    end
    local valid = value ~= nil
    if valid and recursive then -- as deep as the value; the stack has an end
      local ok, result = pcall(check, value)
      valid = ok and result
    elseif valid then
      valid = check(value)
    end
    if valid then
      return value
    end
    return refusal(self, value, prefix)
  end
end

local function validator_of(self)
  if type(self.root) == "boolean" then
    return function(value, prefix)
      if self.root and value ~= nil then
        return value
      end
      return refusal(self, value, prefix)
    end
  end
  if self.types or self.recursive or self.emit.dynamic then
    return careful_validator(self)
  end
  return plain_validator(self)
end

local OPTIONS = {
  coerce = true, defaults = true, formats = true, documents = true,
}

-- What compile has made: compiling it again gives it back.
local validators = setmetatable({}, { __mode = "k" })

--- Compiles a schema; raises with every fault of it and its place.
---
--- The validator gives the value, or `nil, err` of kind "invalid" with all its
--- faults, up to 100, in `err.errors`. With `coerce` and `defaults` it is the
--- same table, changed. prefix is put before the pointers.
---@param definition table|boolean|perigee.schema.Validator
---@param options perigee.schema.Options?
---@return perigee.schema.Validator
function M.compile(definition, options)
  if validators[definition] then
    return definition
  end
  if type(definition) ~= "table" and type(definition) ~= "boolean" then
    error("a schema is expected: a table, true or false", 2)
  end
  if options ~= nil then
    check_options(options, OPTIONS, "schema", 2)
  end
  local ok, self = pcall(new_compiled, definition, options or {})
  if not ok then
    error(self, 2)
  end
  local validate = validator_of(self)
  validators[validate] = true
  return validate
end

return M
