// Jobs on Redis are taken in halves, one ahead of the other: no more run at once
// than may, and what was taken ahead is not lost.
import assert from "node:assert/strict";
import { test } from "node:test";
import { start, until } from "./helpers.mjs";
import { RedisServer, missing } from "./redis_server.mjs";

const LONG = { timeout_ms: 40_000 };
const AT_ONCE = 20;

const ROUTE = `
  local queue = require "perigee.queue"
  router:get("/fill/:n", function(req)
    local list = {}
    for i = 1, tonumber(req.params.n) do list[i] = { name = "x" } end
    assert(queue.get("jobs"):add_bulk(list))
    return 204
  end)`;

const job = (body) => `
  local redis = require("perigee.redis").get()
  local task = require "perigee.task"
  local running = 0
  return { queue = "jobs", concurrency = ${AT_ONCE}, run = function(job)
    running = running + 1
    redis:rpush("began", job.id)
    redis:zadd("at_once", "GT", running, "most")
    ${body}
    running = running - 1
  end }`;

async function count(redis, command) {
  return Number(/:(\d+)/.exec(await redis.ask(command).catch(() => ""))?.[1] ?? -1);
}

const application = (t, redis, body, settings = {}) => start(t, {
  route: ROUTE, files: { "scripts/jobs/one.lua": job(body) },
  settings: { "queue.driver": "redis", "redis.main.url": redis.url, ...settings },
});

test("jobs that end in any order, in two workers: each runs once, no more than may at once", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const app = await application(t, redis, "task.sleep(math.random(0, 4))", { "cluster.workers": 2 });
  await app.get("/fill/800");
  await until(async () => await count(redis, "ZCARD bull:jobs:completed") === 800, LONG);
  assert.equal(await count(redis, "LLEN began"), 800);
  assert.equal(await count(redis, "LLEN bull:jobs:active"), 0);
  const most = Number(/\r\n(\d+)\r\n/.exec(await redis.ask("ZSCORE at_once most"))[1]);
  assert.ok(most > AT_ONCE / 2 && most <= AT_ONCE, `${most} at once`);
});

test("a host that stops gives back all that it has taken", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const body = `while not redis:get("go") do task.sleep(20) end`;
  const app = await application(t, redis, body, { "shutdown.timeout": "500ms" });
  await app.get("/fill/100");
  await until(async () => await count(redis, "LLEN began") === AT_ONCE, LONG);
  assert.equal(await count(redis, "LLEN bull:jobs:active"), AT_ONCE);
  await app.stop();
  assert.equal(await count(redis, "LLEN bull:jobs:active"), 0);
  assert.equal(await count(redis, "LLEN bull:jobs:wait"), 100);
  assert.equal(await count(redis, "EXISTS bull:jobs:1:lock bull:jobs:20:lock"), 0);
  assert.equal(await count(redis, "HEXISTS bull:jobs:1 atm"), 0);

  await redis.ask("SET go 1");
  await application(t, redis, body);
  await until(async () => await count(redis, "ZCARD bull:jobs:completed") === 100, LONG);
  assert.equal(await count(redis, "LLEN began"), 100 + AT_ONCE);
});
