local errors = require "perigee.error"
local json = require "perigee.json"
local task = require "perigee.task"

describe("task.all", function()
  it("gives the first value of each function, in order", function()
    local results = task.all {
      function() task.sleep(2) return "slow" end,
      function() return "fast" end,
    }
    assert.same({ "slow", "fast" }, results)
  end)

  it("gives the first failure and cancels the others", function()
    local finished = false
    local results, err = task.all {
      function() task.sleep "1h" finished = true end,
      function() return nil, errors.new("conflict", "taken") end,
    }
    assert.is_nil(results)
    assert.equal("conflict", err.kind)
    assert.is_false(finished)
  end)

  it("takes whatever comes with a nil as the failure", function()
    local results, err = task.all {
      function() task.sleep "1h" end,
      function() return nil, "boom" end,
    }
    assert.is_nil(results)
    assert.equal("boom", err)
  end)

  it("raises for what is no list of functions", function()
    assert.error_matches(function() task.all { print, 5 } end, "item 2 is a number")
    assert.error_matches(function() task.race { "x" } end, "item 1 is a string")
  end)

  it("turns a raised string into an error of kind internal", function()
    local _, err = task.all { function() error("boom", 0) end }
    assert.equal("internal", err.kind)
    assert.equal("boom", err.message)
  end)
end)

describe("task.map", function()
  it("keeps to its concurrency", function()
    local running, most = 0, 0
    task.map({ 1, 2, 3, 4, 5, 6 }, function(value)
      running = running + 1
      most = math.max(most, running)
      task.sleep(1)
      running = running - 1
      return value
    end, { concurrency = 2 })
    assert.equal(2, most)
  end)

  it("gives an empty list for an empty list", function()
    assert.equal("[]", json.encode(task.map({}, function() end)))
    assert.equal("[]", json.encode(task.all {}))
  end)
end)

describe("task.race", function()
  it("gives all values of the first to end", function()
    assert.same({ "a", "b" }, { task.race {
      function() task.sleep "1h" end,
      function() task.sleep(1) return "a", "b" end,
    } })
  end)
end)

describe("task.with_deadline", function()
  it("gives nil and an error of kind timeout", function()
    local value, err = task.with_deadline(1, task.sleep, "1h")
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
  end)

  it("raises in the wait, and in each later one", function()
    local first, second
    task.with_deadline(1, function()
      local _, err = pcall(task.sleep, "1h")
      first = err.kind
      _, err = pcall(task.sleep, 0)
      second = err.kind
    end)
    assert.equal("timeout", first)
    assert.equal("timeout", second)
  end)

  it("holds for children, whatever they were given", function()
    local kind
    task.with_deadline(1, function()
      local child = task.spawn(function()
        return task.with_deadline("1h", task.sleep, "1h")
      end)
      local _, err = pcall(child.join, child)
      kind = err.kind
    end)
    assert.equal("timeout", kind)
  end)

  it("passes results through when there was time", function()
    assert.same({ 1, 2 }, { task.with_deadline("1m", function(a)
      return a, 2
    end, 1) })
  end)
end)

describe("task.spawn", function()
  it("cancels children that run on when the parent has ended", function()
    local event
    local parent = task.spawn(function()
      task.spawn(function()
        local _, err = pcall(task.sleep, "1h")
        event = err.kind
      end)
      task.sleep(1)
    end)
    parent:join()
    task.sleep(1)
    assert.equal("cancelled", event)
  end)

  it("lets a cancelled task clean up, and keeps its error", function()
    local cleaned
    local child = task.spawn(function()
      pcall(task.sleep, "1h")
      cleaned = true
      return "ignored"
    end)
    task.sleep(1)
    child:cancel "enough"
    local value, err = child:join()
    assert.is_nil(value)
    assert.equal("cancelled", err.kind)
    assert.is_true(cleaned)
  end)

  it("survives an error that cannot say what it is", function()
    local mute = setmetatable({}, {
      __tostring = function() error "no words" end,
    })
    local value, err = task.spawn(function() error(mute) end):join()
    assert.is_nil(value)
    assert.equal("internal", err.kind)
    assert.equal(mute, err.cause)
  end)

  it("waits inside of a coroutine of the task's own", function()
    local generate = coroutine.wrap(function()
      for i = 1, 3 do
        task.sleep(1)
        coroutine.yield(i)
      end
    end)
    assert.same({ 1, 2, 3 }, { generate(), generate(), generate() })
  end)

  it("says so where waiting is not possible", function()
    local ok, err = pcall(table.sort, { 2, 1 }, function(a, b)
      task.sleep(1)
      return a < b
    end)
    assert.is_false(ok)
    assert.matches("cannot wait inside of a C function", err)
  end)
end)

describe("task.semaphore", function()
  it("lets n in, and the next one as soon as one leaves", function()
    local semaphore, log = task.semaphore(1), {}
    task.all {
      function()
        semaphore:with(function() task.sleep(1) log[#log + 1] = "a" end)
      end,
      function()
        semaphore:with(function() log[#log + 1] = "b" end)
      end,
    }
    assert.same({ "a", "b" }, log)
  end)

  it("is released when the function raises", function()
    local semaphore = task.semaphore(1)
    assert.has_error(function() semaphore:release() end)
    pcall(semaphore.with, semaphore, error, "boom")
    assert.is_true(semaphore:acquire())
  end)

  it("loses no permit to a waiter that was cancelled", function()
    local semaphore = task.semaphore(1)
    semaphore:acquire()
    local waiter = task.spawn(function() semaphore:acquire() end)
    task.sleep(1)
    waiter:cancel()
    waiter:join()
    semaphore:release()
    assert.is_true(semaphore:acquire())
  end)
end)
