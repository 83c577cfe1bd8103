--- Intake: takes webhooks in. A webhook is answered once it is stored; what
--- comes twice is stored once.

local config = require "perigee.config"
local crypto = require "perigee.crypto"
local errors = require "perigee.error"
local log = require "perigee.log"
local task = require "perigee.task"
local time = require "perigee.time"

local intake = require "data.intake"
local sources = require "data.sources"
local subscriptions = require "data.subscriptions"
local deliveries = require "services.deliveries"
local live = require "services.live"
local providers = require "services.providers"

local limits = config.app.intake

local M = {}

local TYPE = "^[%w][%w_.:/-]*$"
local TYPE_MAX = 200

local function kept_headers(message)
  local kept = {}
  for _, name in ipairs(limits.headers) do
    kept[name] = message.header(name)
  end
  return kept
end

--- The time in an id. An event's own is taken from there, so that its order, its
--- time and the filters by time agree to the millisecond.
local function time_of(id)
  return tonumber(id:sub(1, 8) .. id:sub(10, 13), 16)
end

--- The provider's view of the webhook, as an event that is not stored yet.
local function build(source, message, described)
  local id = crypto.uuid.v7()
  return {
    id = id,
    source = source.name,
    type = described.type,
    provider_id = described.provider_id,
    content_type = message.header "content-type",
    headers = kept_headers(message),
    body = message.body,
    body_hash = crypto.sha256_hex(message.body),
    received_at_ms = time_of(id),
  }
end

local function describe(provider, source, message)
  local described, err = provider.describe(source, message)
  if not described then
    return nil, err
  end
  if #described.type > TYPE_MAX or not described.type:match(TYPE) then
    return nil, errors.new("invalid", "the event's type is not a short name")
  end
  return described
end

local function keys_of(described, message)
  local keys = {}
  if message.idempotency_key then
    keys[1] = {
      key = "key:" .. message.idempotency_key,
      name = "Idempotency-Key",
      strict = true,
    }
  end
  keys[#keys + 1] = described.key
  return keys
end

local function authenticate(name, message)
  local source, err = sources.find(name)
  if not source then
    return nil, err or errors.new("not_found", "no source %s", name)
  end
  source.tolerance_s = source.tolerance_s or limits.tolerance_s
  local signed
  signed, err = providers[source.kind].verify(source, message, time.now())
  if not signed then
    log.warn("webhook refused", { source = name, reason = err.message })
    return nil, err
  end
  return source
end

--- Transforms run in a task of their own: the event is stored, so they go on
--- when the sender hangs up or has waited long enough.
local function prepare(event, planned)
  local handle = task.spawn_detached(deliveries.prepare, event, planned)
  task.with_deadline(limits.transforms_wait, function()
    return handle:join()
  end)
end

--- Takes one webhook in.
---@param name string  # of the source
---@param message Message  # and idempotency_key
---@return Receipt? receipt
---@return boolean|perigee.Error replayed  # or the error: "not_found",
---  "unauthorized", "invalid", "unprocessable", "unavailable"
function M.accept(name, message)
  local source, err = authenticate(name, message)
  if not source then
    return nil, err
  end
  local described
  described, err = describe(providers[source.kind], source, message)
  if not described then
    return nil, err
  end
  local active
  active, err = subscriptions.active(source.name)
  if not active then
    return nil, err
  end

  local event = build(source, message, described)
  local planned = deliveries.plan(event, active)
  local receipt, replayed = intake.record(event, planned,
    keys_of(described, message))
  if not receipt then
    return nil, replayed
  end
  if replayed then
    return receipt, replayed
  end
  live.tell { kind = "event", id = event.id }
  if deliveries.has_new(planned) then
    prepare(event, planned)
  end
  return receipt, replayed
end

return M
