--- What the relay's specs share.

local sqlite = require "perigee.sqlite"

local db = sqlite.get "main"

local M = {}

--- Empties every table.
function M.clear()
  for _, name in ipairs {
    "attempts", "deliveries", "intake_keys", "events", "subscriptions",
    "sources",
  } do
    assert(db:exec("DELETE FROM " .. name))
  end
end

--- A webhook as services.intake takes it.
function M.message(body, headers)
  headers = headers or {}
  return {
    body = body,
    idempotency_key = headers["idempotency-key"],
    header = function(name)
      return headers[name]
    end,
    json = function()
      return require("perigee.json").decode(body)
    end,
  }
end

--- Makes a transform that lasts for one spec.
function M.transform(name, fn)
  package.loaded["transforms." .. name] = fn
end

return M
