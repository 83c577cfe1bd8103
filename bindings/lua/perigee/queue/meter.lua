--- Metrics of queues: how long jobs take, and how many there are.

local config = require "perigee.config"
local log = require "perigee.log"
local metrics = require "perigee.metrics"
local task = require "perigee.task"
local time = require "perigee.time"

local M = {}

local EVERY_MS = 5000

local duration, waiting
local bound = {} -- queue and kind of error -> its cells

local function enabled()
  local queue = config.queue
  return not queue or queue.metrics ~= false
end

local function declare()
  if duration then
    return
  end
  duration = metrics.own.histogram {
    name = "messaging_process_duration_seconds",
    help = "How long jobs ran.",
    labels = { "messaging_system", "messaging_destination_name",
      "messaging_operation_name", "error_type" },
  }
  waiting = metrics.own.gauge {
    name = "perigee_queue_jobs", help = "Jobs in each state.",
    labels = { "queue", "state" }, merge = "last",
  }
end

--- A job has run for so long; kind: of its error, or nil.
function M.processed(system, queue, ms, kind)
  if not enabled() then
    return
  end
  declare()
  local key = queue .. "\n" .. (kind or "")
  local one = bound[key]
  if not one then
    one = duration:with(system, queue, "process", kind or "")
    bound[key] = one
  end
  one:observe(ms / 1000)
end

local function count(client, names)
  for _, name in ipairs(names) do
    local counts, err = client.driver:counts(name)
    if not counts then
      log.debug("jobs could not be counted", { queue = name, err = err })
      return
    end
    for state, jobs in pairs(counts) do
      waiting:set(jobs, name, state)
    end
  end
end

--- Counts the jobs of these queues now and then, as long as tasks run.
function M.watch(client, names)
  if not enabled() then
    return
  end
  declare()
  task.spawn_detached(function()
    while true do
      local began = time.monotonic()
      count(client, names)
      -- Counting millions of jobs takes a while: a fiftieth of the time.
      task.sleep(math.max(EVERY_MS, 50 * (time.monotonic() - began)))
    end
  end)
end

return M
