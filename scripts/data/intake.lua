--- The one transaction of taking a webhook in: its keys, the event and its
--- deliveries are stored together or not at all. The keys come first, so the
--- database's write lock decides which of two simultaneous requests is first,
--- whichever workers they are in.

local errors = require "perigee.error"
local json = require "perigee.json"
local sqlite = require "perigee.sqlite"

local delivery_queue = require "data.delivery_queue"

local db = sqlite.get "main"

local M = {}

---@class IntakeKey
---@field key string  # unique within the source
---@field name string  # what its sender calls it
---@field strict boolean  # a repeat must have the same body

--- Claims one key for `event_id`; gives the row of whoever was first if that
--- was somebody else.
local function claim(tx, event, key, event_id)
  local done, err = tx:exec([[INSERT INTO intake_keys
      (source, key, event_id, body_hash, created_at_ms)
    VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING]],
    event.source, key.key, event_id, event.body_hash, event.received_at_ms)
  if not done then
    return nil, err
  end
  if done.changes > 0 then
    return nil
  end
  return tx:one(
    "SELECT event_id, body_hash FROM intake_keys WHERE source = ? AND key = ?",
    event.source, key.key)
end

--- Claims all keys; gives the id of the event that they stand for.
local function claim_all(tx, event, keys)
  local event_id = event.id
  for i, key in ipairs(keys) do
    local first, err = claim(tx, event, key, event_id)
    if err then
      return nil, err
    end
    if first then
      if key.strict and first.body_hash ~= event.body_hash then
        return nil, errors.new("unprocessable",
          "this %s came before with another body", key.name)
      end
      if event_id ~= event.id and event_id ~= first.event_id then
        return nil, errors.new("unprocessable",
          "the keys of this request belong to different events")
      end
      event_id = first.event_id
      if i > 1 then
        local moved
        moved, err = tx:exec(
          "UPDATE intake_keys SET event_id = ? WHERE event_id = ?",
          event_id, event.id)
        if not moved then
          return nil, err
        end
      end
    end
  end
  return event_id
end

local function insert_event(tx, event, count)
  return tx:exec([[INSERT INTO events (id, source, type, provider_id,
      content_type, headers, body, size, deliveries, received_at_ms)
    VALUES (:id, :source, :type, :provider_id, :content_type, :headers, :body,
      :size, :deliveries, :received_at_ms)]], {
    id = event.id,
    source = event.source,
    type = event.type,
    provider_id = event.provider_id or json.null,
    content_type = event.content_type or json.null,
    headers = json.encode(event.headers),
    body = sqlite.blob(event.body),
    size = #event.body,
    deliveries = count,
    received_at_ms = event.received_at_ms,
  })
end

local function insert_delivery(tx, delivery)
  local done, err = tx:exec([[INSERT INTO deliveries (id, event_id, subscription_id,
      source, event_type, target_url, transform, status, created_at_ms,
      updated_at_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)]],
    delivery.id, delivery.event_id, delivery.subscription_id, delivery.source,
    delivery.event_type, delivery.target_url,
    delivery.transform or json.null, delivery.status,
    delivery.created_at_ms, delivery.updated_at_ms)
  if not done or delivery.status ~= "pending" then
    return done, err
  end
  return delivery_queue.put(delivery, tx)
end

local function insert(tx, event, deliveries)
  local done, err = insert_event(tx, event, #deliveries)
  if not done then
    return nil, err
  end
  for _, delivery in ipairs(deliveries) do
    done, err = insert_delivery(tx, delivery)
    if not done then
      return nil, err
    end
  end
  return true
end

---@class Receipt
---@field id string
---@field source string
---@field type string
---@field deliveries integer
---@field received_at_ms integer

--- Stores an event that is new, or finds the one that it repeats.
---@param event Event  # with body_hash
---@param deliveries Delivery[]
---@param keys IntakeKey[]
---@return Receipt? receipt
---@return boolean|perigee.Error replayed  # or the error; "unprocessable"
function M.record(event, deliveries, keys)
  return db:transaction(function(tx)
    local id, err = claim_all(tx, event, keys)
    if not id then
      return nil, err
    end
    if id == event.id then
      local done
      done, err = insert(tx, event, deliveries)
      if not done then
        return nil, err
      end
    end
    local receipt
    receipt, err = tx:one([[SELECT id, source, type, deliveries,
      received_at_ms FROM events WHERE id = ?]], id)
    if not receipt then
      return nil, err or errors.new("internal", "event %s is missing", id)
    end
    return receipt, id ~= event.id
  end)
end

--- Forgets keys that are older than a moment, at most `limit`; says how many.
---@param before_ms integer
---@param limit integer
---@return integer? removed
---@return perigee.Error? err
function M.purge_keys(before_ms, limit)
  local done, err = db:exec([[DELETE FROM intake_keys WHERE (source, key) IN
    (SELECT source, key FROM intake_keys WHERE created_at_ms < ? LIMIT ?)]],
    before_ms, limit)
  if not done then
    return nil, err
  end
  return done.changes
end

return M
