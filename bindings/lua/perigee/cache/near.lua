--- Near: the level of a worker. A table of entries and a ring in which a hand
--- goes round: what was used since it came by stays, the rest makes room.

local M = {}

---@class perigee.cache.Near
---@field count integer
---@field evicted integer
local near = {}
near.__index = near

local function make_room(self)
  local ring, hand = self.ring, self.hand
  while true do
    hand = hand % self.max + 1
    local entry = ring[hand]
    if not entry.used then
      if self.entries[entry.key] == entry then
        self.entries[entry.key] = nil
        self.evicted = self.evicted + 1
      end
      self.hand = hand
      return hand
    end
    entry.used = false
  end
end

--- Puts an entry; entry.key says where.
function near:put(entry)
  local old = self.entries[entry.key]
  if old then
    entry.position = old.position
  elseif self.count < self.max then
    self.count = self.count + 1
    entry.position = self.count
  else
    entry.position = make_room(self)
  end
  entry.used = false
  self.ring[entry.position] = entry
  self.entries[entry.key] = entry
end

--- Takes an entry out. Its place in the ring is used again when the hand comes.
function near:drop(key)
  local entry = self.entries[key]
  if entry then
    entry.used, entry.value = false, nil
    self.entries[key] = nil
    -- A stand-in that no get finds.
    self.ring[entry.position] = { key = key, position = entry.position }
  end
end

function M.new(max)
  return setmetatable({
    entries = {}, ring = {}, hand = 0, count = 0, max = max, evicted = 0,
  }, near)
end

return M
