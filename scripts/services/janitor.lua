--- The janitor: removes what is older than retention allows, and ends what a
--- dead worker began. One worker runs it; two at once would do no harm.

local config = require "perigee.config"
local log = require "perigee.log"
local task = require "perigee.task"
local time = require "perigee.time"

local events = require "data.events"
local intake = require "data.intake"
local deliveries = require "services.deliveries"

local retention = config.app.retention

local M = {}

local HOUR_MS = 3600 * 1000

-- A transform that is under way in another worker must not look abandoned.
local STALE_AFTER_MS = 60 * 1000
local OVERDUE_AFTER_MS = 10 * 60 * 1000

--- Repeats a step until it finds nothing more to do; gives the sum.
local function drain(step, before_ms)
  local total = 0
  repeat
    local count, err = step(before_ms, retention.batch)
    if not count then
      log.error("the janitor was stopped", { err = err })
      return total
    end
    total = total + count
  until count < retention.batch
  return total
end

--- One round.
---@param now_ms integer
---@return { events: integer, keys: integer, prepared: integer, overdue: integer } counts
function M.tidy(now_ms)
  local counts = {
    prepared = drain(deliveries.prepare_stale, now_ms - STALE_AFTER_MS),
    overdue = drain(deliveries.look_after, now_ms - OVERDUE_AFTER_MS),
    events = drain(events.purge, now_ms - retention.events_h * HOUR_MS),
    keys = drain(intake.purge_keys, now_ms - retention.keys_h * HOUR_MS),
  }
  if counts.events + counts.keys + counts.prepared + counts.overdue > 0 then
    log.info("tidied", counts)
  end
  return counts
end

--- Tidies for ever. Ends by being cancelled.
function M.run()
  while true do
    M.tidy(time.now())
    task.sleep(retention.interval)
  end
end

return M
