--- Parts that several schemas share.

local config = require "perigee.config"

local pages = config.app.pages

local M = {}

M.source_name = {
  type = "string",
  pattern = "^[a-z0-9][a-z0-9_-]*$",
  maxLength = 64,
  description = "name of a source, part of its URL",
}

M.event_type = {
  type = "string",
  pattern = "^[A-Za-z0-9][A-Za-z0-9_.:/-]*$",
  maxLength = 200,
}

M.uuid = {
  type = "string",
  pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
}

M.time_ms = { type = "integer", minimum = 0, maximum = 253402300799999 }

--- A closed object: a misspelt name is a fault, not silently nothing.
function M.object(properties, required)
  return {
    type = "object",
    properties = properties,
    required = required,
    additionalProperties = false,
  }
end

--- The query of a list: `limit`, `after` and what it can be filtered by.
---@param cursor table  # schema of the last item's key
---@param filters table<string, table>?
function M.list(cursor, filters)
  local properties = {
    limit = {
      type = "integer",
      minimum = 1,
      maximum = pages.limit_max,
      default = pages.limit,
    },
    after = cursor,
  }
  for name, schema in pairs(filters or {}) do
    properties[name] = schema
  end
  return M.object(properties)
end

--- The same schema, or null.
function M.nullable(schema)
  return { anyOf = { schema, { type = "null" } } }
end

return M
