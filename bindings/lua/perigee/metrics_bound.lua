--- Metrics: what counts. A bound metric holds the address of this worker's own
--- cells of one series; see perigee.metrics.

local core = require "perigee.core.metrics"
local ffi = require "ffi"
local time = require "perigee.time"

local M = {}

local c_set_last = ffi.cast("void (*)(double *, double)", core.set_last)
local c_observe = ffi.cast(
  "void (*)(double *, const double *, double, double, double)", core.observe)

local huge = math.huge

-- ---- bound metrics ----

---@class perigee.BoundCounter
local counter = {}
counter.__index = counter
M.counter = counter

--- Adds n, 1 unless given. A negative one raises.
---@param n number?
function counter:inc(n)
  local cells = self.cells
  if n == nil then
    cells[0] = cells[0] + 1
  elseif type(n) == "number" and n >= 0 and n < huge then
    cells[0] = cells[0] + n
  else
    error("a counter takes a number that is not negative", 2)
  end
end

--- The same as inc.
---@param n number?
function counter:add(n)
  return self:inc(n)
end

---@class perigee.BoundGauge
local gauge = {}
gauge.__index = gauge
M.gauge = gauge

-- The gauge whose latest value counts.
local last_gauge = {}
M.last_gauge = last_gauge

--- Sets the value; that of this worker, where several have one.
---@param value number
function gauge:set(value)
  if type(value) ~= "number" then
    error("a gauge takes a number", 2)
  end
  self.cells[0] = value
end

--- Adds n, 1 unless given; a negative one takes away.
---@param n number?
function gauge:inc(n)
  n = n or 1
  if type(n) ~= "number" then
    error("a gauge takes a number", 2)
  end
  local old = self.cells[0]
  self:set((old == old and old or 0) + n)
end

--- The same as inc.
---@param n number?
function gauge:add(n)
  return self:inc(n)
end

--- Takes n away, 1 unless given.
---@param n number?
function gauge:dec(n)
  return self:inc(-(n or 1))
end

for name, method in pairs(gauge) do
  last_gauge[name] = method
end
last_gauge.__index = last_gauge

function last_gauge:set(value)
  if type(value) ~= "number" then
    error("a gauge takes a number", 2)
  end
  c_set_last(self.cells, value)
end

---@class perigee.BoundHistogram
local histogram = {}
histogram.__index = histogram
M.histogram = histogram

--- Counts a value. NaN raises.
---@param value number
function histogram:observe(value)
  if type(value) ~= "number" or value ~= value then
    error("a histogram takes a number", 2)
  end
  c_observe(self.cells, self.bounds, self.count, self.exponential, value)
end

local function since(started_ms)
  return (time.monotonic() - started_ms) / 1000
end

-- The results of fn, after `record` has been told how long it took.
local function timed(record, started_ms, ok, ...)
  record(since(started_ms))
  if not ok then
    error((...), 0)
  end
  return ...
end

--- Calls fn, which may wait, and counts the seconds that it took; gives what fn
--- gave, and raises what it raised.
---@param fn fun(...): any
---@param ... any # for fn
---@return any ...
function histogram:time(fn, ...)
  return timed(function(seconds) self:observe(seconds) end, time.monotonic(),
    pcall(fn, ...))
end

--- Calls fn, which may wait, and sets the gauge to the seconds that it took.
---@param fn fun(...): any
---@param ... any # for fn
---@return any ...
function gauge:time(fn, ...)
  return timed(function(seconds) self:set(seconds) end, time.monotonic(),
    pcall(fn, ...))
end
last_gauge.time = gauge.time

return M
