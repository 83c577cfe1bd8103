--- A clock that stands still until it is told to move.

local core = require "perigee.core.test"
local inside = require "perigee.test.inside"
local scope = require "perigee.test.scope"
local task = require "perigee.task"
local units = require "perigee.units"

local STEPS_MAX = 100000
local NS_PER_MS = 1e6
local TURNS = 20 -- for tasks that were woken to come to their next wait

---@class perigee.test.Clock
local Clock = {}
Clock.__index = Clock

local M = {}

-- This VM's clock, and those of the applications inside this process.
local function each(name, ...)
  core[name](...)
  for _, host in ipairs(inside.hosts()) do
    host[name](host, ...)
  end
end

local function next_due()
  local due = core.due()
  for _, host in ipairs(inside.hosts()) do
    local other = host:due()
    if other and (not due or other < due) then
      due = other
    end
  end
  return due
end

local function settle()
  for _ = 1, TURNS do
    task.yield()
  end
end

--- Lets so much time pass at once. Whatever is due meanwhile happens, each at
--- its time, before this returns.
---@param duration string|number
function Clock:advance(duration)
  local duration_ms, why = units.duration(duration)
  if not duration_ms then
    error(why, 2)
  end
  -- In whole nanoseconds, as timers have it: of fractions a rest would be left,
  -- and what is due at the very end would not happen.
  local left = math.floor(duration_ms * NS_PER_MS)
  settle()
  for _ = 1, STEPS_MAX do
    local due = next_due()
    if not due or due > left then
      each("advance", left)
      return settle()
    end
    each("advance", due)
    left = left - due
    settle()
  end
  error("the clock does not come forward: something waits for no time", 2)
end

--- Lets time run again. Happens by itself at the end of the test.
function Clock:thaw()
  if self.frozen then
    self.frozen = false
    inside.freeze_new(false)
    each "thaw"
  end
end

---@return perigee.test.Clock
function M.freeze()
  local clock = setmetatable({ frozen = true }, Clock)
  inside.freeze_new(true)
  each "freeze"
  scope.add(function()
    clock:thaw()
  end)
  return clock
end

return M
