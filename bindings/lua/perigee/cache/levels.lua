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

-- With room for all that one comes to hold.
local function new_entry()
  return {
    key = "", place = 0, stamp = 0, fresh_ms = 0, good_ms = 0, epoch = 0,
    value = false, tags = false, used = false, position = 0,
  }
end

local function from_shared(self, key)
  if not self.far then
    return nil
  end
  local stamp, fresh_ms, good_ms, has_value, value, tags =
    self.dict:values(place("value", key))
  if not stamp then
    return nil
  end
  local entry = self.spare or new_entry()
  self.spare = nil
  entry.key, entry.place = key, self.versions:place_of_key(key)
  entry.stamp, entry.fresh_ms, entry.good_ms = stamp, fresh_ms, good_ms
  entry.tags = tags or nil
  entry.epoch = -1 -- see versions:holds
  entry.value = nil
  if has_value then
    entry.value = value
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

--- The value of an entry that nobody looks at any more: without a level in the
--- worker the next one found takes its table, which costs more than the rest.
---@param self perigee.Cache
---@param entry table
---@return any
function M.value_of(self, entry)
  local value = entry.value
  if not self.near then
    entry.value, self.spare = nil, entry
  end
  return value
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
