--- Which events a subscription wants. "*" is all; "a.b" is that type and what
--- lies below it (a.b.c); "a.*" only what lies below.

local M = {}

local function matches_one(filter, event_type)
  if filter == "*" or filter == event_type then
    return true
  end
  local base = filter:match "^(.*)%.%*$" or filter
  return event_type:sub(1, #base + 1) == base .. "."
end

---@param filters string[]
---@param event_type string
---@return boolean
function M.match(filters, event_type)
  for _, filter in ipairs(filters) do
    if matches_one(filter, event_type) then
      return true
    end
  end
  return false
end

return M
