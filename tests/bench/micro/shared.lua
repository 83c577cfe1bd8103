local bench = require "bench"
local shared = require "perigee.shared"

local d = shared.dict("bench", { size = "16mb" })
local KEYS = {}
for i = 1, 1000 do
  KEYS[i] = "key:" .. i
end

d:set("string", "a small value")
d:set("number", 1)
d:set("table", { id = 1, name = "abc", tags = { "a", "b" }, ok = true })
for i = 1, #KEYS do
  d:set(KEYS[i], "value " .. i)
end

bench("get string", 1e7, function(n)
  for _ = 1, n do d:get "string" end
end)
bench("get string, 1000 keys", 1e7, function(n)
  for i = 1, n do d:get(KEYS[i % 1000 + 1]) end
end)
bench("get number", 1e7, function(n)
  for _ = 1, n do d:get "number" end
end)
bench("get absent", 1e7, function(n)
  for _ = 1, n do d:get "absent" end
end)
bench("set string", 1e7, function(n)
  for _ = 1, n do d:set("string", "a small value") end
end)
bench("set string, 1000 keys", 1e7, function(n)
  for i = 1, n do d:set(KEYS[i % 1000 + 1], "a small value") end
end)
bench("set number", 1e7, function(n)
  for i = 1, n do d:set("number", i) end
end)
bench("set with a ttl", 1e7, function(n)
  for i = 1, n do d:set("ttl", i, 1000) end
end)
bench("incr", 1e7, function(n)
  for _ = 1, n do d:incr("number", 1) end
end)
bench("get small table", 1e6, function(n)
  for _ = 1, n do d:get "table" end
end)
