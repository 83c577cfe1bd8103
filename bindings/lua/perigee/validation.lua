--- Validation of a route's body, query, parameters and headers.

local core = require "perigee.core.request"
local errors = require "perigee.error"

local M = {}

local FAULTS_MAX = 100

local function compile(def, name, place, opts)
  if def == nil then
    return nil
  end
  -- Not at the top: an application without schemas need not pay for it.
  local schema = require "perigee.schema"
  local ok, validate = pcall(schema.compile, def, opts)
  if not ok then
    error(("%s: the schema for %s: %s"):format(place, name,
      tostring(validate)), 0)
  end
  return validate
end

local function add_faults(faults, prefix, err)
  faults = faults or {}
  for _, fault in ipairs(err.errors or {}) do
    if #faults == FAULTS_MAX then
      return faults
    end
    faults[#faults + 1] = {
      pointer = prefix .. (fault.pointer or ""),
      detail = fault.detail,
    }
  end
  return faults
end

-- The keys of a query whose schema wants a list: all their values are given.
local function list_keys(def)
  local keys = {}
  for key, property in pairs(type(def) == "table" and def.properties or {}) do
    if type(property) == "table" and property.type == "array" then
      keys[#keys + 1] = key
    end
  end
  return keys
end

local function with_lists(req, query, keys)
  for i = 1, #keys do
    if query[keys[i]] ~= nil then
      query[keys[i]] = core.query_all(req, keys[i])
    end
  end
  return query
end

local function check_part(req, name, validate, faults, lists)
  local given = req[name]
  if lists then
    given = with_lists(req, given, lists)
  end
  local value, err = validate(given)
  if err then
    return add_faults(faults, "/" .. name, err)
  end
  rawset(req, name, value)
  return faults
end

local function refusal(faults)
  local err = errors.new("invalid", "the request is not valid")
  err.errors = faults
  return nil, err
end

--- The handler itself, or one that validates first.
---@param handler fun(req: perigee.Request): ...
---@param opts perigee.RouteOptions
---@param place string  # for faults of the schemas
function M.wrap(handler, opts, place)
  local text = { coerce = true, defaults = true }
  local body = compile(opts.body, "body", place, { defaults = true })
  local parts = {}
  for _, name in ipairs { "params", "query", "headers" } do
    local validate = compile(opts[name], name, place, text)
    if validate then
      parts[#parts + 1] = { name = name, validate = validate }
    end
  end
  local lists = { query = list_keys(opts.query) }
  if not body and #parts == 0 then
    return handler
  end
  return function(req)
    local faults -- made with the first
    for i = 1, #parts do
      local name = parts[i].name
      faults = check_part(req, name, parts[i].validate, faults, lists[name])
    end
    if body then
      local value, err = core.typed_json(req)
      if err then
        return nil, err
      end
      value, err = body(value)
      if err then
        faults = add_faults(faults, "", err)
      else
        rawset(req, "body_json", value)
      end
    end
    if faults then
      return refusal(faults)
    end
    return handler(req)
  end
end

return M
