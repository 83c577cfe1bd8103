--- Turns: one load of a key at a time, across hosts; methods of the level in
--- Redis. A lock holds its holder's token; when a load has failed, or there is
--- nothing to store, it holds for a moment word of that: "!" and a packed table.

local core = require "perigee.core.shared"
local errors = require "perigee.error"
local script = require("perigee.cache.scripts").add
local task = require "perigee.task"

---@class perigee.cache.Remote
local M = {}

local LEASE_MS = 3000
local TURNS_MAX = 3 -- that are lost as soon as they are won
local RENEW_MS = 1000
local WORD_MS = 500
local PAUSE_MIN_MS, PAUSE_MAX_MS = 2, 25

local function text_of(reply)
  return type(reply) == "string" and reply or nil
end

local function read_word(held)
  local word = core.unpack(held:sub(2))
  if type(word) ~= "table" or word.nothing then
    return {}
  end
  local err = errors.new(word.kind, "%s", word.message)
  err.code, err.retry_after_ms = word.code, word.retry_after_ms
  return { err = err }
end

-- A server that hung takes what was asked meanwhile when it is back: a lock of
-- whom nobody knows ends soon, one whose holder has heard of it is confirmed.
local function first_lease_ms(self)
  return math.min(LEASE_MS, 2 * self.timeout_ms + 100)
end

local function look(self, key, token, force, waited)
  local list, err = self:ask(function(p, full)
    script(p, full, "enter", { self:value_key(key), self:lock_key(key) },
      token, first_lease_ms(self), force and 1 or 0, waited and 1 or 0)
    p:get(self:version_key())
  end)
  if not list then
    return nil, err
  end
  local reply, gen = list[1], text_of(list[2])
  local entry, held = self:decode(reply[1], reply[2]), text_of(reply[3])
  if entry then
    local valid, why = self:holds(entry, gen)
    if valid == nil then
      return nil, why
    elseif not valid then
      entry = nil
    end
  end
  return { entry = entry, held = held }
end

-- What a host that holds the lock is waited for, for so long at most.
local function wait_for_turn(self, key, token)
  local waited_ms, pause_ms, force = 0, PAUSE_MIN_MS, false
  while true do
    local seen, err = look(self, key, token, force, waited_ms > 0)
    if not seen then
      return nil, err
    elseif seen.held == token then
      return { entry = seen.entry, turn = { token = token } }
    elseif seen.entry and seen.entry.fresh_ms + self.stale_ms > 0 then
      return { entry = seen.entry } -- fresh, or another host refreshes it
    elseif seen.held == nil then
      force = true -- what is there holds no more: ask for the lock
    elseif seen.held:sub(1, 1) == "!" then
      return { word = read_word(seen.held), entry = seen.entry }
    elseif waited_ms > self.wait_ms then
      return {}
    else
      task.sleep(pause_ms)
      waited_ms = waited_ms + pause_ms
      pause_ms = math.min(PAUSE_MAX_MS, pause_ms * 2)
    end
  end
end

-- Whether the lock that was won is ours for the load, whose versions the turn
-- then has; nil and an error.
local function confirm(self, key, tags, turn)
  local gen, versions, kept = self:make_versions(tags, function(p, full)
    script(p, full, "keep", { self:lock_key(key) }, turn.token, LEASE_MS)
  end)
  if not gen then
    return nil, versions
  end
  turn.gen, turn.versions = gen, versions
  return kept == 1
end

--- What there is to do about a key that this host does not have: nil and an
--- error when Redis cannot tell. `entry` is what Redis has; `word` what the
--- host left that has just loaded ({err}); with `turn` it is ours to load, and
--- store() or leave() has to follow.
---@param key string
---@param tags string[]?
---@return { entry: table?, word: table?, turn: table? }? seen
---@return perigee.Error? err
function M:enter(key, tags)
  local done, err = self:settle()
  if not done then
    return nil, err
  end
  for _ = 1, TURNS_MAX do
    local seen
    seen, err = wait_for_turn(self, key, self.new_token())
    if not seen or not seen.turn then
      return seen, err
    end
    done, err = confirm(self, key, tags, seen.turn)
    if done ~= false then
      return done and seen or nil, err
    end
  end
  return {}
end

--- Keeps the lock while a load runs; for a task of its own.
function M:keep(key, turn)
  while true do
    task.sleep(RENEW_MS)
    local list = self:ask(function(p, full)
      script(p, full, "keep", { self:lock_key(key) }, turn.token, LEASE_MS)
    end)
    if list and list[1] ~= 1 then
      return
    end
  end
end

--- Stores what was loaded, unless it was invalidated meanwhile: whether it may
--- be kept; nil: Redis cannot tell.
---@return boolean? kept
function M:store(key, turn, value, ttl_ms, stale_ms)
  local bytes = ttl_ms > 0
    and self:encode(value, turn.token, stale_ms, turn.versions, turn.gen)
  if not bytes then
    self:leave(key, turn, nil, value == nil)
    return true
  end
  local list = self:ask(function(p, full)
    script(p, full, "store", { self:value_key(key), self:lock_key(key) },
      turn.token, bytes, math.ceil(ttl_ms + stale_ms))
  end)
  if not list then
    return nil
  end
  return list[1] == 1
end

--- Gives the lock back, with word of a failure or of nothing.
function M:leave(key, turn, err, nothing)
  local word = ""
  if err then
    word = "!" .. core.pack { kind = err.kind, message = err.message,
      code = err.code, retry_after_ms = err.retry_after_ms }
  elseif nothing then
    word = "!" .. core.pack { nothing = true }
  end
  self:ask(function(p, full)
    script(p, full, "leave", { self:lock_key(key) }, turn.token, word, WORD_MS)
  end)
end

--- Gives the lock back for a task that is cut off and can wait for nothing more.
--- (In a cluster it lasts for its lease.)
function M:give_up(key, turn)
  local poster = {
    eval = function(_, ...)
      self.redis:post("EVAL", ...)
    end,
  }
  script(poster, true, "leave", { self:lock_key(key) }, turn.token, "", WORD_MS)
end

return M
