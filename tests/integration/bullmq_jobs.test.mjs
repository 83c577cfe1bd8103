// One queue, two languages: Node's bullmq and the redis driver add and run each
// other's jobs. What is claimed of a job is asked of both sides.
import assert from "node:assert/strict";
import { test } from "node:test";
import { VERSIONS, load, missing, setup } from "./bullmq_helpers.mjs";
import { sleep, until, within } from "./helpers.mjs";

const DATA = { list: [], map: {}, none: null, big: 1e21, text: "żółć \u{1F600} \"/\\", deep: [[], [{}]] };

for (const version of VERSIONS) {
  const skip = missing || (load(version) ? false : `${version} does not load here`);

  test(`${version}: its jobs run here, ours run there, both see both`, { skip }, async (t) => {
    const { run, open } = await setup(t, { version });
    const queue = open("Queue", "mails");
    const events = open("QueueEvents", "mails");
    await events.waitUntilReady();

    // Theirs, run here.
    await run(`workers.start("mails", 5, function(job)
      local driver = workers.driver()
      driver:progress("mails", job.id, '{"at":50}')
      driver:log("mails", job.id, "half way")
      return '{"data":' .. job.data .. ',"name":"' .. job.name .. '"}'
    end)`);
    const job = await queue.add("send", DATA, { jobId: "first-one" });
    const result = await job.waitUntilFinished(events, 30_000);
    assert.deepEqual(result, { data: DATA, name: "send" });
    const seen = await queue.getJob(job.id);
    assert.equal(await seen.getState(), "completed");
    assert.deepEqual(seen.returnvalue, result);
    assert.deepEqual(seen.progress, { at: 50 });
    assert.equal(seen.attemptsMade, 1);
    assert.equal(seen.attemptsStarted, 1);
    assert.equal(seen.processedBy, "perigee");
    assert.ok(seen.finishedOn >= seen.processedOn && Math.abs(seen.processedOn - seen.timestamp) < 60_000);
    assert.deepEqual((await queue.getJobLogs(job.id)).logs, ["half way"]);
    const [ours] = await run(`return queue.get("mails"):job("first-one")`);
    assert.deepEqual(ours.data, DATA);
    assert.deepEqual(ours.result, result);
    assert.equal(ours.state, "completed");
    assert.deepEqual(ours.logs, ["half way"]);
    await run("workers.stop()");

    // Ours, run there.
    const worker = open("Worker", "mails", async (j) => {
      await j.updateProgress(7);
      return { got: j.data, name: j.name, opts: j.opts.attempts };
    });
    await worker.waitUntilReady();
    const [id] = await run(`
      local json = require "perigee.json"
      local job = assert(queue.get("mails"):add("there", json.decode(${lua_text(JSON.stringify(DATA))}), { attempts = 3 }))
      return job.id`);
    const done = await until(async () => {
      const j = await queue.getJob(id);
      return j?.finishedOn && j;
    }, { timeout_ms: 30_000 });
    assert.deepEqual(done.data, DATA);
    assert.deepEqual(done.returnvalue, { got: DATA, name: "there", opts: 3 });
    const [back] = await run(`return queue.get("mails"):job("${id}")`);
    assert.deepEqual(back.result, { got: DATA, name: "there", opts: 3 });
    assert.equal(back.progress, 7);
    assert.equal(back.attempts, 1);
    assert.deepEqual(await run(`return queue.get("mails"):counts()`), [{
      waiting: 0, active: 0, delayed: 0, prioritized: 0, completed: 2, failed: 0, paused: 0, waiting_children: 0,
    }]);
    const counts = await queue.getJobCounts();
    assert.equal(counts.completed, 2);
  });

  test(`${version}: failures, retries with backoff, unrecoverable ones`, { skip }, async (t) => {
    const { run, open } = await setup(t, { version });
    const queue = open("Queue", "q");
    const events = open("QueueEvents", "q");
    const exhausted = [];
    events.on("retries-exhausted", (e) => exhausted.push([e.jobId, Number(e.attemptsMade)]));
    await events.waitUntilReady();
    await run(`workers.start("q", 5, function(job)
      if job.name == "third" and job.attempts == 2 then return '"at last"' end
      return nil, (job.name == "never" and "unrecoverable: " or "") .. "no luck " .. job.attempts
    end)`);
    const third = await queue.add("third", {}, { attempts: 3, backoff: { type: "exponential", delay: 20 } });
    assert.equal(await third.waitUntilFinished(events, 30_000), "at last");
    const seen = await queue.getJob(third.id);
    assert.equal(seen.attemptsMade, 3);
    assert.equal(seen.stacktrace.length, 2);
    assert.match(seen.stacktrace[1], /no luck 1/);
    const lost = await queue.add("lost", {}, { attempts: 2, stackTraceLimit: 1 });
    await assert.rejects(lost.waitUntilFinished(events, 30_000), /no luck 1/);
    assert.equal((await queue.getJob(lost.id)).stacktrace.length, 1);
    const bare = await queue.add("lost", {}, { attempts: 1, stackTraceLimit: 0 });
    await assert.rejects(bare.waitUntilFinished(events, 30_000), /no luck 0/);
    assert.deepEqual((await queue.getJob(bare.id)).stacktrace, []);
    const never = await queue.add("never", {}, { attempts: 5 });
    await assert.rejects(never.waitUntilFinished(events, 30_000), /no luck 0/);
    assert.equal(await (await queue.getJob(lost.id)).getState(), "failed");
    assert.equal((await queue.getJob(never.id)).attemptsMade, 1);
    await until(() => exhausted.length > 1);
    assert.deepEqual(exhausted, [[lost.id, 2], [bare.id, 1]]);

    // Each retries what the other has failed.
    await run("workers.stop()");
    const worker = open("Worker", "q", async (j) => `node ${j.name}`);
    await worker.waitUntilReady();
    await run(`assert(queue.get("q"):job("${lost.id}")):retry()`);
    await until(async () => (await queue.getJob(lost.id)).returnvalue === "node lost", { timeout_ms: 30_000 });
    const [ours] = await run(`return queue.get("q"):job("${lost.id}")`);
    assert.equal(ours.state, "completed");
  });
}

function lua_text(text) {
  return `[==[${text}]==]`;
}

test("order: LIFO, priorities and delays, whoever adds and whoever runs", { skip: missing }, async (t) => {
  const { run, open } = await setup(t);
  const queue = open("Queue", "order");
  await queue.pause();
  const expected = ["node lifo", "lua lifo", "node", "lua", "lua 1", "node 2", "lua 2", "node 9"];
  await queue.add("node", {});
  await run(`local q = queue.get("order")
    assert(q:add("lua"))
    assert(q:add("lua lifo", nil, { lifo = true }))`);
  await queue.add("node lifo", {}, { lifo: true });
  await queue.add("node 9", {}, { priority: 9 });
  await queue.add("node 2", {}, { priority: 2 });
  await run(`local q = queue.get("order")
    assert(q:add("lua 2", nil, { priority = 2 }))
    assert(q:add("lua 1", nil, { priority = 1 }))
    local counts = q:counts()
    assert(counts.paused == 4 and counts.prioritized == 4 and counts.waiting == 0)
    local names = {}
    for i, job in ipairs(q:jobs "paused") do names[i] = job.name end
    assert(table.concat(names, ",") == "node lifo,lua lifo,node,lua", table.concat(names, ","))`);
  assert.deepEqual((await queue.getJobs(["paused"], 0, -1, true)).map((j) => j.name), expected.slice(0, 4));
  assert.equal(await queue.isPaused(), true);
  assert.deepEqual(await run(`return queue.get("order"):is_paused()`), [true]);
  const order = [];
  const worker = open("Worker", "order", async (j) => { order.push(j.name); });
  await worker.waitUntilReady();
  await run(`queue.get("order"):resume()`);
  await until(() => order.length === 8, { timeout_ms: 30_000 });
  assert.deepEqual(order, expected);
  await worker.close();

  // The same, run here; delayed ones at their time.
  await queue.drain();
  await run(`queue.get("order"):pause()`);
  for (const [name, options] of [["a", {}], ["b", { lifo: true }], ["c", { priority: 3 }], ["d", { priority: 1 }]]) {
    await queue.add(name, {}, options);
  }
  await queue.resume();
  await run(`workers.ran = {}
    workers.start("order", 1, function(job)
      workers.ran[#workers.ran + 1] = job.name
      return "null"
    end)`);
  await until(async () => (await run("return #workers.ran"))[0] === 4, { timeout_ms: 30_000 });
  const before = Date.now();
  const late = await queue.add("late", {}, { delay: 300 });
  assert.equal(await late.getState(), "delayed");
  await until(async () => (await run("return #workers.ran"))[0] === 5, { timeout_ms: 30_000 });
  assert.deepEqual(await run("return workers.ran"), [["b", "a", "d", "c", "late"]]);
  assert.ok((await queue.getJob(late.id)).processedOn - before >= 290);
});

test("ids: duplicates, deduplication on both sides", { skip: missing }, async (t) => {
  const { run, open, redis } = await setup(t);
  const queue = open("Queue", "once");
  await queue.add("first", { n: 1 }, { jobId: "the-one" });
  const [again] = await run(`return queue.get("once"):add("second", { n = 2 }, { job_id = "the-one" })`);
  assert.equal(again.id, "the-one");
  assert.equal(again.duplicate, true);
  assert.equal((await queue.getJob("the-one")).name, "first");

  const [one] = await run(`return queue.get("once"):add("x", nil, { dedup = { id = "d1" } })`);
  const two = await queue.add("x", {}, { deduplication: { id: "d1" } });
  assert.equal(two.id, one.id);
  const three = await queue.add("y", {}, { deduplication: { id: "d2" } });
  const [four] = await run(`return queue.get("once"):add("y", nil, { dedup = { id = "d2" } })`);
  assert.equal(four.id, three.id);
  assert.equal(await queue.getDeduplicationJobId("d1"), one.id);

  // A delayed one is replaced by the last.
  const [old] = await run(`return queue.get("once"):add("z", { v = 1 }, { delay = "1h", dedup = { id = "d3", ttl = "1h", replace = true, extend = true } })`);
  const replaced = await queue.add("z", { v: 2 }, { delay: 3_600_000, deduplication: { id: "d3", ttl: 3_600_000, replace: true, extend: true } });
  assert.notEqual(replaced.id, old.id);
  const [last] = await run(`return queue.get("once"):add("z", { v = 3 }, { delay = "1h", dedup = { id = "d3", ttl = "1h", replace = true, extend = true } })`);
  assert.deepEqual((await queue.getDelayed()).map((j) => [j.id, j.data.v]), [[last.id, 3]]);

  // When it has ended, the id is free again.
  await run(`workers.start("once", 5, function() return "null" end)`);
  await until(async () => (await queue.getDeduplicationJobId("d1")) === null
    && (await queue.getDeduplicationJobId("d2")) === null, { timeout_ms: 30_000 });
  const [fresh] = await run(`return queue.get("once"):add("x", nil, { dedup = { id = "d1" } })`);
  assert.notEqual(fresh.id, one.id);
  assert.equal(fresh.duplicate ?? null, null);
  assert.match(await redis.ask("PING"), /PONG/);
});

test("many of both sides on one queue: each job once", { skip: missing }, async (t) => {
  const { run, open } = await setup(t);
  const queue = open("Queue", "busy");
  const counted = new Map();
  const count = (id) => counted.set(id, (counted.get(id) ?? 0) + 1);
  const worker = open("Worker", "busy", async (j) => { count(j.id); return "node"; }, { concurrency: 10 });
  await worker.waitUntilReady();
  await run(`workers.seen = {}
    workers.start("busy", 20, function(job)
      workers.seen[#workers.seen + 1] = job.id
      task.sleep(1)
      return '"lua"'
    end)`);
  const ids = [];
  for (let i = 0; i < 5; i++) {
    const jobs = await queue.addBulk(Array.from({ length: 60 }, (_, n) => ({ name: "n", data: { n } })));
    ids.push(...jobs.map((j) => j.id));
    const [ours] = await run(`
      local list, ids = {}, {}
      for n = 1, 60 do list[n] = { name = "l", data = { n = n } } end
      for i, job in ipairs(assert(queue.get("busy"):add_bulk(list))) do ids[i] = job.id end
      return ids`);
    ids.push(...ours);
  }
  await until(async () => (await queue.getJobCounts("completed")).completed === 600, { timeout_ms: 40_000 });
  const [lua] = await run("return workers.seen");
  lua.forEach(count);
  assert.deepEqual([...counted.keys()].sort(), ids.sort());
  assert.deepEqual([...counted.values()].filter((n) => n !== 1), []);
});

test("limits and pauses of the whole queue hold for both", { skip: missing }, async (t) => {
  const { run, open } = await setup(t);
  const queue = open("Queue", "slow");
  await run(`assert(queue.get("slow"):limit { concurrency = 2 })`);
  assert.equal(await queue.getGlobalConcurrency(), 2);
  await run(`workers.most, workers.now = 0, 0
    workers.start("slow", 10, function()
      workers.now = workers.now + 1
      workers.most = math.max(workers.most, workers.now)
      task.sleep(20)
      workers.now = workers.now - 1
      return "null"
    end)`);
  await queue.addBulk(Array.from({ length: 12 }, () => ({ name: "x", data: {} })));
  await until(async () => (await queue.getJobCounts("completed")).completed === 12, { timeout_ms: 30_000 });
  assert.deepEqual(await run("return workers.most"), [2]);
  await queue.pause();
  await queue.add("held", {});
  await sleep(300);
  assert.equal((await queue.getJobCounts("paused")).paused, 1);
  await queue.resume();
  await until(async () => (await queue.getJobCounts("completed")).completed === 13, { timeout_ms: 30_000 });

  await run(`assert(queue.get("slow"):limit { rate = { max = 3, duration = "400ms" } })`);
  const began = Date.now();
  await queue.addBulk(Array.from({ length: 9 }, () => ({ name: "x", data: {} })));
  await until(async () => (await queue.getJobCounts("completed")).completed === 22, { timeout_ms: 30_000 });
  assert.ok(Date.now() - began >= 700, "three windows");
});

test("a queue is emptied, cleaned and removed by either", { skip: missing }, async (t) => {
  const { run, open } = await setup(t);
  const queue = open("Queue", "tidy");
  await run(`local q = queue.get "tidy"
    for i = 1, 5 do assert(q:add("w")) end
    assert(q:add("p", nil, { priority = 4 }))
    assert(q:add("d", nil, { delay = "1h" }))`);
  const [delayed] = await queue.getDelayed();
  await run(`assert(queue.get("tidy"):job("${delayed.id}")):promote()`);
  assert.equal(await delayed.getState(), "waiting");
  assert.deepEqual(await run(`return queue.get("tidy"):drain()`), [7]);
  assert.equal(await queue.getJobCountByTypes("waiting", "prioritized", "delayed", "paused"), 0);
  const job = await queue.add("gone", {});
  assert.deepEqual(await run(`return assert(queue.get("tidy"):job("${job.id}")):remove()`), [true]);
  assert.equal(await queue.getJob(job.id), undefined);
  await run(`workers.start("tidy", 5, function(job) if job.name == "bad" then return nil, "bad" end return "1" end)`);
  await queue.addBulk(Array.from({ length: 6 }, (_, i) => ({ name: i % 2 ? "bad" : "good", data: {} })));
  await until(async () => {
    const counts = await queue.getJobCounts("completed", "failed");
    return counts.completed === 3 && counts.failed === 3;
  }, { timeout_ms: 30_000 });
  const [ids] = await run(`return queue.get("tidy"):clean(0, 0, "failed")`);
  assert.equal(ids.length, 3);
  assert.equal((await queue.clean(0, 0, "completed")).length, 3);
  await run("workers.stop()");
  const [, refused] = await run(`return queue.get("tidy"):obliterate()`);
  assert.equal(refused.kind, "conflict");
  await queue.pause();
  await queue.add("left", {});
  await run(`assert(queue.get("tidy"):obliterate())`);
  assert.equal(await queue.isPaused(), false);
  assert.equal(await within(queue.getJobCountByTypes("waiting", "paused"), "counts"), 0);
});
