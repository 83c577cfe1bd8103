--- Clocks.

local core = require "perigee.core.time"

local M = {}

--- Unix time in milliseconds. Follows the fake clock of perigee.test.
---@return number
function M.now()
  return core.now()
end

--- Milliseconds from an arbitrary start, never going back.
---@return number
function M.monotonic()
  return core.monotonic()
end

return M
