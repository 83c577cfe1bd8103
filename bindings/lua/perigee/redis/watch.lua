--- Redis: WATCH, on a connection of its own.

local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"
local json = require "perigee.json"
local lease = require "perigee.redis.lease"
local pipeline = require "perigee.redis.pipeline"

local M = {}

---@class perigee.redis.Watch
local Watch = {}

local function on(w, shape, ...)
  if w.asking then
    return lease.ask(w.lease, w.timeout_ms, shape, w.timeout_ms, ...)
  end
  return core.on(w.lease, shape, w.timeout_ms, ...)
end

--- Any command, on the connection that watches. Methods too.
---@param name string
---@param ... any
---@return any reply
---@return perigee.Error? err
function Watch:call(name, ...)
  local upper = commands.check(name, ...)
  return on(self, commands.shape_of(upper, (...)), upper, ...)
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
  return pipeline.execute(self.lease, p, self.asking)
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
---@param asking boolean? # their slot is on its way to that server
---@return perigee.redis.Watch? w # to be finished
---@return perigee.Error? err
function M.begin(handle, timeout_ms, keys, asking)
  local taken, err = core.take(handle)
  if not taken then
    return nil, err
  end
  local w = setmetatable({
    lease = taken,
    timeout_ms = timeout_ms,
    asking = asking or false,
    executed = false,
  }, { __index = Watch })
  local ok, watched, why = pcall(on, w, commands.VALUE, "WATCH", keys)
  if not ok or not watched then
    core.give(taken, false)
    if not ok then
      error(watched, 0)
    end
    return nil, why
  end
  return w
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
