--- Deliveries by API.

local paging = require "controllers.paging"
local views = require "controllers.views"
local deliveries = require "services.deliveries"

local M = {}

function M.list(req)
  local list, err = deliveries.list({
    source = req.query.source,
    subscription = req.query.subscription,
    event = req.query.event,
    status = req.query.status,
  }, paging.of(req))
  if not list then
    return nil, err
  end
  return paging.answer(req, list, views.delivery)
end

local function in_full(delivery)
  local attempts, err = deliveries.attempts(delivery.id)
  if not attempts then
    return nil, err
  end
  return 200, views.delivery_in_full(delivery, attempts)
end

function M.show(req)
  local delivery, err = deliveries.get(req.params.id)
  if not delivery then
    return nil, err
  end
  return in_full(delivery)
end

function M.retry(req)
  local delivery, err = deliveries.retry(req.params.id)
  if not delivery then
    return nil, err
  end
  return in_full(delivery)
end

--- All that were given up, or those of a source, subscription or event.
function M.replay(req)
  local replayed, err = deliveries.replay(req.body_json)
  if not replayed then
    return nil, err
  end
  return 200, { replayed = replayed }
end

return M
