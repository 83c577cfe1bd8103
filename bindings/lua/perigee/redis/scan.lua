--- Redis: SCAN and its kin as iterators.

local M = {}

---@class perigee.redis.ScanOptions
---@field match string?
---@field count integer?
---@field type string? # of keys

local function words_of(options)
  local words = {}
  for _, word in ipairs { "match", "count", "type" } do
    if options and options[word] ~= nil then
      words[#words + 1] = word:upper()
      words[#words + 1] = options[word]
    end
  end
  return words
end

--- Iterates over what step(cursor, words) gives; it raises when a step fails.
---@param step fun(cursor: string, words: any[]): any, perigee.Error?
---@param width integer # 2: names and values
---@param options perigee.redis.ScanOptions?
---@return fun(): string?, string?
function M.each(step, width, options)
  local words = words_of(options)
  local cursor, items, at = "0", nil, 1
  return function()
    while not items or at > #items do
      if items and cursor == "0" then
        return nil
      end
      local reply, err = step(cursor, words)
      if not reply then
        error(err, 0)
      end
      cursor, items, at = reply[1], reply[2], 1
    end
    local item, value = items[at], items[at + 1]
    at = at + width
    if width == 2 then
      return item, value
    end
    return item
  end
end

return M
