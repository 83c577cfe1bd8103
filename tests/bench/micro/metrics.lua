local bench = require "bench"
local metrics = require "perigee.metrics"

local ROUTES = {}
for i = 0, 15 do
  ROUTES[i] = "/r" .. i
end

local labels = { "method", "route" }
local hits = metrics.counter { name = "hits_total", labels = labels }
local took = metrics.histogram { name = "took_seconds", labels = labels }
local wide = metrics.histogram { name = "wide_seconds", labels = labels,
  exponential = true }

local function bound(metric)
  local list = {}
  for i = 0, 15 do
    list[i] = metric:with("GET", ROUTES[i])
  end
  return list
end

local counters, histograms, native = bound(hits), bound(took), bound(wide)
local band = require("bit").band

bench("inc, bound", 1e8, function(n)
  for i = 1, n do counters[band(i, 15)]:inc() end
end)
bench("inc, labels looked up", 2e7, function(n)
  for i = 1, n do hits:inc(1, "GET", ROUTES[band(i, 15)]) end
end)
bench("observe, bound", 5e7, function(n)
  for i = 1, n do histograms[band(i, 15)]:observe(band(i, 1023) / 400) end
end)
bench("observe, labels looked up", 2e7, function(n)
  for i = 1, n do
    took:observe(band(i, 1023) / 400, "GET", ROUTES[band(i, 15)])
  end
end)
bench("observe, native", 1e7, function(n)
  for i = 1, n do native[band(i, 15)]:observe(band(i, 1023) / 400) end
end)
