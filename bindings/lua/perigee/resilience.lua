--- What keeps a service standing while what it calls does not. A failure is
--- `nil, err` or a raise; a lone nil is a result.

local breaker = require "perigee.resilience.breaker"
local bulkhead = require "perigee.resilience.bulkhead"
local limiter = require "perigee.resilience.limiter"
local options = require "perigee.options"
local outcome = require "perigee.resilience.outcome"
local retry = require "perigee.resilience.retry"
local task = require "perigee.task"
local core = require "perigee.core.task"
local units = require "perigee.units"

local pcall = pcall

local HEDGE = { delay = true }

local M = {}

local blame = options.blame

---@class perigee.RetryOptions
---@field attempts integer?        # all in all; 3
---@field base string|number?      # the first pause, doubled each time; "100ms"
---@field max string|number?       # the longest pause; "10s"
---@field jitter boolean?          # a random part of the pause; true
---@field retry_on (string[]|fun(err: perigee.Error, attempt: integer): boolean)? # kinds or codes
---@field budget boolean?          # retries of a worker stay a fifth of its calls; true

--- Calls a function until it succeeds. Tried again are failures of the kinds
--- unavailable, timeout, limited and internal (what was raised), unless told;
--- never when the task's deadline would pass meanwhile.
---@param fn fun(): ...
---@param opts perigee.RetryOptions|integer|nil # a number: attempts
---@return ... # what it returned at last; what it raised is nil, err
function M.retry(fn, opts)
  outcome.check_function(fn, "retry")
  return retry.run(retry.rules(opts), fn)
end

---@class perigee.BreakerOptions
---@field failures integer?       # in the window: opens; 5, with a rate: none
---@field rate number?            # of failures, 0 to 1: opens
---@field min_calls integer?      # before the rate counts; 20
---@field window string|number?   # "10s"
---@field open string|number?     # how long it refuses before it probes; "5s"
---@field probes integer?         # that have to succeed to close it; 1
---@field counts (fun(err: perigee.Error): boolean)? # which failures count; kinds unavailable, timeout, internal

--- The circuit breaker of that name; all workers of a host share its state.
---@param name string
---@param opts perigee.BreakerOptions?
---@return perigee.Breaker
function M.breaker(name, opts)
  return breaker.new(name, opts)
end

--- The bulkhead of that name, in this worker.
---@param name string
---@param opts { concurrency: integer?, queue: integer? }? # 10 at once, none waits
---@return perigee.Bulkhead
function M.bulkhead(name, opts)
  return bulkhead.new(name, opts)
end

---@class perigee.LimiterOptions
---@field rate number              # so many
---@field per (string|number)?     # in that time; "1s"
---@field burst number?            # at once; as rate
---@field window boolean?          # a sliding window, without a burst
---@field scope ("worker"|"shared"|"redis")? # "shared": all workers of the host
---@field redis string?            # of the scope "redis": which redis.NAME; "main"
---@field timeout (string|number)? # of asking it; "250ms"
---@field when_away ("host"|"allow"|"refuse")? # when it cannot be asked; "host": this host's own limit

--- A rate limit: a token bucket, or a sliding window.
---@param name string
---@param opts perigee.LimiterOptions
---@return perigee.Limiter
function M.limiter(name, opts)
  return limiter.new(name, opts)
end

local function fall_back(other, ok, first, second, ...)
  if ok and (first or second == nil) then
    return first, second, ...
  end
  local err = outcome.error_of(ok, first, second)
  if type(other) == "function" then
    return outcome.values(pcall(other, err))
  end
  return other
end

--- Calls fn; when it fails, other(err), or the value other instead.
---@param fn fun(): ...
---@param other any
---@return ...
function M.fallback(fn, other)
  outcome.check_function(fn, "fallback")
  return fall_back(other, pcall(fn))
end

local function is_failure(first, second)
  return not first and second ~= nil
end

local function delayed(ms, state, fn)
  core.sleep(ms)
  state.second = true
  return fn()
end

local function run_hedge(fn, ms, handles)
  local group, state = core.group(), {}
  handles[1] = group:spawn(fn)
  handles[2] = group:spawn(delayed, ms, state, fn)
  group:wait()
  local function judge(first_of_all, ...)
    if not first_of_all or not is_failure(...) or not state.second then
      return ...
    end
    group:wait() -- the other may yet succeed
    return group:ended():join()
  end
  return judge(true, group:ended():join())
end

local function end_hedge(handles, ok, ...)
  for _, handle in pairs(handles) do
    handle:cancel "the other one was quicker"
  end
  if not ok then
    error((...), 0)
  end
  return ...
end

--- Calls fn, and a second time when there is no answer after a while; the first
--- answer counts, the other call is cancelled. Only for what may happen twice.
---@param fn fun(): ...
---@param opts { delay: (string|number)? }? # "100ms"
---@return ...
function M.hedge(fn, opts)
  outcome.check_function(fn, "hedge")
  if opts ~= nil then
    options.check(opts, HEDGE, "hedge")
  end
  local ms, why = units.duration(opts and opts.delay or "100ms")
  if not ms then
    blame("hedge: delay: " .. why)
  end
  local handles = {}
  return end_hedge(handles, pcall(run_hedge, fn, ms, handles))
end

---@class perigee.PolicyOptions
---@field name string?
---@field fallback any
---@field retry (perigee.RetryOptions|integer)?
---@field breaker (perigee.Breaker|perigee.BreakerOptions)?
---@field bulkhead (perigee.Bulkhead|table)?
---@field timeout (string|number)? # of each attempt

---@class perigee.Policy
local policy = {}
policy.__index = policy

local PARTS = { name = true, fallback = true, retry = true, breaker = true,
  bulkhead = true, timeout = true }

local function call(fn, ...)
  return fn(...)
end

-- An object as it is, or one made from options under the policy's name.
local function part(opts, key, make)
  local given = opts[key]
  if type(given) == "table" and given.call then
    return given
  elseif not opts.name then
    blame(("policy: options for a %s need the policy's name"):format(key))
  end
  return make(opts.name, given)
end

local function add_timeout(opts, inner)
  local ms, why = units.duration(opts.timeout)
  if not ms then
    blame("policy: timeout: " .. why)
  end
  return function(...)
    return task.with_deadline(ms, inner, ...)
  end
end

local function through(object, inner)
  return function(...)
    return object:call(inner, ...)
  end
end

--- Calls fn(...) through all parts of the policy.
---@param fn fun(...): ...
---@param ... any
---@return ...
function policy:call(fn, ...)
  outcome.check_function(fn, "policy")
  return self.run(fn, ...)
end

--- Several of these around each other; from the outside in: fallback, retry,
--- breaker, bulkhead, timeout.
---@param opts perigee.PolicyOptions
---@return perigee.Policy
function M.policy(opts)
  options.check(opts, PARTS, "policy")
  local run = call
  if opts.timeout then
    run = add_timeout(opts, run)
  end
  if opts.bulkhead then
    run = through(part(opts, "bulkhead", bulkhead.new), run)
  end
  if opts.breaker then
    run = through(part(opts, "breaker", breaker.new), run)
  end
  if opts.retry then
    local rules, inner = retry.rules(opts.retry), run
    run = function(...)
      return retry.run(rules, inner, ...)
    end
  end
  if opts.fallback ~= nil then
    local other, inner = opts.fallback, run
    run = function(...)
      return fall_back(other, pcall(inner, ...))
    end
  end
  return setmetatable({ run = run }, policy)
end

--- What this worker's breakers and bulkheads are at, by name.
---@return { breakers: table<string, table>, bulkheads: table<string, table> }
function M.states()
  local states = { breakers = {}, bulkheads = {} }
  for name, b in pairs(breaker.all()) do
    states.breakers[name] = b:stats()
  end
  for name, b in pairs(bulkhead.all()) do
    states.bulkheads[name] =
      { active = b.active, waiting = b.waiting, refused = b.refused }
  end
  return states
end

return M
