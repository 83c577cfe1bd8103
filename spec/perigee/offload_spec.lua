local crypto = require "perigee.crypto"
local errors = require "perigee.error"
local json = require "perigee.json"
local task = require "perigee.task"
local time = require "perigee.time"

local floor = math.floor

describe("task.offload", function()
  it("gives the function's values, nils and falses among them", function()
    local a, b, c, d = task.offload(function(x, y, z)
      return x + 1, y, z, nil
    end, 1, nil, false)
    assert.equal(2, a)
    assert.is_nil(b)
    assert.is_false(c)
    assert.is_nil(d)
    assert.equal(4, select("#", task.offload(function(x, y, z)
      return x, y, z, nil
    end, 1, nil, false)))
  end)

  it("hands plain tables over, both ways, exactly", function()
    local value = {
      list = { 1, 2, { "x" } }, text = "\0\255", number = 1e21,
      empty = json.array {}, null = json.null, yes = true,
    }
    local back = task.offload(function(v) return v end, value)
    assert.same(value, back)
    assert.equal("[]", json.encode(back.empty))
    assert.equal(json.null, back.null)
  end)

  it("works in another state, and leaves the caller's alone", function()
    local count = 0
    local seen = task.offload(function()
      count = count + 1
      return count
    end)
    assert.equal(1, seen)
    assert.equal(0, count)
  end)

  it("takes plain upvalues as they are at each call", function()
    local factor = 2
    local function times(n) return n * factor end
    assert.equal(6, (task.offload(times, 3)))
    factor = 5
    assert.equal(15, (task.offload(times, 3)))
  end)

  it("takes functions as upvalues, those that call themselves too", function()
    local function fib(n)
      if n < 2 then return n end
      return fib(n - 1) + fib(n - 2)
    end
    local function twice(n) return 2 * fib(n) end
    assert.equal(6765, (task.offload(fib, 20)))
    assert.equal(2 * 6765, (task.offload(twice, 20)))
  end)

  it("takes an upvalue that two functions share as one", function()
    local count = 0
    local function add() count = count + 1 end
    assert.equal(2, (task.offload(function()
      add()
      add()
      return count
    end)))
  end)

  it("takes modules and the standard library by their names", function()
    local text, digest, whole = task.offload(function(list)
      return json.encode(list), crypto.sha256_hex "x", floor(1.5)
    end, { 1, 2 })
    assert.equal("[1,2]", text)
    assert.equal(crypto.sha256_hex "x", digest)
    assert.equal(1, whole)
    assert.equal("[1]", (task.offload(json.encode, { 1 })))
  end)

  it("requires the application's modules", function()
    local transforms = require "transforms.envelope"
    local kind = task.offload(function()
      return type(require "transforms.envelope")
    end)
    assert.equal(type(transforms), kind)
  end)

  it("gives nil and the error, with its traceback", function()
    local value, err = task.offload(function()
      local t = nil
      return t.x
    end)
    assert.is_nil(value)
    assert.is_true(errors.is(err))
    assert.equal("internal", err.kind)
    assert.matches("offload_spec.lua:%d+", err.message)
    assert.matches("traceback", err.traceback)
  end)

  it("keeps the kind of an error, be it raised or returned", function()
    local _, raised = task.offload(function()
      error(errors.new("conflict", "taken"))
    end)
    assert.equal("conflict", raised.kind)
    assert.equal("taken", raised.message)
    local value, returned = task.offload(function()
      return nil, errors.new("not_found", "no such thing")
    end)
    assert.is_nil(value)
    assert.is_true(errors.is(returned))
    assert.equal("not_found", returned.kind)
  end)

  it("refuses what is not plain, and names it", function()
    local thread = coroutine.create(function() end)
    assert.has_error(function()
      task.offload(function() return thread end)
    end, "offload: thread cannot be handed over: it holds a thread")
    assert.has_error(function()
      task.offload(function() end, setmetatable({}, {}))
    end)
    assert.has_error(function() task.offload "no function" end)
    local _, err = task.offload(function() return function() end end)
    assert.equal("offload_result", err.code)
  end)

  it("loads all of the library, and says what is not to be had when called", function()
    for _, name in ipairs { "cache", "crypto", "error", "events", "health",
      "host", "hot", "http", "json", "log", "metrics", "queue", "redis",
      "resilience", "schema", "shared", "sqlite", "task", "time", "trace" } do
      local kind, err = task.offload(function(module)
        return type(require("perigee." .. module))
      end, name)
      assert.equal("table", kind, name .. ": " .. tostring(err))
    end
    local _, err = task.offload(function()
      return require("perigee.cache").new "x"
    end)
    assert.matches("perigee.cache.new is not to be had", err.message)
    _, err = task.offload(function() return require("perigee.host").pid end)
    assert.matches("perigee.host.pid is not to be had", err.message)
  end)

  it("says what is not to be had on the thread", function()
    local _, err = task.offload(function()
      require("perigee.task").sleep(1)
    end)
    assert.matches("perigee.task.sleep is not to be had", err.message)
  end)

  it("lets the worker go on meanwhile, and several run at a time", function()
    local beats = 0
    local beater = task.spawn(function()
      while true do
        task.sleep(1)
        beats = beats + 1
      end
    end)
    local function spin(until_ms)
      local now = require "perigee.time".monotonic
      while now() < until_ms do end
      return true
    end
    -- A busy machine may give the worker no turn for 100 ms: tried again then.
    local rounds = 0
    repeat
      rounds, beats = rounds + 1, 0
      local until_ms = time.monotonic() + 100
      assert.same({ true, true, true }, task.map({ 1, 2, 3 }, function()
        return task.offload(spin, until_ms)
      end))
    until beats > 3 or rounds == 50
    beater:cancel()
    assert.is_true(beats > 3)
  end)

  it("queues what is more than its threads", function()
    local inputs = {}
    for i = 1, 100 do inputs[i] = i end
    local results = task.map(inputs, function(i)
      return task.offload(function(n) return n * n end, i)
    end)
    for i = 1, 100 do assert.equal(i * i, results[i]) end
  end)

  local function stopped(fn)
    local value, err = task.with_deadline(50, function()
      return task.offload(fn)
    end)
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
  end

  -- More runaways than threads: each must really have been stopped.
  it("stops an overdue call, compiled code and pcalls too", function()
    for _ = 1, 3 do
      stopped(function() while true do end end)
      stopped(function()
        local x = 0
        while true do
          x = x + 1
          if x > 1e9 then
            x = 0
          end
        end
      end)
      stopped(function()
        local t = {}
        while true do
          for i = 1, 100 do
            t[i] = { i }
          end
          if #t > 1000 then
            t = {}
          end
        end
      end)
      stopped(function()
        while true do
          pcall(function()
            local s = ""
            for i = 1, 1000 do
              s = s .. i
            end
          end)
        end
      end)
    end
    assert.equal("alive", (task.offload(function() return "alive" end)))
  end)

  it("stops one that nobody waits for any more", function()
    local handle = task.spawn(function()
      return task.offload(function() while true do end end)
    end)
    task.sleep(20)
    handle:cancel()
    local _, err = handle:join()
    assert.equal("cancelled", err.kind)
  end)

  it("says what a result may not be", function()
    local _, err = task.offload(function() return { print } end)
    assert.equal("offload_result", err.code)
    assert.matches("a function", err.message)
  end)

  it("bounds one long text as well", function()
    local _, err = task.offload(function()
      local t = {}
      while true do
        t[#t + 1] = ("x"):rep(1e6) .. #t
      end
    end)
    assert.same({ "too_large", "offload_memory" }, { err.kind, err.code })
  end)

  it("bounds the memory of a call", function()
    local value, err = task.offload(function()
      local t = {}
      for i = 1, 1e8 do
        t[i] = { i }
      end
      return #t
    end)
    assert.is_nil(value)
    assert.equal("too_large", err.kind)
    assert.equal("offload_memory", err.code)
    assert.equal(1, (task.offload(function() return 1 end)))
  end)
end)
