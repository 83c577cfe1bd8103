// Groups and their limits on queues that Node's bullmq shares: it knows of none,
// sees what waits for its group as delayed, and nothing is lost or run twice,
// whatever it does with it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { missing, setup } from "./bullmq_helpers.mjs";
import { until } from "./helpers.mjs";

const LONG = { timeout_ms: 30_000 };

// Jobs that end when they are told to, by their names.
const WORK = `
  workers.ran, workers.ends = {}, {}
  workers.start("jobs", 10, function(job)
    workers.ran[#workers.ran + 1] = job.name
    while not workers.ends[job.name] and not workers.ends.all do task.sleep(5) end
    return "1"
  end)`;

async function grouped(t, names, options = {}) {
  const all = await setup(t, options);
  const { run } = all;
  await run(`assert(queue.get("jobs"):limit { group = { concurrency = 1 } })`);
  await run(WORK);
  all.ids = {};
  for (const name of names) {
    [all.ids[name]] = await run(`return assert(queue.get("jobs"):add("${name}", nil, { group = "${name[0]}" })).id`);
  }
  all.ran = async () => [(await run(`return table.concat(workers.ran, " ")`))[0]].join();
  all.end = (name) => run(`workers.ends["${name}"] = true`);
  all.counts = async () => (await run(`return queue.get("jobs"):counts()`))[0];
  all.state = async (name) => (await run(`return queue.get("jobs"):job("${all.ids[name]}")`))[0]?.state;
  all.has_run = (list) => until(async () => await all.ran() === list, { ...LONG, what: list });
  all.waits = (count) => until(async () => {
    const { waiting } = await all.counts();
    return waiting === count && await (await all.queue).getWaitingCount() === 0;
  }, { ...LONG, what: `${count} that wait` });
  all.queue = all.open("Queue", "jobs");
  return all;
}

for (const version of ["bullmq", "bullmq-6"]) {
  test(`${version} sees, removes, promotes and delays what waits for its group`, { skip: missing }, async (t) => {
    const all = await grouped(t, ["a1", "a2", "a3", "a4", "a5", "b1"], { version });
    const { queue, ids } = all;
    await until(async () => (await all.ran()).includes("b1"), LONG);
    assert.equal(await all.ran(), "a1 b1");
    await all.waits(4);
    assert.equal(await (await queue.getJob(ids.a2)).getState(), "delayed");
    assert.equal(await queue.getDelayedCount(), 4);
    assert.equal(await all.state("a2"), "waiting");
    assert.equal((await all.counts()).delayed, 0);

    // Removed there, it is gone here.
    await (await queue.getJob(ids.a2)).remove();
    await until(async () => (await all.counts()).waiting === 3, LONG);
    assert.equal(await all.state("a2"), undefined);
    // Promoted there, it comes back to its place: its group is at its limit.
    await (await queue.getJob(ids.a4)).promote();
    await all.waits(3);
    assert.equal(await all.ran(), "a1 b1");
    // Delayed there, it is delayed here, too.
    await (await queue.getJob(ids.a3)).changeDelay(3600_000);
    await until(async () => await all.state("a3") === "delayed", LONG);

    await all.end("a1");
    await all.has_run("a1 b1 a4");
    await all.end("a4");
    await all.has_run("a1 b1 a4 a5");
    await all.end("all");
    await until(async () => (await all.counts()).completed === 4, LONG);
    assert.equal(await all.state("a3"), "delayed");
    await (await queue.getJob(ids.a3)).promote();
    await all.has_run("a1 b1 a4 a5 a3");
    await until(async () => (await all.counts()).completed === 5, LONG);
    const meta = await queue.getMeta?.();
    assert.ok(meta === undefined || typeof meta === "object");
  });
}

test("a bullmq worker runs what it takes, and what waits for its group when nobody looks after it", { skip: missing }, async (t) => {
  const all = await grouped(t, ["a1", "a2", "a3"]);
  const { queue, run, ids } = all;
  await all.has_run("a1");
  await all.waits(2);
  const theirs = [];
  const worker = all.open("Worker", "jobs", async (job) => { theirs.push(job.name); }, { concurrency: 5 });
  await worker.waitUntilReady();
  await queue.add("node", {});
  await until(() => theirs.includes("node") || all.ran().then((r) => r.includes("node")), LONG);
  await all.end("node");
  // Without a worker of ours they come due; here by hand.
  await run("workers.stop()");
  for (const name of ["a2", "a3"]) {
    await (await queue.getJob(ids[name])).changeDelay(0);
  }
  await until(() => theirs.includes("a2") && theirs.includes("a3"), LONG);
  await all.end("a1");
  await until(async () => (await queue.getCompletedCount()) === 4, LONG);
  assert.equal(theirs.filter((name) => name !== "node").length, 2);
  // What they left in our books is found wrong, and struck out.
  await run(WORK);
  await run(`assert(queue.get("jobs"):add("a4", nil, { group = "a" }))`);
  await until(() => theirs.includes("a4") || all.ran().then((r) => r.includes("a4")), LONG);
  await all.end("all");
  await until(async () => (await queue.getCompletedCount()) === 5, LONG);
  await until(async () => Object.entries(await all.counts()).every(([state, n]) => n === (state === "completed" ? 5 : 0)), LONG);
});

test("emptied and obliterated by bullmq, a queue with groups goes on", { skip: missing }, async (t) => {
  const all = await grouped(t, ["a1", "a2", "a3"]);
  const { queue, run } = all;
  await all.has_run("a1");
  await all.waits(2);
  await queue.drain(true);
  await all.waits(0);
  await run(`assert(queue.get("jobs"):add("a4", nil, { group = "a" }))`);
  await all.waits(1);
  assert.equal(await all.ran(), "a1");
  await all.end("a1");
  await all.has_run("a1 a4");
  await run(`assert(queue.get("jobs"):add("a5", nil, { group = "a" }))`);
  await all.waits(1);
  await queue.pause();
  await queue.obliterate({ force: true });
  await all.end("all");
  await run(`assert(queue.get("jobs"):limit { group = { concurrency = 1 } })`);
  await run(`for i = 6, 8 do assert(queue.get("jobs"):add("a" .. i, nil, { group = "a" })) end`);
  await all.has_run("a1 a4 a6 a7 a8");
  await until(async () => (await all.counts()).completed === 3, LONG);
  assert.equal((await all.counts()).waiting, 0);
});

test("a stalled check by bullmq gives the place of a dead worker's job to its group", { skip: missing }, async (t) => {
  const all = await grouped(t, ["a1", "a2"], { settings: { "queue.lock": "1s" } });
  await all.has_run("a1");
  await all.waits(1);
  // As if it had been another machine's: its lease runs out, Node's side notices.
  await all.run("workers.stop()");
  process.kill(-all.app.pid, "SIGSTOP");
  const theirs = [];
  const worker = all.open("Worker", "jobs", async (job) => { theirs.push(job.name); },
    { stalledInterval: 300, lockDuration: 5000, maxStalledCount: 5 });
  await worker.waitUntilReady();
  await until(() => theirs.includes("a1"), LONG);
  process.kill(-all.app.pid, "SIGCONT");
  await all.run(WORK);
  await all.end("all");
  await until(async () => (await all.queue.getCompletedCount()) === 2, LONG);
});

test("workers of both sides on a queue with groups run each job once", { skip: missing }, async (t) => {
  const all = await setup(t);
  const { run } = all;
  const count = 600;
  await run(`assert(queue.get("jobs"):limit { group = { concurrency = 2 } })
    local list = {}
    for i = 1, ${count} do
      list[i] = { name = tostring(i), opts = { group = i % 10 > 0 and "g" .. i % 5 or nil, priority = i % 7 == 0 and 1 or nil } }
    end
    assert(queue.get("jobs"):add_bulk(list))`);
  const theirs = [];
  all.open("Worker", "jobs", async (job) => { theirs.push(job.name); }, { concurrency: 5 });
  await run(`workers.ran = {}
    workers.start("jobs", 10, function(job)
      workers.ran[#workers.ran + 1] = job.name
      task.sleep(2)
      return "1"
    end)`);
  const queue = all.open("Queue", "jobs");
  await until(async () => await queue.getCompletedCount() === count, LONG);
  const [ours] = await run(`return json.array(workers.ran)`);
  const names = [...ours, ...theirs];
  assert.equal(names.length, count);
  assert.equal(new Set(names).size, count);
});
