--- Emits references and the keywords that combine schemas, and whole functions.

local arrays = require "perigee.schema.emit_arrays"
local objects = require "perigee.schema.emit_objects"
local values = require "perigee.schema.emit_values"
local Emitter = require "perigee.schema.emitter".Emitter

local M = {}

local function dynamic_call(emitter, scope, name)
  for _, resource in ipairs(emitter.document.ordered) do
    local node = resource.dynamic[name]
    if node then -- whichever it will be, its function has to be there
      emitter:fn(scope.ev and scope.variant:gsub("check$", "track")
        or scope.variant:gsub("track$", "check"), node)
    end
  end
  return ("local number, resource = find(%q)"):format(name)
end

-- A dynamic reference is decided by the outermost resource that was entered.
local function dynamic_reference(emitter, scope, name)
  local variant = scope.variant
  emitter:put("do %s push(resource)", dynamic_call(emitter, scope, name))
  if emitter:explains(scope) then
    emitter:put("explain[number](%s, path, out, %s) pop() end", scope.v,
      scope.ev)
    return
  end
  variant = scope.ev and variant:gsub("check$", "track")
    or variant:gsub("track$", "check")
  emitter:put("local ok = %s[number](%s%s) pop()", emitter:variant(variant),
    scope.v, scope.ev and ", " .. scope.ev or "")
  emitter:put("if not ok then return false end end")
end

local function references(emitter, scope, node)
  local schema, document = node.schema, emitter.document
  if schema["$ref"] then
    emitter:call_here(scope, (document:resolve(node, schema["$ref"])))
  end
  if schema["$dynamicRef"] then
    local target, name = document:resolve(node, schema["$dynamicRef"])
    if name and emitter.dynamic then
      dynamic_reference(emitter, scope, name)
    else
      emitter:call_here(scope, target)
    end
  end
end

local function all_of(emitter, scope, node)
  for _, schema in ipairs(node.schema.allOf or {}) do
    emitter:apply_here(scope, emitter:child(node, schema))
  end
end

local function any_of(emitter, scope, node)
  local branches = node.schema.anyOf
  if branches == nil then
    return
  end
  local any = emitter:name("any")
  emitter:put("local %s = false", any)
  for _, schema in ipairs(branches) do
    -- All of them have to be tried only for what they evaluate.
    emitter:put(scope.ev and "do" or "if not %s then", any)
    local ok = emitter:try(scope, emitter:child(node, schema), scope.v,
      scope.ev)
    emitter:put("%s = %s or %s end", any, any, ok)
  end
  emitter:fail_if(scope, "not " .. any,
    ("fits none of %d alternatives"):format(#branches))
end

local function one_of(emitter, scope, node)
  local branches = node.schema.oneOf
  if branches == nil then
    return
  end
  local n = emitter:name("n")
  emitter:put("local %s = 0", n)
  for _, schema in ipairs(branches) do
    emitter:put("do")
    local ok = emitter:try(scope, emitter:child(node, schema), scope.v,
      scope.ev)
    emitter:put("if %s then %s = %s + 1 end end", ok, n, n)
  end
  emitter:put("if %s ~= 1 then", n)
  emitter:fail(scope, ('%s == 0 and "fits none of %d alternatives"'
    .. ' or "fits " .. %s .. " alternatives, and must fit one"')
    :format(n, #branches, n))
  emitter:put("end")
end

local function negation(emitter, scope, node)
  local schema = node.schema["not"]
  if schema ~= nil then
    emitter:put("do")
    local ok = emitter:try(scope, emitter:child(node, schema), scope.v)
    emitter:fail_if(scope, ok, "is what it must not be")
    emitter:put("end")
  end
end

local function conditional(emitter, scope, node)
  local schema = node.schema
  local condition = schema["if"]
  if condition == nil or schema["then"] == nil and schema["else"] == nil
    and not scope.ev then
    return
  end
  emitter:put("do")
  local ok = emitter:try(scope, emitter:child(node, condition), scope.v,
    scope.ev)
  emitter:put("if %s then", ok)
  if schema["then"] ~= nil then
    emitter:apply_here(scope, emitter:child(node, schema["then"]))
  end
  emitter:put("else")
  if schema["else"] ~= nil then
    emitter:apply_here(scope, emitter:child(node, schema["else"]))
  end
  emitter:put("end end")
end

--- Writes all keywords of a node for the value in scope.v.
function Emitter:body(node, scope)
  local schema = node.schema
  local outer = scope.ev
  local own = schema.unevaluatedProperties ~= nil
    or schema.unevaluatedItems ~= nil
  self.inlining[node] = true
  scope.resource = node.resource
  if own then -- sees only what lies beside it
    scope.ev = self:name("ev")
    self:put("local %s = {}", scope.ev)
  end
  values.type(self, scope, schema)
  values.enum(self, scope, schema)
  values.const(self, scope, schema)
  values.numbers(self, scope, schema)
  values.strings(self, scope, schema, node)
  objects.emit(self, scope, node)
  arrays.emit(self, scope, node)
  references(self, scope, node)
  all_of(self, scope, node)
  any_of(self, scope, node)
  one_of(self, scope, node)
  negation(self, scope, node)
  conditional(self, scope, node)
  objects.emit_unevaluated(self, scope, node)
  arrays.emit_unevaluated(self, scope, node)
  if own and outer then
    self:put("merge(%s, %s)", outer, scope.ev)
  end
  self.inlining[node] = nil
end

function Emitter:inline(node, scope)
  self:put("do")
  self:body(node, scope)
  self:put("end")
end

local ARGUMENTS = {
  check = "v", pure_check = "v", track = "v, ev", pure_track = "v, ev",
  explain = "v, path, out, ev",
}

local function write_function(self, job)
  local variant, node = job.variant, job.node
  local inlining = self.inlining
  self.current, self.inlining = self:number(node), {}
  self:put("%s[%d] = function(%s)", variant, self.current, ARGUMENTS[variant])
  self:body(node, {
    v = "v", variant = variant, depth = 0,
    ev = not variant:find("check") and "ev" or nil,
  })
  if variant ~= "explain" then
    self:put("return true")
  end
  self:put("end")
  self.current, self.inlining = nil, inlining
end

--- The source of all functions asked for since the last time.
function Emitter:flush()
  self.lines = {}
  while self.queue[1] do
    write_function(self, table.remove(self.queue))
  end
  return table.concat(self.lines, "\n")
end

-- Whether a function can come back to itself.
function Emitter:is_recursive()
  local state = {}
  local function visit(number)
    if state[number] then
      return state[number] == "open"
    end
    state[number] = "open"
    for other in pairs(self.calls[number] or {}) do
      if visit(other) then
        return true
      end
    end
    state[number] = "done"
    return false
  end
  for number in pairs(self.calls) do
    if visit(number) then
      return true
    end
  end
  return false
end

return M
