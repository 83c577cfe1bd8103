--- Emits the keywords about objects.

local regex = require "perigee.schema.regex"

local M = {}

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map or {}) do
    if type(key) == "string" then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys)
  return keys
end

-- The expression of a pointer to a member.
local function path_to(name)
  local token = name:gsub("~", "~0"):gsub("/", "~1")
  return (("path .. %q"):format("/" .. token):gsub("\\\n", "\\n"))
end

local function default_of(emitter, node)
  for _ = 1, 8 do -- references to references
    if type(node) ~= "table" then
      return nil
    end
    if node.schema.default ~= nil then
      return node.schema.default
    end
    if not node.schema["$ref"] then
      return nil
    end
    node = emitter.document:resolve(node, node.schema["$ref"])
  end
end

local function fill_in(emitter, scope, child, key)
  local value
  if emitter.options.defaults and emitter:may_change(scope) then
    value = default_of(emitter, child)
  end
  if value ~= nil then
    local constant = emitter:constant(value)
    emitter:put("if %s[%s] == nil then %s[%s] = %s end", scope.v, key,
      scope.v, key,
      type(value) == "table" and "copy(" .. constant .. ")" or constant)
  end
end

local function one_property(emitter, scope, node, name, required)
  local child = emitter:child(node, node.schema.properties[name])
  local key = emitter:constant(name)
  local x = emitter:name("x")
  fill_in(emitter, scope, child, key)
  emitter:put("do local %s = %s[%s]", x, scope.v, key)
  emitter:put("if %s == nil then", x)
  if required then
    emitter:fail(scope, '"is required"', path_to(name))
  end
  emitter:put("else")
  emitter:coerce(scope, child, x, scope.v, key)
  emitter:apply(scope, child, x, path_to(name))
  emitter:mark(scope, key)
  emitter:put("end end")
end

local function properties(emitter, scope, node)
  local schema = node.schema
  local required = {}
  for _, name in ipairs(schema.required or {}) do
    required[name] = true
  end
  for _, name in ipairs(sorted_keys(schema.properties)) do
    one_property(emitter, scope, node, name, required[name])
    required[name] = nil
  end
  for _, name in ipairs(sorted_keys(required)) do
    emitter:fail_if(scope,
      ("%s[%s] == nil"):format(scope.v, emitter:constant(name)),
      "is required", path_to(name))
  end
end

local function dependencies(emitter, scope, node)
  local schema, v = node.schema, scope.v
  for _, name in ipairs(sorted_keys(schema.dependentRequired)) do
    local key = emitter:constant(name)
    for _, other in ipairs(schema.dependentRequired[name]) do
      emitter:fail_if(scope, ("%s[%s] ~= nil and %s[%s] == nil")
        :format(v, key, v, emitter:constant(other)),
        ("is required, because %s is there"):format(name), path_to(other))
    end
  end
  for _, name in ipairs(sorted_keys(schema.dependentSchemas)) do
    emitter:put("if %s[%s] ~= nil then", v, emitter:constant(name))
    emitter:apply_here(scope,
      emitter:child(node, schema.dependentSchemas[name]))
    emitter:put("end")
  end
end

local MEMBER = 'path .. "/" .. escape(k)'

local function pattern_members(emitter, scope, node, x)
  local patterns = node.schema.patternProperties
  for _, pattern in ipairs(sorted_keys(patterns)) do
    local child = emitter:child(node, patterns[pattern])
    emitter:put("if %s(k) then known = true",
      emitter:constant((regex.new(pattern))))
    emitter:coerce(scope, child, x, scope.v, "k")
    emitter:apply(scope, child, x, MEMBER)
    emitter:mark(scope, "k")
    emitter:put("end")
  end
end

local function additional_members(emitter, scope, node, x)
  local schema = node.schema.additionalProperties
  if schema == nil then
    return
  end
  local child = emitter:child(node, schema)
  emitter:put("if not known then")
  if child == false then
    emitter:fail(scope, '"is not expected"', MEMBER)
  else
    emitter:coerce(scope, child, x, scope.v, "k")
    emitter:apply(scope, child, x, MEMBER)
    emitter:mark(scope, "k")
  end
  emitter:put("end")
end

local function known_names(emitter, node)
  local names = {}
  for name in pairs(node.schema.properties or {}) do
    names[name] = true
  end
  if next(names) == nil then
    return "nil"
  end
  return emitter:constant(names) .. "[k]"
end

-- The keywords that look at every member.
local function members(emitter, scope, node)
  local schema = node.schema
  local x = emitter:name("x")
  local count = emitter:name("n")
  emitter:put("local %s = 0", count)
  emitter:put("for k, %s in next, %s do %s = %s + 1", x, scope.v, count, count)
  if schema.propertyNames ~= nil then
    local ok = emitter:try(scope, emitter:child(node, schema.propertyNames),
      "k")
    emitter:put("if not %s then", ok)
    emitter:fail(scope, '"has a name that is not allowed"', MEMBER)
    emitter:put("end")
  end
  emitter:put("local known = %s", known_names(emitter, node))
  pattern_members(emitter, scope, node, x)
  additional_members(emitter, scope, node, x)
  emitter:put("end")
  if schema.minProperties ~= nil then
    emitter:fail_if(scope, ("%s < %d"):format(count, schema.minProperties),
      ("must have %d members or more"):format(schema.minProperties))
  end
  if schema.maxProperties ~= nil then
    emitter:fail_if(scope, ("%s > %d"):format(count, schema.maxProperties),
      ("must have %d members or fewer"):format(schema.maxProperties))
  end
end

local function needs_members(schema)
  return schema.patternProperties ~= nil or schema.propertyNames ~= nil
    or schema.minProperties ~= nil or schema.maxProperties ~= nil
    or schema.additionalProperties ~= nil
end

function M.emit(emitter, scope, node)
  local schema = node.schema
  local each = needs_members(schema)
  if not (each or schema.properties or schema.required
    or schema.dependentRequired or schema.dependentSchemas) then
    return
  end
  emitter:when(scope, "object")
  properties(emitter, scope, node)
  dependencies(emitter, scope, node)
  if each then
    members(emitter, scope, node)
  end
  emitter:put("end")
end

--- After all else: what nothing has evaluated.
function M.emit_unevaluated(emitter, scope, node)
  local schema = node.schema.unevaluatedProperties
  if schema == nil then
    return
  end
  local child = emitter:child(node, schema)
  local x = emitter:name("x")
  emitter:when(scope, "object")
  if child ~= true then
    emitter:put("if not %s[0] then for k, %s in next, %s do", scope.ev, x,
      scope.v)
    emitter:put("if not %s[k] then", scope.ev)
    if child == false then
      emitter:fail(scope, '"is not expected"', MEMBER)
    else
      emitter:coerce(scope, child, x, scope.v, "k")
      emitter:apply(scope, child, x, MEMBER)
    end
    emitter:put("end end end")
  end
  emitter:mark(scope, "0")
  emitter:put("end")
end

return M
