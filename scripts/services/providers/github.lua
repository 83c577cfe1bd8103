--- GitHub: X-Hub-Signature-256 over the body; the event's name is in a header,
--- its action in the body.

local errors = require "perigee.error"

local signatures = require "services.signatures"

local M = {}

function M.verify(source, message)
  local given = message.header "x-hub-signature-256"
  local hex = given and given:match "^sha256=(%x+)$"
  if not hex then
    return nil, errors.new("unauthorized",
      "X-Hub-Signature-256 is missing or is not sha256=HEX")
  end
  return signatures.check(source.secret, message.body, { hex }, "hex")
end

--- The delivery id is not signed, so a repeat must have the same body: another
--- body is another event, which must not vanish.
function M.describe(_, message)
  local name = message.header "x-github-event"
  if not name then
    return nil, errors.new("invalid", "X-GitHub-Event is missing")
  end
  local payload, err = message.json()
  if type(payload) ~= "table" then
    return nil, errors.new("invalid",
      "the body is no JSON object (choose content type application/json): %s",
      err and err.message or "another kind of value")
  end
  local action = payload.action
  local id = message.header "x-github-delivery"
  return {
    type = type(action) == "string" and name .. "." .. action or name,
    provider_id = id,
    key = id and {
      key = "github:" .. id,
      name = "X-GitHub-Delivery",
      strict = true,
    } or nil,
  }
end

return M
