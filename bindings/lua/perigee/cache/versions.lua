--- Versions: numbers in shared memory that say whether a cached value still
--- holds. Each cache has a table of them; a key and a tag have one by their
--- hash, and one stands for all. They only grow: so a sum of some is the same as
--- long as each of them is, and an entry keeps that sum, its stamp. Two keys that
--- share a number are invalidated together, which costs a load and no more.

local core = require "perigee.core.shared"
local ffi = require "ffi"

local M = {}

local COUNT = 65536

local c_stripe = ffi.cast(
  "double (*)(void *, const char *, size_t, double)", core.ffi.stripe)
local c_next = ffi.cast("double (*)(volatile void *)", core.ffi.next)

---@class perigee.cache.Versions
local versions = {}
versions.__index = versions

-- The number's place; place 0 is that of all.
local function place(self, text)
  return c_stripe(self.dict.c, text, #text, COUNT - 1) + 1
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

--- Invalidates the key; gives the stamp of what is stored in its stead.
function versions:renew(key_place, tag_places)
  local own = c_next(self.cells + key_place)
  local sum = own + self.cells[0]
  if tag_places then
    for i = 1, #tag_places do
      sum = sum + self.cells[tag_places[i]]
    end
  end
  return sum
end

function versions:renew_tag(tag)
  c_next(self.cells + place(self, "tag:" .. tag))
end

function versions:renew_all()
  c_next(self.cells)
end

--- The versions of a cache; the dictionary's hash divides keys.
function M.open(name, dict)
  local address, err = core.cells("versions:" .. name, COUNT * 4)
  if not address then
    error(err, 4)
  end
  return setmetatable({
    cells = ffi.cast("volatile uint32_t *", address), dict = dict,
  }, versions)
end

return M
