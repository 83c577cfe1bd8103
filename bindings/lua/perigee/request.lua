--- The request, as handlers see it: a table whose fields are read when they are
--- asked for, and kept.

local core = require "perigee.core.request"
local errors = require "perigee.error"

---@class perigee.RequestTls
---@field version string      # "TLSv1.3"
---@field cipher string
---@field server_name string? # that the client asked for
---@field resumed boolean     # an earlier session was taken up
---@field client { subject: string, fingerprint: string }? # of the client's certificate, if it is good: RFC 2253; SHA-256 in hex

---@class perigee.Request
---@field method string
---@field path string                    # raw, without the query
---@field target string                  # as it was sent
---@field query table<string, any>       # last value of a repeated key
---@field params table<string, any>      # of the route's pattern, decoded
---@field headers table<string, string>  # names in lower case
---@field id string                      # X-Request-Id
---@field remote_addr string
---@field is_tls boolean                 # it came by TLS, as far as trusted proxies say
---@field tls perigee.RequestTls?        # of the connection itself; nil: plain
---@field route string?                  # "/orders/:id"
---@field deadline_ms number?            # milliseconds left
---@field state table                    # for middleware and handlers
---@field body_json any                  # the body as JSON, validated if there is a schema
local M = {}

--- A header field; repeated ones are joined by ", ".
---@param name string
---@return string?
function M:header(name)
  return core.header(self, name)
end

--- A cookie's value.
---@param name string
---@return string?
function M:cookie(name)
  local line = core.header(self, "cookie")
  for pair in (line or ""):gmatch "[^;]+" do
    local key, value = pair:match "^%s*([^=%s]+)%s*=%s*(.-)%s*$"
    if key == name then
      return (value:gsub('^"(.*)"$', "%1"))
    end
  end
  return nil
end

--- All values of a query key, in order.
---@param key string
---@return string[]
function M:query_all(key)
  return core.query_all(self, key)
end

--- The whole body; "" when there is none. Waits for it.
---@return string? body
---@return perigee.Error? err  # kind "too_large", "timeout", "invalid", "cancelled"
function M:body()
  local body = rawget(self, "_body")
  if body then
    return body
  end
  local err
  body, err = core.body(self)
  rawset(self, "_body", body)
  return body, err
end

--- The body as JSON. Waits for it.
---@return any value
---@return perigee.Error? err  # kind "invalid" and what was wrong at which byte
function M:json()
  return core.json(self)
end

--- A form that was sent as application/x-www-form-urlencoded.
---@return table<string, string>? fields  # the last value of a repeated name
---@return perigee.Error? err  # also for a body of another type: 415
function M:form()
  local kind = core.header(self, "content-type")
  if kind and kind:lower():match "^[^;%s]*"
      ~= "application/x-www-form-urlencoded" then
    local err = errors.new("invalid",
      "the body must be application/x-www-form-urlencoded")
    err.code = "unsupported_media_type"
    return nil, err
  end
  local body, err = self:body()
  if not body then
    return nil, err
  end
  return core.parse_form(body)
end

--- Iterates the body as it arrives, in strings of any length.
---@return fun(): string?
function M:chunks()
  return function()
    local chunk, err = core.chunk(self)
    if err then
      error(err, 0)
    end
    return chunk
  end
end

--- Iterates the parts of a multipart/form-data body, in order.
---@return fun(): perigee.Part?
function M:multipart()
  return require("perigee.multipart").parts(self)
end

local getters = {
  method = core.method,
  path = core.path,
  target = core.target,
  query = core.query,
  headers = core.headers,
  id = core.id,
  remote_addr = core.remote_addr,
  route = core.route,
  is_tls = core.is_tls,
  tls = core.tls,
}

function getters.state()
  return {}
end

-- Routes with parameters have them from the start (bindings/dispatch.c).
function getters.params()
  return {}
end

function getters.query(req)
  local query, err = core.query(req)
  if not query then
    error(err, 0)
  end
  return query
end

function getters.body_json(req)
  local value, err = core.json(req)
  if err then
    error(errors.is(err) and err or errors.new("invalid", tostring(err)), 0)
  end
  return value
end

local metatable = {}

function metatable.__index(req, key)
  local method = M[key]
  if method then
    return method
  end
  local getter = getters[key]
  if getter then
    local value = getter(req)
    rawset(req, key, value)
    return value
  end
  if key == "deadline_ms" then
    return core.deadline_ms(req)
  end
  return nil
end

function metatable.__tostring(req)
  return "request " .. req.method .. " " .. req.path
end

return { class = M, metatable = metatable }
