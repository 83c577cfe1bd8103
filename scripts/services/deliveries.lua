--- Deliveries: what is to be sent to whom. Sending is services.sending's.

local crypto = require "perigee.crypto"
local errors = require "perigee.error"
local log = require "perigee.log"
local time = require "perigee.time"

local deliveries = require "data.deliveries"
local delivery_queue = require "data.delivery_queue"
local events = require "data.events"
local filters = require "services.filters"
local live = require "services.live"
local transforms = require "services.transforms"

local M = {}

--- The deliveries that an event gives rise to. Those with a transform are "new"
--- until it has run.
---@param event Event
---@param subscriptions Subscription[]
---@return Delivery[]
function M.plan(event, subscriptions)
  local planned = {}
  for _, subscription in ipairs(subscriptions) do
    if filters.match(subscription.events, event.type) then
      planned[#planned + 1] = {
        id = crypto.uuid.v7(),
        event_id = event.id,
        subscription_id = subscription.id,
        source = event.source,
        event_type = event.type,
        target_url = subscription.target_url,
        transform = subscription.transform,
        status = subscription.transform and "new" or "pending",
        round = 1,
        created_at_ms = event.received_at_ms,
        updated_at_ms = event.received_at_ms,
      }
    end
  end
  return planned
end

--- Whether some of them wait for their transform.
---@param planned Delivery[]
---@return boolean
function M.has_new(planned)
  for _, delivery in ipairs(planned) do
    if delivery.status == "new" then
      return true
    end
  end
  return false
end

--- Runs one delivery's transform and records the outcome.
local function prepare(event, delivery)
  local outcome = transforms.run(delivery.transform, event)
  if outcome.status == "failed" then
    log.warn("transform failed", {
      transform = delivery.transform,
      delivery = delivery.id,
      event = event.id,
      reason = outcome.error,
    })
  end
  local settled, err = deliveries.settle(delivery.id, delivery.status, outcome,
    time.now())
  if err then
    log.error("cannot record a transform's outcome",
      { delivery = delivery.id, err = err })
  end
  live.tell { kind = "delivery", id = delivery.id, event = event.id,
    status = outcome.status }
  return settled, err
end

--- Runs the transforms of deliveries that have just been stored.
---@param event Event
---@param planned Delivery[]
function M.prepare(event, planned)
  for _, delivery in ipairs(planned) do
    if delivery.status == "new" then
      prepare(event, delivery)
    end
  end
end

--- Runs the transforms that a dead worker left undone; says how many.
---@param before_ms integer
---@param limit integer
---@return integer? prepared
---@return perigee.Error? err
function M.prepare_stale(before_ms, limit)
  local stale, err = deliveries.stale(before_ms, limit)
  if not stale then
    return nil, err
  end
  for _, delivery in ipairs(stale) do
    local event
    event, err = events.find(delivery.event_id)
    if not event then
      return nil, err
    end
    prepare(event, delivery)
  end
  return #stale
end

---@param filter DeliveryFilter
---@param page Page
---@return List? list
---@return perigee.Error? err
function M.list(filter, page)
  return deliveries.list(filter, page)
end

---@param id string
---@return Delivery? delivery
---@return perigee.Error? err  # kind "not_found"
function M.get(id)
  local delivery, err = deliveries.find(id)
  if not delivery then
    return nil, err or errors.new("not_found", "no delivery %s", id)
  end
  return delivery
end

--- The delivery log of one.
---@param id string
---@return Attempt[]? attempts
---@return perigee.Error? err
function M.attempts(id)
  return deliveries.attempts(id)
end

local AGAIN = { failed = true, skipped = true }
local SENT = { dead = true, delivered = true }

-- Sends one again, with all its attempts before it.
local function reopen(id)
  local reopened, err = deliveries.reopen(id, time.now())
  if err then
    return nil, err
  end
  if not reopened then
    return nil, errors.new("conflict", "delivery %s was changed meanwhile", id)
  end
  live.tell { kind = "delivery", id = id, status = "pending" }
  return M.get(id)
end

--- Sends a dead or delivered one again; runs the transform of a failed or
--- skipped one again, when its code has been mended.
---@param id string
---@return Delivery? delivery
---@return perigee.Error? err  # kind "not_found", "conflict"
function M.retry(id)
  local delivery, err = M.get(id)
  if not delivery then
    return nil, err
  end
  if SENT[delivery.status] then
    return reopen(id)
  end
  if not AGAIN[delivery.status] then
    return nil, errors.new("conflict",
      "delivery %s is %s; it cannot be sent again now", id, delivery.status)
  end
  local event
  event, err = events.find(delivery.event_id)
  if not event then
    return nil, err or errors.new("conflict", "its event is gone")
  end
  local settled
  settled, err = prepare(event, delivery)
  if err then
    return nil, err
  end
  if not settled then
    return nil, errors.new("conflict", "delivery %s was changed meanwhile", id)
  end
  return M.get(id)
end

local REPLAY_BATCH, REPLAY_MAX = 200, 10000

--- Sends again what was given up; says how many. At most 10,000 at a time.
---@param filter DeliveryFilter
---@return integer? replayed
---@return perigee.Error? err
function M.replay(filter)
  local total = 0
  repeat
    local dead, err = deliveries.dead(filter, REPLAY_BATCH)
    if not dead then
      return nil, err
    end
    for _, one in ipairs(dead) do
      local reopened
      reopened, err = deliveries.reopen(one.id, time.now())
      if err then
        return nil, err
      end
      total = total + (reopened and 1 or 0)
    end
  until #dead < REPLAY_BATCH or total >= REPLAY_MAX
  live.tell { kind = "delivery", id = "", status = "pending" }
  return total
end

--- A job has failed for good. Sending has recorded that already, but for jobs
--- that crashed their worker again and again.
---@param id string
---@param round integer  # one that was replayed meanwhile is in a later one
---@param reason string?
function M.given_up(id, round, reason)
  local changed, err = deliveries.give_up(id, round,
    reason or "its job failed", time.now())
  if err then
    log.error("a failed delivery cannot be recorded",
      { delivery = id, err = err })
  elseif changed then
    live.tell { kind = "delivery", id = id, status = "dead" }
  end
end

-- What the queue knows of it: waits, or has it given up, or is it lost?
local function look_after(delivery)
  local job, err = delivery_queue.find(delivery)
  if err then
    return nil, err
  end
  if not job then
    log.warn("a delivery without a job is queued again",
      { delivery = delivery.id })
    job, err = delivery_queue.put(delivery)
    if not job then
      return nil, err
    end
  elseif job.state == "failed" then
    M.given_up(delivery.id, delivery.round, job.failure)
    return true
  end
  return deliveries.touch(delivery.id, time.now())
end

--- Looks after pending deliveries that nothing was heard of for long; says how
--- many.
---@param before_ms integer
---@param limit integer
---@return integer? count
---@return perigee.Error? err
function M.look_after(before_ms, limit)
  local overdue, err = deliveries.overdue(before_ms, limit)
  if not overdue then
    return nil, err
  end
  for _, delivery in ipairs(overdue) do
    local looked
    looked, err = look_after(delivery)
    if not looked then
      return nil, err
    end
  end
  return #overdue
end

return M
