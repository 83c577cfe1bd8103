--- Events: what came in.

local errors = require "perigee.error"

local deliveries = require "data.deliveries"
local events = require "data.events"

local M = {}

---@param filter EventFilter
---@param page Page
---@return List? list
---@return perigee.Error? err
function M.list(filter, page)
  return events.list(filter, page)
end

---@param id string
---@return Event? event
---@return perigee.Error? err  # kind "not_found"
function M.get(id)
  local event, err = events.find(id)
  if not event then
    return nil, err or errors.new("not_found", "no event %s", id)
  end
  return event
end

--- An event with all that is to be delivered of it.
---@param id string
---@return Event? event
---@return Delivery[]|perigee.Error deliveries  # or the error: "not_found"
function M.with_deliveries(id)
  local event, err = M.get(id)
  if not event then
    return nil, err
  end
  local found
  found, err = deliveries.of_event(id)
  if not found then
    return nil, err
  end
  for _, delivery in ipairs(found) do
    delivery.log, err = deliveries.attempts(delivery.id)
    if not delivery.log then
      return nil, err
    end
  end
  return event, found
end

return M
