--- Table deliveries: what is to be sent where, and what became of it.

local json = require "perigee.json"
local sqlite = require "perigee.sqlite"

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
---@field status "new"|"pending"|"skipped"|"failed"|"cancelled"
---@field payload string?  # JSON; nil: the event's body goes as it came
---@field error string?
---@field created_at_ms integer
---@field updated_at_ms integer

local SUMMARY = [[id, event_id, subscription_id, source, event_type,
  target_url, transform, status, error, created_at_ms, updated_at_ms]]
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

---@class Outcome
---@field status "pending"|"skipped"|"failed"
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
  local done, err = db:exec([[UPDATE deliveries SET status = :status,
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
  return done.changes > 0
end

return M
