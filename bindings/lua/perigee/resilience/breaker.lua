--- Circuit breakers, one state for all workers.

local core = require "perigee.core.breaker"
local errors = require "perigee.error"
local ffi = require "ffi"
local options = require "perigee.options"
local outcome = require "perigee.resilience.outcome"
local units = require "perigee.units"

local pcall = pcall

local M = {}

local blame = options.blame

local FAILED, SUCCEEDED, UNKNOWN = 0, 1, 2

local c_enter = ffi.cast("double (*)(void *)", core.enter)
local c_leave = ffi.cast("void (*)(void *, double, int)", core.leave)

local DEFAULTS = {
  failures = 5, rate = 0, min_calls = 20, window = "10s", open = "5s",
  probes = 1, counts = false,
}

---@class perigee.Breaker
---@field name string
local breaker = {}
breaker.__index = breaker

local function refusal(self, left_ms)
  local err = errors.new("unavailable", "%s: refused, the breaker is open",
    self.name)
  err.code = "breaker_open"
  err.retry_after_ms = left_ms
  return err
end

local function leave_failed(self, entered, ok, first, second, ...)
  local known, err = pcall(outcome.error_of, ok, first, second)
  if not known then
    c_leave(self.c, entered, UNKNOWN)
    error(err, 0)
  end
  local counted, bad = pcall(self.counts, err)
  c_leave(self.c, entered, (bad or not counted) and FAILED
    or outcome.is_own_refusal(err) and UNKNOWN or SUCCEEDED)
  if ok then
    return first, second, ...
  end
  return nil, err
end

local function leave(self, entered, ok, first, second, ...)
  if ok and (first or second == nil) then
    if entered == 1 or self.rated then
      c_leave(self.c, entered, SUCCEEDED)
    end
    return first, second, ...
  end
  return leave_failed(self, entered, ok, first, second, ...)
end

--- Calls fn(...) unless the breaker is open.
---@param fn fun(...): ...
---@param ... any
---@return ... # what it returns; nil, err: kind "unavailable" and code "breaker_open" when refused
function breaker:call(fn, ...)
  local entered = c_enter(self.c)
  if entered < 0 then
    return nil, refusal(self, -entered)
  end
  return leave(self, entered, pcall(fn, ...))
end

---@return "closed"|"open"|"half_open"
function breaker:state()
  return core.stats(self.handle).state
end

--- Its state, the failures in its window, and how often it opened and refused
--- in all workers.
---@return { state: string, failed: integer, succeeded: integer, opened: integer, refused: integer }
function breaker:stats()
  return core.stats(self.handle)
end

--- Opens it by hand, for its open time.
function breaker:open()
  core.force(self.handle, true)
end

--- Closes it by hand.
function breaker:close()
  core.force(self.handle, false)
end

local function duration(value, what)
  local ms, why = units.duration(value)
  return ms or blame(("breaker: %s: %s"):format(what, why))
end

local function number(value, what, least)
  return options.number(value, least, "breaker: " .. what)
end

local made = {}

--- The breaker of that name.
---@param name string
---@param opts table?
---@return perigee.Breaker
function M.new(name, opts)
  outcome.check_name(name, "breaker")
  if made[name] and (opts == nil or options.same(made[name].opts, opts)) then
    return made[name]
  end
  opts = opts or {}
  options.check(opts, DEFAULTS, "breaker")
  local function option(key)
    if opts[key] == nil then
      return DEFAULTS[key]
    end
    return opts[key]
  end
  local rate = number(option "rate", "rate", 0)
  if rate > 1 then
    blame("breaker: rate is a share, 0 to 1")
  elseif opts.counts then
    outcome.check_function(opts.counts, "breaker: counts")
  end
  local failures = opts.failures or (rate > 0 and 0 or DEFAULTS.failures)
  local handle, address = core.open("breaker:" .. name,
    number(failures, "failures", 0), rate,
    number(option "min_calls", "min_calls", 1),
    duration(option "window", "window"), duration(option "open", "open"),
    number(option "probes", "probes", 1))
  if not handle then
    blame(address)
  end
  made[name] = setmetatable({
    name = name,
    opts = opts,
    handle = handle,
    c = ffi.cast("void *", address),
    rated = rate > 0,
    counts = opts.counts or outcome.is_trouble,
  }, breaker)
  return made[name]
end

--- Those that this worker has made, by name.
function M.all()
  return made
end

return M
