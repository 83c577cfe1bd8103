--- Caches: a table in the worker before shared memory before the loader. One
--- load of a key at a time, and no worker serves what was invalidated.

local core = require "perigee.core.shared"
local errors = require "perigee.error"
local event = require("perigee.core.task").event
local ffi = require "ffi"
local flight = require "perigee.cache.flight"
local near = require "perigee.cache.near"
local shared = require "perigee.shared"
local task = require "perigee.task"
local units = require "perigee.units"
local versions = require "perigee.cache.versions"

local M = {}

local c_now = ffi.cast("double (*)(peri_dict *)", core.ffi.now)

local DEFAULTS = {
  ttl = "1m", stale = 0, stale_if_error = false, negative = 0, jitter = 0,
  levels = { "worker", "shared" }, items = 10000, size = "16mb",
  timeout = "30s",
}

---@class perigee.CacheOptions
---@field ttl (string|number)?       # "1m"
---@field stale (string|number)?     # after it: served while one refreshes; 0
---@field stale_if_error (string|number)? # after it: served when a load fails; as stale
---@field negative (string|number)?  # how long a nil is kept; 0
---@field jitter number?             # a random part of the ttl that is cut off, 0 to 1; 0
---@field levels string[]?           # "worker", "shared"
---@field items integer?             # entries in each worker; 10000
---@field size (string|number)?      # of the shared level; "16mb"
---@field timeout (string|number)?   # of a load; "30s"

---@class perigee.Cache
---@field name string
local cache = {}
cache.__index = cache

-- In the shared level: { stamp, fresh until, good until, has value, value,
-- tag places }. In the worker's the same by name, and the key.

local function from_shared(self, key)
  local stored = self.far and self.dict:get("value:" .. key)
  if type(stored) ~= "table" then
    return nil
  end
  return {
    key = key, place = self.versions:place_of_key(key), stamp = stored[1],
    fresh_ms = stored[2], good_ms = stored[3],
    value = stored[4] and stored[5] or nil, tags = stored[6] or nil,
    falsy = stored[4] and stored[5] == false,
  }
end

local function is_valid(self, entry)
  return entry.stamp == self.versions:stamp(entry.place, entry.tags)
end

-- The shared level's entry, if it holds; it moves into the worker.
local function find_shared(self, key)
  local entry = from_shared(self, key)
  if not entry or not is_valid(self, entry) then
    return nil
  end
  if entry.falsy then
    entry.value = false
  end
  if self.near then
    self.near:put(entry)
  end
  return entry
end

-- The best entry of any level: fresh, or else one that may be served stale.
local function find(self, key, now_ms)
  local entry = self.near and self.near.entries[key]
  if entry and entry.fresh_ms > now_ms and is_valid(self, entry) then
    return entry
  end
  local other = find_shared(self, key)
  if other then
    return other
  end
  if entry and not is_valid(self, entry) then
    self.near:drop(key)
    return nil
  end
  return entry
end

-- Keeps a value with the stamp from before it was made. True: others find it.
local function store(self, key, value, stamp, ttl_ms, tags)
  if ttl_ms <= 0 then
    return false
  end
  if self.jitter > 0 then
    ttl_ms = ttl_ms * (1 - self.jitter * math.random())
  end
  local now_ms = c_now(self.dict.c)
  local fresh_ms = now_ms + ttl_ms
  local good_ms = fresh_ms + math.max(self.stale, self.stale_if_error)
  local stored = true
  if self.far then
    stored = self.dict:set("value:" .. key, {
      stamp, fresh_ms, good_ms, value ~= nil, value == nil and false or value,
      tags or false,
    }, good_ms - now_ms)
    if not stored then -- too big, or no plain data: the worker's alone
      self.dict:delete("value:" .. key)
      self.counts.not_shared = self.counts.not_shared + 1
    end
  end
  if self.near then
    self.near:put {
      key = key, place = self.versions:place_of_key(key), stamp = stamp,
      fresh_ms = fresh_ms, good_ms = good_ms, value = value, tags = tags,
    }
  end
  return stored and true or false
end

local function call_load(self, load, key)
  self.counts.loads = self.counts.loads + 1
  local ok, value, err = pcall(task.with_deadline, self.timeout, load, key)
  if not ok then
    value, err = nil, value
  end
  if value == nil and err ~= nil then
    self.counts.errors = self.counts.errors + 1
    return nil, errors.is(err) and err or errors.wrap(err)
  end
  return value
end

-- Loads and keeps: stored, value, err.
local function load_now(self, key, load, opts)
  local place = self.versions:place_of_key(key)
  local tags = opts and opts.tags and self.versions:places_of_tags(opts.tags)
  local stamp = self.versions:stamp(place, tags)
  local value, err = call_load(self, load, key)
  if err then
    return false, nil, err
  end
  local ttl_ms = value == nil and self.negative
    or (opts and opts.ttl_ms) or self.ttl
  if self.versions:stamp(place, tags) ~= stamp then
    return false, value -- invalidated meanwhile: for who waits, not to keep
  end
  return store(self, key, value, stamp, ttl_ms, tags), value
end

local function fly(self, key, load, opts, own)
  local function run()
    if not self.far then
      local _, value, err = load_now(self, key, load, opts)
      return value, err
    end
    return flight.run(self.dict, key, own.stamp, function()
      local entry = find_shared(self, key)
      return entry and entry.fresh_ms > c_now(self.dict.c) and entry or nil
    end, function()
      return load_now(self, key, load, opts)
    end)
  end
  local ok, value, err = pcall(run)
  if not ok then
    value, err = nil, errors.is(value) and value or errors.wrap(value)
  end
  own.value, own.err = value, err
  if self.flights[key] == own then
    self.flights[key] = nil
  end
  own.landed:set()
end

-- The load under way in this worker, or a new one. One that began before the
-- key was invalidated is not for who asks later.
local function join_flight(self, key, load, opts)
  local stamp = self.versions:stamp(self.versions:place_of_key(key))
  local own = self.flights[key]
  if not own or own.stamp ~= stamp then
    own = { stamp = stamp, landed = event() }
    self.flights[key] = own
    task.spawn_detached(fly, self, key, load, opts, own)
  else
    self.counts.waits = self.counts.waits + 1
  end
  return own
end

local function get_slowly(self, key, load, opts)
  local now_ms = c_now(self.dict.c)
  local entry = find(self, key, now_ms)
  local counts = self.counts
  if entry and entry.fresh_ms > now_ms then
    counts.shared_hits = counts.shared_hits + 1
    return entry.value
  end
  counts.misses = counts.misses + 1
  if not load then
    return nil
  end
  if entry and entry.fresh_ms + self.stale > now_ms then
    counts.stale = counts.stale + 1
    join_flight(self, key, load, opts)
    return entry.value
  end
  local own = join_flight(self, key, load, opts)
  own.landed:wait()
  if own.err and entry and is_valid(self, entry)
    and entry.fresh_ms + self.stale_if_error > now_ms then
    counts.stale = counts.stale + 1
    return entry.value
  end
  return own.value, own.err
end

local function check_key(key)
  if type(key) == "number" then
    return tostring(key)
  elseif type(key) ~= "string" then
    error("a key must be a string, not a " .. type(key), 3)
  end
  return key
end

local function check_put(opts)
  if opts == nil then
    return nil
  end
  if type(opts) ~= "table" then
    opts = { ttl = opts }
  end
  local ttl_ms, why
  if opts.ttl ~= nil then
    ttl_ms, why = units.duration(opts.ttl)
    if not ttl_ms then
      error("ttl: " .. why, 3)
    end
  end
  return { ttl_ms = ttl_ms, tags = opts.tags }
end

--- The value of a key; when it is not there, load(key) makes it: a value, or
--- nil (kept for `negative`), or nil and an error (not kept). However many ask,
--- in all workers, one loads; the others get its result or its error. The value
--- is the same table for all in a worker: read it, do not change it.
---@param key string
---@param load (fun(key: string): any, perigee.Error?)?
---@param opts { ttl: (string|number)?, tags: string[]? }? # of what is loaded
---@return any value
---@return perigee.Error? err
function cache:get(key, load, opts)
  local entry = self.entries[key]
  if entry then
    local now_ms = c_now(self.dict.c)
    if entry.fresh_ms > now_ms and is_valid(self, entry) then
      entry.used = true
      self.counts.worker_hits = self.counts.worker_hits + 1
      return entry.value
    end
  end
  return get_slowly(self, check_key(key), load, check_put(opts))
end

--- Sets a key. Once it has returned, no worker serves what was there before.
---@param key string
---@param value any # nil deletes
---@param opts { ttl: (string|number)?, tags: string[]? }|string|number|nil
---@return true
function cache:set(key, value, opts)
  key = check_key(key)
  local put = check_put(opts)
  if value == nil then
    self:delete(key)
    return true
  end
  local tags = put and put.tags and self.versions:places_of_tags(put.tags)
  local stamp = self.versions:renew(self.versions:place_of_key(key), tags)
  store(self, key, value, stamp, put and put.ttl_ms or self.ttl, tags)
  return true
end

--- Deletes a key. Once it has returned, no worker serves it, and a load that
--- was under way is not kept.
---@param key string
function cache:delete(key)
  key = check_key(key)
  self.versions:renew(self.versions:place_of_key(key))
  if self.near then
    self.near:drop(key)
  end
  if self.far then
    self.dict:delete("value:" .. key)
  end
end

--- Deletes all, or all with a tag.
---@param opts { tag: string }?
function cache:flush(opts)
  if opts == nil then
    self.versions:renew_all()
  elseif type(opts) == "table" and type(opts.tag) == "string" then
    self.versions:renew_tag(opts.tag)
  else
    error("flush() or flush{ tag = name }", 2)
  end
end

---@class perigee.CacheStats
---@field worker_hits integer # of this worker, as all but `shared`
---@field shared_hits integer
---@field misses integer
---@field stale integer       # served after their time
---@field loads integer
---@field errors integer      # of loads
---@field waits integer       # for a load of another
---@field not_shared integer  # too big, or no plain data
---@field items integer
---@field shared perigee.DictStats

---@return perigee.CacheStats
function cache:stats()
  local stats = { items = self.near and self.near.count or 0 }
  for name, count in pairs(self.counts) do
    stats[name] = count
  end
  stats.shared = self.dict:stats()
  return stats
end

local function duration(opts, name)
  local value = opts[name]
  if value == nil then
    value = DEFAULTS[name]
  end
  local ms, why = units.duration(value)
  return ms or error(("cache: %s: %s"):format(name, why), 4)
end

local LEVELS = { worker = true, shared = true }

local function check_levels(list)
  local levels = {}
  for _, level in ipairs(list) do
    if level == "redis" then
      error("cache: the level \"redis\" is not there yet", 4)
    elseif not LEVELS[level] then
      error(("cache: no level is named %q"):format(tostring(level)), 4)
    end
    levels[level] = true
  end
  return levels
end

local function check_options(name, opts)
  if type(name) ~= "string" or name == "" or #name > 64 then
    error("cache: a name of up to 64 bytes expected", 4)
  end
  for key in pairs(opts) do
    if DEFAULTS[key] == nil then
      error("cache: unknown option " .. tostring(key), 4)
    end
  end
  if opts.jitter and (type(opts.jitter) ~= "number" or opts.jitter < 0
    or opts.jitter > 1) then
    error("cache: jitter is a number from 0 to 1", 4)
  end
  if opts.items and (type(opts.items) ~= "number" or opts.items < 1) then
    error("cache: items is at least 1", 4)
  end
end

local made = {}

local function make(name, opts)
  local levels = check_levels(opts.levels or DEFAULTS.levels)
  local size, why = units.size(opts.size or DEFAULTS.size)
  if not size then
    error("cache: size: " .. why, 3)
  end
  local dict = shared.internal("cache:" .. name,
    levels.shared and size or 65536)
  local self = {
    name = name, opts = opts, dict = dict, far = levels.shared,
    near = levels.worker and near.new(opts.items or DEFAULTS.items) or nil,
    versions = versions.open(name, dict), flights = {},
    ttl = duration(opts, "ttl"), stale = duration(opts, "stale"),
    negative = duration(opts, "negative"), timeout = duration(opts, "timeout"),
    jitter = opts.jitter or 0,
    counts = { worker_hits = 0, shared_hits = 0, misses = 0, stale = 0,
      loads = 0, errors = 0, waits = 0, not_shared = 0 },
  }
  self.stale_if_error = opts.stale_if_error and duration(opts, "stale_if_error")
    or self.stale
  self.entries = self.near and self.near.entries or {}
  return setmetatable(self, cache)
end

--- The cache of that name: one for all workers of the host.
---@param name string
---@param opts perigee.CacheOptions?
---@return perigee.Cache
function M.new(name, opts)
  if made[name] and (opts == nil or made[name].opts == opts) then
    return made[name]
  end
  opts = opts or {}
  check_options(name, opts)
  made[name] = make(name, opts)
  return made[name]
end

--- The value of a key in the cache "default"; fn() makes it.
---@param key string
---@param fn fun(key: string): any, perigee.Error?
---@param ttl string|number|nil # "1m"
---@return any value
---@return perigee.Error? err
function M.cached(key, fn, ttl)
  return M.new("default"):get(key, fn, ttl and { ttl = ttl } or nil)
end

return M
