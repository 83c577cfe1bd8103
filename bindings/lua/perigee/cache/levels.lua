--- Levels: what a cache keeps on this host, in the worker and in shared memory.
---
--- In the shared level a value is { stamp, fresh until, good until, has value,
--- value, tag places }; in the worker's the same by name, and the key.

local core = require "perigee.core.shared"
local crypto = require "perigee.crypto"
local ffi = require "ffi"

local M = {}

local KEY_MAX = 3900 -- a dictionary takes 4096, with what we put in front

local c_now = ffi.cast("double (*)(void *)", core.ffi.now)

--- Where a key's thing of that kind lies in a dictionary; a long key goes by its
--- hash.
---@param kind string
---@param key string
---@return string
function M.place(kind, key)
  if #key > KEY_MAX then
    key = "\0" .. crypto.sha256(key)
  end
  return kind .. ":" .. key
end

local place = M.place

--- The clock of entries, in ms.
---@param self perigee.Cache
---@return number
function M.now(self)
  return c_now(self.dict.c)
end

--- Whether nothing was invalidated that the entry stands on.
---@param self perigee.Cache
---@param entry table
---@return boolean
function M.is_valid(self, entry)
  return self.versions:holds(entry)
end

local is_valid = M.is_valid

local function from_shared(self, key)
  local stored = self.far and self.dict:get(place("value", key))
  if type(stored) ~= "table" then
    return nil
  end
  local entry = {
    key = key, place = self.versions:place_of_key(key), stamp = stored[1],
    fresh_ms = stored[2], good_ms = stored[3], tags = stored[6] or nil,
    epoch = -1, -- see versions:holds
  }
  if stored[4] then
    entry.value = stored[5]
  end
  return entry
end

--- The shared level's entry, if it holds; it moves into the worker.
---@param self perigee.Cache
---@param key string
---@return table? entry
function M.find_shared(self, key)
  local entry = from_shared(self, key)
  if not entry or not is_valid(self, entry) then
    return nil
  end
  if self.near then
    self.near:put(entry)
  end
  return entry
end

--- The best entry of any level: fresh, or else one that may be served stale.
---@param self perigee.Cache
---@param key string
---@param now_ms number
---@return table? entry
---@return string level
function M.find(self, key, now_ms)
  local entry = self.near and self.near.entries[key]
  if entry and entry.fresh_ms > now_ms and is_valid(self, entry) then
    return entry, "worker"
  end
  local other = M.find_shared(self, key)
  if other then
    return other, "shared"
  end
  if entry and not is_valid(self, entry) then
    self.near:drop(key)
    return nil, "worker"
  end
  return entry, "worker"
end

--- Keeps an entry { value, stamp, fresh_ms, good_ms, tags (their places), token }.
--- True: other workers find it.
---@param self perigee.Cache
---@param key string
---@param entry table
---@return boolean stored
function M.keep(self, key, entry)
  local left_ms = entry.good_ms - M.now(self)
  if left_ms <= 0 then
    return false
  end
  local stored = true
  local value = entry.value
  if self.far then
    stored = self.dict:set(place("value", key), {
      entry.stamp, entry.fresh_ms, entry.good_ms, value ~= nil,
      value == nil and false or value, entry.tags or false,
    }, left_ms)
    if not stored then -- too big, or no plain data: the worker's alone
      self.dict:delete(place("value", key))
      self.counts.not_shared = self.counts.not_shared + 1
    end
  end
  if self.remote then
    self.remote:note(key, entry.token, left_ms)
  end
  if self.near then
    self.near:put {
      key = key, place = self.versions:place_of_key(key), stamp = entry.stamp,
      fresh_ms = entry.fresh_ms, good_ms = entry.good_ms, value = value,
      tags = entry.tags, epoch = -1,
    }
  end
  return stored and true or false
end

return M
