--- Loops in one request of nginx: what micro.mjs compares with. A line is a
--- name and nanoseconds.

local lrucache = require "resty.lrucache"

local ngx = ngx
local dict = ngx.shared.bench

local function bench(name, count, fn)
  fn(count / 10)
  local best = math.huge
  for _ = 1, 5 do
    ngx.update_time()
    local begun = ngx.now()
    fn(count)
    ngx.update_time()
    best = math.min(best, ngx.now() - begun)
  end
  ngx.say(("%-28s %7.1f ns"):format(name, best / count * 1e9))
end

return function()
  local lru = lrucache.new(1000)
  local keys = {}
  for i = 1, 16 do -- one alone would be hoisted out of the loop
    keys[i] = "key:" .. i
    lru:set(keys[i], { id = i, name = "abc" })
  end
  dict:set("string", "a small value")
  dict:set("number", 1)
  bench("dict get", 4e6, function(n)
    for _ = 1, n do dict:get "string" end
  end)
  bench("dict set", 4e6, function(n)
    for _ = 1, n do dict:set("string", "a small value") end
  end)
  bench("dict incr", 4e6, function(n)
    for _ = 1, n do dict:incr("number", 1) end
  end)
  bench("lrucache get", 1e7, function(n)
    for i = 1, n do lru:get(keys[i % 16 + 1]) end
  end)
end
