--- The keywords of JSON Schema 2020-12, and what each may hold.

local regex = require "perigee.schema.regex"

local M = {}

--- What each keyword holds: "schema", "schemas" (a list), "map" (of schemas by
--- name), or the name of a check below.
M.shapes = {
  ["$schema"] = "text", ["$id"] = "text", ["$anchor"] = "text",
  ["$dynamicAnchor"] = "text", ["$ref"] = "text", ["$dynamicRef"] = "text",
  ["$comment"] = "text", ["$vocabulary"] = "any", ["$defs"] = "map",
  definitions = "map", -- of older drafts, still in the meta-schema
  allOf = "schemas", anyOf = "schemas", oneOf = "schemas",
  ["not"] = "schema", ["if"] = "schema", ["then"] = "schema",
  ["else"] = "schema", dependentSchemas = "map",
  prefixItems = "schemas", items = "schema", contains = "schema",
  properties = "map", patternProperties = "patterns",
  additionalProperties = "schema", propertyNames = "schema",
  unevaluatedItems = "schema", unevaluatedProperties = "schema",
  type = "types", enum = "list", const = "any",
  multipleOf = "positive", maximum = "number", exclusiveMaximum = "number",
  minimum = "number", exclusiveMinimum = "number",
  maxLength = "count", minLength = "count", pattern = "pattern",
  maxItems = "count", minItems = "count", uniqueItems = "boolean",
  maxContains = "count", minContains = "count",
  maxProperties = "count", minProperties = "count",
  required = "names", dependentRequired = "name_lists",
  format = "format", contentEncoding = "text", contentMediaType = "text",
  contentSchema = "schema",
  title = "text", description = "text", default = "any",
  deprecated = "boolean", readOnly = "boolean", writeOnly = "boolean",
  examples = "list",
}

M.types = {
  null = true, boolean = true, object = true, array = true, number = true,
  integer = true, string = true,
}

function M.is_list(value)
  return type(value) == "table" and (next(value) == nil or value[1] ~= nil)
end

local function names_fault(value)
  if not M.is_list(value) then
    return "must be a list of names"
  end
  for _, name in ipairs(value) do
    if type(name) ~= "string" then
      return "must be a list of names"
    end
  end
end

local function pattern_fault(value)
  if type(value) ~= "string" then
    return "must be a string"
  end
  local _, fault = regex.new(value)
  return fault and ("is no regular expression: " .. fault)
end

--- What is wrong with a keyword's value, or nil. Subschemas are not looked
--- into.
M.checks = {
  any = function() end,
  text = function(value)
    return type(value) ~= "string" and "must be a string" or nil
  end,
  number = function(value)
    return type(value) ~= "number" and "must be a number" or nil
  end,
  positive = function(value)
    return not (type(value) == "number" and value > 0)
      and "must be a number over 0" or nil
  end,
  count = function(value)
    return not (type(value) == "number" and value % 1 == 0 and value >= 0
      and value <= 2 ^ 53) and "must be an integer of 0 or more" or nil
  end,
  boolean = function(value)
    return type(value) ~= "boolean" and "must be a boolean" or nil
  end,
  list = function(value)
    return not M.is_list(value) and "must be a list" or nil
  end,
  names = names_fault,
  name_lists = function(value)
    if type(value) ~= "table" then
      return "must be lists of names by name"
    end
    for _, names in pairs(value) do
      local fault = names_fault(names)
      if fault then
        return fault
      end
    end
  end,
  types = function(value)
    local list = type(value) == "table" and value or { value }
    for _, name in ipairs(list) do
      if not M.types[name] then
        return ("has no type %q"):format(tostring(name))
      end
    end
    return list[1] == nil and "must name a type" or nil
  end,
  pattern = pattern_fault,
  patterns = function(value)
    if type(value) ~= "table" then
      return "must be schemas by pattern"
    end
    for pattern in pairs(value) do
      local fault = pattern_fault(pattern)
      if fault then
        return ("%q %s"):format(tostring(pattern), fault)
      end
    end
  end,
}

return M
