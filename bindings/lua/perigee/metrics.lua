--- Metrics: counters, gauges and histograms of all workers of a host.
---
--- A bound metric holds the address of this worker's own cells in shared memory;
--- counting is an addition that LuaJIT compiles. Nobody else writes there.

local classes = require "perigee.metrics_bound"
local core = require "perigee.core.metrics"
local declaration = require "perigee.metrics.declaration"
local errors = require "perigee.error"
local ffi = require "ffi"

local M = {}

local COUNTER, GAUGE, HISTOGRAM = 0, 1, 2 -- as peri_cells_type
local CACHE_MAX = 10000 -- label values whose cells are remembered, a metric
local double_pointer = ffi.typeof "double *"
---@class perigee.MetricOptions
---@field name string      # letters, digits, _ and :
---@field help string?
---@field labels string[]? # their names, 16 at most

---@class perigee.GaugeOptions: perigee.MetricOptions
---@field merge ("sum"|"min"|"max"|"last")? # of several workers' values; sum

---@class perigee.HistogramOptions: perigee.MetricOptions
---@field buckets number[]? # upper bounds, rising, 64 at most
---@field exponential (boolean|{max_buckets: integer?})? # a native histogram, too

-- ---- metrics ----

local function value_text(metric, i, value)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif kind == "number" or kind == "boolean" then
    return tostring(value)
  end
  error(("%s: the label %s is %s"):format(metric.name, metric.labels[i],
    value == nil and "missing" or "a " .. kind), 0)
end

-- Binds to as many values as there are labels, without the cache.
local function bind(metric, values)
  local texts = {}
  for i = 1, #metric.labels do
    texts[i] = value_text(metric, i, values[i])
  end
  local address, overflow = core.series(metric.number, metric.name,
    unpack(texts, 1, #metric.labels))
  local bound = setmetatable({
    cells = ffi.cast(double_pointer, address),
    bounds = metric.bounds,
    count = metric.bound_count,
    exponential = metric.exponential,
  }, metric.bound_class)
  return bound, overflow
end

-- One step of the cache: tables by value, the last holds what is bound.
local function find(metric, ...)
  local at = metric.cache
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    at = value ~= nil and at[value] or nil
    if at == nil then
      return nil
    end
  end
  return at
end

local function remember(metric, bound, values, count)
  if metric.cached >= CACHE_MAX then
    metric.cache, metric.cached = {}, 0
  end
  metric.cached = metric.cached + 1
  local at = metric.cache
  for i = 1, count do
    local value = values[i]
    if value ~= value then
      return -- NaN cannot be a key
    end
    at[value] = i < count and (at[value] or {}) or bound
    at = at[value]
  end
end

-- How many label values were given: nil at the end is none.
local function given(...)
  local count = select("#", ...)
  while count > 0 and (select(count, ...)) == nil do
    count = count - 1
  end
  return count
end

local function lookup(metric, ...)
  local count = #metric.labels
  local here = given(...)
  if here ~= count then
    error(("%s has %d labels, not %d"):format(metric.name, count, here), 3)
  end
  local values = { ... }
  local ok, bound, overflow = pcall(bind, metric, values)
  if not ok then
    error(bound, 3)
  end
  if not overflow and count > 0 then
    remember(metric, bound, values, count)
  end
  return bound
end

local function series(metric, a, b, ...)
  local count = metric.label_count
  local bound
  if count == 0 and a == nil then
    return metric.only
  elseif count == 1 and a ~= nil and b == nil then
    bound = metric.cache[a]
  elseif count == 2 and a ~= nil and b ~= nil and select("#", ...) == 0 then
    local at = metric.cache[a]
    bound = at and at[b]
  elseif count == 2 + select("#", ...) then
    bound = find(metric, a, b, ...)
  end
  if bound then
    return bound
  end
  return lookup(metric, a, b, ...) -- a tail call: errors name the caller
end

---@class perigee.Counter
---@field name string
local counter_metric = {}
counter_metric.__index = counter_metric

--- Binds label values, in the order of the labels. Keep what you get: counting
--- on it costs a nanosecond.
---@param ... string|number|boolean
---@return perigee.BoundCounter
function counter_metric:with(...)
  local bound = series(self, ...) -- no tail call: errors name the caller
  return bound
end

--- Adds n to the series with these label values.
---@param n number? # 1
---@param ... string|number|boolean
function counter_metric:inc(n, ...)
  return series(self, ...):inc(n)
end

--- The same as inc.
---@param n number?
---@param ... string|number|boolean
function counter_metric:add(n, ...)
  return series(self, ...):inc(n)
end

---@class perigee.Gauge
---@field name string
local gauge_metric = {}
gauge_metric.__index = gauge_metric

--- Binds label values, in the order of the labels.
---@param ... string|number|boolean
---@return perigee.BoundGauge
function gauge_metric:with(...)
  local bound = series(self, ...) -- no tail call: errors name the caller
  return bound
end

---@param value number
---@param ... string|number|boolean
function gauge_metric:set(value, ...)
  return series(self, ...):set(value)
end

---@param n number?
---@param ... string|number|boolean
function gauge_metric:inc(n, ...)
  return series(self, ...):inc(n)
end

---@param n number?
---@param ... string|number|boolean
function gauge_metric:add(n, ...)
  return series(self, ...):inc(n)
end

---@param n number?
---@param ... string|number|boolean
function gauge_metric:dec(n, ...)
  return series(self, ...):dec(n)
end

---@param fn fun(): any
---@param ... string|number|boolean
---@return any ...
function gauge_metric:time(fn, ...)
  return series(self, ...):time(fn)
end

---@class perigee.Histogram
---@field name string
local histogram_metric = {}
histogram_metric.__index = histogram_metric

--- Binds label values, in the order of the labels.
---@param ... string|number|boolean
---@return perigee.BoundHistogram
function histogram_metric:with(...)
  local bound = series(self, ...) -- no tail call: errors name the caller
  return bound
end

---@param value number
---@param ... string|number|boolean
function histogram_metric:observe(value, ...)
  return series(self, ...):observe(value)
end

--- Calls fn, which may wait, and counts the seconds that it took.
---@param fn fun(): any
---@param ... string|number|boolean
---@return any ...
function histogram_metric:time(fn, ...)
  return series(self, ...):time(fn)
end

-- ---- declarations ----

local KINDS = {
  counter = { type = COUNTER, class = counter_metric, bound = classes.counter },
  gauge = { type = GAUGE, class = gauge_metric, bound = classes.gauge },
  histogram = {
    type = HISTOGRAM, class = histogram_metric, bound = classes.histogram,
  },
}

local declared = {} -- name without _total -> metric
local samples = {} -- name of a sample, in any form -> metric that shows it

-- By what names the samples of a metric go.
local function sample_names(kind, name)
  if kind == "gauge" then
    return { name }
  elseif kind == "counter" then
    local base = name:gsub("_total$", "")
    return { name, base .. "_total", base .. "_created" }
  end
  return { name, name .. "_bucket", name .. "_sum", name .. "_count",
    name .. "_created" }
end

-- Two metrics with samples of one name are no text that a scraper can read.
local function check_samples(kind, name)
  for _, sample in ipairs(sample_names(kind, name)) do
    if samples[sample] then
      error(("%s and %s would both show %s"):format(name,
        samples[sample].name, sample), 0)
    end
  end
end

local function make(kind, options)
  local what = KINDS[kind]
  local buckets = declaration.buckets(kind, options)
  local labels = { unpack(options.labels or {}) }
  local number, err = core.declare(options.name, options.help or options.name,
    what.type, declaration.merge(options), labels, buckets,
    declaration.exponential(kind, options))
  if not number then
    error(err, 0)
  end
  local metric = setmetatable({
    name = options.name,
    number = number,
    labels = labels,
    label_count = #labels,
    cache = {},
    cached = 0,
    bounds = ffi.new("double[?]", #buckets, buckets),
    bound_count = #buckets,
    exponential = declaration.exponential(kind, options),
    bound_class = options.merge == "last" and classes.last_gauge or what.bound,
    form = declaration.form(kind, options),
  }, what.class)
  if #labels == 0 then
    metric.only = bind(metric, {}) -- there from now on, with 0
  end
  return metric
end

local function declare(kind, options, own)
  declaration.check(kind, options, own)
  local base = options.name:gsub("_total$", "")
  local old = declared[base]
  if not old then
    check_samples(kind, options.name)
    local metric = make(kind, options)
    declared[base] = metric
    for _, sample in ipairs(sample_names(kind, options.name)) do
      samples[sample] = metric
    end
    return metric
  end
  if old.name ~= options.name
    or old.form ~= declaration.form(kind, options) then
    error(("the metric %s is declared already, differently")
      :format(old.name), 0)
  end
  return old
end

local function declare_or_raise(kind, options, own)
  -- Called as a tail call: level 2 is whoever declares.
  local ok, metric = pcall(declare, kind, options, own)
  if not ok then
    error(errors.is(metric) and metric or "metrics: " .. metric, 2)
  end
  return metric
end

--- Declares what only ever grows. The same declaration a second time gives the
--- same metric, another one of that name raises. End its name with `_total`.
---@param options perigee.MetricOptions
---@return perigee.Counter
function M.counter(options)
  return declare_or_raise("counter", options)
end

--- Declares what goes up and down. Each worker has a value; merge says what the
--- workers that live show together.
---@param options perigee.GaugeOptions
---@return perigee.Gauge
function M.gauge(options)
  return declare_or_raise("gauge", options)
end

--- Declares a distribution, counted in buckets; of durations in seconds unless
--- told. With `exponential` it is also counted in up to 160 buckets that follow
--- the values, for who takes native histograms.
---@param options perigee.HistogramOptions
---@return perigee.Histogram
function M.histogram(options)
  return declare_or_raise("histogram", options)
end

--- What has been counted, as a scrape would show it, without what the master
--- knows. For tests.
---@param openmetrics boolean? # OpenMetrics 1.0, not Prometheus 0.0.4
---@return string
function M.text(openmetrics)
  return core.text(openmetrics or false)
end

-- For the library's own modules: names that applications cannot take.
M.own = {}
for kind in pairs(KINDS) do
  M.own[kind] = function(options)
    return declare_or_raise(kind, options, true)
  end
end

return M
