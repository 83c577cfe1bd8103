--- Stripe: Stripe-Signature "t=SECONDS,v1=HEX,v1=HEX"; what is signed is the
--- time and the body. Several v1 come while a secret is being rolled.

local errors = require "perigee.error"

local signatures = require "services.signatures"

local M = {}

local TIME_MAX = 12 -- digits

local function unauthorized(...)
  return nil, errors.new("unauthorized", ...)
end

local function parse(header)
  local time_s
  local candidates = {}
  for item in header:gmatch "[^,]+" do
    local name, value = item:match "^%s*(%w+)=(%w+)%s*$"
    if name == "t" then
      time_s = #value <= TIME_MAX and value:match "^%d+$"
    elseif name == "v1" then
      candidates[#candidates + 1] = value
    end
  end
  return time_s, candidates
end

function M.verify(source, message, now_ms)
  local header = message.header "stripe-signature"
  if not header then
    return unauthorized "Stripe-Signature is missing"
  end
  local time_s, candidates = parse(header)
  if not time_s or #candidates == 0 then
    return unauthorized "Stripe-Signature has no t=SECONDS or no v1=HEX"
  end
  local signed, err = signatures.check(source.secret,
    time_s .. "." .. message.body, candidates, "hex")
  if not signed then
    return nil, err
  end
  local age_s = math.abs(now_ms / 1000 - tonumber(time_s))
  if age_s > source.tolerance_s then
    return unauthorized("the signature's time is %d s off, more than %d s",
      age_s, source.tolerance_s)
  end
  return true
end

--- The event's id is in the signed body; a repeat may differ in what is not
--- the event's own (pending_webhooks), so it need not have the same body.
function M.describe(_, message)
  local payload, err = message.json()
  if type(payload) ~= "table" then
    return nil, errors.new("invalid", "the body is no JSON object: %s",
      err and err.message or "another kind of value")
  end
  if type(payload.id) ~= "string" or type(payload.type) ~= "string" then
    return nil, errors.new("invalid", "the body has no id or no type")
  end
  return {
    type = payload.type,
    provider_id = payload.id,
    key = {
      key = "stripe:" .. payload.id,
      name = "event id",
      strict = false,
    },
  }
end

return M
