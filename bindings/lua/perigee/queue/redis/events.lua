--- Queues in Redis: the stream of a queue's events.

local connection = require "perigee.queue.redis.connection"
local core = require "perigee.core.task"
local log = require "perigee.log"

local M = {}

local BLOCK_MS = 5000
local AGAIN_MS = 500
local LOOK_BACK = 1000 -- events
local ENDS = { completed = true, failed = true, removed = true }

local STATES = {
  wait = "waiting", ["waiting-children"] = "waiting_children",
}

local NAMES = {
  ["waiting-children"] = "waiting_children",
  ["retries-exhausted"] = "retries_exhausted",
}

-- Fields are names and values in turn.
local function event_of(fields)
  local f = {}
  for i = 1, #fields, 2 do
    f[fields[i]] = fields[i + 1]
  end
  return {
    event = NAMES[f.event] or f.event, id = f.jobId, name = f.name,
    result = f.returnvalue, failure = f.failedReason, progress = f.data,
    prev = STATES[f.prev] or f.prev,
  }
end

local function read(self)
  local reply, err = self.connection:wait(BLOCK_MS, "XREAD", "BLOCK", BLOCK_MS,
    "COUNT", 200, "STREAMS", self.key, self.last)
  if err then
    return nil, err
  end
  local events = {}
  local entries = reply and reply[1][2] or {}
  for i = 1, #entries do
    self.last = entries[i][1]
    events[i] = event_of(entries[i][2])
  end
  return events
end

local function follow(self)
  local told = false
  while not self.ended do
    local events, err = read(self)
    if not events and not self.ended then
      if not told then
        log.warn("events of a queue cannot be read", {
          queue = self.queue, err = err,
        })
      end
      told = true
      core.sleep(AGAIN_MS)
    end
    for i = 1, events and #events or 0 do
      for fn in pairs(self.listeners) do
        core.start(fn, events[i])
      end
      told = false
    end
  end
end

-- Where the stream ends now: what happens from here on is heard.
local function last_of(store, key)
  local list = store.client:xrevrange(key, "+", "-", "COUNT", 1)
  return list and list[1] and list[1][1] or "0-0"
end

local function open(store, queue)
  local key = store:root(queue) .. ":events"
  local self = {
    queue = queue, key = key, last = last_of(store, key), listeners = {},
    connection = connection.open(store.client, key,
      connection.name(store.prefix, queue, ":qe")),
  }
  self.task = core.spawn_detached(follow, self)
  return self
end

--- The last that was told of a job that is gone: the stream has it for a while.
---@param store perigee.queue.redis.Store
---@param queue string
---@param id string
---@return perigee.queue.Event?
function M.last_word(store, queue, id)
  local list = store.client:xrevrange(store:root(queue) .. ":events", "+", "-",
    "COUNT", LOOK_BACK)
  for _, entry in ipairs(list or {}) do
    local event = event_of(entry[2])
    if event.id == id and ENDS[event.event] then
      return event
    end
  end
  return nil
end

--- Has fn called for each event from now on.
---@param driver table
---@param queue string
---@param fn fun(event: perigee.queue.Event)
---@return fun() off
function M.subscribe(driver, queue, fn)
  local stream = driver.streams[queue]
  if not stream then
    stream = open(driver.store, queue)
    driver.streams[queue] = stream
  end
  local function listener(event)
    fn(event)
  end
  stream.listeners[listener] = true
  return function()
    stream.listeners[listener] = nil
    if next(stream.listeners) == nil and not stream.ended then
      stream.ended = true
      if driver.streams[queue] == stream then
        driver.streams[queue] = nil
      end
      stream.task:cancel "nobody listens any more"
      stream.connection:close()
    end
  end
end

return M
