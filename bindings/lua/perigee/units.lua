--- Durations and sizes as configuration and routes give them.

local M = {}

local DURATIONS = { ms = 1, s = 1000, m = 60000, h = 3600000, d = 86400000 }
local SIZES = { b = 1, kb = 1024, mb = 1024 ^ 2, gb = 1024 ^ 3 }

local function parse(value, units, what, example)
  if type(value) == "number" then
    if value >= 0 and value < math.huge then
      return value
    end
  elseif type(value) == "string" then
    local number, unit = value:match "^(%d+%.?%d*)%s*(%a*)$"
    local factor = unit and (unit == "" and 1 or units[unit:lower()])
    if number and factor then
      return math.ceil(tonumber(number) * factor)
    end
  end
  return nil, ("%s expected, such as %s"):format(what, example)
end

--- "30s" or 30000 -> milliseconds; or nil and why not.
---@param value any
---@return number? ms
---@return string? why
function M.duration(value)
  return parse(value, DURATIONS, "a duration", '"500ms", "30s", "5m" or 250')
end

--- "64kb" or 65536 -> bytes; or nil and why not.
---@param value any
---@return number? bytes
---@return string? why
function M.size(value)
  return parse(value, SIZES, "a size", '"64kb", "16mb" or 4096')
end

return M
