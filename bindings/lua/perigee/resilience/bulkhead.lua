--- Bulkheads: so many calls at once in a worker, so many that wait, no more.

local errors = require "perigee.error"
local metrics = require "perigee.metrics"
local options = require "perigee.options"
local outcome = require "perigee.resilience.outcome"
local task = require "perigee.task"

local pcall = pcall

local M = {}

local KNOWN = { concurrency = true, queue = true }

---@class perigee.Bulkhead
---@field name string
---@field active integer
---@field waiting integer
---@field refused integer
local bulkhead = {}
bulkhead.__index = bulkhead

local function leave(self, ok, ...)
  self.active = self.active - 1
  self.active_cell[0] = self.active
  self.slots:release()
  return outcome.values(ok, ...)
end

local function refuse(self)
  self.refused = self.refused + 1
  self.refusals:inc()
  local err = errors.new("unavailable", "%s: %d calls run and %d wait already",
    self.name, self.active, self.waiting)
  err.code = "bulkhead_full"
  return err
end

-- Waits for a slot; the wait may end by a cancel or a deadline.
local function wait(self)
  self.waiting = self.waiting + 1
  self.waiting_cell[0] = self.waiting
  local ok, got, err = pcall(self.slots.acquire, self.slots)
  self.waiting = self.waiting - 1
  self.waiting_cell[0] = self.waiting
  if not ok then
    error(got, 0)
  end
  return got, err
end

--- Calls fn(...) when there is a slot; waits for one if the queue has room.
---@param fn fun(...): ...
---@param ... any
---@return ... # nil, err: kind "unavailable" and code "bulkhead_full" when refused
function bulkhead:call(fn, ...)
  if self.active + self.waiting >= self.concurrency then
    if self.waiting >= self.queue then
      return nil, refuse(self)
    end
    local ok, err = wait(self)
    if not ok then
      return nil, err
    end
  else
    self.slots:acquire() -- there is one: it does not wait
  end
  self.active = self.active + 1
  self.active_cell[0] = self.active
  return leave(self, pcall(fn, ...))
end

local made = {}

local function count_calls(self)
  local calls = metrics.own.gauge {
    name = "perigee_bulkhead_calls", labels = { "bulkhead", "state" },
    help = "Calls that run in a bulkhead, or wait for a place.",
  }
  self.active_cell = calls:with(self.name, "active").cells
  self.waiting_cell = calls:with(self.name, "waiting").cells
  self.refusals = metrics.own.counter({
    name = "perigee_bulkhead_refused_total", labels = { "bulkhead" },
    help = "Calls that a bulkhead refused.",
  }):with(self.name)
end

---@param name string
---@param opts table?
---@return perigee.Bulkhead
function M.new(name, opts)
  outcome.check_name(name, "bulkhead")
  if made[name] and (opts == nil or options.same(made[name].opts, opts)) then
    return made[name]
  end
  opts = opts or {}
  options.check(opts, KNOWN, "bulkhead")
  local concurrency = options.number(opts.concurrency or 10, 1,
    "bulkhead: concurrency")
  local queue = options.number(opts.queue or 0, 0, "bulkhead: queue")
  made[name] = setmetatable({
    name = name, opts = opts, concurrency = concurrency, queue = queue,
    active = 0, waiting = 0, refused = 0, slots = task.semaphore(concurrency),
  }, bulkhead)
  count_calls(made[name])
  return made[name]
end

--- Those that this worker has made, by name.
function M.all()
  return made
end

return M
