local bench = require "bench"
local resilience = require "perigee.resilience"

local function work(x)
  return x
end

local b = resilience.breaker "bench"
local rated = resilience.breaker("rated", { rate = 0.5 })
local slots = resilience.bulkhead("bench", { concurrency = 10 })
local l = resilience.limiter("bench", { rate = 1e12 })
local p = resilience.policy { name = "bench", retry = 3, breaker = {},
  fallback = 1 }

bench("retry without a failure", 1e7, function(n)
  for _ = 1, n do resilience.retry(work, 3) end
end)
bench("breaker, closed", 1e7, function(n)
  for i = 1, n do b:call(work, i) end
end)
bench("breaker, closed, by rate", 1e7, function(n)
  for i = 1, n do rated:call(work, i) end
end)
bench("bulkhead, free", 1e6, function(n)
  for i = 1, n do slots:call(work, i) end
end)
bench("limiter, shared", 1e6, function(n)
  for _ = 1, n do l:take "key" end
end)
bench("policy: three parts", 1e6, function(n)
  for i = 1, n do p:call(work, i) end
end)
b:open()
bench("breaker, open", 1e6, function(n)
  for i = 1, n do b:call(work, i) end
end)
