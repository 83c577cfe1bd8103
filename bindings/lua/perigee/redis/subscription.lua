--- Redis: subscriptions, each with a connection of its own.

local core = require "perigee.core.redis"

local M = {}

---@class perigee.redis.Message
---@field channel string
---@field pattern string? # that it matched, of psubscribe
---@field message string

---@class perigee.redis.Subscription
---@field err perigee.Error? # why it ended
local Subscription = {}
Subscription.__index = Subscription

--- The next message; nil when the subscription has ended (see err).
---@return perigee.redis.Message? message
---@return perigee.Error? err
function Subscription:next()
  while true do
    local channel, message, pattern = core.event(self.core)
    if channel == nil then
      self.err = message
      return nil, message
    elseif channel ~= true and channel ~= false then
      return { channel = channel, pattern = pattern, message = message }
    end
  end
end

Subscription.__call = Subscription.next

--- Ends it; a loop over it ends.
function Subscription:close()
  core.unsubscribe(self.core)
end

--- Subscribes, and waits until the server has confirmed it.
---@param handle userdata
---@param command string
---@param ... string # channels
---@return perigee.redis.Subscription? subscription
---@return perigee.Error? err
function M.open(handle, command, ...)
  local count = select("#", ...)
  if count == 0 then
    error("redis: no channel to subscribe to", 3)
  end
  local sub = core.subscribe(handle, count, core.encode(command, ...))
  local live, err = core.event(sub)
  if not live then
    core.unsubscribe(sub)
    return nil, err
  end
  return setmetatable({ core = sub }, Subscription)
end

return M
