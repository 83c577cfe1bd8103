// The redis driver when something dies: a worker, a host, the server.
import assert from "node:assert/strict";
import { test } from "node:test";
import { host, missing, setup } from "./bullmq_helpers.mjs";
import { sleep, until } from "./helpers.mjs";
import { RedisServer } from "./redis_server.mjs";

const LONG = { timeout_ms: 40_000 };

// Jobs write down their beginnings and ends where a crash cannot lose them.
const WORK = `
  local redis = require("perigee.redis").get()
  workers.start("jobs", 50, function(job)
    redis:rpush("began", job.id)
    task.sleep(tonumber(job.data))
    redis:rpush("ended", job.id)
    return "1"
  end)`;

async function count(redis, command) {
  return Number(/:(\d+)/.exec(await redis.ask(command).catch(() => ""))?.[1] ?? -1);
}

test("a host that stops: another one has its jobs when the lease has run out, and it is refused", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const settings = { "queue.lock": "1s" };
  const first = await host(t, redis, { settings });
  await first.run(`${WORK}
    for i = 1, 20 do assert(queue.get("jobs"):add("x", 2000)) end`);
  await until(async () => await count(redis, "LLEN began") === 20, LONG);
  process.kill(-first.pid, "SIGSTOP");
  const second = await host(t, redis, { settings });
  await second.run(WORK);
  await until(async () => await count(redis, "LLEN ended") === 20, LONG);
  await until(async () => await count(redis, "ZCARD bull:jobs:completed") === 20, LONG);
  process.kill(-first.pid, "SIGCONT");
  // It ends its runs; what is there stays as it is.
  await until(async () => await count(redis, "LLEN ended") === 40, LONG);
  await sleep(300);
  assert.equal(await count(redis, "ZCARD bull:jobs:completed"), 20);
  assert.equal(await count(redis, "LLEN bull:jobs:active"), 0);
  assert.equal(await count(redis, "ZCARD bull:jobs:failed"), 0);
});

test("a script that holds its worker up for longer than a lease keeps its jobs", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const settings = { "queue.lock": "1s", "queue.stalled_max": 5, "limits.cpu_per_request": "60s" };
  const first = await host(t, redis, { settings });
  await first.run(`
    local redis = require("perigee.redis").get()
    local time = require "perigee.time"
    workers.start("jobs", 5, function(job)
      redis:rpush("began", job.id)
      if job.name == "busy" then
        task.sleep(200)
        local stop = time.monotonic() + 3000
        while time.monotonic() < stop do end
      else
        task.sleep(500)
      end
      return "1"
    end)
    assert(queue.get("jobs"):add_bulk { { name = "busy" }, { name = "beside" } })`);
  await until(async () => await count(redis, "LLEN began") === 2, LONG);
  const second = await host(t, redis, { settings });
  await second.run(WORK.replace("tonumber(job.data)", "1"));
  await until(async () => await count(redis, "ZCARD bull:jobs:completed") === 2, LONG);
  assert.equal(await count(redis, "LLEN began"), 2);
  assert.equal(await count(redis, "LLEN ended"), 0);
});

test("more jobs end at once than go in one step", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const app = await host(t, redis);
  await app.run(`
    local list = {}
    for i = 1, 800 do list[i] = { name = "x" } end
    assert(queue.get("jobs"):add_bulk(list))
    workers.start("jobs", 400, function() return "1" end)`);
  await until(async () => await count(redis, "ZCARD bull:jobs:completed") === 800, LONG);
});

test("a worker that is killed: its jobs run again at once, on the same machine", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  // The lease is no help here: it is long.
  const app = await host(t, redis, { settings: { "queue.lock": "5m", "queue.stalled_max": 0 } });
  await app.run(`${WORK}
    for i = 1, 30 do assert(queue.get("jobs"):add("x", i <= 10 and 0 or 3000)) end`);
  await until(async () => await count(redis, "LLEN began") === 30, LONG);
  const [pid] = await app.run(`return require("perigee.host").pid`);
  process.kill(pid, "SIGKILL");
  await until(() => app.workers().length === 1 && !app.workers().includes(pid), LONG);
  await until(async () => app.run(WORK).then(() => true, () => false), LONG);
  await until(async () => await count(redis, "ZCARD bull:jobs:completed") === 30, LONG);
});

test("a job that kills its worker each time fails, the others go on", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const settings = { "queue.lock": "5m" };
  const POISON = `
    workers.start("jobs", 5, function(job)
      if job.name == "poison" then os.execute("kill -9 " .. require("perigee.host").pid) end
      return "1"
    end)`;
  const app = await host(t, redis, {
    settings,
    files: {
      "scripts/main.lua": `return { on_start = function()
        local workers = require "services.workers"
        local task = require "perigee.task"
        task.spawn_detached(function() ${POISON} end)
      end }`,
    },
  });
  const add = `local list = { { name = "poison", opts = { job_id = "p" } } }
    for i = 2, 6 do list[i] = { name = "good" } end
    assert(queue.get("jobs"):add_bulk(list))`;
  await app.run(add).catch(() => {}); // its answer may be lost with the worker
  await until(async () => await count(redis, "ZCARD bull:jobs:failed") === 1
    && await count(redis, "ZCARD bull:jobs:completed") === 5, LONG);
  assert.match(await redis.ask("HGET bull:jobs:p stc"), /3/);
});

test("Redis is killed and started again mid-run: all is done", { skip: missing }, async (t) => {
  const { redis, run, open } = await setup(t, {
    args: ["--appendonly", "yes", "--appendfsync", "always"],
    settings: { "queue.lock": "2s", "queue.idle_timeout": "500ms" },
  });
  const queue = open("Queue", "jobs");
  await run(`${WORK}
    local list = {}
    for i = 1, 1500 do list[i] = { name = "x", data = 5 } end
    assert(queue.get("jobs"):add_bulk(list))`);
  for (const at of [200, 600]) {
    await until(async () => await count(redis, "ZCARD bull:jobs:completed") > at, LONG);
    await redis.kill();
    await redis.launch();
  }
  await until(async () => await count(redis, "ZCARD bull:jobs:completed") === 1500, LONG);
  await until(async () => run(`return assert(queue.get("jobs"):counts())`).then(() => true, () => false), LONG);
  // Nobody is stuck, no connection dead: new jobs are found by their mark.
  await run(`for i = 1, 20 do assert(queue.get("jobs"):add("y", 0)) end`);
  await until(async () => (await queue.getJobCounts("completed")).completed === 1520, LONG);
  assert.equal(await queue.getActiveCount(), 0);
});

test("connections that are lost, workers that stop: what they had begun unheard waits for no lease", { skip: missing }, async (t) => {
  const { redis, app, run } = await setup(t, { settings: { "queue.lock": "120s" } });
  const other = await host(t, redis, { settings: { "queue.lock": "120s" } });
  await run(WORK);
  await other.run(WORK);
  const add = `for i = 1, 10 do assert(queue.get("jobs"):add("x", 1)) end`;
  let added = 0;
  for (let i = 0; i < 30; i += 1) {
    const adding = other.run(add).then(() => true, () => false); // its own connection may be the one that is lost
    await redis.ask("CLIENT KILL TYPE normal");
    added += await adding ? 10 : 0;
  }
  // The last one may have hit it, too.
  await until(() => other.run(`assert(queue.get("jobs"):counts())`).then(() => true, () => false), LONG);
  const adding = other.run(add.replace("10", "200"));
  await app.stop();
  await adding;
  added += 200;
  await until(async () => await count(redis, "ZCARD bull:jobs:completed") >= added
    && await count(redis, "LLEN bull:jobs:active") === 0 && await count(redis, "LLEN bull:jobs:wait") === 0, LONG);
  assert.equal(await count(redis, "ZCARD bull:jobs:failed"), 0);
});
