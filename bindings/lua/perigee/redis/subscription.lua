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

--- Subscribes so that nothing is missed unseen: a message with the channel ""
--- comes each time that it has become live, and when all that is tracked is
--- invalid. With options it has the server track keys (CLIENT TRACKING, each
--- invalid key a message of the channel). For the library's own modules.
---@param handle userdata
---@param channel string
---@param options string[]? # of CLIENT TRACKING, behind REDIRECT
---@return perigee.redis.Subscription
function M.watch(handle, channel, options)
  local before, after = "", ""
  if options then
    -- The client puts its connection's id between.
    local words = { "CLIENT", "TRACKING", "ON", "REDIRECT" }
    before = { ("*%d\r\n"):format(#words + 1 + #options) }
    for i, word in ipairs(words) do
      before[i + 1] = ("$%d\r\n%s\r\n"):format(#word, word)
    end
    before, after = table.concat(before), {}
    for i, word in ipairs(options) do
      after[i] = ("$%d\r\n%s\r\n"):format(#word, word)
    end
    after = table.concat(after)
  end
  return setmetatable({
    core = core.subscribe(handle, 1, core.encode("SUBSCRIBE", channel), before,
      after),
  }, Subscription)
end

return M
