--- Redis: subscriptions, each with a connection of its own.

local core = require "perigee.core.redis"

local blame = require("perigee.options").blame
local task = require "perigee.task"

local M = {}

---@class perigee.redis.Message
---@field channel string
---@field pattern string? # that it matched, of psubscribe
---@field message string

---@class perigee.redis.Subscription
---@field err perigee.Error? # why it ended
local Subscription = {}
Subscription.__index = Subscription

local AGAIN_MS, AGAIN_MAX_MS = 50, 500
local TRIES = 6

local function try_handle(self, handle)
  local sub, err = core.subscribe(handle, self.count, self.text, false)
  if not sub then
    return nil, err
  end
  local live
  live, err = core.event(sub)
  if not live then
    core.unsubscribe(sub)
    return nil, err
  end
  self.core = sub
  return true
end

-- Finds the server that has the channels now, and subscribes there.
local function connect(self)
  local handle, err, why
  for try = 0, TRIES do
    handle, why = self.find(try, err, handle)
    if not handle then
      return nil, why or err
    end
    local live
    live, err = try_handle(self, handle)
    if live then
      return true
    end
  end
  return nil, err
end

-- The connection was lost: until there is one again, or nobody wants it.
local function come_back(self)
  local bound_ms = AGAIN_MS
  while not self.closed do
    task.sleep(bound_ms / 2 + math.random() * bound_ms / 2)
    if self.closed then
      return false
    end
    local live, err = connect(self)
    if live then
      return true
    elseif err and err.code == "ECANCELED" then
      return false
    end
    bound_ms = math.min(bound_ms * 2, AGAIN_MAX_MS)
  end
  return false
end

--- The next message; nil when the subscription has ended (see err).
---@return perigee.redis.Message? message
---@return perigee.Error? err
function Subscription:next()
  while true do
    local channel, message, pattern = core.event(self.core)
    if channel == nil then
      if not (message and self.find and come_back(self)) then
        self.err = message
        return nil, message
      end
    elseif channel ~= true and channel ~= false then
      return { channel = channel, pattern = pattern, message = message }
    end
  end
end

-- A loop: what it leaves behind, cut off or left by a break, ends with its
-- request (or whatever the outermost task is).
function Subscription:__call()
  core.own(self.core)
  return self:next()
end

--- Ends it; a loop over it ends.
function Subscription:close()
  self.closed = true
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
    blame("redis: no channel to subscribe to")
  end
  local sub = core.subscribe(handle, count, core.encode(command, ...))
  local live, err = core.event(sub)
  if not live then
    core.unsubscribe(sub)
    return nil, err
  end
  return setmetatable({ core = sub }, Subscription)
end

--- The same; it ends when its connection is lost.
---@param handle userdata
---@param command string
---@param ... string # channels
---@return perigee.redis.Subscription? subscription
---@return perigee.Error? err
function M.once(handle, command, ...)
  local self = setmetatable({
    count = select("#", ...),
    text = core.encode(command, ...),
  }, Subscription)
  local live, err = try_handle(self, handle)
  if not live then
    return nil, err
  end
  return self
end

--- The same where the server may be another one each time: find(try, err, handle)
--- gives it, err and handle are those of the last attempt.
---@param find fun(try: integer, err: perigee.Error?, handle: userdata?): userdata?, perigee.Error?
---@param command string
---@param ... string # channels
---@return perigee.redis.Subscription? subscription
---@return perigee.Error? err
function M.follow(find, command, ...)
  local count = select("#", ...)
  if count == 0 then
    blame("redis: no channel to subscribe to")
  end
  local self = setmetatable({
    find = find,
    count = count,
    text = core.encode(command, ...),
    closed = false,
  }, Subscription)
  local ok, err = connect(self)
  if not ok then
    return nil, err
  end
  return self
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
