// The redis driver of queues on several servers: a cluster whose slot moves, a
// master that dies below its sentinels.
import assert from "node:assert/strict";
import { test } from "node:test";
import { host } from "./bullmq_helpers.mjs";
import { until } from "./helpers.mjs";
import { Cluster, Sentinels, missing } from "./redis_helpers.mjs";

const LONG = { timeout_ms: 60_000 };
const WORK = `workers.start("jobs", 20, function(job) task.sleep(tonumber(job.data)) return "1" end)`;
const ADD = (n, ms) => `local list = {}
  for i = 1, ${n} do list[i] = { name = "x", data = ${ms} } end
  assert(queue.get("jobs"):add_bulk(list))`;

const counts = async (app) => (await app.run(`return queue.get("jobs"):counts()`))[0] ?? {};

test("in a cluster, also while the slot of its queues moves", { skip: missing }, async (t) => {
  const cluster = await Cluster.start(t, { masters: 2 });
  const app = await host(t, cluster, { settings: { "queue.prefix": "{q}", "queue.idle_timeout": "500ms" } });
  await app.run(WORK);
  await app.run(ADD(50, 1));
  await until(async () => (await counts(app)).completed === 50, LONG);
  const slot = Number(await cluster.masters[0].call("CLUSTER", "KEYSLOT", "{q}"));
  const [from, to] = slot < 8192 ? cluster.masters : [...cluster.masters].reverse();
  await app.run(`assert(queue.get("jobs"):pause())`);
  await until(async () => (await counts(app)).active === 0, LONG);
  await cluster.move(slot, from, to);
  await app.run(`assert(queue.get("jobs"):resume())`);
  await app.run(ADD(50, 1));
  await until(async () => (await counts(app)).completed === 100, LONG);
  const [flow] = await app.run(`return assert(queue.flow { name = "p", queue = "jobs", data = 1, children = {
    { name = "c", queue = "jobs", data = 1 } } }).id`);
  assert.equal(typeof flow, "string");
  await until(async () => (await counts(app)).completed === 102, LONG);
});

test("in a cluster the prefix has to have a tag", { skip: missing }, async (t) => {
  const cluster = await Cluster.start(t, { masters: 1 });
  const app = await host(t, cluster);
  const [ok, why] = await app.run(`return pcall(function() return queue.get("jobs") end)`);
  assert.equal(ok, false);
  assert.match(why, /prefix/);
});

test("a master that dies: the workers go on with the next one", { skip: missing }, async (t) => {
  const all = await Sentinels.start(t);
  const app = await host(t, all, { settings: { "queue.lock": "2s", "queue.idle_timeout": "500ms", "queue.stalled_max": 10 } });
  await app.run(WORK);
  await app.run(ADD(300, 20));
  await until(async () => (await counts(app)).completed > 20, LONG);
  await all.master.kill();
  await until(async () => app.run(ADD(50, 1)).then(() => true, () => false), LONG);
  await until(async () => {
    const now = await counts(app);
    return now.waiting === 0 && now.active === 0 && now.completed >= 50;
  }, LONG);
  await app.run(`assert(queue.get("jobs"):add("late", 1, { job_id = "late" }))`);
  await until(async () => (await app.run(`return queue.get("jobs"):job("late")`))[0]?.state === "completed", LONG);
});
