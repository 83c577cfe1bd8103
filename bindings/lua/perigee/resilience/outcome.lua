--- What a call's results mean: `nil, err` and a raise are failures, a lone nil
--- is none.

local errors = require "perigee.error"
local options = require "perigee.options"

local M = {}

local blame = options.blame

--- The error of a failed call; what was raised to end the task goes on.
---@param ok boolean # pcall's
---@param first any  # what it raised or returned
---@param second any
---@return perigee.Error
function M.error_of(ok, first, second)
  if not ok then
    second = first
    if errors.is(second) and second.kind == "cancelled" then
      error(second, 0)
    end
  end
  return errors.is(second) and second or errors.wrap(second)
end

--- A call's values; what it raised is nil and an error.
---@param ok boolean # pcall's
---@param ... any
---@return ...
function M.values(ok, ...)
  if not ok then
    return nil, M.error_of(ok, (...))
  end
  return ...
end

--- Raises for what cannot be called.
---@param fn any
---@param what string
function M.check_function(fn, what)
  if type(fn) ~= "function" and not (getmetatable(fn) or {}).__call then
    blame(("%s: a function expected, got %s"):format(what, type(fn)))
  end
end

-- Failures of whoever was called, not of what was asked.
local OF_THE_OTHER = { unavailable = true, timeout = true, internal = true }

local OWN_REFUSALS = { breaker_open = true, bulkhead_full = true }

--- Whether a breaker or a bulkhead of this host refused the call: the other side
--- was not asked.
---@param err perigee.Error
---@return boolean
function M.is_own_refusal(err)
  return OWN_REFUSALS[err.code] == true
end

--- Whether a failure says that the other side is in trouble.
---@param err perigee.Error
---@return boolean
function M.is_trouble(err)
  return OF_THE_OTHER[err.kind] == true and not OWN_REFUSALS[err.code]
end

--- A name for something that workers share.
---@param name any
---@param what string
function M.check_name(name, what)
  if type(name) ~= "string" or name == "" or #name > 64 then
    blame(what .. ": a name of up to 64 bytes expected")
  end
end

return M
