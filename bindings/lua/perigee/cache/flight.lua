--- Flights: one load of a key at a time, across the workers of a host.
---
--- Who loads holds a lock in the cache's dictionary: its process's mark, with a
--- lease that it renews. When it is done and nothing is stored (the load failed,
--- or there is nothing to keep), it leaves word of that in the lock's place for
--- those who wait. A lock whose holder died is taken over. A lock's value is
--- "=", a mark and a number; a word is "!" and a packed table.

local core = require "perigee.core.shared"
local errors = require "perigee.error"
local levels = require "perigee.cache.levels"
local task = require "perigee.task"

local M = {}

local LEASE_MS = 5000
local RENEW_MS = 1500
local WORD_MS = 250
local PAUSE_MIN_MS, PAUSE_MAX_MS = 1, 20
local LOOK_AFTER_MS = 40 -- then: is the holder alive?

local serial = 0

local function new_token()
  serial = serial + 1
  return "=" .. core.mark .. serial
end

local function is_dead(token)
  return token:sub(1, 1) == "=" and not core.alive(token:sub(2, 9))
end

-- The word that lies in a lock's place, if any.
local function word_in(held)
  return held and held:sub(1, 1) == "!" and core.unpack(held:sub(2)) or nil
end

-- What a holder left: its failure, or that there was nothing.
local function read_word(left)
  if left.nothing then
    return true, nil
  end
  local err = errors.new(left.kind, "%s", left.message)
  err.code, err.retry_after_ms = left.code, left.retry_after_ms
  return true, nil, err
end

-- Waits for the lock or for what its holder left: token, or nil and whether
-- there is word, value, err.
local function enter(dict, lock, stamp, find)
  local token, waited_ms, pause_ms = new_token(), 0, PAUSE_MIN_MS
  while true do
    local held = dict:get(lock)
    local word = word_in(held)
    -- What was loaded before the key was invalidated is no answer after it.
    if word and waited_ms > 0 and word.stamp == stamp then
      return nil, read_word(word)
    elseif held == nil or word
      or (waited_ms >= LOOK_AFTER_MS and is_dead(held)) then
      if dict:cas(lock, held, token, LEASE_MS) then
        return token
      end
    end
    task.sleep(pause_ms)
    waited_ms = waited_ms + pause_ms
    pause_ms = math.min(PAUSE_MAX_MS, pause_ms * 2)
    local entry = find(true)
    if entry then
      return nil, true, entry.value
    end
  end
end

local function keep_lease(dict, lock, token)
  while dict:cas(lock, token, token, LEASE_MS) do
    task.sleep(RENEW_MS)
  end
end

local function leave(dict, lock, token, stamp, stored, value, err)
  if stored or value ~= nil then
    dict:cas(lock, token, nil)
    return
  end
  local word = { stamp = stamp, nothing = err == nil }
  if err then
    word.kind, word.message, word.code = err.kind, err.message, err.code
    word.retry_after_ms = err.retry_after_ms
  end
  dict:cas(lock, token, "!" .. core.pack(word), WORD_MS)
end

--- Runs load() -> stored, value, err unless another worker does; find(waiting)
--- gives the entry that another has stored meanwhile. Where load() says that it
--- has stored, who waits gets no word of its failure. The stamp is the key's.
---@return any value
---@return perigee.Error? err
function M.run(dict, key, stamp, find, load)
  local lock = levels.place("lock", key)
  local token, known, value, err = enter(dict, lock, stamp, find)
  if known then
    return value, err
  end
  local entry = find() -- stored between our look and our lock
  if entry then
    dict:cas(lock, token, nil)
    return entry.value
  end
  local renewal = task.spawn(function()
    task.sleep(RENEW_MS)
    keep_lease(dict, lock, token)
  end)
  local stored
  stored, value, err = load()
  renewal:cancel "the load has ended"
  leave(dict, lock, token, stamp, stored, value, err)
  return value, err
end

return M
