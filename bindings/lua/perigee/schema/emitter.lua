--- Writes the Lua source of a schema's functions.
---
--- A schema becomes functions of five variants:
---   check(v)                says whether v is valid and, where told to, coerces
---                           and fills in defaults
---   track(v, ev)            the same, and notes in ev what it has evaluated, for
---                           `unevaluated...`: names, positions, 0 for all
---   pure_check, pure_track  the same without changing anything, for branches
---                           that may turn out not to apply
---   explain(v, path, out, ev)  collects every fault; made when first needed
--- Subschemas are written into their parent's function, except where they can be
--- reached by reference or may fail without consequences.

local keywords = require "perigee.schema.keywords"

local Emitter = {}
Emitter.__index = Emitter

local M = {}

local INLINE_MAX = 12 -- subschemas within each other in one function

---@class perigee.schema.Scope  # where code is being written
---@field v string      # the variable that holds the value
---@field variant string
---@field ev string?    # the variable of what is evaluated
---@field depth integer
---@field known string? # the type v is known to have

function M.new(document, options)
  return setmetatable({
    document = document, options = options,
    lines = {}, constants = {}, constant_count = 0,
    numbers = {}, number_count = 0, -- of nodes
    made = {}, queue = {}, calls = {},
    names = 0, inlining = {},
    mutates = options.coerce or options.defaults,
  }, Emitter)
end

function Emitter:put(text, ...)
  self.lines[#self.lines + 1] = select("#", ...) > 0 and text:format(...)
    or text
end

function Emitter:name(prefix)
  self.names = self.names + 1
  return prefix .. self.names
end

--- A Lua expression for a value: a literal, or a place among the constants.
function Emitter:constant(value)
  if type(value) == "string" then
    return (("%q"):format(value):gsub("\\\n", "\\n"))
  elseif type(value) == "boolean" then
    return tostring(value)
  elseif type(value) == "number" and value % 1 == 0
    and value >= -2 ^ 53 and value <= 2 ^ 53 then
    return ("%d"):format(value)
  end
  self.constant_count = self.constant_count + 1
  self.constants[self.constant_count] = value
  return ("K[%d]"):format(self.constant_count)
end

function Emitter:number(node)
  if not self.numbers[node] then
    self.number_count = self.number_count + 1
    self.numbers[node] = self.number_count
  end
  return self.numbers[node]
end

function Emitter:variant(name)
  if not self.mutates then
    name = name:gsub("^pure_", "")
  end
  return name
end

--- The expression of a node's function; it is made if it is not yet.
function Emitter:fn(variant, node)
  variant = self:variant(variant)
  local number = self:number(node)
  local key = variant .. number
  if not self.made[key] then
    self.made[key] = true
    self.queue[#self.queue + 1] = { node = node, variant = variant }
  end
  if self.current then
    self.calls[self.current] = self.calls[self.current] or {}
    self.calls[self.current][number] = true
  end
  return ("%s[%d]"):format(variant, number)
end

function Emitter:explains(scope)
  return scope.variant == "explain"
end

function Emitter:may_change(scope)
  return self.mutates and scope.variant:find("^pure_") == nil
end

--- What a fault does: ends a check, is noted by an explanation.
function Emitter:fail(scope, detail, path)
  if self:explains(scope) then
    self:put("fault(out, %s, %s)", path or "path", detail)
  else
    self:put("do return false end")
  end
end

function Emitter:fail_if(scope, condition, detail, path)
  self:put("if %s then", condition)
  self:fail(scope, ("%q"):format(detail), path)
  self:put("end")
end

--- Notes that a part of v is evaluated.
function Emitter:mark(scope, key)
  if scope.ev then
    self:put("%s[%s] = true", scope.ev, key)
  end
end

local TYPE_TESTS = {
  string = 'type(%s) == "string"',
  number = 'type(%s) == "number"',
  integer = '(type(%s) == "number" and %s %% 1 == 0)',
  boolean = 'type(%s) == "boolean"',
  null = "%s == null",
  array = '(type(%s) == "table" and (%s[1] ~= nil'
    .. " or getmetatable(%s) ~= nil and is_marked(%s)))",
  object = '(type(%s) == "table" and %s[1] == nil'
    .. " and not (getmetatable(%s) ~= nil and is_marked(%s)))",
}

--- The expression that v is of a type.
function Emitter.is_type(_, v, name)
  return (TYPE_TESTS[name]:gsub("%%s", v):gsub("%%%%", "%%"))
end

--- Opens a block for keywords that concern one type; close with "end".
function Emitter:when(scope, name)
  if scope.known == name then
    self:put("do")
  else
    self:put("if %s then", self:is_type(scope.v, name))
  end
end

local function union(into, types)
  for _, name in ipairs(types or {}) do
    into[#into + 1] = name
  end
  return into
end

--- The types a value may be coerced to: those the schema names, itself, by
--- reference, or in its branches.
function Emitter:types_of(node, seen)
  if type(node) ~= "table" then
    return nil
  end
  seen = seen or {}
  if seen[node] then
    return nil
  end
  seen[node] = true
  local schema = node.schema
  if schema.type ~= nil then
    return type(schema.type) == "table" and schema.type or { schema.type }
  end
  if schema["$ref"] then
    return self:types_of(self.document:resolve(node, schema["$ref"]), seen)
  end
  local types = {}
  for _, key in ipairs { "anyOf", "oneOf", "allOf" } do
    for _, branch in ipairs(schema[key] or {}) do
      union(types, self:types_of(self:child(node, branch), seen))
    end
  end
  return types[1] and types or nil
end

--- The node of a subschema of node.
function Emitter:child(node, schema)
  return self.document:scan(schema, node.resource, node.pointer)
end

--- Coerces x, which is v[key].
function Emitter:coerce(scope, node, x, v, key)
  local types = self.options.coerce and self:may_change(scope)
    and self:types_of(node)
  if not types then
    return
  end
  local test
  if #types == 1 and keywords.types[types[1]] then
    test = "not (" .. self:is_type(x, types[1]) .. ")"
  end
  self:put("%s", test and "if " .. test .. " then" or "do")
  self:put("local c = coerce(%s, %s)", x, self:constant(types))
  self:put("if c ~= nil then %s = c %s[%s] = c end end", x, v, key)
end

local function needs_call(self, node, scope)
  return scope.depth >= INLINE_MAX or self.inlining[node]
    or self.dynamic and node.resource ~= scope.resource
end

--- Validates x, a part of v, against a subschema. path is the expression of its
--- pointer.
function Emitter:apply(scope, node, x, path)
  if node == true then
    return
  elseif node == false then
    self:fail(scope, '"is not allowed"', path)
  elseif self:explains(scope) then
    self:enter(scope, node, ("%s(%s, %s, out, {})")
      :format(self:fn("explain", node), x, path))
  elseif needs_call(self, node, scope) then
    local plain = scope.variant:gsub("track$", "check")
    self:test(scope, node, ("%s(%s)"):format(self:fn(plain, node), x))
  else
    self:inline(node, {
      v = x, variant = scope.variant:gsub("track$", "check"),
      depth = scope.depth + 1, resource = scope.resource,
    })
  end
end

--- Validates v itself against a subschema that has to hold.
function Emitter:apply_here(scope, node)
  if type(node) ~= "table" then
    return self:apply(scope, node, scope.v)
  elseif self:explains(scope) then
    self:enter(scope, node, ("%s(%s, path, out, %s)")
      :format(self:fn("explain", node), scope.v, scope.ev))
  elseif needs_call(self, node, scope) then
    self:call_here(scope, node)
  else
    self:inline(node, {
      v = scope.v, variant = scope.variant, ev = scope.ev,
      depth = scope.depth + 1, known = scope.known,
      resource = scope.resource,
    })
  end
end

--- The same by a call, for references.
function Emitter:call_here(scope, node)
  if type(node) ~= "table" then
    return self:apply(scope, node, scope.v)
  elseif self:explains(scope) then
    return self:apply_here(scope, node)
  end
  local variant = scope.variant
  if scope.ev then
    variant = variant:gsub("check$", "track")
    self:test(scope, node, ("%s(%s, %s)")
      :format(self:fn(variant, node), scope.v, scope.ev))
  else
    variant = variant:gsub("track$", "check")
    self:test(scope, node, ("%s(%s)"):format(self:fn(variant, node), scope.v))
  end
end

-- With dynamic references the resources entered are kept in a stack.
local function crosses(self, scope, node)
  return self.dynamic and node.resource ~= scope.resource
end

--- A statement within the resource of node.
function Emitter:enter(scope, node, statement)
  if crosses(self, scope, node) then
    self:put("push(%d) %s pop()", node.resource.number, statement)
  else
    self:put("%s", statement)
  end
end

--- Fails unless an expression holds within the resource of node.
function Emitter:test(scope, node, expression)
  if crosses(self, scope, node) then
    self:put("do push(%d) local ok = %s pop()", node.resource.number,
      expression)
    self:put("if not ok then return false end end")
  else
    self:put("if not %s then return false end", expression)
  end
end

--- A variable that says whether v (or x) fits a branch, of which nothing is
--- changed; with ev what it evaluates is noted if it fits.
function Emitter:try(scope, node, x, ev)
  local ok = self:name("ok")
  if type(node) == "boolean" then
    self:put("local %s = %s", ok, tostring(node))
    return ok
  end
  local branch = ev and self:name("ev")
  if branch then
    self:put("local %s = {}", branch)
  end
  local call = branch
    and ("%s(%s, %s)"):format(self:fn("pure_track", node), x, branch)
    or ("%s(%s)"):format(self:fn("pure_check", node), x)
  if crosses(self, scope, node) then
    self:put("push(%d)", node.resource.number)
  end
  self:put("local %s = %s", ok, call)
  if crosses(self, scope, node) then
    self:put("pop()")
  end
  if branch then
    self:put("if %s then merge(%s, %s) end", ok, ev, branch)
  end
  return ok
end

return { new = M.new, Emitter = Emitter }
