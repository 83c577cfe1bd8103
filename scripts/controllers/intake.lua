--- Webhooks come in.

local config = require "perigee.config"
local errors = require "perigee.error"
local json = require "perigee.json"

local intake = require "services.intake"

local key_max = config.app.intake.key_max

local M = {}

--- Idempotency-Key is a string in quotes (the IETF's draft); many send it bare.
local function idempotency_key(req)
  local given = req:header "idempotency-key"
  if not given then
    return nil
  end
  local key = given:match "^\"(.*)\"$" or given
  if key == "" or #key > key_max or key:find "[^%w%p]" then
    return nil, errors.new("invalid",
      "Idempotency-Key is empty, too long, or has spaces in it")
  end
  return key
end

local function message_of(req, body, key)
  return {
    body = body,
    idempotency_key = key,
    header = function(name)
      return req:header(name)
    end,
    json = function()
      return json.decode(body)
    end,
  }
end

--- 202 once the event is stored. A repeat gets the same answer, marked.
function M.receive(req)
  local key, err = idempotency_key(req)
  if err then
    return nil, err
  end
  local body
  body, err = req:body()
  if not body then
    return nil, err
  end
  local receipt, replayed = intake.accept(req.params.source,
    message_of(req, body, key))
  if not receipt then
    return nil, replayed
  end
  -- Names in order, so that a repeat gets the same bytes from any worker.
  return 202, json.encode(receipt, { pretty = true }), {
    ["content-type"] = "application/json",
    location = "/events/" .. receipt.id,
    ["idempotency-replayed"] = replayed and "true" or nil,
  }
end

return M
