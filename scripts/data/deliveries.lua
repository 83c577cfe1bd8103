--- Table deliveries: what is to be sent where, and what became of it.

local json = require "perigee.json"
local sqlite = require "perigee.sqlite"

local delivery_queue = require "data.delivery_queue"
local page = require "data.page"

local db = sqlite.get "main"

local M = {}

---@class Delivery
---@field id string
---@field event_id string
---@field subscription_id string
---@field source string
---@field event_type string
---@field target_url string
---@field transform string?
---@field status "new"|"pending"|"delivered"|"dead"|"skipped"|"failed"|"cancelled"
---@field payload string?  # JSON; nil: the event's body goes as it came
---@field error string?
---@field created_at_ms integer
---@field attempts integer  # made so far
---@field round integer     # 1 more with each replay
---@field response_status integer?  # of the last attempt
---@field next_attempt_at_ms integer?  # at the latest
---@field delivered_at_ms integer?
---@field updated_at_ms integer

local SUMMARY = [[id, event_id, subscription_id, source, event_type,
  target_url, transform, status, error, attempts, round, response_status,
  next_attempt_at_ms, delivered_at_ms, created_at_ms, updated_at_ms]]
local COLUMNS = SUMMARY .. ", payload"

local function read(row)
  return row
end

---@class DeliveryFilter
---@field source string?
---@field subscription string?
---@field event string?
---@field status string?

---@param filter DeliveryFilter
---@param wanted Page
---@return List? list  # newest first, without payloads
---@return perigee.Error? err
function M.list(filter, wanted)
  local where, args = {}, {}
  page.filter(where, args, "source", "=", "source", filter.source)
  page.filter(where, args, "subscription_id", "=", "subscription",
    filter.subscription)
  page.filter(where, args, "event_id", "=", "event", filter.event)
  page.filter(where, args, "status", "=", "status", filter.status)
  return page.read({
    select = "SELECT " .. SUMMARY .. " FROM deliveries",
    key = "id",
    descending = true,
    where = where,
    args = args,
    read = read,
  }, wanted)
end

--- All deliveries of an event, with their payloads.
---@param event_id string
---@return Delivery[]? deliveries
---@return perigee.Error? err
function M.of_event(event_id)
  return db:query("SELECT " .. COLUMNS
    .. " FROM deliveries WHERE event_id = ? ORDER BY id", event_id)
end

--- Returns nil when absent; err only if the database fails.
---@param id string
---@return Delivery? delivery
---@return perigee.Error? err
function M.find(id)
  return db:one("SELECT " .. COLUMNS .. " FROM deliveries WHERE id = ?", id)
end

--- Deliveries whose transform was begun before a moment and never ended: the
--- worker died.
---@param before_ms integer
---@param limit integer
---@return Delivery[]? deliveries
---@return perigee.Error? err
function M.stale(before_ms, limit)
  return db:query("SELECT " .. COLUMNS .. [[ FROM deliveries
    WHERE status = 'new' AND updated_at_ms < ? ORDER BY id LIMIT ?]],
    before_ms, limit)
end

-- Part of the transaction that makes it pending: there is a job for it if, and
-- only if, that commits.
local function enqueue(tx, id)
  local delivery, err = tx:one(
    "SELECT id, round, target_url FROM deliveries WHERE id = ?", id)
  if not delivery then
    return nil, err
  end
  local job
  job, err = delivery_queue.put(delivery, tx)
  if not job then
    return nil, err
  end
  return true
end

---@class Outcome
---@field status "pending"|"skipped"|"failed"|"cancelled"
---@field payload string?
---@field error string?

--- Records what a transform gave. Nothing happens to a delivery that is in
--- another state than expected: someone else was first.
---@param id string
---@param expected string  # its status now
---@param outcome Outcome
---@param now_ms integer
---@return boolean? settled
---@return perigee.Error? err
function M.settle(id, expected, outcome, now_ms)
  return db:transaction(function(tx)
    local done, err = tx:exec([[UPDATE deliveries SET status = :status,
        payload = :payload, error = :error, updated_at_ms = :now
      WHERE id = :id AND status = :expected]], {
      id = id,
      expected = expected,
      status = outcome.status,
      payload = outcome.payload or json.null,
      error = outcome.error or json.null,
      now = now_ms,
    })
    if not done then
      return nil, err
    end
    if done.changes == 0 or outcome.status ~= "pending" then
      return done.changes > 0
    end
    return enqueue(tx, id)
  end)
end

---@class Attempt
---@field delivery_id string
---@field number integer
---@field started_at_ms integer
---@field duration_ms integer
---@field response_status integer?
---@field response_body string?  # its beginning
---@field error string?

--- Writes an attempt down, and what became of the delivery. One that was
--- cancelled meanwhile stays so, but for having arrived.
---@param delivery Delivery
---@param attempt Attempt
---@param outcome { status: string, error: string?, next_attempt_at_ms: integer? }
---@param now_ms integer
---@return boolean? recorded
---@return perigee.Error? err
function M.record(delivery, attempt, outcome, now_ms)
  local delivered = outcome.status == "delivered"
  return db:transaction(function(tx)
    local done, err = tx:exec([[INSERT INTO attempts (delivery_id, number,
        started_at_ms, duration_ms, response_status, response_body, error)
      VALUES (?, ?, ?, ?, ?, ?, ?)]], attempt.delivery_id, attempt.number,
      attempt.started_at_ms, attempt.duration_ms,
      attempt.response_status or json.null, attempt.response_body or json.null,
      attempt.error or json.null)
    if not done then
      return nil, err
    end
    done, err = tx:exec([[UPDATE deliveries SET attempts = :attempts,
        response_status = :response, status = :status, error = :error,
        next_attempt_at_ms = :next, delivered_at_ms = :delivered,
        updated_at_ms = :now
      WHERE id = :id AND (status = 'pending' OR :status = 'delivered')
        AND round = :round]], {
      id = delivery.id,
      round = delivery.round,
      attempts = attempt.number,
      response = attempt.response_status or json.null,
      status = outcome.status,
      error = outcome.error or json.null,
      next = outcome.next_attempt_at_ms or json.null,
      delivered = delivered and now_ms or json.null,
      now = now_ms,
    })
    if not done then
      return nil, err
    end
    return true
  end)
end

--- The delivery log of one.
---@param id string
---@return Attempt[]? attempts  # the first one first
---@return perigee.Error? err
function M.attempts(id)
  return db:query([[SELECT number, started_at_ms, duration_ms, response_status,
      response_body, error FROM attempts WHERE delivery_id = ?
    ORDER BY number, id]], id)
end

--- Sends one again that was given up, or has arrived: another round.
---@param id string
---@param now_ms integer
---@return boolean? reopened  # false: it is in another state
---@return perigee.Error? err
function M.reopen(id, now_ms)
  return db:transaction(function(tx)
    local done, err = tx:exec([[UPDATE deliveries SET status = 'pending',
        round = round + 1, error = NULL, next_attempt_at_ms = NULL,
        updated_at_ms = ?
      WHERE id = ? AND status IN ('dead', 'delivered')]], now_ms, id)
    if not done then
      return nil, err
    end
    if done.changes == 0 then
      return false
    end
    return enqueue(tx, id)
  end)
end

--- What was given up, the oldest first.
---@param filter DeliveryFilter
---@param limit integer
---@return { id: string }[]? dead
---@return perigee.Error? err
function M.dead(filter, limit)
  return db:query([[SELECT id FROM deliveries WHERE status = 'dead'
      AND (:source IS NULL OR source = :source)
      AND (:subscription IS NULL OR subscription_id = :subscription)
      AND (:event IS NULL OR event_id = :event)
    ORDER BY id LIMIT :limit]], {
    source = filter.source or json.null,
    subscription = filter.subscription or json.null,
    event = filter.event or json.null,
    limit = limit,
  })
end

--- Given up by the queue itself: its job crashed its worker again and again.
---@param id string
---@param round integer  # of the job; the delivery may be in a later one
---@param reason string
---@param now_ms integer
---@return boolean? changed
---@return perigee.Error? err
function M.give_up(id, round, reason, now_ms)
  local done, err = db:exec([[UPDATE deliveries SET status = 'dead', error = ?,
      next_attempt_at_ms = NULL, updated_at_ms = ?
    WHERE id = ? AND round = ? AND status = 'pending']],
    reason, now_ms, id, round)
  if not done then
    return nil, err
  end
  return done.changes > 0
end

--- Pending ones that should have been heard of: before the moment there was
--- no change, and no attempt is due later.
---@param before_ms integer
---@param limit integer
---@return Delivery[]? overdue
---@return perigee.Error? err
function M.overdue(before_ms, limit)
  return db:query("SELECT " .. SUMMARY .. [[ FROM deliveries
    WHERE status = 'pending' AND updated_at_ms < ?1
      AND (next_attempt_at_ms IS NULL OR next_attempt_at_ms < ?1)
    ORDER BY updated_at_ms LIMIT ?2]], before_ms, limit)
end

--- Notes that somebody has looked after it.
---@param id string
---@param now_ms integer
---@return table? done
---@return perigee.Error? err
function M.touch(id, now_ms)
  return db:exec("UPDATE deliveries SET updated_at_ms = ? WHERE id = ?",
    now_ms, id)
end

return M
