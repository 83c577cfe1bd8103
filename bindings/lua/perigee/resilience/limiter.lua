--- Rate limits, for a worker or for all of a host.

local core = require "perigee.core.shared"
local errors = require "perigee.error"
local ffi = require "ffi"
local host = require "perigee.host"
local outcome = require "perigee.resilience.outcome"
local shared = require "perigee.shared"
local units = require "perigee.units"

local M = {}

local KNOWN = { rate = true, per = true, burst = true, scope = true,
  window = true }
local SHARED_BYTES = 16 * 1024 * 1024
local WORKER_BYTES = 2 * 1024 * 1024

local signature = "double (*)(peri_dict *, const char *, size_t, double, "
  .. "double, double)"
local c_bucket = ffi.cast(signature, core.ffi.bucket)
local c_window = ffi.cast(signature, core.ffi.window)

---@class perigee.Limiter
---@field name string
local limiter = {}
limiter.__index = limiter

local function refusal(self, wait_ms)
  local err = errors.new("limited", "%s: the limit is reached", self.name)
  err.retry_after_ms = wait_ms
  return err
end

--- Takes one (or count) from what the key has left.
---@param key string|number|nil # whose limit; without, there is one for all
---@param count number?
---@return true? ok
---@return perigee.Error? err # kind "limited", with retry_after_ms
function limiter:take(key, count)
  local full = self.prefix .. (key == nil and "" or key)
  local wait_ms
  if self.window then
    wait_ms = c_window(self.c, full, #full, self.rate, self.per_ms, count or 1)
  else
    wait_ms = c_bucket(self.c, full, #full, self.interval_us, self.burst,
      count or 1)
  end
  if wait_ms == 0 then
    return true
  elseif wait_ms > 0 then
    return nil, refusal(self, wait_ms)
  end
  return nil, errors.new("too_large", "%s: the key is too long", self.name)
end

local function dict_for(scope)
  if scope == "shared" then
    return shared.internal("limits", SHARED_BYTES)
  elseif scope == "worker" then
    return shared.internal("limits:" .. host.worker, WORKER_BYTES)
  elseif scope == "redis" then
    error("limiter: the scope \"redis\" is not there yet; "
      .. "\"shared\" holds for all workers of a host", 4)
  end
  error("limiter: scope must be \"worker\", \"shared\" or \"redis\"", 4)
end

local function positive(value, what)
  if type(value) ~= "number" or value <= 0 or value ~= value then
    error(("limiter: %s must be a positive number"):format(what), 4)
  end
  return value
end

---@param name string
---@param opts table
---@return perigee.Limiter
function M.new(name, opts)
  outcome.check_name(name, "limiter")
  outcome.check_options(opts, KNOWN, "limiter")
  local per_ms, why = units.duration(opts.per or "1s")
  if not per_ms or per_ms < 1 then
    error("limiter: per: " .. (why or "at least a millisecond"), 3)
  end
  local rate = positive(opts.rate, "rate")
  local d = dict_for(opts.scope or "shared")
  return setmetatable({
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
end

return M
