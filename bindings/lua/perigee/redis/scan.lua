--- Redis: SCAN and its kin as iterators.

local commands = require "perigee.redis.commands"
local options = require "perigee.options"
local units = require "perigee.units"

local M = {}

local blame = options.blame

---@class perigee.redis.ScanOptions
---@field match string?
---@field count integer?
---@field type string? # of keys

local SCAN = { match = true, count = true, type = true }
local ENTRIES = { after = true, count = true, block = true }

local function words_of(given)
  local words = {}
  for _, word in ipairs { "match", "count", "type" } do
    if given and given[word] ~= nil then
      words[#words + 1] = word:upper()
      words[#words + 1] = given[word]
    end
  end
  return words
end

--- Iterates over what step(cursor, words) gives; it raises when a step fails.
---@param step fun(cursor: string, words: any[]): any, perigee.Error?
---@param width integer # 2: names and values
---@param given perigee.redis.ScanOptions?
---@return fun(): string?, string?
function M.each(step, width, given)
  if given ~= nil then
    options.check(given, SCAN, "redis")
  end
  local words = words_of(given)
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

---@class perigee.redis.StreamOptions
---@field after string?     # an id; "0" unless told: all; "$": what comes
---@field count integer?    # entries a step
---@field block string|number? # waits so long for more, again and again

local function fields_of(entry)
  return type(entry) == "table" and commands.to_map(entry) or {}
end

--- Iterates over entries of a stream: read(words...) is XREAD.
---@param read fun(...: any): any, perigee.Error?
---@param key string
---@param given perigee.redis.StreamOptions?
---@return fun(): string?, table<string, string>?
function M.entries(read, key, given)
  given = given or {}
  options.check(given, ENTRIES, "redis")
  local last, items, at = given.after or "0", {}, 1
  local words = {}
  if given.count then
    words = { "COUNT", given.count }
  end
  if given.block then
    local ms, why = units.duration(given.block)
    words[#words + 1] = "BLOCK"
    words[#words + 1] = math.max(1, ms or blame("redis: " .. why))
  end
  local function step()
    local all = { unpack(words) }
    for _, word in ipairs { "STREAMS", key, last } do
      all[#all + 1] = word
    end
    local reply, err = read(unpack(all))
    if err then
      error(err, 0)
    end
    return reply and reply[1][2] or {}
  end
  return function()
    while at > #items do
      items, at = step(), 1
      if #items == 0 and not given.block then
        return nil
      end
    end
    local entry = items[at]
    at = at + 1
    last = entry[1]
    return entry[1], fields_of(entry[2])
  end
end

return M
