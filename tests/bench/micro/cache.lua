local bench = require "bench"
local cache = require "perigee.cache"

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

-- As in a module that has been loaded: upvalues of a chunk that still runs are
-- looked up anew each time.
local function gets(c, list, loader)
  return function(n)
    for i = 1, n do c:get(list[i % 16 + 1], loader) end
  end
end

local function same(key)
  local list = {}
  for i = 1, 16 do
    list[i] = key
  end
  return list
end

bench("hit in the worker", 3e6, gets(near, keys, load))
bench("hit in the worker, 2 tags", 3e6, gets(near, same "tagged", load))
bench("hit in shared memory", 1e6, gets(far, same "k", load))
bench("set", 1e6, function(n)
  for _ = 1, n do near:set("s", value) end
end)
