--- Deliveries: what is to be sent to whom. Sending itself is the queue's.

local crypto = require "perigee.crypto"
local errors = require "perigee.error"
local log = require "perigee.log"
local time = require "perigee.time"

local deliveries = require "data.deliveries"
local events = require "data.events"
local filters = require "services.filters"
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

local AGAIN = { failed = true, skipped = true }

--- Runs the transform again, when its code has been mended.
---@param id string
---@return Delivery? delivery
---@return perigee.Error? err  # kind "not_found", "conflict"
function M.retry(id)
  local delivery, err = M.get(id)
  if not delivery then
    return nil, err
  end
  if not AGAIN[delivery.status] then
    return nil, errors.new("conflict",
      "delivery %s is %s; only a failed or skipped one can be retried", id,
      delivery.status)
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

return M
