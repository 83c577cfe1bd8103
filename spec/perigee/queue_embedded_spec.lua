local path = ("var/spec-queue-%d.sqlite"):format(require("perigee.host").pid)

local contract = setfenv(assert(loadfile "spec/perigee/queue_contract.lua"),
  getfenv(1))()
local queue = require "perigee.queue"
local task = require "perigee.task"

local settings = {
  driver = "embedded", path = path, synchronous = "off", idle_timeout = 5000,
}

teardown(function()
  queue.open(settings).driver:close()
  for _, suffix in ipairs { "", "-wal", "-shm", "-bell", "-owners", "-turn" } do
    os.remove(path .. suffix)
  end
end)

contract("embedded", settings)

describe("the embedded driver", function()
  local client = queue.open(settings)
  local number = 0
  local q, consumer

  before_each(function()
    number = number + 1
    q = client:get("own-" .. number)
    consumer = client.driver:consume(q.name, { concurrency = 10 })
  end)

  after_each(function()
    consumer:close()
  end)

  local function take(n)
    return assert(task.with_deadline("10s", function()
      return consumer:take(n)
    end))
  end

  it("serves groups in turn", function()
    for i = 1, 4 do
      assert(q:add("a" .. i, nil, { group = "a" }))
    end
    assert(q:add("b1", nil, { group = "b" }))
    local names = {}
    for _ = 1, 3 do
      names[#names + 1] = take(1)[1].name
    end
    assert.same({ "a1", "b1", "a2" }, names)
  end)

  it("lets times pass while the job before has not begun", function()
    local function due(id, spec)
      assert(q:schedule(id, spec, { name = id }))
      local began = q:schedules()[1].next
      for _ = 1, 1000 do
        if q:schedules()[1].next >= began + 100 then break end
        task.sleep(5)
      end
      local waiting = q:counts().waiting
      assert(q:unschedule(id))
      return waiting
    end
    assert.equal(1, due("one", { every = 20 }))
    assert.is_true(due("all", { every = 20, catch_up = "all" }) > 2)
  end)

  -- With nothing that makes it look again before: it would wait for an hour.
  it("runs a delayed job of a group when it is due", function()
    local patient = {}
    for key, value in pairs(settings) do
      patient[key] = value
    end
    patient.idle_timeout = 3600000
    local other = queue.open(patient)
    local own = other:get("group-" .. number)
    local runner = other.driver:consume(own.name, { concurrency = 1 })
    assert(own:add("later", nil, { group = "a", delay = 20 }))
    local jobs = assert(task.with_deadline("10s", function()
      return runner:take(1)
    end))
    assert.equal("later", jobs[1].name)
    assert(runner:complete(jobs[1], "1"))
    runner:close()
  end)

  it("limits how many of a group run at once", function()
    assert(q:limit { group = { concurrency = 1 } })
    for i = 1, 2 do
      assert(q:add("a" .. i, nil, { group = "a" }))
      assert(q:add("b" .. i, nil, { group = "b" }))
    end
    local jobs = take(10)
    while #jobs < 2 do
      jobs[#jobs + 1] = take(1)[1]
    end
    assert.equal(2, #jobs)
    assert.are_not.equal(jobs[1].group, jobs[2].group)
    local _, err = task.with_deadline(100, function()
      return consumer:take(1)
    end)
    assert.equal("timeout", err.kind)
    assert(consumer:complete(jobs[1], "1"))
    assert.equal(jobs[1].group, take(1)[1].group)
  end)

  it("replaces a delayed job of the same dedup id", function()
    local first = assert(q:add("x", { n = 1 },
      { delay = "1h", dedup = { id = "d", replace = true } }))
    local second = assert(q:add("x", { n = 2 },
      { delay = "1h", dedup = { id = "d", replace = true } }))
    assert.are_not.equal(first.id, second.id)
    assert.is_nil(q:job(first.id))
    assert.equal(1, q:counts().delayed)
  end)

  it("takes back the jobs of a worker that is no more", function()
    local job = assert(q:add("x"))
    take(1)
    local store = client.driver.store
    -- As if it had died: its number is in the table, its lock is not held.
    assert(store:exec("UPDATE job SET owner = 4711 WHERE seq = ?", job.id))
    assert(store:exec "INSERT INTO owner(id, pid) VALUES (4711, 1)")
    local recover = require("perigee.queue.embedded.owners").recover
    assert.equal(1, recover(store))
    assert.equal(job.id, take(1)[1].id)
    for _ = 1, 2 do
      assert(store:exec("UPDATE job SET owner = 4711 WHERE seq = ?", job.id))
      assert(store:exec "INSERT INTO owner(id, pid) VALUES (4711, 1)")
      assert.equal(1, recover(store))
      if q:job(job.id).state ~= "failed" then
        assert.equal(job.id, take(1)[1].id)
      end
    end
    assert.equal("failed", q:job(job.id).state)
    assert.matches("died 3 times", q:job(job.id).failure)
  end)

  it("goes by a clock that was set back", function()
    local store = client.driver.store
    local function due(id, spec)
      assert(q:schedule(id, spec, { name = id }))
      local later = require("perigee.time").now() + 3600000
      assert(store:exec("UPDATE schedule SET next = ? WHERE id = ?", later, id))
    end
    due("often", { every = "10m" })
    due("hourly", { cron = "*/5 * * * *" })
    due("nightly", { cron = ("0 %d * * *"):format(
      (os.date("!*t").hour + 2) % 24) })
    store.drift = -1e9 -- as if the clock had been another
    assert(store:exec "UPDATE queue SET paused = 0") -- rings
    store:notify_all()
    local function next_of(id)
      for _, schedule in ipairs(q:schedules()) do
        if schedule.id == id then
          return schedule.next - require("perigee.time").now()
        end
      end
    end
    for _ = 1, 400 do
      if next_of "hourly" < 301000 then break end
      task.sleep(10)
    end
    assert.is_true(next_of "hourly" <= 300000)
    assert.is_true(next_of "often" <= 600000)
    assert.is_true(next_of "nightly" > 3000000)
    for _, id in ipairs { "often", "hourly", "nightly" } do
      assert(q:unschedule(id))
    end
  end)

  it("lets times pass while the job before has not begun", function()
    local function due(id, spec)
      assert(q:schedule(id, spec, { name = id }))
      local began = q:schedules()[1].next
      for _ = 1, 1000 do
        if q:schedules()[1].next >= began + 100 then break end
        task.sleep(5)
      end
      local waiting = q:counts().waiting
      assert(q:unschedule(id))
      return waiting
    end
    assert.equal(1, due("one", { every = 20 }))
    assert.is_true(due("all", { every = 20, catch_up = "all" }) > 2)
  end)

  -- With nothing that makes it look again before: it would wait for an hour.
  it("runs what is due at once, also one at a time", function()
    local patient = {}
    for key, value in pairs(settings) do
      patient[key] = value
    end
    patient.idle_timeout = 3600000
    local one = queue.open(patient).driver:consume(q.name, { concurrency = 1 })
    for _ = 1, 4 do
      assert(q:add("late", nil, { delay = 30 }))
      local jobs, err = task.with_deadline("10s", function()
        return one:take(1)
      end)
      assert.is_nil(err)
      assert(one:complete(jobs[1], "1"))
    end
    one:close()
  end)

  it("has one owner for all consumers of a worker", function()
    local own = {}
    for key, value in pairs(settings) do
      own[key] = value
    end
    own.path = path .. "-owner"
    local driver = queue.open(own).driver
    local opened = {}
    for i = 1, 4 do
      opened[i] = driver:consume("q" .. i, { concurrency = 1 })
      task.spawn(function() opened[i]:take(1) end)
    end
    repeat
      task.sleep(5)
    until #driver.store.consumers >= 4
    local rows = assert(driver.store.db:query "SELECT id FROM owner")
    assert.same({ { id = driver.store.owner } }, rows)
    for _, one in ipairs(opened) do one:close() end
    driver:close()
    for _, suffix in ipairs { "", "-wal", "-shm", "-bell", "-owners" } do
      os.remove(own.path .. suffix)
    end
  end)

  -- Numbers are taken by a write of their own, and come in blocks of 1,000.
  it("takes numbers for jobs before the transaction that adds them", function()
    local own = {}
    for key, value in pairs(settings) do
      own[key] = value
    end
    own.path = path .. "-numbers"
    local driver
    local function first(add)
      driver = queue.open(own).driver
      local job, err = task.with_deadline("5s", add, queue.open(own))
      assert.is_nil(err)
      assert.is_table(job)
    end
    first(function(other)
      return other:flow { name = "p", queue = "q",
        children = { { name = "c", queue = "q" } } }
    end)
    driver.store.next_number = driver.store.last_number
    first(function(other)
      return other:get "q":add("x", nil, { dedup = { id = "d" } })
    end)
    driver:close()
    for _, suffix in ipairs { "", "-wal", "-shm", "-bell", "-owners", "-turn" } do
      os.remove(own.path .. suffix)
    end
  end)

  it("takes nothing into a file that was deleted, and goes on", function()
    local own = {}
    for key, value in pairs(settings) do
      own[key] = value
    end
    own.path = path .. "-moved"
    local other = queue.open(own):get "q"
    assert(other:add("x"))
    assert(os.rename(own.path, own.path .. "-away"))
    local job, err = other:add("x")
    assert.is_nil(job)
    assert.equal("unavailable", err.kind)
    assert.equal("SQLITE_READONLY_DBMOVED", err.code)
    assert(os.rename(own.path .. "-away", own.path))
    assert(other:add("x"))
    assert.equal(2, other:counts().waiting)
    other.driver:close()
    for _, suffix in ipairs { "", "-wal", "-shm", "-bell", "-owners", "-turn" } do
      os.remove(own.path .. suffix)
    end
  end)

  it("says so when the disk is full, loses nothing, and goes on", function()
    local db = client.driver.store.db
    local pages = assert(db:one "PRAGMA page_count").page_count
    assert(db:exec(("PRAGMA max_page_count = %d"):format(pages + 5)))
    local added, job, err = 0
    repeat
      job, err = q:add("x", { pad = ("x"):rep(1000) })
      added = added + (job and 1 or 0)
    until not job or added > 1000
    assert.equal("unavailable", err.kind)
    assert.matches("full", err.message)
    assert.equal(added, q:counts().waiting)
    assert(db:exec "PRAGMA max_page_count = 1000000")
    assert(q:add("x"))
    assert.equal(added + 1, q:counts().waiting)
  end)

  it("ends what has run when the disk has room again", function()
    local db = client.driver.store.db
    local job = assert(q:add("x"))
    local record = take(1)[1]
    local pages = assert(db:one "PRAGMA page_count").page_count
    assert(db:exec(("PRAGMA max_page_count = %d"):format(pages)))
    local ended = task.spawn(function()
      return consumer:complete(record, ('"%s"'):format(("x"):rep(1e6)))
    end)
    task.sleep(120)
    assert.equal("active", q:job(job.id).state)
    assert(db:exec "PRAGMA max_page_count = 1000000")
    assert.is_true(ended:join())
    assert.equal("completed", q:job(job.id).state)
  end)

  it("adds as part of a transaction of the application's", function()
    local sqlite = require "perigee.sqlite"
    local db = sqlite.get()
    assert(db:exec "DROP TABLE IF EXISTS perigee_outbox")
    local kept = db:transaction(function(tx)
      return assert(q:add("kept", { n = 1 }, { tx = tx }))
    end)
    local _, err = db:transaction(function(tx)
      assert(q:add("undone", nil, { tx = tx }))
      return nil, require("perigee.error").new("conflict", "no")
    end)
    assert.equal("conflict", err.kind)
    local record = take(1)[1]
    assert.equal("kept", record.name)
    assert.equal(kept.id, record.id)
    assert.equal(0, q:counts().waiting)
  end)
end)

describe("a signal", function()
  local new = require("perigee.core.queue").signal

  it("is not spent on one whose time has passed", function()
    local signal = new()
    local seen = {}
    assert(task.spawn(function()
      seen[1] = signal:wait(5)
      signal:set() -- by whoever runs then
      seen[2] = signal:wait(1000)
      return true
    end):join())
    assert.same({ false, true }, seen)
  end)
end)
