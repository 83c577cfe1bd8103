--- What happens, told at once to whoever watches, in whichever worker.

local events = require "perigee.events"
local log = require "perigee.log"

local M = {}

local TOPIC = "relay"

---@class LiveMessage
---@field kind "event"|"delivery"
---@field id string
---@field status string?

--- A page that misses it looks again by itself: so failing is no failure.
---@param message LiveMessage
function M.tell(message)
  local told, err = events.publish(TOPIC, message)
  if not told then
    log.debug("a live message was not sent", { err = err })
  end
end

---@param fn fun(message: LiveMessage)
---@return fun() off
function M.listen(fn)
  return events.on(TOPIC, fn)
end

return M
