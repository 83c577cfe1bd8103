--- The embedded driver of queues: one SQLite file that all workers of a host
--- share, nothing to be installed. See perigee.queue.driver for what a driver
--- is, perigee.queue.embedded.store for how it stores.

local consumers = require "perigee.queue.embedded.consumer"
local events = require "perigee.queue.embedded.events"
local host_events = require "perigee.events"
local log = require "perigee.log"
local owners = require "perigee.queue.embedded.owners"
local stores = require "perigee.queue.embedded.store"
local task = require "perigee.task"

local M = {}

---@type perigee.queue.embedded.Driver
local Driver = { name = "embedded" }
Driver.__index = Driver

local PARTS = { "adding", "jobs", "queues", "flows", "schedules" }

for _, part in ipairs(PARTS) do
  for name, fn in pairs(require("perigee.queue.embedded." .. part).methods) do
    Driver[name] = fn
  end
end

function Driver:subscribe(queue, fn)
  local queue_id, err = self.store:queue(queue)
  if not queue_id then
    error(err, 0)
  end
  return events.subscribe(self.store, queue_id, fn)
end

--- Nothing is kept of what is removed.
function Driver:last_word()
  return nil
end

local function recover(store)
  local ok, err = owners.recover(store)
  if not ok then
    log.error("jobs of workers that have died could not be taken back",
      { err = err })
  end
end

-- A worker that dies is told by the master at once; looking now and then is
-- for what the master does not start.
local function watch(self)
  if self.watching then
    return
  end
  self.watching = true
  self.off = host_events.on("perigee.worker.exit", function()
    recover(self.store)
  end)
  local every = self.settings.stalled_interval or 5000
  task.spawn_detached(function()
    while not self.store.closed do
      task.sleep(every)
      recover(self.store)
    end
  end)
  self:run_schedules()
end

function Driver:consume(queue, options)
  watch(self)
  return consumers.open(self.store, queue, options, self.settings)
end

--- Jobs that this worker has taken go back; it takes no more.
function Driver:close()
  local store = self.store
  if store.closed then
    return
  end
  store.closed = true
  if self.off then
    self.off()
  end
  if store.owner then
    local statements = {
      { require("perigee.queue.embedded.sql").RELEASE_ALL, store.owner,
        n = 1 },
      { "DELETE FROM owner WHERE id = ?", store.owner, n = 1 },
    }
    store:add_counts(statements)
    local outcomes, err = store:run_alone(statements)
    if not outcomes then
      log.error("jobs could not be given back", { err = err })
    elseif type(outcomes[1]) == "number" and outcomes[1] > 0 then
      store:notify_all()
    end
    store.owners:close()
    store.owner, store.owners = nil, nil
  end
  store:close()
end

---@param settings table
---@return perigee.queue.Driver
function M.open(settings)
  return setmetatable({
    settings = settings, store = stores.open(settings),
  }, Driver)
end

require "perigee.sqlite" -- db:transaction

return M
