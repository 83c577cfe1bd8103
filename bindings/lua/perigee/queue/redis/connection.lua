--- Queues in Redis: a connection of one's own, with a name, on which to wait.

local base64 = require("perigee.crypto").base64
local commands = require "perigee.redis.commands"
local core = require "perigee.core.redis"
local errors = require "perigee.error"
local keys = require "perigee.redis.keys"
local time = require "perigee.time"

local M = {}

local VALUE, LIST = commands.VALUE, commands.LIST
local CLOCK_HOLDS_MS = 10000
local CLOCK_SET_MS = 1000

---@class perigee.queue.redis.Connection
---@field id integer?    # the server's number for it
---@field ahead integer? # ms by which our clock is ahead of the server's
---@field read_at number? # when that was found out
local Connection = {}
Connection.__index = Connection

--- By such names dashboards count the workers of a queue.
---@param prefix string
---@param queue string
---@param suffix string?
---@return string
function M.name(prefix, queue, suffix)
  return prefix .. ":" .. base64.encode(queue) .. (suffix or "")
end

-- Of a reply of TIME, in ms; nil where the server does not say it.
local function in_ms(reply)
  local seconds = type(reply) == "table" and tonumber(reply[1])
  return seconds and seconds * 1000 + math.floor(reply[2] / 1000) or nil
end

--- What scripts that have gone by the server's clock until then may have written
--- down as our time, at most.
---@param reply any # of TIME
---@return number? ms
function Connection:written_until(reply)
  local ms = in_ms(reply)
  return ms and ms + self.ahead
end

--- Takes in what TIME has said. Each reading makes our clock seem later by what
--- the reply took on its way: the least one of a while is the nearest. One that
--- is far above it comes from a clock that has been set.
---@param reply any
function Connection:read_clock(reply)
  local server = in_ms(reply)
  if not server then
    self.ahead = self.ahead or 0
    return
  end
  local ahead, now = time.now() - server, time.monotonic()
  if not self.read_at or now - self.read_at > CLOCK_HOLDS_MS
    or ahead <= self.ahead or ahead > self.ahead + CLOCK_SET_MS then
    self.ahead, self.read_at = ahead, now
  end
end

local function drop(self, keep)
  local lease = self.lease
  if lease then
    self.lease = nil
    core.give(lease, keep)
  end
end

--- What knows the servers of a cluster or of sentinels; nil: there is one alone.
--- Any other field that is not there would be a command.
---@param client perigee.redis.Client
---@return table?
function M.router(client)
  return rawget(client, "router")
end

--- The server that a key is on.
---@param client perigee.redis.Client
---@param key string
---@return userdata? handle
---@return perigee.Error? err
function M.handle(client, key)
  local router = M.router(client)
  if not router then
    return client.core
  end
  return router:pick(router.is_cluster and keys.slot("GET", key) or nil)
end

local function open(self)
  local handle, err = M.handle(self.client, self.key)
  if not handle then
    return nil, err
  end
  self.handle = handle
  local lease
  lease, err = core.take(handle)
  if not lease then
    return nil, err
  end
  self.lease = lease
  local list
  list, err = core.many(lease, LIST, core.encode("CLIENT", "SETNAME", self.name)
    .. core.encode("CLIENT", "ID") .. core.encode "TIME", 3)
  local named = list and list[1]
  if errors.is(named) and named.kind ~= "forbidden" then
    list, err = nil, named
  end
  if not list then
    drop(self, false)
    return nil, err
  end
  self.id = tonumber(list[2])
  self:read_clock(list[3])
  return true
end

local function settle(self, ok, ...)
  local first, err = ...
  if not ok or first == nil and err ~= nil then
    drop(self, false)
    local router = M.router(self.client)
    if ok and router then
      -- It learns where the key is now; the next wait goes there.
      router:again(err, self.handle,
        keys.slot("GET", self.key) or nil, 1)
    end
  end
  if not ok then
    error((...), 0)
  end
  return ...
end

--- Runs a command that waits for so many ms at most.
---@param ms number
---@param ... any
---@return any reply
---@return perigee.Error? err
function Connection:wait(ms, ...)
  if not self.lease then
    local ok, err = open(self)
    if not ok then
      return nil, err
    end
  end
  return settle(self, pcall(core.on, self.lease, VALUE,
    ms + self.client.timeout_ms, ...))
end

-- An error of the first command is that of all: what follows has waited for it.
local function first_of(ok, list, ...)
  if ok and list and errors.is(list[1]) then
    return true, nil, list[1]
  end
  return ok, list, ...
end

--- Connects, unless it is.
---@return true? ok
---@return perigee.Error? err
function Connection:ready()
  if self.lease then
    return true
  end
  return open(self)
end

--- Sends commands together of which the first one waits for so many ms at most:
--- the server goes on with the others at once. Gives their replies.
---@param ms number
---@param count integer
---@param text string # as core.encode has made it
---@return any[]? replies # errors, too
---@return perigee.Error? err
function Connection:wait_and_go_on(ms, count, text)
  return settle(self, first_of(pcall(core.many, self.lease, LIST, text, count,
    ms + self.client.timeout_ms)))
end

--- Ends the wait of its command, as if its time were over.
---@return integer? ended # 0: it does not wait; nil: that cannot be done
function Connection:unblock()
  if not self.lease or not self.id then
    return nil
  end
  return (core.command(self.handle, VALUE, "CLIENT", "UNBLOCK", self.id))
end

function Connection:close()
  drop(self, false)
end

--- Opens at the first command, and again after one that failed.
---@param client perigee.redis.Client
---@param key string # that it is for
---@param name string
---@return perigee.queue.redis.Connection
function M.open(client, key, name)
  return setmetatable({ client = client, key = key, name = name }, Connection)
end

return M
