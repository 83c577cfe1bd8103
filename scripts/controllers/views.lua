--- What the outside sees. Each view names what it shows, so that a new column
--- stays inside until somebody shows it; a secret is shown by none.

local crypto = require "perigee.crypto"
local json = require "perigee.json"

local M = {}

---@param source Source
function M.source(source)
  local form = source.signature or {}
  return {
    name = source.name,
    kind = source.kind,
    has_secret = source.secret ~= nil,
    tolerance_s = source.tolerance_s,
    signature = source.kind == "generic" and {
      header = form.header,
      encoding = form.encoding,
      prefix = form.prefix,
    } or nil,
    url = "/in/" .. source.name,
    created_at_ms = source.created_at_ms,
    updated_at_ms = source.updated_at_ms,
  }
end

---@param subscription Subscription
function M.subscription(subscription)
  return {
    id = subscription.id,
    source = subscription.source,
    target_url = subscription.target_url,
    events = json.array(subscription.events),
    transform = subscription.transform or json.null,
    enabled = subscription.enabled,
    created_at_ms = subscription.created_at_ms,
    updated_at_ms = subscription.updated_at_ms,
  }
end

---@param event Event
function M.event(event)
  return {
    id = event.id,
    source = event.source,
    type = event.type,
    provider_id = event.provider_id or json.null,
    content_type = event.content_type or json.null,
    size = event.size,
    deliveries = event.deliveries,
    received_at_ms = event.received_at_ms,
  }
end

---@param delivery Delivery
function M.delivery(delivery)
  return {
    id = delivery.id,
    event_id = delivery.event_id,
    event_type = delivery.event_type,
    subscription_id = delivery.subscription_id,
    source = delivery.source,
    target_url = delivery.target_url,
    transform = delivery.transform or json.null,
    status = delivery.status,
    error = delivery.error or json.null,
    attempts = delivery.attempts,
    response_status = delivery.response_status or json.null,
    next_attempt_at_ms = delivery.status == "pending"
      and delivery.next_attempt_at_ms or json.null,
    delivered_at_ms = delivery.delivered_at_ms or json.null,
    created_at_ms = delivery.created_at_ms,
    updated_at_ms = delivery.updated_at_ms,
  }
end

---@param attempt Attempt
local function attempt_view(attempt)
  return {
    number = attempt.number,
    started_at_ms = attempt.started_at_ms,
    duration_ms = attempt.duration_ms,
    response_status = attempt.response_status or json.null,
    response_body = attempt.response_body or json.null,
    error = attempt.error or json.null,
  }
end

--- With what would be sent; without a payload of its own it is the event's
--- body as it came. And, where it was read, with its log.
---@param delivery Delivery
---@param attempts Attempt[]?
function M.delivery_in_full(delivery, attempts)
  local view = M.delivery(delivery)
  view.payload = delivery.payload and json.decode(delivery.payload)
  if attempts then
    view.log = json.array {}
    for i, attempt in ipairs(attempts) do
      view.log[i] = attempt_view(attempt)
    end
  end
  return view
end

--- With its headers, body and deliveries. A body that is no JSON is shown in
--- base64.
---@param event Event
---@param deliveries Delivery[]
function M.event_in_full(event, deliveries)
  local view = M.event(event)
  local body, err = json.decode(event.body)
  if err then
    view.body_base64 = crypto.base64.encode(event.body)
  else
    view.body = body
  end
  view.headers = event.headers
  view.deliveries = json.array {}
  for i, delivery in ipairs(deliveries) do
    view.deliveries[i] = M.delivery_in_full(delivery, delivery.log)
  end
  return view
end

return M
