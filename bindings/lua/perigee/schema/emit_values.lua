--- Emits the keywords about single values: type, enum, const, numbers, strings.

local formats = require "perigee.schema.formats"
local json = require "perigee.json"
local regex = require "perigee.schema.regex"

local M = {}

local NOUNS = {
  string = "a string", number = "a number", integer = "an integer",
  boolean = "true or false", null = "null", array = "a list",
  object = "an object",
}

local function described(types)
  local nouns = {}
  for i, name in ipairs(types) do
    nouns[i] = NOUNS[name]
  end
  return "must be " .. table.concat(nouns, " or ")
end

function M.type(emitter, scope, schema)
  if schema.type == nil then
    return
  end
  local types = type(schema.type) == "table" and schema.type
    or { schema.type }
  local tests = {}
  for i, name in ipairs(types) do
    tests[i] = emitter:is_type(scope.v, name)
  end
  emitter:fail_if(scope, "not (" .. table.concat(tests, " or ") .. ")",
    described(types))
  if #types == 1 and not emitter:explains(scope) then
    scope.known = types[1] == "integer" and "number" or types[1]
  end
end

local function shown(value)
  return json.encode(value) or tostring(value)
end

function M.enum(emitter, scope, schema)
  if schema.enum == nil then
    return
  end
  local set, tables, texts = {}, {}, {}
  for i, value in ipairs(schema.enum) do
    texts[i] = shown(value)
    if type(value) == "table" then
      tables[#tables + 1] = value
    else
      set[value] = true
    end
  end
  local condition = ("not %s[%s]"):format(emitter:constant(set), scope.v)
  if tables[1] then
    condition = ("%s and not is_one_of(%s, %s)")
      :format(condition, scope.v, emitter:constant(tables))
  end
  local list = table.concat(texts, ", ")
  if #list > 200 then
    list = list:sub(1, 200):gsub("[\128-\255]*$", "") .. "..."
  end
  emitter:fail_if(scope, condition, "must be one of " .. list)
end

function M.const(emitter, scope, schema)
  local value = schema.const
  if value == nil then
    return
  end
  local constant = emitter:constant(value)
  emitter:fail_if(scope, type(value) == "table"
    and ("not equal(%s, %s)"):format(scope.v, constant)
    or ("%s ~= %s"):format(scope.v, constant), "must be " .. shown(value))
end

local LIMITS = {
  { "minimum", "%s < %s", "must be %s or more" },
  { "maximum", "%s > %s", "must be %s or less" },
  { "exclusiveMinimum", "%s <= %s", "must be more than %s" },
  { "exclusiveMaximum", "%s >= %s", "must be less than %s" },
  { "multipleOf", "not is_multiple(%s, %s)", "must be a multiple of %s" },
}

local function has_any(schema, list)
  for _, name in ipairs(list) do
    if schema[name] ~= nil then
      return true
    end
  end
  return false
end

function M.numbers(emitter, scope, schema)
  if not has_any(schema, { "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf" }) then
    return
  end
  emitter:when(scope, "number")
  for _, limit in ipairs(LIMITS) do
    local value = schema[limit[1]]
    if value ~= nil then
      emitter:fail_if(scope,
        limit[2]:format(scope.v, emitter:constant(value)),
        limit[3]:format(shown(value)))
    end
  end
  emitter:put("end")
end

-- Counting characters is needed only where the bytes leave it open.
local function lengths(emitter, scope, schema)
  local v, min, max = scope.v, schema.minLength, schema.maxLength
  if min == 1 then
    emitter:fail_if(scope, v .. ' == ""', "must not be empty")
  elseif min ~= nil and min > 0 then
    emitter:fail_if(scope,
      ("#%s < %d or #%s < %d and length(%s) < %d")
        :format(v, min, v, 4 * min, v, min),
      ("must have %d characters or more"):format(min))
  end
  if max ~= nil then
    emitter:fail_if(scope,
      ("#%s > %d and length(%s) > %d"):format(v, max, v, max),
      ("must have %d characters or fewer"):format(max))
  end
end

function M.strings(emitter, scope, schema, node)
  local check = node.resource.asserts and formats.checks[schema.format]
  if not check
    and not has_any(schema, { "minLength", "maxLength", "pattern" }) then
    return
  end
  emitter:when(scope, "string")
  lengths(emitter, scope, schema)
  if schema.pattern ~= nil then
    local match = regex.new(schema.pattern)
    emitter:fail_if(scope,
      ("not %s(%s)"):format(emitter:constant(match), scope.v),
      "must match the pattern " .. schema.pattern)
  end
  if check then
    emitter:fail_if(scope,
      ("not %s(%s)"):format(emitter:constant(check), scope.v),
      "must be a valid " .. schema.format)
  end
  emitter:put("end")
end

return M
