-- What a caller learns of a job: its store and its events do not tell at once.
local jobs = require "perigee.queue.job"
local task = require "perigee.task"
local test = require "perigee.test"

describe("job:wait", function()
  local clock, record, tell, job

  before_each(function()
    clock = test.clock()
    record = { queue = "q", id = "1", name = "x", state = "waiting" }
    job = jobs.of({
      job = function() return record end,
      last_word = function() return nil end,
      subscribe = function(_, _, fn)
        tell = fn
        return function() tell = nil end
      end,
    }, record)
  end)

  after_each(function() clock:thaw() end)

  local function waiting(timeout)
    local waiter = task.spawn(function() return { job:wait(timeout) } end)
    clock:advance(0)
    return waiter
  end

  it("has the result of a job that goes before it is told of", function()
    local waiter = waiting "10s"
    record = nil
    clock:advance "4s"
    tell { event = "completed", id = "1", result = "42" }
    clock:advance(0)
    assert.same({ 42 }, waiter:join())
    assert.is_nil(tell)
  end)

  it("knows at once that a job was removed", function()
    local waiter = waiting "10s"
    record = nil
    tell { event = "removed", id = "1" }
    clock:advance(0)
    assert.equal("not_found", waiter:join()[2].kind)
  end)

  it("does not wait long for one that was gone before", function()
    record = nil
    local waiter = waiting "10s"
    clock:advance "500ms"
    assert.is_nil(tell)
    assert.equal("not_found", waiter:join()[2].kind)
  end)

  it("overlooks that an earlier one of that id was removed", function()
    local waiter = waiting "10s"
    tell { event = "removed", id = "1" }
    clock:advance "1s"
    record = nil
    clock:advance "1s"
    tell { event = "failed", id = "1", failure = "broken" }
    clock:advance(0)
    assert.equal("broken", waiter:join()[2].message)
  end)
end)

describe("job:once", function()
  it("refuses what is no step before it runs it", function()
    local ran = false
    local running = jobs.running({}, {}, { queue = "q", id = "1", name = "x",
      data = "{}", attempts = 0, timestamp = 0 })
    for _, step in ipairs { false, {} } do
      assert.error_matches(function()
        running:once(step, function() ran = true end)
      end, "the name of a step")
    end
    assert.error_matches(function() running:once("step", 5) end, "a function")
    assert.is_false(ran)
  end)
end)
