--- Metrics: counters, gauges and histograms of all workers of a host.
---
--- A bound metric holds the address of this worker's own cells in shared memory;
--- counting is an addition that LuaJIT compiles. Nobody else writes there.

local core = require "perigee.core.metrics"
local config = require "perigee.config"
local errors = require "perigee.error"
local ffi = require "ffi"
local time = require "perigee.time"

local M = {}

local COUNTER, GAUGE, HISTOGRAM = 0, 1, 2 -- as peri_cells_type
local MERGE = { sum = 0, min = 1, max = 2, last = 3 } -- as peri_cells_merge
local CACHE_MAX = 10000 -- label values whose cells are remembered, a metric
local DEFAULT_BUCKETS = {
  0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
}
local RESERVED = {
  "^perigee_", "^process_", "^http_server_", "^http_client_",
  "^db_client_", "^messaging_",
}
local COMPAT_RESERVED = { "^nodejs_", "^http_request_duration_seconds" }

local function default_exponential()
  local settings = config.metrics
  return settings and settings.exponential or false
end

local double_pointer = ffi.typeof "double *"
local c_set_last = ffi.cast("void (*)(double *, double)", core.set_last)
local c_observe = ffi.cast(
  "void (*)(double *, const double *, double, double, double)", core.observe)

local huge = math.huge

---@class perigee.MetricOptions
---@field name string      # letters, digits, _ and :
---@field help string?
---@field labels string[]? # their names, 16 at most

---@class perigee.GaugeOptions: perigee.MetricOptions
---@field merge ("sum"|"min"|"max"|"last")? # of several workers' values; sum

---@class perigee.HistogramOptions: perigee.MetricOptions
---@field buckets number[]? # upper bounds, rising, 64 at most
---@field exponential (boolean|{max_buckets: integer?})? # a native histogram, too

-- ---- bound metrics ----

---@class perigee.BoundCounter
local counter = {}
counter.__index = counter

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

-- The gauge whose latest value counts.
local last_gauge = {}

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
  counter = { type = COUNTER, class = counter_metric, bound = counter },
  gauge = { type = GAUGE, class = gauge_metric, bound = gauge },
  histogram = {
    type = HISTOGRAM, class = histogram_metric, bound = histogram,
  },
}

local OPTIONS = {
  counter = { name = true, help = true, labels = true },
  gauge = { name = true, help = true, labels = true, merge = true },
  histogram = { name = true, help = true, labels = true, buckets = true,
    exponential = true },
}

local function check_name(name)
  if type(name) ~= "string" or not name:find "^[%a_:][%w_:]*$" then
    error(("%q is no name of a metric: letters, digits, _ and :")
      :format(tostring(name)), 0)
  elseif #name > core.name_max then
    error(("the name %s is over %d bytes"):format(name, core.name_max), 0)
  end
end

local function check_reserved(name)
  for _, pattern in ipairs(RESERVED) do
    if name:find(pattern) then
      error(("the name %s is the host's own"):format(name), 0)
    end
  end
  local compat = (config.metrics or {}).compat == "prom-client"
  for _, pattern in ipairs(compat and COMPAT_RESERVED or {}) do
    if name:find(pattern) then
      error(("the name %s is the host's own, by metrics.compat"):format(name),
        0)
    end
  end
end

local function is_list(value)
  local count = 0
  if type(value) ~= "table" then
    return false
  end
  for _ in pairs(value) do
    count = count + 1
  end
  return count == #value
end

local function check_labels(kind, labels)
  local seen = {}
  if not is_list(labels) or #labels > core.labels_max then
    error(("labels: a list of up to %d names expected")
      :format(core.labels_max), 0)
  end
  for _, label in ipairs(labels) do
    if type(label) ~= "string" or not label:find "^[%a_][%w_]*$"
      or label:find "^__" or #label > core.name_max then
      error(("%q is no name of a label"):format(tostring(label)), 0)
    elseif seen[label] or (kind == "histogram" and label == "le") then
      error(("the label %s is %s"):format(label,
        seen[label] and "there twice" or "the histogram's own"), 0)
    end
    seen[label] = true
  end
end

local function check_buckets(buckets)
  if type(buckets) ~= "table" or #buckets == 0
    or #buckets > core.bounds_max then
    error(("buckets: a list of 1 to %d numbers expected")
      :format(core.bounds_max), 0)
  end
  for i, bound in ipairs(buckets) do
    if type(bound) ~= "number" or bound ~= bound or bound == huge
      or bound == -huge or (i > 1 and bound <= buckets[i - 1]) then
      error("buckets: finite numbers that rise expected", 0)
    end
  end
end

-- How many exponential buckets a histogram has besides the others.
local function exponential_of(kind, options)
  local wanted = options.exponential
  if kind ~= "histogram" or wanted == false
    or wanted == nil and not default_exponential() then
    return 0
  end
  return type(wanted) == "table" and wanted.max_buckets or core.exponential
end

local function check_exponential(wanted)
  local max = type(wanted) == "table" and wanted.max_buckets
  if type(wanted) == "table" then
    for key in pairs(wanted) do
      if key ~= "max_buckets" then
        error(("exponential has no option %q"):format(tostring(key)), 0)
      end
    end
  elseif wanted ~= nil and type(wanted) ~= "boolean" then
    error("exponential: true, false or { max_buckets = n } expected", 0)
  end
  if max and (type(max) ~= "number" or max % 1 ~= 0
    or max < core.exponential_min or max > core.exponential_max) then
    error(("exponential: max_buckets is an integer from %d to %d")
      :format(core.exponential_min, core.exponential_max), 0)
  end
end

local function check(kind, options, own)
  if type(options) ~= "table" then
    error("a table expected: " .. kind .. "{ name = ... }", 0)
  end
  for key in pairs(options) do
    if not OPTIONS[kind][key] then
      error(("a %s has no option %q"):format(kind, tostring(key)), 0)
    end
  end
  check_name(options.name)
  if not own then
    check_reserved(options.name)
  end
  if options.help ~= nil and (type(options.help) ~= "string"
    or #options.help > core.help_max or options.help:find "%z") then
    error(("help: a text of up to %d bytes expected")
      :format(core.help_max), 0)
  end
  check_labels(kind, options.labels or {})
  if kind == "histogram" then
    check_buckets(options.buckets or DEFAULT_BUCKETS)
    check_exponential(options.exponential)
  elseif options.merge ~= nil and not MERGE[options.merge] then
    error('merge: "sum", "min", "max" or "last" expected', 0)
  end
end

-- What two declarations of a name must have in common.
local function form(kind, options)
  local buckets = kind == "histogram" and (options.buckets or DEFAULT_BUCKETS)
  return table.concat({
    kind, options.help or "", options.merge or "sum",
    table.concat(options.labels or {}, ","),
    buckets and table.concat(buckets, ",") or "",
    exponential_of(kind, options),
  }, "\n")
end

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
  local buckets = kind == "histogram" and (options.buckets or DEFAULT_BUCKETS)
    or {}
  local labels = { unpack(options.labels or {}) }
  local number, err = core.declare(options.name, options.help or options.name,
    what.type, MERGE[options.merge or "sum"], labels, buckets,
    exponential_of(kind, options))
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
    exponential = exponential_of(kind, options),
    bound_class = options.merge == "last" and last_gauge or what.bound,
    form = form(kind, options),
  }, what.class)
  if #labels == 0 then
    metric.only = bind(metric, {}) -- there from now on, with 0
  end
  return metric
end

local function declare(kind, options, own)
  check(kind, options, own)
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
  if old.name ~= options.name or old.form ~= form(kind, options) then
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
