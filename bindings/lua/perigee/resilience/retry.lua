--- Trying again: exponential pauses with full jitter, within a budget.

local core = require "perigee.core.task"
local crypto = require "perigee.crypto"
local options = require "perigee.options"
local outcome = require "perigee.resilience.outcome"
local units = require "perigee.units"

local pcall = pcall

local M = {}

local blame = options.blame

local KNOWN = {
  attempts = true, base = true, max = true, jitter = true, retry_on = true,
  budget = true,
}

-- Retries of a worker, all in all: a share of its calls, and some that are
-- always there.
local SHARE = 0.2
local RESERVE = 100
local RESERVE_EACH_MS = 100
local TOKENS_MAX = 1000
local budget = { tokens = RESERVE, filled_ms = 0 }

local function may_retry()
  local now_ms = core.now()
  if budget.tokens < RESERVE then
    local gain = (now_ms - budget.filled_ms) / RESERVE_EACH_MS
    budget.tokens = math.min(RESERVE, budget.tokens + gain)
  end
  budget.filled_ms = now_ms
  if budget.tokens < 1 then
    return false
  end
  budget.tokens = budget.tokens - 1
  return true
end

local function by_default(err)
  return outcome.is_trouble(err) or err.kind == "limited"
end

local function by_list(list)
  local wanted = {}
  for _, kind in ipairs(list) do
    options.is(kind, "string", "retry: retry_on")
    wanted[kind] = true
  end
  return function(err)
    return wanted[err.kind] or wanted[err.code] or false
  end
end

local function duration(value, default, what)
  if value == nil then
    return default
  end
  local ms, why = units.duration(value)
  return ms or blame("retry: " .. what .. ": " .. why)
end

local function make_rules(opts)
  if type(opts) == "number" then
    opts = { attempts = opts }
  end
  options.check(opts, KNOWN, "retry")
  local attempts = options.number(opts.attempts or 3, 1, "retry: attempts")
  options.is(opts.jitter, "boolean", "retry: jitter")
  options.is(opts.budget, "boolean", "retry: budget")
  local on = opts.retry_on or by_default
  if type(on) == "table" then
    on = by_list(on)
  elseif type(on) ~= "function" then
    blame("retry: retry_on must be a list or a function")
  end
  return {
    attempts = attempts,
    base = duration(opts.base, 100, "base"),
    max = duration(opts.max, 10000, "max"),
    jitter = opts.jitter ~= false,
    retry_on = on,
    budget = opts.budget ~= false,
  }
end

local made = setmetatable({}, { __mode = "k" })
local made_numbers = {}

--- The rules that options stand for; raises when they are wrong.
---@param opts table|number|nil
---@return table
function M.rules(opts)
  opts = opts or 3
  local cache = type(opts) == "number" and made_numbers or made
  local rules = cache[opts]
  if not rules then
    rules = make_rules(opts)
    cache[opts] = rules
  end
  return rules
end

local function random()
  local a, b, c = crypto.random(3):byte(1, 3)
  return (a * 65536 + b * 256 + c) / 16777216
end

-- How long to wait before the next attempt; nil: not at all any more.
local function pause(rules, attempt, err)
  if attempt >= rules.attempts or not rules.retry_on(err, attempt) then
    return nil
  end
  local ms = math.min(rules.max, rules.base * 2 ^ (attempt - 1))
  if rules.jitter then
    ms = ms * random()
  end
  local after = err.retry_after_ms
  if type(after) == "number" and after > ms then
    if after > rules.max then
      return nil
    end
    ms = after
  end
  local left = core.remaining()
  if left and left <= ms then
    return nil
  end
  if rules.budget and not may_retry() then
    return nil
  end
  return ms
end

local again

local function look(rules, attempt, fn, args, ok, first, second, ...)
  if ok and (first or second == nil) then
    return first, second, ...
  end
  return again(rules, attempt, fn, args, ok, first, second, ...)
end

function again(rules, attempt, fn, args, ok, first, second, ...)
  local err = outcome.error_of(ok, first, second)
  local ms = pause(rules, attempt, err)
  if not ms then
    if ok then
      return first, second, ...
    end
    return nil, err
  end
  core.sleep(ms)
  return look(rules, attempt + 1, fn, args,
    pcall(fn, unpack(args, 1, args.n)))
end

local function first_look(rules, fn, a, b, ok, first, second, ...)
  if ok and (first or second == nil) then
    return first, second, ...
  end
  return again(rules, 1, fn, { a, b, n = 2 }, ok, first, second, ...)
end

local function deposit()
  if budget.tokens < TOKENS_MAX then
    budget.tokens = budget.tokens + SHARE
  end
end

--- Calls fn(...) as the rules say.
function M.run(rules, fn, a, b, ...)
  deposit()
  if select("#", ...) == 0 then
    return first_look(rules, fn, a, b, pcall(fn, a, b))
  end
  return look(rules, 1, fn, { n = select("#", ...) + 2, a, b, ... },
    pcall(fn, a, b, ...))
end

return M
