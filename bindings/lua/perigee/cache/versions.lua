--- Versions: numbers in shared memory that say whether a cached value still
--- holds. Each cache has a table of them; a key and a tag have one by their
--- hash, and one stands for all. They only grow: so a sum of some is the same as
--- long as each of them is, and an entry keeps that sum, its stamp. Two keys that
--- share a number are invalidated together, which costs a load and no more.
---
--- One more number, the epoch, grows after any of them has: what held in an epoch
--- holds as long as that is the present one, and nothing needs to be added up.

local core = require "perigee.core.shared"
local ffi = require "ffi"
local options = require "perigee.options"

local M = {}

local blame = options.blame

local COUNT = 65536
local EPOCH = COUNT - 1

local c_stripe = ffi.cast(
  "double (*)(void *, const char *, size_t, double)", core.ffi.stripe)
local c_next = ffi.cast("double (*)(volatile void *)", core.ffi.next)
local fence = ffi.new "uint32_t[1]"

---@class perigee.cache.Versions
local versions = {}
versions.__index = versions

-- The number's place; place 0 is that of all.
local function place(self, text)
  return c_stripe(self.dict.c, text, #text, EPOCH - 1) + 1
end

local function renew(self, at)
  local number = c_next(self.cells + at)
  c_next(self.epoch)
  return number
end

function versions:place_of_key(key)
  return place(self, key)
end

function versions:places_of_tags(tags)
  local places = {}
  for i, tag in ipairs(tags) do
    places[i] = place(self, "tag:" .. tag)
  end
  return places
end

--- The stamp of what has this place and those tags, now.
function versions:stamp(key_place, tag_places)
  local cells = self.cells
  local sum = cells[0] + cells[key_place]
  if tag_places then
    for i = 1, #tag_places do
      sum = sum + cells[tag_places[i]]
    end
  end
  return sum
end

--- Whether nothing was invalidated that the entry stands on; it then holds for
--- the rest of the epoch.
function versions:holds(entry)
  local epoch = self.epoch[0]
  c_next(fence) -- the epoch is read before the numbers
  if entry.stamp ~= self:stamp(entry.place, entry.tags) then
    return false
  end
  entry.epoch = epoch
  return true
end

--- Invalidates the key; gives the stamp of what is stored in its stead.
function versions:renew(key_place, tag_places)
  local own = renew(self, key_place)
  local sum = own + self.cells[0]
  if tag_places then
    for i = 1, #tag_places do
      sum = sum + self.cells[tag_places[i]]
    end
  end
  return sum
end

function versions:renew_tag(tag)
  renew(self, place(self, "tag:" .. tag))
end

function versions:renew_all()
  renew(self, 0)
end

--- The versions of a cache; the dictionary's hash divides keys.
function M.open(name, dict)
  local address, err = core.cells("versions:" .. name, COUNT * 4)
  if not address then
    blame(err)
  end
  local cells = ffi.cast("volatile uint32_t *", address)
  return setmetatable({ cells = cells, epoch = cells + EPOCH, dict = dict },
    versions)
end

return M
