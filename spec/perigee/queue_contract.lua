--- What every driver of queues has to do: run once for each of them by
--- queue_DRIVER_spec.lua. `settings` is what queue.open takes.

local errors = require "perigee.error"
local json = require "perigee.json"
local queue = require "perigee.queue"
local task = require "perigee.task"
local time = require "perigee.time"

local serial = 0

return function(driver_name, settings)
  describe("a queue on the driver " .. driver_name, function()
    local client, q, consumers, unique

    before_each(function()
      client = queue.open(type(settings) == "function" and settings()
        or settings)
      serial = serial + 1
      unique = ("spec-%d-%d"):format(math.random(1, 1e9), serial)
      q = client:get(unique)
      consumers = {}
    end)

    after_each(function()
      for _, consumer in ipairs(consumers) do
        consumer:close()
      end
      q:pause()
      q:obliterate { force = true }
    end)

    local function consume(name, options)
      options = options or {}
      options.concurrency = options.concurrency or 10
      local consumer = client.driver:consume(name or unique, options)
      consumers[#consumers + 1] = consumer
      return consumer
    end

    -- The next job; fails when there is none for long.
    local function take(consumer, n)
      local jobs, err = task.with_deadline("10s", function()
        return consumer:take(n or 1)
      end)
      assert.is_nil(err)
      return n and jobs or jobs[1]
    end

    local function nothing(consumer, ms)
      local _, err = task.with_deadline(ms or 100, function()
        return consumer:take(1)
      end)
      assert.equal("timeout", err and err.kind)
    end

    local function until_true(fn)
      for _ = 1, 400 do
        if fn() then
          return
        end
        task.sleep(25)
      end
      error("it did not come true", 2)
    end

    describe("add", function()
      it("gives a job with an id that is a string", function()
        local job = assert(q:add("mail", { to = "a" }))
        assert.is_string(job.id)
        assert.equal(1, q:counts().waiting)
      end)

      it("brings data back as they went in", function()
        local text = '{"a":[],"big":1e21,"n":null,"o":{},"s":"ü\\u0000"}'
        local job = assert(q:add("x", (json.decode(text))))
        local found = assert(q:job(job.id))
        assert.equal(json.encode((json.decode(text)), { pretty = true }),
          json.encode(found.data, { pretty = true }))
        assert.equal("x", found.name)
        assert.equal("waiting", found.state)
        assert.equal(0, found.attempts)
      end)

      it("serves in the order of adding", function()
        for i = 1, 5 do
          assert(q:add("x", { n = i }))
        end
        local consumer = consume()
        for i = 1, 5 do
          assert.equal(i, json.decode(take(consumer).data).n)
        end
      end)

      it("puts lifo jobs in front", function()
        assert(q:add("a"))
        assert(q:add("b", nil, { lifo = true }))
        local consumer = consume()
        assert.equal("b", take(consumer).name)
        assert.equal("a", take(consumer).name)
      end)

      it("serves no priority first, then 1 before 5", function()
        assert(q:add("five", nil, { priority = 5 }))
        assert(q:add("one", nil, { priority = 1 }))
        assert(q:add("none"))
        local counts = q:counts()
        assert.equal(2, counts.prioritized)
        assert.equal(1, counts.waiting)
        local consumer = consume()
        for _, name in ipairs { "none", "one", "five" } do
          assert.equal(name, take(consumer).name)
        end
      end)

      it("takes no id that is a key of the queue's own, nor gives one", function()
        local job = assert(q:add("x"))
        for _, id in ipairs { "wait", "meta", "de:1:2", job.id .. ":logs" } do
          assert.error_matches(function()
            q:add("x", nil, { job_id = id })
          end, "own")
          assert.same({}, { q:job(id) })
          local driver = client.driver
          for _, verb in ipairs { "remove", "retry", "promote" } do
            local _, err = driver[verb](driver, unique, id)
            assert.equal("not_found", err and err.kind)
          end
        end
        assert.equal("waiting", q:job(job.id).state)
        assert.equal(1, q:counts().waiting)
      end)

      it("takes an id, and once only", function()
        local job = assert(q:add("x", { n = 1 }, { job_id = "order-7" }))
        assert.equal("order-7", job.id)
        local again = assert(q:add("x", { n = 2 }, { job_id = "order-7" }))
        assert.equal("order-7", again.id)
        assert.equal(1, q:counts().waiting)
        assert.equal(1, q:job("order-7").data.n)
      end)

      it("refuses what is no option", function()
        assert.error_matches(function()
          q:add("x", nil, { dely = 1 })
        end, "unknown option")
        assert.error_matches(function()
          q:add("x", nil, { attempts = 0 })
        end, "attempts")
        assert.error_matches(function()
          q:add("x", nil, { job_id = "12" })
        end, "job_id")
        assert.error_matches(function()
          q:add_bulk { { name = "x" }, 5 }
        end, "item 2 is a number")
        assert.error_matches(function()
          q:limit { concurency = 1 }
        end, "unknown limit concurency")
        assert.same({}, q:jobs "waiting")
      end)

      it("refuses names and ids that are no UTF-8", function()
        local odd = "\255"
        for _, opts in ipairs { { job_id = odd }, { group = odd },
          { dedup = odd }, { dedup = { id = odd } } } do
          assert.error_matches(function() q:add("x", nil, opts) end, "UTF%-8")
        end
        assert.error_matches(function() client:get(odd) end, "UTF%-8")
        assert.error_matches(function()
          q:schedule(odd, { every = "1h" })
        end, "UTF%-8")
        assert.error_matches(function()
          q:schedule("s", { every = "1h", immediately = "no" })
        end, "immediately")
        assert.same({}, q:jobs "waiting")
      end)

      it("refuses what is beyond all measure", function()
        assert(q:add("x", nil, { job_id = ("i"):rep(1000) }))
        for name, value in pairs {
          delay = 1e300, attempts = math.huge, timeout = 2 ^ 41,
          job_id = ("i"):rep(1001), group = ("g"):rep(1001),
        } do
          assert.error_matches(function()
            q:add("x", nil, { [name] = value })
          end, name)
        end
      end)

      it("refuses ranges and limits that are none", function()
        for _, range in ipairs { { -1, 5 }, { 0.5, 2 }, { 0, -2 }, { "a" } } do
          assert.error_matches(function()
            q:jobs("waiting", range)
          end, "range")
        end
        for _, limit in ipairs {
          { concurrency = 0 }, { concurrency = 0 / 0 },
          { concurrency = math.huge }, { concurrency = 1.5 },
          { group = { concurrency = 0 } },
          { rate = { max = 0 / 0, duration = 1 } },
          { rate = { max = math.huge, duration = 1 } },
          { rate = { max = 1, duration = 1, burst = 1 } },
          { group = { group = { concurrency = 1 } } },
        } do
          assert.is_false((pcall(q.limit, q, limit)))
        end
        assert.error_matches(function()
          q:clean(0, "x")
        end, "limit")
      end)

      it("refuses a change that is none, and leaves the job as it is", function()
        local job = assert(q:add("x", nil, { priority = 3 }))
        for _, priority in ipairs { -1, 1.5, "high", 2097152 } do
          assert.error_matches(function()
            job:change_priority(priority)
          end, "priority")
        end
        assert.error_matches(function()
          job:change_delay "soon"
        end, "delay")
        assert.equal("prioritized", q:job(job.id).state)
        assert.equal(3, q:job(job.id).priority)
      end)

      it("refuses fields that nobody knows, of many and of a schedule",
        function()
          assert.error_matches(function()
            q:add_bulk { { name = "x", delay = "1m" } }
          end, "item 1: unknown option delay")
          assert.error_matches(function()
            q:schedule("s", { every = "1h" }, { name = "x", attempts = 2 })
          end, "unknown option attempts")
        end)

      it("says what JSON cannot", function()
        local job, err = q:add("x", { f = print })
        assert.is_nil(job)
        assert.equal("invalid", err.kind)
      end)

      it("adds many at once, in order", function()
        local list = {}
        for i = 1, 50 do
          list[i] = { name = "x", data = { n = i } }
        end
        local jobs = assert(q:add_bulk(list))
        assert.equal(50, #jobs)
        assert.equal(50, q:counts().waiting)
        local consumer = consume()
        local seen = {}
        while #seen < 50 do
          for _, record in ipairs(take(consumer, 10)) do
            seen[#seen + 1] = json.decode(record.data).n
          end
        end
        for i = 1, 50 do
          assert.equal(i, seen[i])
        end
      end)

      it("keeps one of those with the same dedup id", function()
        local first = assert(q:add("x", { n = 1 }, { dedup = { id = "d" } }))
        local second = assert(q:add("x", { n = 2 }, { dedup = { id = "d" } }))
        assert.equal(first.id, second.id)
        assert.equal(1, q:counts().waiting)
        local consumer = consume()
        assert(consumer:complete(take(consumer), "1"))
        local third = assert(q:add("x", { n = 3 }, { dedup = { id = "d" } }))
        assert.are_not.equal(first.id, third.id)
      end)

      it("holds a dedup id for its ttl", function()
        local first = assert(q:add("x", nil,
          { dedup = { id = "d", ttl = "1h" } }))
        local consumer = consume()
        assert(consumer:complete(take(consumer), "1"))
        local second = assert(q:add("x", nil,
          { dedup = { id = "d", ttl = "1h" } }))
        assert.equal(first.id, second.id)
      end)

      it("holds a dedup id without a time until the job has ended", function()
        local opts = { dedup = { id = "d", ttl = 0 } }
        local first = assert(q:add("x", nil, opts))
        task.sleep(5)
        assert.equal(first.id, assert(q:add("x", nil, opts)).id)
        local consumer = consume()
        assert(consumer:complete(take(consumer), "1"))
        assert.are_not.equal(first.id, assert(q:add("x", nil, opts)).id)
      end)

      it("gives a dedup id free with the job that is removed", function()
        local dedup = { dedup = { id = "d", ttl = "1h" } }
        local first = assert(q:add("x", nil, dedup))
        assert(first:remove())
        local second = assert(q:add("x", nil, dedup))
        assert.are_not.equal(first.id, second.id)
        assert.equal(1, q:drain())
        local third = assert(q:add("x", nil, dedup))
        assert.are_not.equal(second.id, third.id)
      end)

      it("replaces nothing by a job whose id is there already", function()
        local dedup = { id = "d", replace = true }
        local delayed = assert(q:add("x", nil, { delay = "1h", dedup = dedup }))
        assert(q:add("x", nil, { job_id = "mine" }))
        local again = assert(q:add("x", nil, { job_id = "mine", dedup = dedup }))
        assert.equal("mine", again.id)
        assert.is_true(again.duplicate)
        assert.equal("delayed", assert(q:job(delayed.id)).state)
      end)

      it("tells of the job that another one has replaced", function()
        local removed
        local off = q:on("removed", function(event)
          removed = event.id
        end)
        local opts = { delay = "1h", dedup = { id = "d", replace = true } }
        local first = assert(q:add("x", nil, opts))
        until_true(function()
          assert(q:add("x", nil, opts))
          return removed
        end)
        off()
        assert.is_nil(q:job(first.id))
      end)
    end)

    describe("a delayed job", function()
      it("waits for its time", function()
        local consumer = consume()
        local job = assert(q:add("x", nil, { delay = 300 }))
        assert.equal(1, q:counts().delayed)
        assert.equal("delayed", q:job(job.id).state)
        assert.equal(job.id, take(consumer).id)
      end)

      it("may be promoted", function()
        local job = assert(q:add("x", nil, { delay = "1h" }))
        assert(q:job(job.id):promote())
        assert.equal(job.id, take(consume()).id)
        local _, err = q:job(job.id):promote()
        assert.equal("conflict", err.kind)
      end)
    end)

    describe("a job that was taken", function()
      it("is active, then completed with its result", function()
        local job = assert(q:add("x"))
        local consumer = consume()
        local record = take(consumer)
        assert.equal("active", q:job(job.id).state)
        assert.equal(1, q:counts().active)
        assert(consumer:complete(record, '{"list":[]}'))
        local found = q:job(job.id)
        assert.equal("completed", found.state)
        assert.equal('{"list":[]}', json.encode(found.result))
        assert.equal(1, found.attempts)
        assert.is_number(found.finished_on)
        assert.equal(1, q:counts().completed)
      end)

      it("has json.null for a result that is null", function()
        local job = assert(q:add("x"))
        local consumer = consume()
        assert(consumer:complete(take(consumer), "null"))
        assert.equal(json.null, q:job(job.id).result)
      end)

      it("ends once: a late finisher is refused", function()
        assert(q:add("x"))
        local consumer = consume()
        local record = take(consumer)
        assert(consumer:complete(record, "1"))
        local ok, err = consumer:complete(record, "2")
        assert.is_nil(ok)
        assert.equal("conflict", err.kind)
      end)

      it("goes back without a lost attempt when it is released", function()
        local job = assert(q:add("x"))
        assert(q:add("y"))
        local consumer = consume()
        local record = take(consumer)
        assert(consumer:release(record))
        assert.equal("waiting", q:job(job.id).state)
        local ok, err = consumer:complete(record, "1")
        assert.is_nil(ok)
        assert.equal("conflict", err.kind)
        record = take(consumer)
        assert.equal(job.id, record.id)
        assert.equal(0, record.attempts)
      end)

      it("is tried again at once, or later", function()
        local job = assert(q:add("x", nil, { attempts = 3 }))
        local consumer = consume()
        assert(consumer:fail(take(consumer), { message = "no" }, 0))
        local record = take(consumer)
        assert.equal(1, record.attempts)
        assert(consumer:fail(record, { message = "no, later" }, 200))
        assert.equal("delayed", q:job(job.id).state)
        assert.equal("no, later", q:job(job.id).failure)
        record = take(consumer)
        assert.equal(2, record.attempts)
        assert(consumer:complete(record, "1"))
        assert.equal(3, q:job(job.id).attempts)
      end)

      it("fails for good, and may be retried by hand", function()
        local job = assert(q:add("x"))
        local consumer = consume()
        assert(consumer:fail(take(consumer), { message = "broken",
          stack = "at x" }))
        local found = q:job(job.id)
        assert.equal("failed", found.state)
        assert.equal("broken", found.failure)
        assert.equal(1, q:counts().failed)
        assert.equal(job.id, q:jobs("failed")[1].id)
        assert(found:retry())
        assert.equal("waiting", q:job(job.id).state)
        local again = take(consumer)
        assert.equal(job.id, again.id)
        assert.equal(1, again.attempts) -- what was made is not forgotten
      end)

      it("cannot be removed", function()
        local job = assert(q:add("x"))
        take(consume())
        local ok, err = job:remove()
        assert.is_nil(ok)
        assert.equal("conflict", err.kind)
      end)

      it("may be cancelled while it runs", function()
        local told
        local consumer = consume(nil, { on_cancel = function(record, reason)
          told = { record.id, reason }
        end })
        local job = assert(q:add("x"))
        local ok, err = job:cancel()
        assert.is_nil(ok)
        assert.equal("conflict", err.kind)
        take(consumer)
        assert(job:cancel "enough")
        until_true(function() return told end)
        assert.same({ job.id, "enough" }, told)
      end)

      it("tells its progress and keeps a log", function()
        local job = assert(q:add("x"))
        take(consume())
        local driver = client.driver
        assert(driver:progress(unique, job.id, '{"done":3}'))
        assert.equal(1, driver:log(unique, job.id, "one"))
        assert.equal(2, driver:log(unique, job.id, "two"))
        local found = q:job(job.id)
        assert.same({ done = 3 }, found.progress)
        assert.same({ "one", "two" }, found.logs)
      end)

      it("keeps as many lines as it is told", function()
        local job = assert(q:add("x"))
        local driver = client.driver
        for i = 1, 3 do
          assert(driver:log(unique, job.id, "line " .. i, 2))
        end
        assert.same({ "line 2", "line 3" }, q:job(job.id).logs)
        assert(driver:log(unique, job.id, "line 4", 0))
        assert.same({}, q:job(job.id).logs)
      end)

      it("remembers its steps", function()
        local job = assert(q:add("x"))
        local driver = client.driver
        assert.is_nil(driver:recall(unique, job.id, "paid"))
        assert(driver:remember(unique, job.id, "paid", '{"id":7}'))
        assert.equal('{"id":7}', driver:recall(unique, job.id, "paid"))
      end)
    end)

    describe("retention", function()
      it("removes completed jobs at once", function()
        local job = assert(q:add("x", nil, { remove_on_complete = true }))
        local consumer = consume()
        assert(consumer:complete(take(consumer), "1"))
        assert.is_nil(q:job(job.id))
        assert.equal(0, q:counts().completed)
      end)

      it("of none is no end for those that were kept", function()
        local consumer = consume()
        for _, opts in ipairs { {}, { remove_on_complete = 0 },
          { remove_on_complete = { count = 0 } } } do
          assert(q:add("x", nil, opts))
          assert(consumer:complete(take(consumer), "1"))
        end
        assert.equal(1, q:counts().completed)
        for _, keep in ipairs { false, 0 } do
          assert(q:add("x", nil, { remove_on_fail = keep }))
          assert(consumer:fail(take(consumer), { message = "no" }))
        end
        assert.equal(1, q:counts().failed)
      end)

      it("keeps as many as it is told", function()
        local consumer = consume()
        local last
        for _ = 1, 5 do
          last = assert(q:add("x", nil, { remove_on_complete = 2,
            remove_on_fail = 1 }))
          assert(consumer:complete(take(consumer), "1"))
        end
        assert.equal(2, q:counts().completed)
        assert.equal(last.id, q:jobs("completed")[1].id)
      end)
    end)

    describe("administration", function()
      it("pauses and resumes", function()
        local consumer = consume()
        assert(q:pause())
        assert.is_true(q:is_paused())
        assert(q:add("x"))
        local counts = q:counts()
        assert.equal(1, counts.paused)
        assert.equal(0, counts.waiting)
        nothing(consumer)
        assert(q:resume())
        assert.equal("x", take(consumer).name)
      end)

      it("keeps the order of what it could not hand out", function()
        local consumer = consume()
        assert(q:pause())
        local _, err = task.with_deadline(100, function()
          return consumer:take(3)
        end)
        assert.equal("timeout", err.kind)
        local ids = {}
        for i = 1, 3 do
          ids[i] = assert(q:add("x", i)).id
        end
        assert(q:resume())
        task.sleep(200)
        for i = 1, 3 do
          assert.equal(ids[i], take(consumer).id)
        end
      end)

      it("drains what waits", function()
        assert(q:add("a"))
        assert(q:add("b", nil, { priority = 1 }))
        assert(q:add("c", nil, { delay = "1h" }))
        assert(q:drain())
        assert.same({ 0, 0, 1 }, { q:counts().waiting,
          q:counts().prioritized, q:counts().delayed })
        assert(q:drain { delayed = true })
        assert.equal(0, q:counts().delayed)
      end)

      it("cleans what has ended", function()
        local consumer = consume()
        local ids = {}
        for i = 1, 3 do
          ids[i] = assert(q:add("x")).id
          assert(consumer:complete(take(consumer), "1"))
        end
        assert.same({}, q:clean("1h"))
        task.sleep(5)
        assert.same({ ids[1] }, q:clean(0, 1))
        assert.equal(2, #q:clean(0))
        assert.equal(0, q:counts().completed)
      end)

      it("cleans of those that wait only what is of that state", function()
        assert(q:add("x"))
        assert(q:add("x", nil, { priority = 1 }))
        task.sleep(5)
        assert.same({}, q:clean(0, 0, "paused"))
        assert(q:pause())
        assert.same({}, q:clean(0, 0, "waiting"))
        assert.equal(1, #q:clean(0, 0, "paused"))
        assert.equal(1, q:counts().prioritized)
      end)

      it("removes one, changes its data and its priority", function()
        local job = assert(q:add("x", { n = 1 }))
        assert(q:job(job.id):update { n = 2 })
        assert.equal(2, q:job(job.id).data.n)
        assert(job:change_priority(3))
        assert.equal(1, q:counts().prioritized)
        assert(job:remove())
        assert.is_nil(q:job(job.id))
        local _, err = job:remove()
        assert.equal("not_found", err.kind)
      end)

      it("lists by state, with a range", function()
        for i = 1, 5 do
          assert(q:add("x", { n = i }))
        end
        local list = assert(q:jobs("waiting", { from = 1, to = 2 }))
        assert.same({ 2, 3 }, { list[1].data.n, list[2].data.n })
        assert.equal(5, q:jobs("waiting", { ascending = false })[1].data.n)
      end)

      it("gives what JSON takes as it is", function()
        local job = assert(q:add("x", { n = 1 }))
        for _, one in ipairs { job, q:job(job.id), q:jobs "waiting" } do
          local shown = json.decode(assert(json.encode(one)))
          shown = shown[1] or shown
          assert.equal(job.id, shown.id)
          assert.same({ n = 1 }, shown.data)
        end
        for _, list in ipairs { q:jobs "failed", q:schedules(), q:clean(0),
          q:add_bulk {}, q:job(job.id).logs } do
          assert.equal("[]", json.encode(list))
        end
      end)

      it("obliterates only what is paused", function()
        assert(q:add("x"))
        local ok, err = q:obliterate()
        assert.is_nil(ok)
        assert.equal("conflict", err.kind)
        assert(q:pause())
        assert(q:obliterate())
        assert.is_false(q:is_paused())
        assert.equal(0, q:counts().waiting)
      end)

      it("knows the names of its queues", function()
        assert(q:add("x"))
        local found = false
        for _, name in ipairs(assert(client:names())) do
          found = found or name == unique
        end
        assert.is_true(found)
      end)
    end)

    describe("limits of the whole queue", function()
      it("hold for how many run at once", function()
        assert(q:limit { concurrency = 2 })
        for _ = 1, 4 do
          assert(q:add("x"))
        end
        local consumer = consume()
        local jobs = take(consumer, 10)
        if #jobs == 1 then
          jobs[2] = take(consumer)
        end
        assert.equal(2, #jobs)
        nothing(consumer)
        assert(consumer:complete(jobs[1], "1"))
        assert.equal("x", take(consumer).name)
      end)

      it("hold for how many begin in a time", function()
        assert(q:limit { rate = { max = 2, duration = "1m" } })
        for _ = 1, 4 do
          assert(q:add("x"))
        end
        local consumer = consume()
        local seen = #take(consumer, 10)
        while seen < 2 do
          seen = seen + #take(consumer, 10)
        end
        assert.equal(2, seen)
        nothing(consumer)
      end)
    end)

    describe("limits of each group", function()
      local function add(names, opts)
        local ids = {}
        for name in names:gmatch "%S+" do
          local own = { group = name:sub(1, 1) }
          for key, value in pairs(opts or {}) do
            own[key] = value
          end
          ids[name] = assert(q:add(name, nil, own)).id
        end
        return ids
      end

      -- So many jobs as they come, by their names.
      local function take_names(consumer, count)
        local jobs, names = {}, {}
        while #names < count do
          for _, record in ipairs(take(consumer, count - #names)) do
            jobs[record.name] = record
            names[#names + 1] = record.name
          end
        end
        table.sort(names)
        return jobs, table.concat(names, " ")
      end

      local function names_of(state, range)
        local names = {}
        for i, job in ipairs(assert(q:jobs(state, range or { 0, -1 }))) do
          names[i] = job.name
        end
        return table.concat(names, " ")
      end

      it("hold for how many run at once, in order within the group", function()
        assert(q:limit { group = { concurrency = 1 } })
        add "a1 a2 a3 b1 b2"
        local consumer = consume()
        local jobs, names = take_names(consumer, 2)
        assert.equal("a1 b1", names)
        nothing(consumer)
        assert(consumer:complete(jobs.a1, "1"))
        assert.equal("a2", take(consumer).name)
        nothing(consumer)
        assert(consumer:fail(jobs.b1, { message = "no" }))
        local record = take(consumer)
        assert.equal("b2", record.name)
        assert(consumer:complete(record, "1"))
        nothing(consumer)
      end)

      it("have groups served in turn, also below their limits", function()
        assert(q:limit { group = { concurrency = 100 } })
        add "a1 a2 a3 b1"
        local consumer = consume()
        for _, name in ipairs { "a1", "b1", "a2" } do
          local record = take(consumer)
          assert.equal(name, record.name)
          assert(consumer:complete(record, "1"))
        end
      end)

      it("do not let a backlog stop the others", function()
        assert(q:limit { group = { concurrency = 2 } })
        local many = {}
        for i = 1, 1300 do
          many[i] = { name = "a" .. i, opts = { group = "a" } }
        end
        assert(q:add_bulk(many))
        add "b1"
        assert(q:add("free"))
        local consumer = consume()
        local _, names = take_names(consumer, 4)
        assert.equal("a1 a2 b1 free", names)
        nothing(consumer)
        local counts = q:counts()
        assert.same({ 4, 1298, 0 }, { counts.active, counts.waiting,
          counts.delayed })
      end)

      it("serve those in turn that have something to do", function()
        assert(q:limit { group = { concurrency = 1 } })
        local consumer = consume()
        add "a1 b1 c1 a2 b2 c2 a3 b3 c3"
        local jobs = take_names(consumer, 3)
        nothing(consumer)
        for round = 2, 3 do
          for _, group in ipairs { "a", "b", "c" } do
            assert(consumer:complete(jobs[group .. round - 1], "1"))
            jobs[group .. round] = take(consumer)
            assert.equal(group .. round, jobs[group .. round].name)
          end
        end
      end)

      it("hold for how many begin in a time", function()
        assert(q:limit { group = { rate = { max = 2, duration = "1m" } } })
        add "a1 a2 a3 b1"
        local consumer = consume()
        local jobs, names = take_names(consumer, 3)
        assert.equal("a1 a2 b1", names)
        for _, record in pairs(jobs) do
          assert(consumer:complete(record, "1"))
        end
        nothing(consumer)
        assert.equal("a3", names_of "waiting")
      end)

      it("let a group go on when its time is over", function()
        assert(q:limit { group = { rate = { max = 1, duration = 200 } } })
        add "a1 a2 a3"
        local consumer = consume()
        for i = 1, 3 do
          assert.equal("a" .. i, take(consumer).name)
        end
      end)

      it("know what waits for its group as waiting", function()
        assert(q:limit { group = { concurrency = 1 } })
        local ids = add "a1 a2 a3 a4 a5"
        assert(q:add("later", nil, { group = "a", delay = "1h" }))
        local consumer = consume()
        local first = take(consumer)
        nothing(consumer)
        assert.same({ 4, 1, 1 }, { q:counts().waiting, q:counts().delayed,
          q:counts().active })
        assert.equal("a2 a3 a4 a5", names_of "waiting")
        assert.equal("a3 a4", names_of("waiting", { 1, 2 }))
        assert.equal("a4 a3", names_of("waiting",
          { from = 1, to = 2, ascending = false }))
        assert.equal("later", names_of "delayed")
        assert.equal("waiting", q:job(ids.a3).state)
        for _, verb in ipairs { "promote", "retry" } do
          local _, err = client.driver[verb](client.driver, unique, ids.a3)
          assert.equal("conflict", err and err.kind)
        end
        local _, err = q:job(ids.a3):change_delay "1h"
        assert.equal("conflict", err and err.kind)
        assert(q:job(ids.a2):remove())
        assert.equal("a3 a4 a5", names_of "waiting")
        assert(q:pause())
        assert.same({ 0, 3 }, { q:counts().waiting, q:counts().paused })
        assert.equal("a3 a4 a5", names_of "paused")
        assert.equal("paused", q:job(ids.a3).state)
        assert(consumer:complete(first, "1"))
        nothing(consumer)
        assert(q:resume())
        assert.equal("a3", take(consumer).name)
      end)

      it("are no hindrance to draining, cleaning and removing", function()
        assert(q:limit { group = { concurrency = 1 } })
        local ids = add "a1 a2 a3"
        add("a4", { delay = "1h" })
        local consumer = consume()
        local record = take(consumer)
        nothing(consumer)
        task.sleep(5)
        assert.equal(1, #q:clean(0, 0, "delayed"))
        assert.equal(2, q:counts().waiting)
        assert.same({ ids.a2 }, q:clean(0, 1, "waiting"))
        assert.equal(1, q:drain())
        assert.is_nil(q:job(ids.a3))
        assert.equal(0, q:counts().waiting)
        assert(consumer:complete(record, "1"))
        add "a5 a6"
        take(consumer)
        nothing(consumer)
        assert(q:pause())
        assert(q:obliterate { force = true })
        assert(q:resume())
        for _, count in pairs(q:counts()) do
          assert.equal(0, count)
        end
        add "a7 a8" -- without limits again
        assert.equal("a7 a8", (select(2, take_names(consumer, 2))))
      end)

      it("heed priorities within a group, also changed ones", function()
        assert(q:limit { group = { concurrency = 1 } })
        add "a0"
        local consumer = consume()
        local record = take(consumer)
        add("a5 a6", { priority = 5 })
        add("a1", { priority = 1 })
        local ids = add "a9"
        nothing(consumer)
        assert.equal(4, q:counts().waiting + q:counts().prioritized)
        assert(q:job(ids.a9):change_priority(6))
        for _, name in ipairs { "a1", "a5", "a6", "a9" } do
          assert(consumer:complete(record, "1"))
          record = take(consumer)
          assert.equal(name, record.name)
        end
      end)

      it("give the place back to one that is released", function()
        assert(q:limit { group = { concurrency = 1 } })
        add "a1 a2"
        local consumer = consume()
        local record = take(consumer)
        nothing(consumer)
        assert(consumer:release(record))
        record = take(consumer)
        assert.equal("a1", record.name)
        nothing(consumer)
      end)

      it("count a job that is tried again only while it runs", function()
        assert(q:limit { group = { concurrency = 1 } })
        add("a1", { attempts = 3 })
        add "a2 a3"
        local consumer = consume()
        local record = take(consumer)
        nothing(consumer)
        assert(consumer:fail(record, { message = "later" }, 50))
        record = take(consumer)
        assert.equal("a2", record.name)
        until_true(function()
          nothing(consumer, 20)
          return q:counts().delayed == 0
        end)
        nothing(consumer)
        assert(consumer:complete(record, "1"))
        local names = {}
        for i = 1, 2 do
          record = take(consumer)
          names[i] = record.name
          assert(consumer:complete(record, "1"))
        end
        table.sort(names)
        assert.same({ "a1", "a3" }, names)
      end)

      it("may be changed, and taken away, while jobs wait for them", function()
        local consumer = consume()
        add "a1"
        take(consumer)
        assert(q:limit { group = { concurrency = 1 } }) -- a1 counts
        add "a2 a3 a4 a5"
        nothing(consumer)
        assert(q:limit { group = { concurrency = 2 } })
        assert.equal("a2", take(consumer).name)
        nothing(consumer)
        assert(q:limit {})
        assert.equal("a3 a4 a5", (select(2, take_names(consumer, 3))))
      end)

      it("leave jobs without a group alone", function()
        assert(q:limit { group = { concurrency = 1 } })
        for _ = 1, 3 do
          assert(q:add("free", { group = "a" }))
        end
        local consumer = consume()
        assert.equal("free free free", (select(2, take_names(consumer, 3))))
      end)

      it("hold beside the limits of the whole queue", function()
        assert(q:limit { concurrency = 2, group = { concurrency = 1 } })
        add "a1 a2 b1 c1"
        local consumer = consume()
        local jobs, names = take_names(consumer, 2)
        assert.equal("a1 b1", names)
        nothing(consumer)
        assert(consumer:complete(jobs.b1, "1"))
        assert.equal("c1", take(consumer).name)
        nothing(consumer)
      end)
    end)

    describe("events", function()
      it("tell what happens", function()
        local seen = {}
        local off = q:on("completed", function(event)
          seen[#seen + 1] = event
        end)
        task.sleep(50)
        local job = assert(q:add("x"))
        local consumer = consume()
        assert(consumer:complete(take(consumer), '{"n":1}'))
        until_true(function()
          return #seen > 0
        end)
        assert.equal(job.id, seen[1].id)
        assert.same({ n = 1 }, seen[1].result)
        off()
      end)

      it("let a caller wait for the result", function()
        local consumer = consume()
        task.spawn(function()
          local record = take(consumer)
          task.sleep(50)
          assert(consumer:complete(record, "42"))
        end)
        local job = assert(q:add("x", nil, { remove_on_complete = true }))
        assert.equal(42, job:wait "10s")
      end)

      it("give a result of false as it is", function()
        local consumer = consume()
        local job = assert(q:add("x"))
        assert(consumer:complete(take(consumer), "false"))
        assert.is_false(job:wait "10s")
        assert.is_false(q:job(job.id).result)
      end)

      it("tell that no attempt is left, and that all is done", function()
        local seen, offs = {}, {}
        for _, name in ipairs { "failed", "retries_exhausted", "drained" } do
          offs[#offs + 1] = q:on(name, function()
            seen[name] = (seen[name] or 0) + 1
          end)
        end
        task.sleep(50)
        local consumer = consume()
        assert(q:add("x"))
        assert(consumer:fail(take(consumer), { message = "broken" }))
        until_true(function()
          return seen.failed and seen.retries_exhausted and seen.drained
        end)
        assert.same({ failed = 1, retries_exhausted = 1, drained = 1 }, seen)
        for _, off in ipairs(offs) do off() end
      end)

      it("let a caller wait for the failure", function()
        local consumer = consume()
        task.spawn(function()
          assert(consumer:fail(take(consumer), { message = "broken" }))
        end)
        local job = assert(q:add("x"))
        local result, err = job:wait "10s"
        assert.is_nil(result)
        assert.is_true(errors.is(err))
        assert.equal("broken", err.message)
        assert(job:retry())
        result, err = job:wait(1) -- for what it comes to now
        assert.is_nil(result)
        assert.equal("timeout", err.kind)
        assert(consumer:complete(take(consumer), "42"))
        assert.equal(42, job:wait "10s")
        assert.is_nil(q:job(job.id).failure)
      end)
    end)

    describe("flows", function()
      local function flow(opts)
        return assert(client:flow {
          name = "parent", queue = unique, data = { p = 1 },
          children = {
            { name = "a", queue = unique, data = { n = 1 }, opts = opts },
            { name = "b", queue = unique, data = { n = 2 } },
          },
        })
      end

      it("let parents wait for their children", function()
        local parent = flow()
        assert.equal(1, q:counts().waiting_children)
        local consumer = consume()
        for i = 1, 2 do
          assert(consumer:complete(take(consumer), tostring(i)))
        end
        local record = take(consumer)
        assert.equal(parent.id, record.id)
        local values = {}
        for _, value in pairs((assert(q:job(parent.id):children_values()))) do
          values[#values + 1] = value
        end
        table.sort(values)
        assert.same({ 1, 2 }, values)
      end)

      it("are added whole or not at all", function()
        assert(client:flow {
          name = "first", queue = unique, opts = { job_id = "first" },
          children = { { name = "c", queue = unique, opts = { job_id = "c" } } },
        })
        local before = q:counts()
        local _, err = client:flow {
          name = "second", queue = unique, opts = { job_id = "second" },
          children = {
            { name = "d", queue = unique },
            { name = "c", queue = unique, opts = { job_id = "c" } },
          },
        }
        assert.equal("conflict", err and err.kind)
        assert.is_nil(q:job "second")
        assert.same(before, q:counts())
        for _, wrong in ipairs { { childs = {} }, { opts = { dedup = "x" } } } do
          wrong.name, wrong.queue = "x", unique
          assert.error_matches(function() client:flow(wrong) end,
            wrong.childs and "unknown field childs" or "dedup")
        end
        assert.error_matches(function()
          client:flow { name = "x", queue = unique, children = "none" }
        end, "children: a list")
        local twin = { name = "x", queue = unique, opts = { job_id = "twin" } }
        local _, why = client:flow { name = "p", queue = unique,
          opts = { job_id = "twin" }, children = { twin } }
        assert.equal("conflict", why and why.kind)
        assert.same(before, q:counts())
      end)

      it("are drained with what waited for nothing else", function()
        local low = client:get(unique .. "-low")
        local function add()
          local child = { name = "c", queue = low.name }
          return assert(client:flow { name = "top", queue = unique,
            children = { { name = "mid", queue = low.name,
              children = { child, child } } } })
        end
        local top = add()
        assert(low:drain())
        assert.equal(0, low:counts().waiting)
        assert.equal(0, low:counts().waiting_children)
        assert.equal("waiting", q:job(top.id).state)
        -- clean takes the children first, not the parent that they release.
        local mid = add().children[1]
        task.sleep(5)
        local gone = {}
        for _ = 1, 2 do
          gone[#gone + 1] = low:clean(0, 1, "waiting")[1]
        end
        table.sort(gone)
        assert.matches('"children":%[%]', json.encode(mid.children[1]))
        local ids = { mid.children[1].id, mid.children[2].id }
        table.sort(ids)
        assert.same(ids, gone)
        low:pause()
        low:obliterate()
      end)

      it("let a parent complete that does without the others", function()
        local parent = flow { on_child_failure = "continue" }
        local consumer = consume()
        local jobs = {}
        while #jobs < 2 do
          for _, record in ipairs(take(consumer, 10)) do
            jobs[record.name] = record
            jobs[#jobs + 1] = record
          end
        end
        assert(consumer:fail(jobs.a, { message = "broken" }))
        assert(consumer:complete(take(consumer), "1"))
        assert.equal("completed", q:job(parent.id).state)
        assert(consumer:complete(jobs.b, "2"))
        assert.equal("completed", q:job(parent.id).state)
      end)

      it("let a parent go on when a failed child may be ignored", function()
        local parent = flow { on_child_failure = "ignore" }
        local consumer = consume()
        for _ = 1, 2 do
          local record = take(consumer)
          if record.name == "a" then
            assert(consumer:fail(record, { message = "no" }))
          else
            assert(consumer:complete(record, "1"))
          end
        end
        assert.equal(parent.id, take(consumer).id)
      end)

      it("are removed with their children, if none of them runs", function()
        local parent = flow()
        local consumer = consume()
        local record = take(consumer)
        local _, err = parent:remove()
        assert.equal("conflict", err and err.kind)
        assert(consumer:release(record))
        assert(parent:remove())
        for _, job in ipairs { parent, unpack(parent.children) } do
          assert.is_nil(q:job(job.id))
        end
      end)

      it("wait again for a child that is retried", function()
        for _, on in ipairs { "ignore", "remove" } do
          local parent = flow { on_child_failure = on }
          local consumer = consume()
          local jobs = {}
          for _ = 1, 2 do
            local record = take(consumer)
            jobs[record.name] = record
          end
          assert(consumer:fail(jobs.a, { message = "no" }))
          assert(parent.children[1]:retry())
          assert(consumer:complete(take(consumer), "1"))
          assert.equal("waiting_children", q:job(parent.id).state)
          assert(consumer:complete(jobs.b, "2"))
          local record = take(consumer)
          assert.equal(parent.id, record.id)
          assert(consumer:complete(record, "3"))
        end
      end)

      it("tell what becomes of the parent", function()
        local seen, offs = {}, {}
        for _, name in ipairs { "waiting", "failed" } do
          offs[#offs + 1] = q:on(name, function(event)
            seen[name .. " " .. event.id] = true
          end)
        end
        task.sleep(50)
        local parent = flow()
        local consumer = consume()
        for _ = 1, 2 do
          assert(consumer:complete(take(consumer), "1"))
        end
        until_true(function()
          return seen["waiting " .. parent.id]
        end)
        assert(consumer:complete(take(consumer), "1"))
        parent = flow { on_child_failure = "fail" }
        for _ = 1, 2 do
          local record = take(consumer)
          if record.name == "a" then
            assert(consumer:fail(record, { message = "no" }))
          else
            assert(consumer:complete(record, "1"))
          end
        end
        task.spawn(function()
          consumer:take(1) -- in Redis a worker has to find out
        end)
        until_true(function()
          return seen["failed " .. parent.id]
        end)
        for _, off in ipairs(offs) do off() end
      end)
    end)

    describe("schedules", function()
      it("that are said again go on, or stay ended", function()
        local schedule = { every = 100, limit = 2 }
        local function say()
          return assert(q:schedule("twice", schedule, { name = "t" }))
        end
        local consumer = consume()
        say()
        for i = 1, 2 do
          local record = take(consumer)
          if i == 1 then
            assert.equal(say().next, say().next)
          end
          assert(consumer:complete(record, "1"))
        end
        assert.is_nil(say().next)
        nothing(consumer, 400)
        schedule = { every = 110, limit = 1 }
        assert.is_number(say().next)
        assert(consumer:complete(take(consumer), "1"))
        nothing(consumer, 400)
      end)

      it("that are changed heed their new start", function()
        assert(q:schedule("late", { every = "1h" }))
        local start = time.now() + 5 * 3600000
        local changed = assert(q:schedule("late",
          { every = "1h", start = start }))
        assert.equal(start, changed.next)
      end)

      it("are invalid when they have no time to come", function()
        for _, spec in ipairs { { cron = "0 0 30 2 *" },
          { every = "1s", finish = 1000 }, { cron = "* * * * *", finish = 1 },
        } do
          local scheduled, err = q:schedule("never", spec)
          assert.is_nil(scheduled)
          assert.equal("invalid", err.kind)
        end
        assert.same({}, q:schedules())
      end)

      it("add a job again and again", function()
        assert(q:schedule("tick", { every = 100 }, { name = "t",
          data = { n = 1 } }))
        local consumer = consume()
        for _ = 1, 2 do
          local record = take(consumer)
          assert.equal("t", record.name)
          assert.equal(1, json.decode(record.data).n)
          assert(consumer:complete(record, "1"))
        end
        assert.equal("tick", q:schedules()[1].id)
        assert.is_true(q:unschedule "tick")
        assert.is_false(q:unschedule "tick")
      end)

      it("take along what has not begun when they end", function()
        assert(q:schedule("tick", { every = "1h" }, { name = "t" }))
        until_true(function()
          return q:counts().waiting == 1
        end)
        assert.is_true(q:unschedule "tick")
        assert.equal(0, q:counts().waiting)
      end)

      it("know when a cron pattern is next", function()
        local scheduled = assert(q:schedule("night", {
          cron = "30 3 * * *", tz = "UTC" }))
        assert.equal(3 * 3600 + 1800, scheduled.next / 1000 % 86400)
        assert(q:unschedule "night")
      end)

      it("refuse nonsense", function()
        assert.error_matches(function()
          q:schedule("x", { cron = "61 * * * *" })
        end, "minute")
        assert.error_matches(function()
          q:schedule("x", { every = "1s", cron = "* * * * *" })
        end, "either")
      end)
    end)
  end)
end
