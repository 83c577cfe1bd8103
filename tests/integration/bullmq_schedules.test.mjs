// Schedules of queues that Node's bullmq and the redis driver share.
import assert from "node:assert/strict";
import { test } from "node:test";
import { missing, setup } from "./bullmq_helpers.mjs";
import { until } from "./helpers.mjs";

const LONG = { timeout_ms: 30_000 };

test("schedulers of both sides, run by the other", { skip: missing }, async (t) => {
  const { run, open } = await setup(t);
  const queue = open("Queue", "ticks");
  await queue.upsertJobScheduler("theirs", { every: 100 }, { name: "tick", data: { by: "node" } });
  await queue.upsertJobScheduler("limited", { every: 50, limit: 3 }, { name: "thrice", data: {} });
  await queue.upsertJobScheduler("cron", { pattern: "* * * * * *", tz: "Europe/Berlin" }, { name: "second", data: { c: 1 } });
  await run(`workers.ran = {}
    workers.start("ticks", 4, function(job)
      workers.ran[job.name] = (workers.ran[job.name] or 0) + 1
      return "null"
    end)`);
  const ran = async () => (await run("return workers.ran"))[0];
  await until(async () => {
    const counts = await ran();
    return counts.tick >= 4 && counts.second >= 2 && counts.thrice === 3;
  }, LONG);
  const before = await queue.getJobScheduler("theirs");
  assert.equal(before.every, 100);
  assert.ok(before.iterationCount >= 4, `${before.iterationCount}`);
  assert.ok((await queue.getJobScheduler("cron")).next > Date.now() - 60_000);
  const [list] = await run(`return queue.get("ticks"):schedules()`);
  assert.deepEqual(list.map((s) => s.id).sort(), ["cron", "limited", "theirs"]);
  assert.equal(list.find((s) => s.id === "cron").tz, "Europe/Berlin");
  assert.deepEqual(await run(`return queue.get("ticks"):unschedule("cron"), queue.get("ticks"):unschedule("cron")`), [true, false]);
  assert.equal(await queue.removeJobScheduler("theirs"), true);
  assert.equal(await queue.removeJobScheduler("limited"), true);
  await run("workers.stop()");

  const seen = [];
  const worker = open("Worker", "ticks", async (job) => { seen.push([job.name, job.data.by ?? null, job.repeatJobKey]); });
  await worker.waitUntilReady();
  await run(`assert(queue.get("ticks"):schedule("ours", { every = 100 }, { name = "tock", data = { by = "lua" } }))`);
  await until(() => seen.filter(([name]) => name === "tock").length >= 3, LONG);
  assert.deepEqual(seen.find(([name]) => name === "tock"), ["tock", "lua", "ours"]);
  assert.equal((await queue.getJobSchedulers()).length, 1);
  await run(`assert(queue.get("ticks"):schedule("ours", { cron = "* * * * * *" }, { name = "cron", data = { by = "lua" } }))`);
  await until(() => seen.filter(([name]) => name === "cron").length >= 2, LONG);
  assert.deepEqual(await run(`return queue.get("ticks"):unschedule "ours"`), [true]);
  assert.equal(await queue.getDelayedCount(), 0);
});

test("workers that put the same schedule at once put it once, whenever it fires between", { skip: missing }, async (t) => {
  const { run } = await setup(t);
  // The second has looked, and goes on when the first one's job has begun.
  assert.deepEqual(await run(`
    local q, store = queue.get "same", workers.driver().store
    local ran, plain = 0, store.run
    workers.start("same", 2, function() ran = ran + 1 return "null" end)
    function store.run(self, name, ...)
      if name == "schedule" then
        store.run = nil
        assert(q:schedule("s", { every = "1h" }))
        while ran == 0 do task.sleep(5) end
      end
      return plain(self, name, ...)
    end
    local second = assert(q:schedule("s", { every = "1h" }))
    task.sleep(200)
    return ran, q:counts().delayed, second.next == q:schedules()[1].next`), [1, 1, true]);
});

test("a pattern of Node's that only it has a form for goes on here", { skip: missing }, async (t) => {
  const { run, open } = await setup(t);
  const queue = open("Queue", "months");
  await queue.upsertJobScheduler("last", { pattern: "0 0 L * *", tz: "UTC" }, { name: "month" });
  const first = await queue.getJobScheduler("last");
  await run(`workers.start("months", 1, function() return "null" end)`);
  await (await queue.getDelayed())[0].promote();
  await until(async () => (await queue.getJobScheduler("last")).iterationCount === 2, LONG);
  const next = new Date((await queue.getJobScheduler("last")).next);
  assert.ok(next.getTime() > first.next, next.toISOString());
  assert.equal(new Date(next.getTime() + 86_400_000).getUTCDate(), 1);
});

test("what came due while nobody was there is left out where the code says so", { skip: missing }, async (t) => {
  const { run } = await setup(t);
  assert.deepEqual(await run(`
    local time = require "perigee.time"
    local function say(name, catch_up)
      local start = name .. catch_up
      workers[start] = workers[start] or time.now() + 50
      return assert(queue.get(name):schedule("s", { every = "1h", start = workers[start], catch_up = catch_up })).next
    end
    say("one", "one") say("none", "none")
    task.sleep(2300)
    local now = time.now()
    local one, none = say("one", "one"), say("none", "none")
    local ran = {}
    for _, name in ipairs { "one", "none" } do
      workers.start(name, 1, function(job) ran[#ran + 1] = name return "null" end)
    end
    task.sleep(300)
    return one < now, none > now, table.concat(ran, ","), queue.get("none"):counts().delayed`), [true, true, "one", 1]);
});
