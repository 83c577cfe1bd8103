--- Sending: one attempt of one delivery, and what becomes of it. When there is
--- another attempt, and when, is the queue's.

local config = require "perigee.config"
local crypto = require "perigee.crypto"
local errors = require "perigee.error"
local http = require "perigee.http"
local json = require "perigee.json"
local log = require "perigee.log"
local metrics = require "perigee.metrics"
local resilience = require "perigee.resilience"
local task = require "perigee.task"
local time = require "perigee.time"
local units = require "perigee.units"

local deliveries = require "data.deliveries"
local events = require "data.events"
local live = require "services.live"
local subscriptions = require "data.subscriptions"
local webhooks = require "services.webhooks"

local limits = config.app.delivery

local M = {}

local POLICIES_MAX = 1000
local GONE = 410
local EXCERPT_MS = 2000
local PAUSE_MAX_MS = 2 ^ 40

local attempts_total = metrics.counter {
  name = "relay_delivery_attempts_total",
  help = "Attempts to deliver, by what came of them.",
  labels = { "outcome" },
}

-- ---- targets ----

local policies, policy_count = {}, 0

-- A breaker's name has 64 bytes at most, a host's may have four times as many.
local function name_of(target)
  if #target > 57 then
    target = target:sub(1, 40) .. "~" .. crypto.sha256_hex(target):sub(1, 16)
  end
  return "target " .. target
end

-- A breaker for each target, which all workers share.
local function policy_of(target)
  local policy = policies[target]
  if not policy then
    if policy_count >= POLICIES_MAX then
      policies, policy_count = {}, 0
    end
    policy = resilience.policy {
      name = name_of(target),
      breaker = config.copy(limits.breaker),
      timeout = limits.timeout,
    }
    policies[target], policy_count = policy, policy_count + 1
  end
  return policy
end

--- Whether a host is one that the relay may send to: app.delivery.targets is a
--- list such as "example.com, *.example.org, 127.0.0.1".
---@param host string
---@return boolean
function M.is_allowed(host)
  for entry in limits.targets:gmatch "[^%s,]+" do
    local below = entry:match "^%*(%..+)$"
    if entry == "*" or entry == host
      or below and host:sub(-#below) == below then
      return true
    end
  end
  return false
end

-- ---- one request ----

-- The beginning of an answer, as text that can be shown. Its status has been
-- judged: nobody waits for long for what else it says.
local function excerpt(res)
  local parts, size = {}, 0
  local ok = task.with_deadline(EXCERPT_MS, function()
    for chunk in res:chunks() do
      parts[#parts + 1], size = chunk, size + #chunk
      if size >= limits.excerpt then
        break
      end
    end
    return true
  end)
  res:close()
  local text = table.concat(parts):sub(1, limits.excerpt)
  if not ok and text == "" then
    return nil
  end
  if not json.encode(text) then
    text = text:gsub("[^\t\r\n\32-\126]", "?")
  end
  return text
end

local function judge(res)
  local status = res.status
  if status >= 200 and status < 300 then
    return nil
  end
  local text = ("the target answered %d"):format(status)
  if status == GONE then
    return errors.unrecoverable(text .. ": it wants no more")
  elseif status >= 500 or status == 429 then
    local err = errors.new("unavailable", text) -- which its breaker counts
    if status == 503 or status == 429 then
      err.retry_after_ms = res:retry_after()
    end
    return err
  end
  return errors.new("unprocessable", text)
end

local function request(url, headers, body, seen)
  local res, err = http.post(url, {
    headers = headers, body = body, timeout = limits.timeout, redirects = 0,
    stream = true, decompress = false, deny_private = limits.deny_private,
  })
  if not res then
    return nil, err
  end
  seen.status, seen.res = res.status, res
  err = judge(res)
  if err then
    return nil, err
  end
  return true
end

local function headers_of(delivery, subscription, event, body)
  local headers = webhooks.headers(subscription.secret, delivery.id,
    math.floor(time.now() / 1000), body)
  headers["content-type"] = delivery.payload and "application/json"
    or event.content_type or "application/octet-stream"
  headers["user-agent"] = "perigee-relay"
  headers["x-relay-source"] = delivery.source
  headers["x-relay-event"] = delivery.event_type
  return headers
end

-- True, or nil and why not; seen: what came back.
local function send(delivery, subscription, event, seen)
  local url = subscription.target_url
  local target = url:match("^%a+://([^/?#]+)"):lower()
  if not subscription.enabled then
    return nil, errors.new("unavailable", "the subscription is switched off")
  elseif not M.is_allowed(target:gsub(":%d*$", "")) then
    return nil, errors.new("forbidden",
      "app.delivery.targets does not allow this host")
  end
  local body = delivery.payload or event.body
  local sent, why = policy_of(target):call(request, url,
    headers_of(delivery, subscription, event, body), body, seen)
  seen.body = seen.res and excerpt(seen.res)
  return sent, why
end

-- ---- what becomes of it ----

-- How long to wait before the next attempt, at the most: the pauses double; a
-- target that asks for more time gets it, within limits.
local function pause_ms(attempt, err)
  local ms = units.duration(limits.backoff) * 2 ^ (attempt - 1)
  local asked = errors.is(err) and err.retry_after_ms or 0
  asked = math.min(asked, units.duration(limits.retry_after_max))
  return math.min(math.max(ms, asked), PAUSE_MAX_MS), asked
end

--- For the queue: when a job that has failed is to be run again, in ms. A fifth
--- of the pause is up to chance, so that what failed together is not sent
--- together again.
---@param failed integer # attempts
---@param err any
---@return integer ms
function M.backoff(failed, err)
  local ms, asked = pause_ms(failed, err)
  return math.floor(math.max(ms * (1 - 0.2 * math.random()), asked))
end

local function outcome_of(job, sent, err, now_ms)
  if sent then
    return { status = "delivered" }
  elseif err.kind == "unrecoverable" or job.attempt >= limits.attempts then
    return { status = "dead", error = err.message }
  end
  return { status = "pending", error = err.message,
    next_attempt_at_ms = now_ms + pause_ms(job.attempt, err) }
end

local function record(delivery, job, seen, sent, why, started_ms)
  local now_ms = time.now()
  local outcome = outcome_of(job, sent, why, now_ms)
  local attempt = {
    delivery_id = delivery.id, number = delivery.attempts + 1,
    started_at_ms = started_ms, duration_ms = math.max(0, now_ms - started_ms),
    response_status = seen.status, response_body = seen.body,
    error = why and why.message,
  }
  local stored, err = deliveries.record(delivery, attempt, outcome, now_ms)
  if not stored then
    return nil, err
  end
  attempts_total:inc(1, sent and "delivered" or outcome.status == "dead"
    and "dead" or "failed")
  live.tell { kind = "delivery", id = delivery.id, event = delivery.event_id,
    status = outcome.status }
  return outcome
end

--- Runs one job of the queue deliveries.
---@param job perigee.RunningJob
---@return string? what
---@return perigee.Error? err
function M.run(job)
  local delivery, err = deliveries.find(job.data.delivery)
  if err then
    return nil, err
  end
  if not delivery or delivery.status ~= "pending"
    or delivery.round ~= job.data.round then
    return "not wanted any more"
  end
  local subscription, event
  subscription, err = subscriptions.find(delivery.subscription_id)
  if err then
    return nil, err
  end
  event, err = events.find(delivery.event_id)
  if err then
    return nil, err
  end
  if not subscription or not event then
    return deliveries.settle(delivery.id, "pending",
      { status = "cancelled", error = "its subscription is gone" }, time.now())
      and "cancelled"
  end
  local started_ms, seen = time.now(), {}
  local sent, why = send(delivery, subscription, event, seen)
  local outcome
  outcome, err = record(delivery, job, seen, sent, why, started_ms)
  if not outcome then
    return nil, err
  end
  if outcome.status == "dead" then
    log.warn("delivery given up", { delivery = delivery.id,
      target = subscription.target_url, attempts = delivery.attempts + 1,
      reason = outcome.error })
    return nil, errors.unrecoverable(outcome.error)
  end
  if not sent then
    return nil, why
  end
  return "delivered"
end

return M
