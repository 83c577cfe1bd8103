--- What is traced of caches: each request that the worker's own table does not
--- answer, and each load, below the request that caused it.

local trace = require "perigee.trace"

local M = {}

local INTERNAL = 1 -- a span's kind

local function describe(span, self, key)
  span:set("perigee.cache.name", self.name)
  span:set("perigee.cache.key", key)
end

local function done(span, ok, ...)
  local value, err = ...
  if not ok then
    span:fail(value)
  elseif value == nil and err ~= nil then
    span:fail(err)
  end
  trace.own.finish(span)
  if not ok then
    error(value, 0)
  end
  return ...
end

--- The same function, traced; it is given the span as its last argument.
---@param get fun(self: table, key: string, load: any, opts: any, span: perigee.Span?): any, any
function M.wrap(get)
  if not trace.own.wanted then
    return get
  end
  return function(self, key, load, opts)
    local span = trace.own.child("cache get " .. self.name, INTERNAL)
    if not span then
      return get(self, key, load, opts)
    end
    describe(span, self, key)
    return done(span, pcall(get, self, key, load, opts, span))
  end
end

--- Where the running task is, for a load that outlives it; nil: nowhere.
---@return userdata?
function M.here()
  return trace.own.wanted and trace.own.hold() or nil
end

--- A load begins, in a task of its own, on behalf of who was here().
---@param self table
---@param key string
---@param here userdata?
---@return perigee.Span?
function M.load_begins(self, key, here)
  if not here then
    return nil
  end
  trace.own.adopt(here)
  local span = trace.own.child("cache load " .. self.name, INTERNAL)
  if span then
    describe(span, self, key)
  end
  return span
end

---@param span perigee.Span?
---@param err any
function M.load_ends(span, err)
  if not span then
    return
  end
  if err ~= nil then
    span:fail(err)
  end
  trace.own.finish(span)
end

return M
