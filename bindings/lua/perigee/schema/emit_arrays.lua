--- Emits the keywords about lists.

local M = {}

local function path_to(index)
  return ('path .. "/" .. %s'):format(index)
end

local function prefix_items(emitter, scope, node)
  local list = node.schema.prefixItems or {}
  for i, schema in ipairs(list) do
    local child = emitter:child(node, schema)
    local x = emitter:name("x")
    emitter:put("do local %s = %s[%d] if %s ~= nil then", x, scope.v, i, x)
    emitter:coerce(scope, child, x, scope.v, tostring(i))
    emitter:apply(scope, child, x, path_to(('"%d"'):format(i - 1)))
    emitter:mark(scope, tostring(i))
    emitter:put("end end")
  end
  return #list
end

local function items(emitter, scope, node, first)
  if node.schema.items == nil then
    return
  end
  local child = emitter:child(node, node.schema.items)
  if child ~= true then
    local x, i = emitter:name("x"), emitter:name("i")
    emitter:put("for %s = %d, #%s do local %s = %s[%s]", i, first + 1,
      scope.v, x, scope.v, i)
    emitter:coerce(scope, child, x, scope.v, i)
    if child == false then
      emitter:fail(scope, '"is not expected"', path_to(i .. " - 1"))
    else
      emitter:apply(scope, child, x, path_to(i .. " - 1"))
    end
    emitter:put("end")
  end
  emitter:mark(scope, "0")
end

local function contains(emitter, scope, node)
  local schema = node.schema
  if schema.contains == nil then
    return
  end
  local min, max = schema.minContains or 1, schema.maxContains
  local n, i = emitter:name("n"), emitter:name("i")
  local child = emitter:child(node, schema.contains)
  emitter:put("local %s = 0 for %s = 1, #%s do", n, i, scope.v)
  local ok = emitter:try(scope, child, ("%s[%s]"):format(scope.v, i))
  emitter:put("if %s then %s = %s + 1", ok, n, n)
  emitter:mark(scope, i)
  emitter:put("end end")
  if min > 0 then
    emitter:fail_if(scope, ("%s < %d"):format(n, min),
      ("must contain %d or more items of a kind that it does not"):format(min))
  end
  if max ~= nil then
    emitter:fail_if(scope, ("%s > %d"):format(n, max),
      ("must contain no more than %d items of a kind"):format(max))
  end
end

local function counts(emitter, scope, schema)
  local v = scope.v
  if schema.minItems ~= nil then
    emitter:fail_if(scope, ("#%s < %d"):format(v, schema.minItems),
      ("must have %d items or more"):format(schema.minItems))
  end
  if schema.maxItems ~= nil then
    emitter:fail_if(scope, ("#%s > %d"):format(v, schema.maxItems),
      ("must have %d items or fewer"):format(schema.maxItems))
  end
  if schema.uniqueItems then
    emitter:fail_if(scope, ("not is_unique(%s)"):format(v),
      "must not have equal items")
  end
end

function M.emit(emitter, scope, node)
  local schema = node.schema
  if not (schema.prefixItems or schema.items ~= nil
    or schema.contains ~= nil or schema.minItems or schema.maxItems
    or schema.uniqueItems) then
    return
  end
  emitter:when(scope, "array")
  counts(emitter, scope, schema)
  items(emitter, scope, node, prefix_items(emitter, scope, node))
  contains(emitter, scope, node)
  emitter:put("end")
end

--- After all else: what nothing has evaluated.
function M.emit_unevaluated(emitter, scope, node)
  local schema = node.schema.unevaluatedItems
  if schema == nil then
    return
  end
  local child = emitter:child(node, schema)
  emitter:when(scope, "array")
  if child ~= true then
    local x, i = emitter:name("x"), emitter:name("i")
    emitter:put("if not %s[0] then for %s = 1, #%s do local %s = %s[%s]",
      scope.ev, i, scope.v, x, scope.v, i)
    emitter:put("if not %s[%s] then", scope.ev, i)
    if child == false then
      emitter:fail(scope, '"is not expected"', path_to(i .. " - 1"))
    else
      emitter:coerce(scope, child, x, scope.v, i)
      emitter:apply(scope, child, x, path_to(i .. " - 1"))
    end
    emitter:put("end end end")
  end
  emitter:mark(scope, "0")
  emitter:put("end")
end

return M
