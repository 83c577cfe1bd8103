--- Transforms: scripts/transforms/NAME.lua returns function(event) that gives
--- what is to be delivered (any JSON value), or nil for "deliver nothing".
--- Each gets a copy of its own. They are people's code: whatever they do is an
--- outcome that is recorded, never a failure of the intake.

local config = require "perigee.config"
local errors = require "perigee.error"
local json = require "perigee.json"
local task = require "perigee.task"

local limits = config.app.transforms

local M = {}

local NAME = "^[a-z][a-z0-9_]*$"

---@class TransformEvent  # what a transform gets
---@field id string
---@field source string
---@field type string
---@field received_at_ms integer
---@field headers table<string, string>
---@field body any  # decoded; nil if the webhook was no JSON
---@field raw string

local function describe(reason)
  if errors.is(reason) then
    return reason.message
  end
  return tostring(reason)
end

--- Finds a transform by name.
---@param name string
---@return (fun(event: TransformEvent): any)? transform
---@return perigee.Error? err  # kind "unprocessable"
function M.load(name)
  if not name:match(NAME) then
    return nil, errors.new("unprocessable", "%s is no name of a transform",
      name)
  end
  local loaded, transform = pcall(require, "transforms." .. name)
  if not loaded then
    local reason = describe(transform)
    if reason:find("module 'transforms." .. name .. "' not found", 1, true) then
      reason = "there is none" -- and where it was looked for is our affair
    end
    return nil, errors.new("unprocessable", "transform %s: %s", name, reason)
  end
  if type(transform) ~= "function" then
    return nil, errors.new("unprocessable",
      "transform %s returns a %s, not a function", name, type(transform))
  end
  return transform
end

local function failed(reason)
  return { status = "failed", error = describe(reason) }
end

local function outcome_of(result)
  if result == nil then
    return { status = "skipped" }
  end
  local payload, err = json.encode(result)
  if not payload then
    return failed(err)
  end
  if #payload > limits.payload_max then
    return { status = "failed", error = ("the payload has %d bytes, more than "
      .. "%d"):format(#payload, limits.payload_max) }
  end
  return { status = "pending", payload = payload }
end

--- Runs a transform on an event.
---@param name string
---@param event Event  # with its body
---@return Outcome outcome
function M.run(name, event)
  local transform, err = M.load(name)
  if not transform then
    return failed(err)
  end
  local copy = {
    id = event.id,
    source = event.source,
    type = event.type,
    received_at_ms = event.received_at_ms,
    headers = event.headers,
    body = json.decode(event.body),
    raw = event.body,
  }
  local ran, result, fault = pcall(task.with_deadline, limits.timeout,
    function()
      return transform(copy)
    end)
  if not ran then
    return failed(result)
  end
  if fault ~= nil then
    return failed(fault)
  end
  return outcome_of(result)
end

return M
