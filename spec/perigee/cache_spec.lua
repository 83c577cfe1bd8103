local cache = require "perigee.cache"
local errors = require "perigee.error"
local task = require "perigee.task"
local test = require "perigee.test"

local names = 0

local function fresh(opts)
  names = names + 1
  return cache.new("spec-" .. names, opts or {})
end

-- A second worker's view of the same cache: nothing in its own level.
local function other_worker(c)
  return cache.new(c.name, setmetatable({}, { __index = c.opts }))
end

local function counter(results)
  local calls = { n = 0 }
  return function()
    calls.n = calls.n + 1
    if results then
      return results(calls.n)
    end
    return calls.n
  end, calls
end

for _, levels in ipairs { { "worker" }, { "shared" }, { "worker", "shared" } } do
  describe("cache:get on " .. table.concat(levels, " and "), function()
    it("loads once and keeps for the ttl", function()
      local clock = test.clock()
      local c = fresh { ttl = "1s", levels = levels }
      local load, calls = counter()
      assert.equal(1, c:get("k", load))
      assert.equal(1, c:get("k", load))
      clock:advance(999)
      assert.equal(1, c:get("k", load))
      clock:advance(1)
      assert.equal(2, c:get("k", load))
      assert.equal(2, calls.n)
    end)

    it("takes keys of any length", function()
      local c = fresh { levels = levels }
      local a, b = ("k"):rep(5000) .. "a", ("k"):rep(5000) .. "b"
      local load, calls = counter()
      assert.equal(1, c:get(a, load))
      assert.equal(2, c:get(b, load))
      assert.equal(1, c:get(a, load))
      assert.equal(2, calls.n)
      c:delete(a)
      assert.equal(3, c:get(a, load))
      assert.equal(2, c:get(b, load))
    end)

    it("keeps what stands on nothing that was invalidated", function()
      local c = fresh { levels = levels }
      local load, calls = counter()
      for i = 1, 50 do
        c:get("k", load, { tags = { "t" } })
        c:set("other", i) -- few names: two may share a number by chance
        c:flush { tag = "other" }
      end
      assert.equal(1, calls.n)
      c:get("k", load)
      c:flush { tag = "t" }
      assert.equal(2, c:get("k", load))
      c:flush()
      assert.equal(3, c:get("k", load))
      c:delete "k"
      assert.equal(4, c:get("k", load))
    end)

    it("raises for what cannot load", function()
      local c = fresh { levels = levels }
      assert.has_error(function() c:get("k", "value") end)
    end)

    it("tells false, nil and an error apart", function()
      local c = fresh { negative = "1s", levels = levels }
      local load, calls = counter(function() return false end)
      assert.is_false(c:get("false", load))
      assert.is_false(c:get("false", load))
      assert.equal(1, calls.n)
      load, calls = counter(function() return nil end)
      assert.is_nil(c:get("nil", load))
      assert.is_nil(c:get("nil", load))
      assert.equal(1, calls.n)
      load, calls = counter(function()
        return nil, errors.new("unavailable", "down")
      end)
      for _ = 1, 2 do
        local value, err = c:get("err", load)
        assert.is_nil(value)
        assert.equal("unavailable", err.kind)
      end
      assert.equal(2, calls.n)
    end)

    it("does not keep a nil without `negative`", function()
      local c = fresh { levels = levels }
      local load, calls = counter(function() return nil end)
      c:get("k", load)
      c:get("k", load)
      assert.equal(2, calls.n)
    end)

    it("shares one load, its result and its error", function()
      local c = fresh { levels = levels }
      local load, calls = counter(function(n)
        task.sleep(5)
        if n == 1 then
          return nil, errors.new("unavailable", "down")
        end
        return { n }
      end)
      for round = 1, 2 do
        local failures = 0
        task.map({ 1, 2, 3, 4, 5 }, function()
          local value, err = c:get("k", load)
          failures = failures + (err and 1 or 0)
          return value or false
        end)
        assert.equal(round == 1 and 5 or 0, failures)
        assert.equal(round, calls.n)
      end
    end)

    it("serves stale while one refreshes", function()
      local clock = test.clock()
      local c = fresh { ttl = "1s", stale = "10s", levels = levels }
      local load, calls = counter()
      c:get("k", load)
      clock:advance(1500)
      assert.equal(1, c:get("k", load))
      for _ = 1, 5 do
        task.yield()
      end
      assert.equal(2, calls.n)
      assert.equal(2, c:get("k", load))
    end)

    it("serves stale when the load fails", function()
      local clock = test.clock()
      local c = fresh { ttl = "1s", stale_if_error = "10s", levels = levels }
      local load = counter(function(n)
        if n == 1 then
          return "old"
        end
        return nil, errors.new("unavailable", "down")
      end)
      c:get("k", load)
      clock:advance(1500)
      assert.equal("old", c:get("k", load))
      clock:advance(10000)
      assert.is_nil((c:get("k", load)))
    end)

    it("serves stale what others have asked for since", function()
      local clock = test.clock()
      local c = fresh { ttl = "1s", stale_if_error = "10s", levels = levels }
      c:set("a", { "old a" })
      clock:advance(1500)
      c:set("b", { "b" })
      local value = c:get("a", function()
        assert.same({ "b" }, c:get "b")
        return nil, errors.new("unavailable", "down")
      end)
      assert.same({ "old a" }, value)
    end)

    it("forgets by delete, set and flush", function()
      local c = fresh { levels = levels }
      local load = counter()
      c:get("k", load)
      c:delete "k"
      assert.is_nil(c:get "k")
      assert.equal(2, c:get("k", load))
      c:set("k", "set")
      assert.equal("set", c:get("k", load))
      c:flush()
      assert.equal(3, c:get("k", load))
      c:set("k", nil)
      assert.equal(4, c:get("k", load))
    end)

    it("flushes what has a tag", function()
      local c = fresh { levels = levels }
      c:set("a", 1, { tags = { "x", "y" } })
      c:set("b", 2, { tags = { "y" } })
      c:set("c", 3)
      c:get("d", function() return 4 end, { tags = { "x" } })
      c:flush { tag = "x" }
      assert.is_nil(c:get "a")
      assert.is_nil(c:get "d")
      assert.equal(2, c:get "b")
      assert.equal(3, c:get "c")
    end)

    it("does not keep a load that was overtaken by a delete", function()
      local c = fresh { levels = levels }
      local slow = task.spawn(function()
        return c:get("k", function()
          task.sleep(20)
          return "old"
        end)
      end)
      task.sleep(5)
      c:delete "k"
      assert.equal("new", c:get("k", function() return "new" end))
      assert.equal("old", (slow:join()))
      assert.equal("new", c:get "k")
    end)

    it("turns what a loader raises into an error", function()
      local c = fresh { levels = levels }
      local value, err = c:get("k", function() error("boom", 0) end)
      assert.is_nil(value)
      assert.equal("internal", err.kind)
    end)

    it("ends a load that takes too long", function()
      local c = fresh { timeout = 10, levels = levels }
      local _, err = c:get("k", function() task.sleep "1h" end)
      assert.equal("timeout", err.kind)
    end)
  end)
end

describe("cache", function()
  it("shows another worker what one has, and what it invalidates", function()
    local a = fresh { ttl = "1m" }
    local b = other_worker(a)
    a:set("k", { 1 })
    assert.same({ 1 }, b:get "k")
    assert.equal(b:get "k", b:get "k")
    a:delete "k"
    assert.is_nil(b:get "k")
    b:set("k", 2)
    assert.equal(2, a:get "k")
    a:set("k", 3)
    assert.equal(3, b:get "k")
    b:flush()
    assert.is_nil(a:get "k")
  end)

  it("loads once for both of two workers, and shares the error", function()
    local a = fresh {}
    local b = other_worker(a)
    local load, calls = counter(function()
      task.sleep(10)
      return nil, errors.new("limited", "later")
    end)
    local kinds = {}
    task.map({ a, b }, function(c)
      local _, err = c:get("k", load)
      kinds[#kinds + 1] = err.kind
      return true
    end)
    assert.same({ "limited", "limited" }, kinds)
    assert.equal(1, calls.n)
  end)

  it("holds so many entries in a worker, those that are used", function()
    local c = fresh { levels = { "worker" }, items = 10 }
    for i = 1, 100 do
      c:set("k" .. i, i)
      c:get "k1"
    end
    assert.equal(1, c:get "k1")
    assert.is_nil(c:get "k50")
    assert.equal(10, c:stats().items)
  end)

  it("keeps in the worker what is too big to share", function()
    local c = fresh { size = "64kb" }
    local load, calls = counter(function() return ("x"):rep(100000) end)
    c:get("k", load)
    assert.equal(100000, #c:get("k", load))
    assert.equal(1, calls.n)
    assert.equal(1, c:stats().not_shared)
  end)

  it("is cached(key, fn, ttl) in short", function()
    local clock = test.clock()
    local load, calls = counter()
    assert.equal(1, cache.cached("spec:cached", load, "1s"))
    assert.equal(1, cache.cached("spec:cached", load, "1s"))
    clock:advance(1000)
    assert.equal(2, cache.cached("spec:cached", load, "1s"))
    assert.equal(2, calls.n)
  end)

  it("is the same one by its name, where its options are written in the call",
    function()
      local function get(load)
        return cache.new("spec:inline", { ttl = "1m", levels = { "worker" } })
          :get("key", load)
      end
      local load, calls = counter()
      assert.equal(1, get(load))
      assert.equal(1, get(load))
      assert.equal(1, calls.n)
    end)

  it("raises for wrong options", function()
    assert.has_error(function() cache.new("x", { tll = 1 }) end)
    assert.has_error(function() cache.new("x", { ttl = "soon" }) end)
    assert.has_error(function() cache.new("x", { levels = { "redis" } }) end)
    assert.has_error(function() fresh():get({}) end)
  end)
end)
