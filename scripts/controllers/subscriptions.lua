--- Subscriptions by API.

local json = require "perigee.json"

local paging = require "controllers.paging"
local views = require "controllers.views"
local subscriptions = require "services.subscriptions"

local M = {}

function M.list(req)
  local list, err = subscriptions.list({
    source = req.query.source,
    enabled = req.query.enabled,
  }, paging.of(req))
  if not list then
    return nil, err
  end
  return paging.answer(req, list, views.subscription)
end

function M.create(req)
  local subscription, err = subscriptions.create(req.body_json)
  if not subscription then
    return nil, err
  end
  return 201, views.subscription(subscription),
    { location = "/subscriptions/" .. subscription.id }
end

function M.show(req)
  local subscription, err = subscriptions.get(req.params.id)
  if not subscription then
    return nil, err
  end
  return 200, views.subscription(subscription)
end

function M.change(req)
  local subscription, err = subscriptions.change(req.params.id, req.body_json)
  if not subscription then
    return nil, err
  end
  return 200, views.subscription(subscription)
end

local NO_STORE = { ["cache-control"] = "no-store" }

--- What who receives needs to check signatures; no other answer shows it.
function M.secret(req)
  local subscription, err = subscriptions.get(req.params.id)
  if not subscription then
    return nil, err
  end
  return 200, { secret = subscription.secret }, NO_STORE
end

function M.rotate(req)
  local subscription, err = subscriptions.change(req.params.id,
    { secret = json.null })
  if not subscription then
    return nil, err
  end
  return 200, { secret = subscription.secret }, NO_STORE
end

function M.remove(req)
  local removed, err = subscriptions.remove(req.params.id)
  if not removed then
    return nil, err
  end
  return 204
end

return M
