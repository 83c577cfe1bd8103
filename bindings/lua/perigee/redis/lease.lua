--- Redis: commands on a connection of their own, which may wait on the server.

local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"

local M = {}

local function settle(lease, ok, ...)
  if not ok then
    core.give(lease, false)
    error((...), 0)
  end
  local first, err = ...
  -- A server's error leaves the connection as it was.
  core.give(lease, first ~= nil or err == nil)
  return ...
end

--- Runs a command of a slot that is on its way here: ASKING goes first.
---@param lease userdata
---@param timeout_ms number # of ASKING
---@param ... any # shape, time-out, the command
---@return any reply
---@return perigee.Error? err
function M.ask(lease, timeout_ms, ...)
  local ok, err = core.on(lease, commands.VALUE, timeout_ms, "ASKING")
  if not ok then
    return nil, err
  end
  return core.on(lease, ...)
end

--- Runs a command that may wait for so many seconds; 0: for ever.
---@param handle userdata
---@param shape integer
---@param seconds number
---@param timeout_ms number # of any command
---@param asking boolean? # ASKING goes first
---@param ... any # the command
---@return any reply
---@return perigee.Error? err
function M.run(handle, shape, seconds, timeout_ms, asking, ...)
  local lease, err = core.take(handle)
  if not lease then
    return nil, err
  end
  local ms = seconds > 0 and seconds * 1000 + timeout_ms or 0
  if asking then
    return settle(lease, pcall(M.ask, lease, timeout_ms, shape, ms, ...))
  end
  return settle(lease, pcall(core.on, lease, shape, ms, ...))
end

return M
