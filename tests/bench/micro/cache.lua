local cache = require "perigee.cache"

local clock = os.clock

local function bench(name, count, fn)
  fn(count / 10)
  local best = math.huge
  for _ = 1, 5 do
    local begun = clock()
    fn(count)
    best = math.min(best, clock() - begun)
  end
  print(("%-28s %7.1f ns  %7.2f M/s"):format(name, best / count * 1e9,
    count / best / 1e6))
end

local near = cache.new("bench-near", { ttl = "1h" })
local far = cache.new("bench-far", { ttl = "1h", levels = { "shared" } })
local value = { id = 1, name = "abc", tags = { "a", "b" }, ok = true }
near:set("k", value)
near:set("tagged", value, { tags = { "a", "b" } })
far:set("k", value)
local function load()
  return value
end

local keys = {}
for i = 1, 16 do
  keys[i] = "key:" .. i
  near:set(keys[i], value)
end
bench("hit in the worker", 3e6, function(n)
  for i = 1, n do near:get(keys[i % 16 + 1], load) end
end)
bench("hit in the worker, 2 tags", 3e6, function(n)
  for _ = 1, n do near:get("tagged", load) end
end)
bench("hit in shared memory", 1e6, function(n)
  for _ = 1, n do far:get("k", load) end
end)
bench("set", 1e6, function(n)
  for _ = 1, n do near:set("s", value) end
end)
