--- Caches: a table in the worker before shared memory before Redis before the
--- loader. One load of a key at a time, and no worker serves what was
--- invalidated.

local core = require "perigee.core.shared"
local fetch = require "perigee.cache.fetch"
local ffi = require "ffi"
local levels = require "perigee.cache.levels"
local metrics = require "perigee.metrics"
local near = require "perigee.cache.near"
local options = require "perigee.options"
local shared = require "perigee.shared"
local spans = require "perigee.cache.spans"
local units = require "perigee.units"
local versions = require "perigee.cache.versions"

local tonumber = tonumber

local M = {}

local blame = options.blame

local c_now = ffi.cast("double (*)(void *)", core.ffi.now)
local is_valid = levels.is_valid

-- Read without a call: a hit in the worker costs little else. The loop's time
-- is that of its present turn.
local frozen_at, loop_at = core.clock()
local frozen_ns = ffi.cast("const int64_t *", frozen_at)
local loop_ms = ffi.cast("const int64_t *", loop_at)

-- Those without a value are the configuration's: cache.size and so on.
local DEFAULTS = {
  ttl = "1m", stale = 0, stale_if_error = false, negative = 0, jitter = 0,
  levels = false, items = false, size = false, timeout = "30s",
  redis = false, redis_timeout = "250ms", item_max = "1mb",
}

---@class perigee.CacheOptions
---@field ttl (string|number)?       # "1m"
---@field stale (string|number)?     # after it: served while one refreshes; 0
---@field stale_if_error (string|number)? # after it: served when a load fails; as stale
---@field negative (string|number)?  # how long a nil is kept; 0
---@field jitter number?             # a random part of the ttl that is cut off, 0 to 1; 0
---@field levels string[]?           # of "worker", "shared", "redis"; cache.levels
---@field items integer?             # entries in each worker; cache.entries
---@field size (string|number)?      # of the shared level; cache.size
---@field timeout (string|number)?   # of a load; "30s"
---@field redis string?              # which redis.NAME; cache.redis
---@field redis_timeout (string|number)? # of a step there; "250ms"
---@field item_max (string|number)?  # a bigger value is not stored there; "1mb"

---@class perigee.Cache
---@field name string
local cache = {}
cache.__index = cache

local function bind(self, level, result)
  local counter = self.requests:with(self.name, level, result)
  self.bound[level][result] = counter
  return counter
end

--- Counts a request in the metrics.
---@param level "worker"|"shared"|"redis"|"loader"
---@param result string
function cache:count(level, result)
  local counter = self.bound[level][result] or bind(self, level, result)
  counter:inc()
end

-- Nobody here has it fresh; entry may be served stale.
local function get_missing(self, key, load, opts, entry, now_ms)
  local counts = self.counts
  counts.misses = counts.misses + 1
  if not load then
    if not self.remote then
      return nil
    end
    return fetch.find_far(self, key)
  elseif type(load) ~= "function" then
    blame("a function expected to load with, got " .. type(load))
  end
  if entry and entry.fresh_ms + self.stale > now_ms then
    counts.stale = counts.stale + 1
    fetch.join(self, key, load, opts)
    return entry.value
  end
  local own = fetch.join(self, key, load, opts)
  own.landed:wait()
  if own.err and entry and is_valid(self, entry)
    and entry.fresh_ms + self.stale_if_error > now_ms then
    fetch.served_stale(self)
    return entry.value
  end
  return own.value, own.err
end

local function note(span, level, result)
  if span then
    span:set("perigee.cache.level", level)
    span:set("perigee.cache.result", result)
  end
end

local get_slowly = spans.wrap(function(self, key, load, opts, span)
  local now_ms = c_now(self.dict.c)
  local entry, level = levels.find(self, key, now_ms)
  if entry and entry.fresh_ms > now_ms then
    self:count(level, "hit")
    note(span, level, "hit")
    if level == "shared" then
      self.counts.shared_hits = self.counts.shared_hits + 1
      if self.near then
        self:count("worker", "miss")
      end
    end
    return levels.value_of(self, entry)
  end
  local result = entry and entry.fresh_ms + self.stale > now_ms and "stale"
    or "miss"
  if self.near then
    self:count("worker", level == "worker" and result or "miss")
  end
  if self.far then
    self:count("shared", level == "shared" and result or "miss")
  end
  note(span, result == "stale" and level or nil, result)
  return get_missing(self, key, load, opts, entry, now_ms)
end)

local function check_key(key)
  if type(key) == "number" then
    return tostring(key)
  elseif type(key) ~= "string" then
    blame("a key must be a string, not a " .. type(key))
  end
  return key
end

local PUT = { ttl = true, tags = true }
local NONE = {}

local function check_put(opts)
  if opts == nil then
    return nil
  end
  if type(opts) ~= "table" then
    opts = { ttl = opts }
  end
  options.check(opts, PUT, "cache")
  local ttl_ms, why
  if opts.ttl ~= nil then
    ttl_ms, why = units.duration(opts.ttl)
    if not ttl_ms then
      blame("ttl: " .. why)
    end
  end
  options.is(opts.tags, "table", "tags")
  for _, tag in ipairs(opts.tags or NONE) do
    options.is(tag, "string", "tags")
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
function cache:get(key, load, opts) end -- luacheck: ignore 212

-- It, for one cache: compiled code has its parts as constants then, and finds it
-- without a metatable. A hit costs two thirds of what it would as a method.
local function get_of(self)
  local entries = self.near and self.near.entries or {}
  local epoch, hits = self.versions.epoch, self.hits
  return function(_, key, load, opts)
    local entry = entries[key]
    if entry then
      local now_ms = frozen_ns[0] == 0 and tonumber(loop_ms[0])
        or c_now(self.dict.c)
      if entry.fresh_ms > now_ms
        and (entry.epoch == epoch[0] or is_valid(self, entry)) then
        if not entry.used then
          entry.used = true
        end
        hits[0] = hits[0] + 1
        return entry.value
      end
    end
    return get_slowly(self, check_key(key), load, check_put(opts))
  end
end

--- Sets a key. Once it has returned, no worker serves what was there before;
--- other hosts, with Redis, a moment later.
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
  local names = put and put.tags
  local ttl_ms = fetch.ttl_of(self, value, put)
  local token
  if self.remote then
    -- First, so that nobody here finds the old one there afterwards.
    token = self.remote.new_token()
    self.remote:put(key, value, token, ttl_ms, self.longest_stale, names)
  end
  local tags = names and self.versions:places_of_tags(names)
  local stamp = self.versions:renew(self.versions:place_of_key(key), tags)
  fetch.keep(self, key, value, stamp, ttl_ms, tags, token)
  return true
end

--- Deletes a key. Once it has returned, no worker serves it, and a load that
--- was under way is not kept.
---@param key string
function cache:delete(key)
  key = check_key(key)
  if self.remote then
    self.remote:put(key)
  end
  self.versions:renew(self.versions:place_of_key(key))
  if self.near then
    self.near:drop(key)
  end
  if self.far then
    self.dict:delete(levels.place("value", key))
  end
end

--- Deletes all, or all with a tag.
---@param opts { tag: string }?
function cache:flush(opts)
  if opts ~= nil and (type(opts) ~= "table" or type(opts.tag) ~= "string") then
    blame("flush() or flush{ tag = name }")
  end
  local tag = opts and opts.tag
  if self.remote then
    self.remote:flush(tag)
  end
  if tag then
    self.versions:renew_tag(tag)
  else
    self.versions:renew_all()
  end
end

---@class perigee.CacheStats
---@field worker_hits integer # of this worker, as all but `shared`
---@field shared_hits integer
---@field redis_hits integer  # stale ones too
---@field misses integer      # in worker and shared memory
---@field degraded integer    # loads without Redis, which could not be asked
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
  stats.worker_hits = self.hits[0] - self.hits_before
  stats.shared = self.dict:stats()
  return stats
end

local function duration(opts, name)
  local value = opts[name]
  if value == nil then
    value = DEFAULTS[name]
  end
  local ms, why = units.duration(value)
  return ms or blame(("cache: %s: %s"):format(name, why))
end

local LEVELS = { worker = true, shared = true, redis = true }

local function check_levels(list)
  local wanted = {}
  for _, level in ipairs(list) do
    if not LEVELS[level] then
      blame(("cache: no level is named %q"):format(tostring(level)))
    end
    wanted[level] = true
  end
  return wanted
end

local function check_options(name, opts)
  if type(name) ~= "string" or name == "" or #name > 64 then
    blame("cache: a name of up to 64 bytes expected")
  end
  options.check(opts, DEFAULTS, "cache")
  options.is(opts.levels, "table", "cache: levels")
  options.is(opts.redis, "string", "cache: redis")
  if options.number(opts.jitter or 0, 0, "cache: jitter") > 1 then
    blame("cache: jitter is a number from 0 to 1")
  end
  options.number(opts.items or 1, 1, "cache: items")
end

-- What the configuration says; a process without one has the schema's.
local function configured()
  local ok, config = pcall(require, "perigee.config")
  local set = ok and config.cache or {}
  return {
    levels = set.levels or { "worker", "shared" }, redis = set.redis or "main",
    items = set.entries or 10000, size = set.size or "16mb",
    prefix = set.prefix or "cache",
  }
end

local function size_of(value, name)
  local bytes, why = units.size(value)
  return bytes or blame(("cache: %s: %s"):format(name, why))
end

local function open_remote(self, opts, config, size)
  local ok, made = pcall(require("perigee.cache.remote").open, {
    name = self.name, redis = opts.redis or config.redis,
    prefix = config.prefix, timeout = duration(opts, "redis_timeout"),
    wait = self.timeout, stale = self.stale, size = size,
    item_max = size_of(opts.item_max or DEFAULTS.item_max, "item_max"),
  })
  if not ok then -- said of who called cache.new
    blame("cache: " .. tostring(made):gsub("^[^\n:]+:%d+: ", ""))
  end
  return made
end

local function count_requests(self)
  self.requests = metrics.own.counter {
    name = "perigee_cache_requests_total",
    help = "Requests to caches, by level and result.",
    labels = { "cache", "level", "result" },
  }
  self.bound = { worker = {}, shared = {}, redis = {}, loader = {} }
  self.hits = bind(self, "worker", "hit").cells
  self.hits_before = self.hits[0] -- of generations before
end

local function make(name, opts)
  local config = configured()
  local wanted = check_levels(opts.levels or config.levels)
  local size = size_of(opts.size or config.size, "size")
  if not wanted.shared then
    size = 65536 -- for locks
  end
  local dict = shared.internal("cache:" .. name, size)
  local self = {
    name = name, opts = opts, dict = dict, far = wanted.shared or false,
    near = wanted.worker and near.new(opts.items or config.items) or nil,
    versions = versions.open(name, dict), flights = {},
    ttl = duration(opts, "ttl"), stale = duration(opts, "stale"),
    negative = duration(opts, "negative"), timeout = duration(opts, "timeout"),
    jitter = opts.jitter or 0,
    counts = { shared_hits = 0, redis_hits = 0, misses = 0,
      stale = 0, loads = 0, errors = 0, waits = 0, not_shared = 0,
      degraded = 0 },
  }
  self.stale_if_error = opts.stale_if_error and duration(opts, "stale_if_error")
    or self.stale
  self.longest_stale = math.max(self.stale, self.stale_if_error)
  count_requests(self)
  self.get = get_of(self)
  if wanted.redis then
    self.remote = open_remote(self, opts, config, size)
  end
  return setmetatable(self, cache)
end

local made = {}

--- The cache of that name: one for all workers of the host.
---@param name string
---@param opts perigee.CacheOptions?
---@return perigee.Cache
function M.new(name, opts)
  if made[name] and (opts == nil or options.same(made[name].opts, opts)) then
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
