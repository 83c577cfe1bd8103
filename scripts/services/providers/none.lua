--- Unsigned webhooks, for tests and for networks where everyone is trusted.

local M = {}

function M.verify()
  return true
end

--- The type is X-Event-Type, else the body's "type" or "event".
function M.describe(_, message)
  local named = message.header "x-event-type"
  if not named then
    local payload = message.json()
    if type(payload) == "table" then
      named = payload.type or payload.event
    end
  end
  return { type = type(named) == "string" and named or "unknown" }
end

return M
