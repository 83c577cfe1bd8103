--- "Did you mean": the known word nearest to a mistyped one.

local M = {}

-- Edits (insert, delete, replace, swap of neighbours) from a to b.
local function distance(a, b)
  local before, last = nil, {}
  for j = 0, #b do
    last[j] = j
  end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost)
      if before and j > 1 and a:byte(i) == b:byte(j - 1)
        and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, before[j - 2] + 1)
      end
      row[j] = best
    end
    before, last = last, row
  end
  return last[#b]
end

--- The candidate that word most likely stands for; nil when none is near.
---@param word string
---@param candidates string[]
---@return string?
function M.nearest(word, candidates)
  local best, best_distance
  word = tostring(word):lower()
  if #word > 64 then
    return nil
  end
  table.sort(candidates)
  for _, candidate in ipairs(candidates) do
    local limit = math.max(1, math.floor(math.max(#word, #candidate) / 3))
    local edits = distance(word, candidate:lower())
    local short = math.min(#word, #candidate)
    if short >= 3 and word:sub(1, short) == candidate:sub(1, short):lower() then
      edits = math.min(edits, 1) -- "prod" for "production"
    end
    if edits <= limit and (best == nil or edits < best_distance) then
      best, best_distance = candidate, edits
    end
  end
  return best
end

return M
