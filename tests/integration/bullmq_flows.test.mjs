// Flows, events and a dashboard's reads on queues that Node's bullmq
// and the redis driver share.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { missing, setup } from "./bullmq_helpers.mjs";
import { until } from "./helpers.mjs";

const require = createRequire(import.meta.url);
const LONG = { timeout_ms: 30_000 };

const ECHO = `function(job)
  if job.name:find "^bad" then return nil, "unrecoverable: " .. job.name end
  return '"' .. job.name .. '"'
end`;

test("a flow of Node's, children run here and parent there", { skip: missing }, async (t) => {
  const { run, open } = await setup(t);
  const flows = open("FlowProducer");
  const parents = open("Queue", "parents");
  const flow = await flows.add({
    name: "sum", queueName: "parents", data: { top: true },
    children: [
      { name: "one", queueName: "children", data: {} },
      { name: "two", queueName: "children", data: {}, children: [{ name: "leaf", queueName: "leaves", data: {} }] },
    ],
  });
  assert.equal(await flow.job.getState(), "waiting-children");
  const worker = open("Worker", "parents", async (job) => Object.values(await job.getChildrenValues()).sort());
  await worker.waitUntilReady();
  await run(`workers.start("children", 3, ${ECHO}) workers.start("leaves", 1, ${ECHO})`);
  await until(async () => (await flow.job.getState()) === "completed", LONG);
  assert.deepEqual((await parents.getJob(flow.job.id)).returnvalue, ["one", "two"]);
  const [ours] = await run(`return queue.get("parents"):job("${flow.job.id}")`);
  assert.deepEqual(ours.result, ["one", "two"]);
});

test("a flow of ours, children run there and parent here", { skip: missing }, async (t) => {
  const { run, open } = await setup(t);
  const worker = open("Worker", "kids", async (job) => ({ from: job.data.n }), { concurrency: 2 });
  await worker.waitUntilReady();
  const [id, counts] = await run(`
    local q = queue.get "tops"
    local top = assert(queue.flow {
      name = "top", queue = "tops", data = { a = 1 }, children = {
        { name = "k1", queue = "kids", data = { n = 1 } },
        { name = "k2", queue = "kids", data = { n = 2 } },
      },
    })
    workers.start("tops", 1, function(job)
      local children = workers.driver():children("tops", job.id)
      local sum = 0
      for _, text in pairs(children.values) do sum = sum + json.decode(text).from end
      return tostring(sum)
    end)
    return top.id, #top.children`);
  assert.equal(counts, 2);
  const tops = open("Queue", "tops");
  await until(async () => (await (await tops.getJob(id))?.getState()) === "completed", LONG);
  const job = await tops.getJob(id);
  assert.equal(job.returnvalue, 3);
  assert.deepEqual(Object.values(await job.getChildrenValues()).map((v) => v.from).sort(), [1, 2]);
  const tree = await open("FlowProducer").getFlow({ id, queueName: "tops" });
  assert.deepEqual(tree.children.map((c) => c.job.name).sort(), ["k1", "k2"]);
});

test("children that fail: the parent fails, goes on, or waits, as told", { skip: missing }, async (t) => {
  const { run, open } = await setup(t);
  const flows = open("FlowProducer");
  const queue = open("Queue", "up");
  await run(`workers.start("down", 3, ${ECHO}) workers.start("up", 3, ${ECHO})`);
  const add = (name, opts) => flows.add({
    name, queueName: "up", data: {}, children: [{ name: `bad ${name}`, queueName: "down", data: {}, opts }],
  });
  const fails = await add("fails", { failParentOnFailure: true });
  const ignores = await add("ignores", { ignoreDependencyOnFailure: true });
  const goes = await add("goes", { continueParentOnFailure: true });
  const waits = await add("waits", {});
  await until(async () => (await fails.job.getState()) === "failed", LONG);
  const failed = await queue.getJob(fails.job.id);
  assert.match(failed.failedReason, /^child .* failed$/);
  for (const flow of [ignores, goes]) {
    await until(async () => (await flow.job.getState()) === "completed", LONG);
  }
  const ignored = await ignores.job.getIgnoredChildrenFailures();
  assert.deepEqual(Object.values(ignored), ["unrecoverable: bad ignores"]);
  assert.equal(await waits.job.getState(), "waiting-children");
  const [children] = await run(`return workers.driver():children("up", "${waits.job.id}")`);
  assert.equal(children.pending, 1);

  // Ours says the same with an option, and Node's worker obeys.
  const worker = open("Worker", "theirs", async () => { throw new Error("no"); });
  await worker.waitUntilReady();
  const [id] = await run(`return assert(queue.flow { name = "x", queue = "up", children = {
    { name = "y", queue = "theirs", opts = { on_child_failure = "fail" } } } }).id`);
  await until(async () => (await (await queue.getJob(id)).getState()) === "failed", LONG);
});

test("events of both sides reach both", { skip: missing }, async (t) => {
  const { run, open } = await setup(t);
  const queue = open("Queue", "loud");
  const events = open("QueueEvents", "loud");
  const heard = [];
  for (const name of ["added", "waiting", "active", "progress", "completed", "failed", "delayed", "removed", "paused",
    "resumed", "drained", "deduplicated", "duplicated"]) {
    events.on(name, (args) => heard.push([name, args]));
  }
  await events.waitUntilReady();
  await run(`workers.heard = {}
    workers.off = workers.driver():subscribe("loud", function(event)
      workers.heard[#workers.heard + 1] = event
    end)`);
  await run(`workers.start("loud", 1, function(job)
    workers.driver():progress("loud", job.id, '{"p":[]}')
    if job.name == "bad" then return nil, "it is bad" end
    return '{"ok":true}'
  end)`);
  await queue.add("good", {}, { jobId: "g" });
  await until(() => heard.some(([name]) => name === "drained"), LONG);
  await run(`assert(queue.get("loud"):add("bad", nil, { job_id = "b" }))`);
  await until(() => heard.some(([name, e]) => name === "failed" && e.jobId === "b"), LONG);
  const of = (id) => heard.filter(([, e]) => e.jobId === id);
  assert.deepEqual(of("g").map(([name]) => name), ["added", "waiting", "active", "progress", "completed"]);
  assert.deepEqual(of("g")[3][1].data, { p: [] });
  assert.deepEqual(of("g")[4][1].returnvalue, { ok: true });
  assert.equal(of("b").at(-1)[1].failedReason, "it is bad");
  const told = await until(async () => {
    const [list] = await run("return workers.heard");
    return list.some((e) => e.event === "failed") && list;
  }, LONG);
  assert.deepEqual(told.filter((e) => e.id === "g").map((e) => e.event), ["added", "waiting", "active", "progress", "completed"]);
  assert.equal(told.find((e) => e.event === "completed").result, '{"ok":true}');
  assert.equal(told.find((e) => e.event === "failed").failure, "it is bad");
  await run("workers.off()");
});

test("a dashboard reads our queues", { skip: missing }, async (t) => {
  const { run, open, connection } = await setup(t);
  const { createBullBoard } = require("@bull-board/api");
  const { BullMQAdapter } = require("@bull-board/api/bullMQAdapter");
  const queue = open("Queue", "board");
  await run(`workers.start("board", 2, function(job)
    if job.name == "bad" then return nil, "no" end
    workers.driver():log("board", job.id, "a line")
    return '[1]'
  end)
  local q = queue.get "board"
  assert(q:add("good", { n = 1 })) assert(q:add("bad", { n = 2 }))
  assert(q:add("late", { n = 3 }, { delay = "1h", priority = 3 }))`);
  await until(async () => (await queue.getJobCountByTypes("completed", "failed")) === 2, LONG);
  const adapter = new BullMQAdapter(queue);
  const board = createBoard(createBullBoard, adapter);
  assert.equal(board.getName(), "board");
  const counts = await adapter.getJobCounts();
  assert.equal(counts.completed, 1);
  assert.equal(counts.failed, 1);
  assert.equal(counts.delayed, 1);
  const jobs = await adapter.getJobs(["completed", "failed", "delayed"], 0, 10);
  assert.deepEqual(jobs.map((j) => j.name).sort(), ["bad", "good", "late"]);
  const good = jobs.find((j) => j.name === "good");
  assert.deepEqual(good.toJSON().returnvalue, [1]);
  assert.deepEqual(await adapter.getJobLogs(good.id), ["a line"]);
  const bad = jobs.find((j) => j.name === "bad");
  assert.equal(bad.toJSON().failedReason, "no");
  await bad.retry();
  await until(async () => (await queue.getJob(bad.id)).attemptsMade >= 1, LONG);
  await until(async () => (await queue.getWorkers()).length === 1, LONG);
  assert.equal((await queue.getWorkers())[0].rawname ?? "", `bull:${Buffer.from("board").toString("base64")}:w:perigee`);
  assert.ok((await queue.getMetrics("completed")).meta.count >= 1);
  assert.equal(connection.host, "127.0.0.1");
});

function createBoard(create, adapter) {
  let found = adapter;
  const server = new Proxy({}, {
    get: (_, name) => (queues) => {
      if (name === "setQueues") {
        [found] = queues.values();
      }
      return server;
    },
  });
  create({ queues: [adapter], serverAdapter: server });
  return found;
}
