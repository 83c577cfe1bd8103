--- The driver of queues in Redis, with BullMQ's layout of keys: Node's
--- producers, workers and dashboards share the queues. See perigee.queue.driver.

local admin = require "perigee.queue.redis.admin"
local connection = require "perigee.queue.redis.connection"
local consumer = require "perigee.queue.redis.consumer"
local events = require "perigee.queue.redis.events"
local flow = require "perigee.queue.redis.flow"
local leases = require "perigee.core.leases"
local owner = require "perigee.queue.redis.owner"
local redis = require "perigee.redis"
local schedule = require "perigee.queue.redis.schedule"
local store = require "perigee.queue.redis.store"
local units = require "perigee.units"

local M = {}

local DEFAULTS = {
  redis = "main", prefix = "bull", lock = 10000, idle_timeout = 5000,
  stalled_max = 1,
}

---@class perigee.queue.redis.Driver: perigee.queue.Driver
---@field store perigee.queue.redis.Store
local Driver = {}
Driver.__index = Driver

for _, part in ipairs { admin.methods, schedule.methods } do
  for name, method in pairs(part) do
    Driver[name] = method
  end
end

function Driver:add(queue, entries)
  return self.store:add(queue, entries)
end

function Driver:flow(root)
  return flow.add(self.store, root)
end

function Driver:children(queue, id)
  return flow.children(self.store, queue, id)
end

function Driver:subscribe(queue, fn)
  return events.subscribe(self, queue, fn)
end

function Driver:last_word(queue, id)
  return events.last_word(self.store, queue, id)
end

function Driver:consume(queue, options)
  return consumer.open(self, queue, options)
end

--- What renews leases when no script lets the loop do so; nil: nothing.
---@return userdata?
function Driver:keep()
  if not self.keeper then
    -- All queues are on one server: the prefix has the tag.
    local handle = connection.handle(self.store.client,
      self.store:root "any")
    self.keeper = handle and leases.keeper(handle, self.settings.lock)
  end
  return self.keeper
end

--- Jobs that still run go back to the front of their queues.
function Driver:close()
  for one in pairs(self.consumers) do
    one:give_back()
  end
  self.consumers = {}
  if self.keeper then
    self.keeper:close()
    self.keeper = nil
  end
  for _, stream in pairs(self.streams) do
    stream.ended = true
    stream.task:cancel "the driver is closed"
    stream.connection:close()
  end
  self.streams = {}
end

local function duration(settings, name)
  return units.duration(settings[name] or DEFAULTS[name]) or DEFAULTS[name]
end

-- metrics = true keeps a week's minutes, a number as many points.
local function points(metrics)
  if metrics == true then
    return 10080
  end
  return tonumber(metrics) or 0
end

--- Opens the driver: section `queue` of the configuration.
---@param settings table
---@return perigee.queue.redis.Driver
function M.open(settings)
  local client = redis.get(settings.redis or DEFAULTS.redis)
  local prefix = settings.prefix or DEFAULTS.prefix
  local router = connection.router(client)
  if router and router.is_cluster and not prefix:find "{[^}]+}" then
    error(('queue.prefix: in a cluster all keys of a queue have to be on one '
      .. 'server: "{%s}"'):format(prefix), 0)
  end
  return setmetatable({
    name = "redis", is_shared = true,
    store = store.open(client, prefix),
    owner = owner.new(), streams = {}, consumers = {},
    settings = {
      lock = duration(settings, "lock"),
      idle_timeout = duration(settings, "idle_timeout"),
      stalled_max = settings.stalled_max or DEFAULTS.stalled_max,
      metrics = points(settings.metrics),
    },
  }, Driver)
end

return M
