--- Queue deliveries: a job for each delivery that is to be sent.

local config = require "perigee.config"
local queue = require "perigee.queue"

local limits = config.app.delivery

local M = {}

M.NAME = "deliveries"

-- What shares a group shares its limit (queue.limits in the configuration): a
-- target that is slow holds up itself alone.
local function group_of(target_url)
  return target_url:match("^%a+://([^/?#]+)"):lower()
end

local function id_of(delivery)
  return ("%s.%d"):format(delivery.id, delivery.round)
end

--- Adds the job of a delivery.
---@param delivery Delivery
---@param tx table?  # it comes to be when that is committed
---@return perigee.Job? job
---@return perigee.Error? err
function M.put(delivery, tx)
  return queue.get(M.NAME):add("deliver",
    { delivery = delivery.id, round = delivery.round }, {
      tx = tx,
      job_id = id_of(delivery),
      attempts = limits.attempts,
      backoff = { type = "custom", delay = limits.backoff },
      group = group_of(delivery.target_url),
      remove_on_complete = true,
      remove_on_fail = 1000,
    })
end

--- Its job; nil alone when there is none.
---@param delivery Delivery
---@return perigee.Job? job
---@return perigee.Error? err
function M.find(delivery)
  return queue.get(M.NAME):job(id_of(delivery))
end

--- Calls a function with the delivery's id and round for each job that has
--- failed for good, whoever found that.
---@param fn fun(delivery_id: string, round: integer, reason: string?)
---@return fun() off
function M.on_failed(fn)
  return queue.get(M.NAME):on("failed", function(event)
    local id, round = tostring(event.id):match "^(.*)%.(%d+)$"
    if id then
      fn(id, tonumber(round), event.failure)
    end
  end)
end

return M
