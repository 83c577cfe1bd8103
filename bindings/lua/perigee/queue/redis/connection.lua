--- Queues in Redis: a connection of one's own, with a name, on which to wait.

local base64 = require("perigee.crypto").base64
local core = require "perigee.core.redis"
local keys = require "perigee.redis.keys"

local M = {}

local VALUE = 0

---@class perigee.queue.redis.Connection
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
  local named, why = core.on(lease, VALUE, self.client.timeout_ms, "CLIENT",
    "SETNAME", self.name)
  if not named and why.kind ~= "forbidden" then
    drop(self, false)
    return nil, why
  end
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
