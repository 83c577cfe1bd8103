--- Events by API.

local paging = require "controllers.paging"
local views = require "controllers.views"
local events = require "services.events"

local M = {}

function M.list(req)
  local list, err = events.list({
    source = req.query.source,
    type = req.query.type,
    since_ms = req.query.since_ms,
    until_ms = req.query.until_ms,
  }, paging.of(req))
  if not list then
    return nil, err
  end
  return paging.answer(req, list, views.event)
end

function M.show(req)
  local event, deliveries = events.with_deliveries(req.params.id)
  if not event then
    return nil, deliveries
  end
  return 200, views.event_in_full(event, deliveries)
end

--- The body byte for byte. It is the sender's, so a browser is told to save it
--- and never to show it as a page of ours.
function M.body(req)
  local event, err = events.get(req.params.id)
  if not event then
    return nil, err
  end
  return 200, event.body, {
    ["content-type"] = "application/octet-stream",
    ["content-disposition"] = ("attachment; filename=\"%s\""):format(event.id),
  }
end

return M
