local errors = require "perigee.error"
local resilience = require "perigee.resilience"
local task = require "perigee.task"
local test = require "perigee.test"

local names = 0

local function fresh()
  names = names + 1
  return "spec-" .. names
end

local function down()
  return nil, errors.new("unavailable", "down")
end

-- A function that fails so often, then gives "ok", 2.
local function flaky(failures, fail)
  local calls = { n = 0 }
  return function()
    calls.n = calls.n + 1
    if calls.n <= failures then
      return (fail or down)()
    end
    return "ok", 2
  end, calls
end

local QUICK = { attempts = 3, base = 1 }

describe("resilience.retry", function()
  it("gives what the function gives", function()
    local a, b, c = resilience.retry(function() return 1, nil, 3 end, 3)
    assert.same({ 1, nil, 3 }, { a, b, c })
    assert.is_nil(resilience.retry(function() return nil end, 3))
    assert.is_false(resilience.retry(function() return false end, 3))
  end)

  it("tries so often", function()
    local fn, calls = flaky(2)
    local a, b = resilience.retry(fn, 3)
    assert.same({ "ok", 2, 3 }, { a, b, calls.n })
    fn, calls = flaky(3)
    local value, err = resilience.retry(fn, 3)
    assert.is_nil(value)
    assert.equal("unavailable", err.kind)
    assert.equal(3, calls.n)
  end)

  it("tries again what raised, and returns it as an error", function()
    local fn, calls = flaky(2, function() error("boom", 0) end)
    assert.equal("ok", (resilience.retry(fn, QUICK)))
    fn, calls = flaky(9, function() error("boom", 0) end)
    local value, err = resilience.retry(fn, QUICK)
    assert.is_nil(value)
    assert.equal("internal", err.kind)
    assert.equal("boom", err.message)
    assert.equal(3, calls.n)
  end)

  it("does not try again what would fail again", function()
    for _, kind in ipairs { "invalid", "not_found", "conflict", "forbidden",
      "unrecoverable", "cancelled" } do
      local fn, calls = flaky(1, function()
        return nil, errors.new(kind, "no")
      end)
      local _, err = resilience.retry(fn, QUICK)
      assert.equal(kind, err.kind)
      assert.equal(1, calls.n)
    end
  end)

  it("retries the kinds and codes that it is told", function()
    local fn, calls = flaky(1, function()
      return nil, errors.new("conflict", "no")
    end)
    assert.equal("ok", (resilience.retry(fn,
      { base = 1, retry_on = { "conflict" } })))
    fn, calls = flaky(2)
    resilience.retry(fn, { base = 1, retry_on = function(_, attempt)
      return attempt < 2
    end })
    assert.equal(2, calls.n)
  end)

  it("pauses exponentially, up to a maximum", function()
    local clock = test.clock()
    local times, begun = {}, require("perigee.time").monotonic()
    local handle = task.spawn(function()
      return resilience.retry(function()
        times[#times + 1] = require("perigee.time").monotonic() - begun
        return down()
      end, { attempts = 4, base = 100, max = 250, jitter = false })
    end)
    task.yield()
    clock:advance(1000)
    handle:join()
    assert.same({ 0, 100, 300, 550 }, times)
  end)

  it("waits as long as the error says, if that is not too long", function()
    local clock = test.clock()
    local fn, calls = flaky(1, function()
      local err = errors.new("limited", "slow down")
      err.retry_after_ms = 700
      return nil, err
    end)
    local handle = task.spawn(resilience.retry, fn, { base = 1 })
    task.yield()
    clock:advance(699)
    assert.equal(1, calls.n)
    clock:advance(1)
    assert.equal("ok", (handle:join()))
    fn, calls = flaky(1, function()
      local err = errors.new("limited", "slow down")
      err.retry_after_ms = 700
      return nil, err
    end)
    assert.is_nil((resilience.retry(fn, { max = 500 })))
    assert.equal(1, calls.n)
  end)

  it("gives up when the deadline would pass meanwhile", function()
    local fn, calls = flaky(9)
    local _, err = task.with_deadline(200, function()
      return resilience.retry(fn, { base = "10s", jitter = false })
    end)
    assert.equal("unavailable", err.kind)
    assert.equal(1, calls.n)
  end)

  it("raises for wrong options", function()
    assert.has_error(function() resilience.retry(down, 0) end)
    assert.has_error(function() resilience.retry(down, { tries = 3 }) end)
    assert.has_error(function() resilience.retry(down, { base = "x" }) end)
    assert.has_error(function()
      resilience.retry(down, { retry_on = "timeout" })
    end)
  end)
end)

describe("resilience.breaker", function()
  it("opens after its failures, probes, and closes", function()
    local clock = test.clock()
    local b = resilience.breaker(fresh(),
      { failures = 2, window = "10s", open = "1s", probes = 1 })
    assert.equal("closed", b:state())
    b:call(down)
    local _, err = b:call(down)
    assert.equal("down", err.message)
    assert.equal("open", b:state())
    local called = false
    local value
    value, err = b:call(function() called = true end)
    assert.is_nil(value)
    assert.is_false(called)
    assert.equal("unavailable", err.kind)
    assert.equal("breaker_open", err.code)
    assert.equal(1000, err.retry_after_ms)
    clock:advance(1000)
    assert.equal("ok", b:call(function() return "ok" end))
    assert.equal("closed", b:state())
    assert.equal(1, b:stats().opened)
    assert.equal(1, b:stats().refused)
  end)

  it("counts what is raised, and not what is the caller's fault", function()
    local b = resilience.breaker(fresh(), { failures = 2 })
    for _ = 1, 5 do
      b:call(function() return nil, errors.new("not_found", "no") end)
    end
    assert.equal("closed", b:state())
    for _ = 1, 2 do
      local value, err = b:call(error, "boom")
      assert.is_nil(value)
      assert.equal("internal", err.kind)
    end
    assert.equal("open", b:state())
    b:close()
    assert.same({ 1, 2 }, { b:call(function(...) return ... end, 1, 2) })
  end)

  it("opens at a rate of failures", function()
    local b = resilience.breaker(fresh(), { rate = 0.5, min_calls = 4 })
    b:call(down)
    b:call(down)
    b:call(function() return 1 end)
    assert.equal("closed", b:state())
    b:call(down)
    assert.equal("open", b:state())
  end)

  it("is the same one by its name", function()
    local name = fresh()
    local b = resilience.breaker(name, { failures = 1 })
    assert.equal(b, resilience.breaker(name))
    b:call(down)
    assert.equal("open", resilience.breaker(name, { failures = 9 }):state())
    assert.equal("open", resilience.states().breakers[name].state)
  end)

  it("raises for wrong options", function()
    assert.has_error(function() resilience.breaker(fresh(), { rate = 50 }) end)
    assert.has_error(function()
      resilience.breaker(fresh(), { counts = true })
    end)
  end)
end)

describe("resilience.bulkhead", function()
  it("lets so many run, so many wait, and refuses the rest", function()
    local b = resilience.bulkhead(fresh(), { concurrency = 2, queue = 1 })
    local most, running = 0, 0
    local results = task.map({ 1, 2, 3, 4 }, function()
      local value, err = b:call(function()
        running = running + 1
        most = math.max(most, running)
        task.sleep(5)
        running = running - 1
        return "done"
      end)
      return value or err.code
    end)
    table.sort(results)
    assert.same({ "bulkhead_full", "done", "done", "done" }, results)
    assert.equal(2, most)
    assert.same({ 0, 0 }, { b.active, b.waiting })
  end)

  it("is the same one by its name, where its options are written in the call",
    function()
      local name = fresh()
      local results = task.map({ 1, 2, 3 }, function()
        local b = resilience.bulkhead(name, { concurrency = 1, queue = 1 })
        return b:call(function()
          task.sleep(5)
          return "done"
        end) or "refused"
      end)
      table.sort(results)
      assert.same({ "done", "done", "refused" }, results)
      assert.not_equal(resilience.bulkhead(name),
        resilience.bulkhead(name, { concurrency = 2 }))
    end)

  it("forgets who waited in vain", function()
    local b = resilience.bulkhead(fresh(), { concurrency = 1, queue = 1 })
    local slow = task.spawn(b.call, b, task.sleep, 50)
    task.yield()
    local _, err = task.with_deadline(5, b.call, b, task.sleep, 1)
    assert.equal("timeout", err.kind)
    assert.equal(0, b.waiting)
    slow:join()
    assert.equal(0, b.active)
    assert.equal(1, b:call(function() return 1 end))
  end)
end)

describe("resilience.limiter", function()
  for _, scope in ipairs { "worker", "shared" } do
    it("is a token bucket, scope " .. scope, function()
      local clock = test.clock()
      local l = resilience.limiter(fresh(),
        { rate = 10, per = "1s", burst = 2, scope = scope })
      assert.is_true(l:take "a")
      assert.is_true(l:take "a")
      local ok, err = l:take "a"
      assert.is_nil(ok)
      assert.equal("limited", err.kind)
      assert.equal(100, err.retry_after_ms)
      assert.is_true(l:take "b")
      clock:advance(100)
      assert.is_true(l:take "a")
      assert.is_nil((l:take "a"))
    end)
  end

  for _, scope in ipairs { "worker", "shared" } do
    it("is a sliding window when asked, " .. scope, function()
      local clock = test.clock()
      local l = resilience.limiter(fresh(),
        { rate = 3, per = "1s", window = true, scope = scope })
      clock:advance(730)
      assert.is_true(l:take())
      clock:advance(300)
      assert.is_true(l:take(nil, 2))
      local ok, err = l:take()
      assert.is_nil(ok)
      assert.equal(700, err.retry_after_ms)
      clock:advance(700)
      assert.is_true(l:take())
      assert.equal(300, select(2, l:take()).retry_after_ms)
      clock:advance(300)
      assert.is_true(l:take(nil, 2))
      assert.is_nil((l:take()))
    end)
  end

  it("says that the configuration has no such Redis", function()
    assert.has_error(function()
      resilience.limiter("x", { rate = 1, scope = "redis" })
    end)
  end)
end)

describe("what is raised", function()
  it("is nil, err from each part", function()
    local function boom() error("boom") end
    for name, call in pairs {
      retry = function() return resilience.retry(boom, 1) end,
      bulkhead = function() return resilience.bulkhead(fresh()):call(boom) end,
      breaker = function() return resilience.breaker(fresh()):call(boom) end,
      hedge = function() return resilience.hedge(boom) end,
      fallback = function() return resilience.fallback(boom, boom) end,
      policy = function()
        return resilience.policy({ fallback = boom, retry = 1 }):call(boom)
      end,
    } do
      local value, err = call()
      assert.is_nil(value, name)
      assert.equal("internal", err.kind, name)
      assert.matches("boom", err.message, name)
    end
  end)

  it("is raised when there is nothing to call", function()
    for _, name in ipairs { "retry", "hedge", "fallback" } do
      assert.has_error(function() resilience[name](nil) end)
    end
  end)
end)

describe("resilience.hedge", function()
  it("takes the first answer and cancels the other", function()
    local calls, ended = 0, 0
    local value = resilience.hedge(function()
      calls = calls + 1
      if calls == 1 then
        task.sleep "1h"
        ended = ended + 1
      end
      return calls
    end, { delay = 5 })
    assert.equal(2, value)
    assert.equal(0, ended)
  end)

  it("does not call twice who answers in time", function()
    local calls = 0
    assert.equal("quick", (resilience.hedge(function()
      calls = calls + 1
      return "quick"
    end, { delay = 20 })))
    task.sleep(30)
    assert.equal(1, calls)
  end)

  it("gives the failure of a call that nothing hedges", function()
    local value, err = resilience.hedge(down, { delay = 50 })
    assert.is_nil(value)
    assert.equal("unavailable", err.kind)
  end)
end)

describe("resilience.fallback", function()
  it("answers instead of what failed", function()
    assert.equal("other", resilience.fallback(down, "other"))
    assert.equal("down", resilience.fallback(down, function(err)
      return err.message
    end))
    assert.equal("other", resilience.fallback(function() error "x" end, "other"))
    assert.equal(1, resilience.fallback(function() return 1 end, "other"))
  end)
end)

describe("resilience.policy", function()
  it("does not open its breaker for what its bulkhead refuses", function()
    local name, gate = fresh(), task.semaphore(1)
    local p = resilience.policy { name = name, bulkhead = { concurrency = 1 },
      breaker = { failures = 1, open = 1 } }
    local b = resilience.breaker(name)
    gate:acquire()
    local function hold()
      local handle = task.spawn(function()
        return resilience.bulkhead(name):call(gate.acquire, gate)
      end)
      task.sleep(1)
      return handle
    end
    local held = hold()
    local _, err = p:call(down)
    assert.equal("bulkhead_full", err.code)
    assert.equal("closed", b:state())
    gate:release()
    held:join()
    p:call(down)
    assert.equal("open", b:state())
    task.sleep(5) -- the next call is a probe
    held = hold()
    _, err = p:call(down)
    assert.equal("bulkhead_full", err.code)
    assert.equal("half_open", b:state()) -- neither better nor worse
    gate:release()
    held:join()
  end)

  it("puts fallback outside of retry outside of breaker", function()
    local b = resilience.breaker(fresh(), { failures = 2, open = "10s" })
    local calls = 0
    local p = resilience.policy {
      fallback = function(err) return err.code or err.kind end,
      retry = { attempts = 5, base = 1 },
      breaker = b,
      timeout = "1s",
    }
    local value = p:call(function()
      calls = calls + 1
      return down()
    end)
    assert.equal("breaker_open", value)
    assert.equal(2, calls)
  end)

  it("ends an attempt by its timeout and passes arguments on", function()
    local p = resilience.policy { timeout = 10, retry = { attempts = 2, base = 1 } }
    local calls = 0
    local value, err = p:call(function(a, b, c)
      calls = calls + 1
      assert.same({ 1, 2, 3 }, { a, b, c })
      task.sleep "1h"
    end, 1, 2, 3)
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
    assert.equal(2, calls)
  end)

  it("makes its parts from options, under its name", function()
    local p = resilience.policy { name = fresh(), breaker = { failures = 1 },
      bulkhead = { concurrency = 1 } }
    assert.equal(7, p:call(function() return 7 end))
    assert.has_error(function() resilience.policy { breaker = {} } end)
    assert.has_error(function() resilience.policy { retries = 3 } end)
  end)
end)

-- The last one: it leaves no budget to the others.
describe("resilience.retry's budget", function()
  it("keeps retries a share of all calls", function()
    local calls = 0
    for _ = 1, 2000 do
      resilience.retry(function()
        calls = calls + 1
        return down()
      end, { attempts = 3, base = 0, jitter = false })
    end
    assert.is_true(calls < 2000 * 1.2 + 300 + 100)
  end)
end)
