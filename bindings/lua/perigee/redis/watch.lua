--- Redis: WATCH, on a connection of its own.

local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"
local json = require "perigee.json"
local pipeline = require "perigee.redis.pipeline"

local M = {}

---@class perigee.redis.Watch
local Watch = {}

--- Any command, on the connection that watches. Methods too.
---@param name string
---@param ... any
---@return any reply
---@return perigee.Error? err
function Watch:call(name, ...)
  local upper = commands.check(name, ...)
  return core.on(self.lease, commands.shape_of(upper, (...)), self.timeout_ms,
    upper, ...)
end

commands.with_methods(Watch, function(first, second)
  return function(self, ...)
    if second then
      return Watch.call(self, first, second, ...)
    end
    return Watch.call(self, first, ...)
  end
end)

--- As r:transaction, done only if no watched key has changed since.
---@param fn fun(p: perigee.redis.Pipeline)
---@return any[]? replies
---@return perigee.Error? err # kind "conflict", code "WATCH": a key changed
function Watch:transaction(fn)
  local p, err = pipeline.collect(fn, true)
  if not p then
    return nil, err
  end
  if p.count == 0 then
    return json.array {}
  end
  self.executed = true
  return pipeline.execute(self.lease, p)
end

local function finish(w, ok, ...)
  if not ok then
    core.give(w.lease, false)
    error((...), 0)
  end
  local clean = w.executed
  if not clean then
    clean = core.on(w.lease, commands.VALUE, w.timeout_ms, "UNWATCH")
  end
  core.give(w.lease, clean ~= nil)
  return ...
end

--- Watches keys.
---@param handle userdata
---@param timeout_ms number
---@param keys string|string[]
---@return perigee.redis.Watch? w # to be finished
---@return perigee.Error? err
function M.begin(handle, timeout_ms, keys)
  local lease, err = core.take(handle)
  if not lease then
    return nil, err
  end
  local ok, watched, why = pcall(core.on, lease, commands.VALUE, timeout_ms,
    "WATCH", keys)
  if not ok or not watched then
    core.give(lease, false)
    if not ok then
      error(watched, 0)
    end
    return nil, why
  end
  return setmetatable({
    lease = lease,
    timeout_ms = timeout_ms,
    executed = false,
  }, { __index = Watch })
end

--- Runs fn while the keys are watched; gives what it gives.
---@param w perigee.redis.Watch
---@param fn fun(w: perigee.redis.Watch): any, any
---@return any value
---@return perigee.Error? err
function M.finish(w, fn)
  return finish(w, pcall(fn, w))
end

return M
