--- Fetch: how a value that this host does not have is got: from Redis, or by
--- the loader, once at a time.

local errors = require "perigee.error"
local core = require "perigee.core.task"
local health = require "perigee.core.health"
local flight = require "perigee.cache.flight"
local levels = require "perigee.cache.levels"
local spans = require "perigee.cache.spans"
local task = require "perigee.task"

local M = {}

local WARN_MS = 10000
local warned = {} -- cache name -> when, on its clock

-- /readyz shows for a while that this cache is degraded.
local function warn(self, why)
  local now_ms = levels.now(self)
  if now_ms - (warned[self.name] or -WARN_MS) >= WARN_MS / 5 then
    warned[self.name] = now_ms
    health.set("cache " .. self.name, "warn", "warn: " .. why, WARN_MS)
  end
end

--- A value is served after its time, because its load has failed.
function M.served_stale(self)
  self.counts.stale = self.counts.stale + 1
  self:count("loader", "stale")
  warn(self, "stale values are served, loads fail")
end

local function call_load(self, load, key, own)
  self.counts.loads = self.counts.loads + 1
  local ok, value, err = pcall(task.with_deadline, self.timeout, load, key)
  if not ok then -- this task is cut off: by a reload, or the host's stop
    own.cut, value, err = true, nil, value
  end
  if value == nil and err ~= nil then
    self.counts.errors = self.counts.errors + 1
    self:count("loader", "error")
    return nil, errors.is(err) and err or errors.wrap(err)
  end
  self:count("loader", "ok")
  return value
end

-- With the lock in Redis held meanwhile.
local function load_in_turn(self, key, load, own, turn)
  if not turn then
    return call_load(self, load, key, own)
  end
  local keeper = task.spawn(self.remote.keep, self.remote, key, turn)
  local value, err = call_load(self, load, key, own)
  keeper:cancel "the load has ended"
  return value, err
end

--- How long a value is fresh, in ms.
---@return number
function M.ttl_of(self, value, opts)
  local ttl_ms = value == nil and self.negative or (opts and opts.ttl_ms)
    or self.ttl
  if self.jitter > 0 then
    ttl_ms = ttl_ms * (1 - self.jitter * math.random())
  end
  return ttl_ms
end

--- Keeps a value on this host, with the stamp from before it was made.
---@return boolean stored # others find it
function M.keep(self, key, value, stamp, ttl_ms, tags, token)
  if ttl_ms <= 0 then
    return false
  end
  local fresh_ms = levels.now(self) + ttl_ms
  return levels.keep(self, key, { value = value, stamp = stamp, tags = tags,
    fresh_ms = fresh_ms, good_ms = fresh_ms + self.longest_stale,
    token = token })
end

-- Loads and keeps: stored, value, err. turn: Redis has given it to us.
local function load_and_keep(self, key, load, opts, own, turn)
  local place = self.versions:place_of_key(key)
  local tags = opts and opts.tags and self.versions:places_of_tags(opts.tags)
  local stamp = self.versions:stamp(place, tags)
  local value, err = load_in_turn(self, key, load, own, turn)
  local changed = self.versions:stamp(place, tags) ~= stamp
  if err or changed then
    -- Invalidated meanwhile: for who waits, not to keep.
    if turn and own.cut then
      self.remote:give_up(key, turn)
    elseif turn then
      self.remote:leave(key, turn, err)
    end
    return false, value, err
  end
  local ttl_ms = M.ttl_of(self, value, opts)
  local stored = M.keep(self, key, value, stamp, ttl_ms, tags,
    turn and turn.token)
  if turn then
    own.land(value)
    if self.remote:store(key, turn, value, ttl_ms, self.longest_stale)
      == false then
      self.versions:renew(place) -- another host has invalidated it
    end
  end
  return stored, value
end

-- Keeps what Redis has, with the stamp from before it was asked.
local function keep_found(self, key, entry, base)
  local place = self.versions:place_of_key(key)
  local names, tags = {}, nil
  for name in pairs(entry.versions or {}) do
    names[#names + 1] = name
  end
  if names[1] then
    tags = self.versions:places_of_tags(names)
  end
  local stamp = self.versions:stamp(place, tags)
  if self.versions:stamp(place) ~= base then
    return false
  end
  local now_ms = levels.now(self)
  return levels.keep(self, key, { value = entry.value, stamp = stamp,
    tags = tags, token = entry.token, fresh_ms = now_ms + entry.fresh_ms,
    good_ms = now_ms + entry.good_ms })
end

-- Redis before the loader.
local function get_far(self, key, load, opts, own)
  local base = self.versions:stamp(self.versions:place_of_key(key))
  local seen = self.remote:enter(key, opts and opts.tags)
  if not seen then
    self.counts.degraded = self.counts.degraded + 1
    warn(self, "Redis is away, each host loads by itself")
    self:count("redis", "error")
    return load_and_keep(self, key, load, opts, own)
  end
  local entry, word, turn = seen.entry, seen.word, seen.turn
  local stored = entry and keep_found(self, key, entry, base)
  if word and not (word.err and entry
    and entry.fresh_ms + self.stale_if_error > 0) then
    return false, nil, word.err
  elseif entry and (entry.fresh_ms > 0 or not turn) then
    self:count("redis", entry.fresh_ms > 0 and "hit" or "stale")
    self.counts.redis_hits = self.counts.redis_hits + 1
    return stored, entry.value
  end
  self:count("redis", "miss")
  if entry and entry.fresh_ms + self.stale > 0 then
    self.counts.stale = self.counts.stale + 1
    own.land(entry.value)
  end
  local value, err
  stored, value, err = load_and_keep(self, key, load, opts, own, turn)
  if err and entry and entry.fresh_ms + self.stale_if_error > 0 then
    M.served_stale(self)
    return true, entry.value
  end
  return stored, value, err
end

--- What Redis has, for who cannot load.
---@return any value
function M.find_far(self, key)
  local base = self.versions:stamp(self.versions:place_of_key(key))
  local entry, err = self.remote:find(key)
  if entry and entry.fresh_ms > 0 then
    self:count("redis", "hit")
    self.counts.redis_hits = self.counts.redis_hits + 1
    keep_found(self, key, entry, base)
    return entry.value
  end
  self:count("redis", err and "error" or "miss")
  return nil
end

local function run(self, key, load, opts, own)
  local get = self.remote and get_far or load_and_keep
  if not self.far then
    local _, value, err = get(self, key, load, opts, own)
    return value, err
  end
  return flight.run(self.dict, key, own.stamp, function(waiting)
    local entry = levels.find_shared(self, key)
    local late_ms = waiting and self.remote and self.stale or 0
    return entry and entry.fresh_ms + late_ms > levels.now(self) and entry
      or nil
  end, function()
    local stored, value, err = get(self, key, load, opts, own)
    -- What was cut off says nothing about the key: others load it anew.
    return stored or own.cut, value, err
  end)
end

local function fly(self, key, load, opts, own, here)
  local span = spans.load_begins(self, key, here)
  local ok, value, err = pcall(run, self, key, load, opts, own)
  if not ok then
    value, err = nil, errors.is(value) and value or errors.wrap(value)
  end
  if self.flights[key] == own then
    self.flights[key] = nil
  end
  spans.load_ends(span, err)
  own.land(value, err)
end

--- The load under way in this worker, or a new one. One that began before the
--- key was invalidated is not for who asks later.
function M.join(self, key, load, opts)
  local stamp = self.versions:stamp(self.versions:place_of_key(key))
  local own = self.flights[key]
  if own and own.stamp == stamp then
    self.counts.waits = self.counts.waits + 1
    return own
  end
  own = { stamp = stamp, landed = core.event() }
  -- The first result is what who waits gets; the flight may go on.
  function own.land(value, err)
    if not own.down then
      own.down, own.value, own.err = true, value, err
      own.landed:set()
    end
  end
  self.flights[key] = own
  core.start(fly, self, key, load, opts, own, spans.here())
  return own
end

return M
