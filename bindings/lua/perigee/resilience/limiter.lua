--- Rate limits, for a worker, for all of a host, or for hosts that share Redis.

local core = require "perigee.core.shared"
local errors = require "perigee.error"
local ffi = require "ffi"
local host = require "perigee.host"
local metrics = require "perigee.metrics"
local options = require "perigee.options"
local outcome = require "perigee.resilience.outcome"
local shared = require "perigee.shared"
local units = require "perigee.units"

local M = {}

local blame = options.blame

local KNOWN = { rate = true, per = true, burst = true, scope = true,
  window = true, redis = true, timeout = true, when_away = true }
local WHEN_AWAY = { host = true, allow = true, refuse = true }
local SHARED_BYTES = 16 * 1024 * 1024
local WORKER_BYTES = 2 * 1024 * 1024

local signature = "double (*)(peri_dict *, const char *, size_t, double, "
  .. "double, double)"
local c_bucket = ffi.cast(signature, core.ffi.bucket)
local c_window = ffi.cast(signature, core.ffi.window)

---@class perigee.Limiter
---@field name string
---@field remote perigee.RemoteLimit?
local limiter = {}
limiter.__index = limiter

local function positive(value, what)
  if type(value) ~= "number" or not (value > 0 and value < math.huge) then
    blame(("limiter: %s must be a positive number"):format(what))
  end
  return value
end

local function refusal(self, wait_ms)
  local err = errors.new("limited", "%s: the limit is reached", self.name)
  err.retry_after_ms = wait_ms
  return err
end

local function take_here(self, key, count)
  local full = self.prefix .. key
  if self.window then
    return c_window(self.c, full, #full, self.rate, self.per_ms, count)
  end
  return c_bucket(self.c, full, #full, self.interval_us, self.burst, count)
end

-- Redis cannot be asked: by the option, the host's own limit unless told.
local function take_alone(self, key, count, err)
  self.away:inc()
  if self.when_away == "allow" then
    return 0
  elseif self.when_away == "refuse" then
    local refused = errors.new("unavailable", "%s: %s", self.name, err.message)
    refused.code, refused.cause = err.code, err
    refused.retry_after_ms = err.retry_after_ms
    return nil, refused
  end
  return take_here(self, key, count)
end

local function take_remote(self, key, count)
  local wait_ms, err = self.remote:take(tostring(key), count)
  if wait_ms == nil then
    return take_alone(self, key, count, err)
  end
  return wait_ms
end

--- Takes one (or count) from what the key has left.
---@param key string|number|nil # whose limit; without, there is one for all
---@param count number?
---@return true? ok
---@return perigee.Error? err # kind "limited", with retry_after_ms
function limiter:take(key, count)
  if key == nil then
    key = ""
  elseif type(key) ~= "string" and type(key) ~= "number" then
    blame("limiter: a key must be a string, not a " .. type(key))
  end
  count = count == nil and 1 or positive(count, "the count")
  local wait_ms, err
  if self.remote then
    wait_ms, err = take_remote(self, key, count)
    if not wait_ms then
      return nil, err
    end
  else
    wait_ms = take_here(self, key, count)
  end
  if wait_ms == 0 then
    local cells = self.allowed
    cells[0] = cells[0] + 1
    return true
  elseif wait_ms > 0 then
    self.limited:inc()
    return nil, refusal(self, wait_ms)
  end
  return nil, errors.new("too_large", "%s: the key is too long", self.name)
end

local function dict_for(scope)
  if scope == "shared" or scope == "redis" then
    return shared.internal("limits", SHARED_BYTES)
  elseif scope == "worker" then
    return shared.internal("limits:" .. host.worker, WORKER_BYTES)
  end
  blame("limiter: scope must be \"worker\", \"shared\" or \"redis\"")
end

local function duration(value, what)
  local ms, why = units.duration(value)
  if not ms or ms < 1 then
    blame(("limiter: %s: %s"):format(what, why or "at least a millisecond"))
  end
  return ms
end

local function add_remote(self, opts)
  local timeout_ms = duration(opts.timeout or "250ms", "timeout")
  self.when_away = opts.when_away or "host"
  if not WHEN_AWAY[self.when_away] then
    blame("limiter: when_away must be \"host\", \"allow\" or \"refuse\"")
  end
  self.remote = require("perigee.resilience.remote_limit").new(self,
    opts.redis or "main", timeout_ms)
end

local function count_takes(self)
  local takes = metrics.own.counter {
    name = "perigee_limiter_requests_total",
    help = "What limiters allowed and refused, or decided without Redis.",
    labels = { "limiter", "result" },
  }
  self.allowed = takes:with(self.name, "allowed").cells
  self.limited = takes:with(self.name, "limited")
  self.away = takes:with(self.name, "redis_away")
end

---@param name string
---@param opts table
---@return perigee.Limiter
function M.new(name, opts)
  outcome.check_name(name, "limiter")
  options.check(opts, KNOWN, "limiter")
  options.is(opts.window, "boolean", "limiter: window")
  local per_ms = duration(opts.per or "1s", "per")
  local rate = positive(opts.rate, "rate")
  local d = dict_for(opts.scope or "shared")
  local self = setmetatable({
    name = name,
    prefix = name .. "\0",
    dict = d,
    c = d.c,
    rate = rate,
    per_ms = per_ms,
    interval_us = per_ms * 1000 / rate,
    burst = math.max(1, positive(opts.burst or rate, "burst")),
    window = opts.window == true,
  }, limiter)
  if opts.scope == "redis" then
    add_remote(self, opts)
  end
  count_takes(self)
  return self
end

return M
