// Limits of groups on the redis driver while workers, hosts and the server die:
// a group never has more that run than it may, none of its places is lost, and
// all that was added is done.
import assert from "node:assert/strict";
import { test } from "node:test";
import { start, until } from "./helpers.mjs";
import { Cluster, missing } from "./redis_helpers.mjs";
import { RedisServer } from "./redis_server.mjs";

const LONG = { timeout_ms: 60_000 };

const FILES = {
  "scripts/jobs/jobs.lua": `
    local task = require "perigee.task"
    return { queue = "jobs", concurrency = 8, run = function(job)
      task.sleep(job.data.ms)
      if job.data.fails and job.attempt <= job.data.fails then
        return nil, require("perigee.error").new("unavailable", "not yet")
      end
      return true
    end }`,
};

const ROUTE = `
  local queue = require "perigee.queue"
  router:post("/add", function(req)
    local added, err = queue.get("jobs"):add_bulk(req:json())
    if not added then return nil, err end
    return { added = #added }
  end)
  router:get("/counts", function() return queue.get("jobs"):counts() end)`;

async function open(t, url, { limit, ...options } = {}) {
  const app = await start(t, {
    files: { ...FILES, "config/default.lua": `return { queue = { limits = { jobs = ${limit} } } }` },
    route: ROUTE, workers: 2, ...options,
    settings: { "queue.driver": "redis", "redis.main.url": url, "queue.stalled_max": 20, ...options.settings },
  });
  app.add = async (jobs) => {
    const answer = await app.post("/add", JSON.stringify(jobs));
    assert.equal(answer.status, 200, answer.body);
  };
  app.counts = async () => (await app.get("/counts").catch(() => ({}))).json ?? {};
  return app;
}

// The most jobs of one group that are active, in one step.
const MOST = `local n, most = {}, 0
  for _, id in ipairs(redis.call('LRANGE', 'bull:jobs:active', 0, -1)) do
    local group = cjson.decode(redis.call('HGET', 'bull:jobs:' .. id, 'opts') or '{}').group
    if group then n[group] = (n[group] or 0) + 1 most = math.max(most, n[group]) end
  end
  return most`.replace(/\s+/g, " ");

/** Looks all the time; ends with the most that it has seen. */
function watch_limit(redis) {
  const watched = { most: 0, on: true };
  watched.ended = (async () => {
    while (watched.on) {
      const reply = await redis.ask(`EVAL "${MOST}" 0`).catch(() => "");
      watched.most = Math.max(watched.most, Number(/^:(\d+)/.exec(reply)?.[1] ?? 0));
    }
  })();
  watched.end = async () => {
    watched.on = false;
    await watched.ended;
    return watched.most;
  };
  return watched;
}

const all_sorts = (count) => Array.from({ length: count }, (_, n) => ({
  name: "x",
  data: { ms: 5 + (n % 7) * 10, fails: n % 5 === 0 ? 1 : undefined },
  opts: {
    group: n % 11 === 0 ? undefined : `tenant ${n % 4}`,
    priority: n % 6 === 0 ? 1 + (n % 3) : undefined,
    delay: n % 9 === 0 ? 20 * (n % 10) : undefined,
    lifo: n % 13 === 0 || undefined,
    attempts: 10,
    backoff: n % 2 ? 30 : undefined,
  },
}));

/** Nothing but what has ended is left, in our books, too. */
async function is_all_done(redis, app, count) {
  await until(async () => {
    const { completed, failed, ...others } = await app.counts();
    return completed + failed === count && Object.values(others).every((n) => n === 0);
  }, { ...LONG, what: "the end of all" });
  await until(async () => {
    const left = [];
    for (const key of ["delayed", "perigee:parked", "perigee:groups", "perigee:running", "perigee:counts"]) {
      left.push(await redis.ask(`EXISTS bull:jobs:${key}`));
    }
    return left.every((reply) => reply === ":0\r\n");
  }, { ...LONG, what: "empty books" });
}

test("workers are killed while groups are at their limit", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  // The leases are no help here: they are long.
  const app = await open(t, redis.url, { limit: "{ group = { concurrency = 2 } }", settings: { "queue.lock": "5m" } });
  const watched = watch_limit(redis);
  const count = 400;
  await app.add(all_sorts(count));
  for (let round = 1; round <= 4; round += 1) {
    await until(async () => (await app.counts()).completed >= round * 40, LONG);
    const [pid] = app.workers();
    process.kill(pid, "SIGKILL");
    await until(() => app.workers().length === 2 && !app.workers().includes(pid), LONG);
  }
  await is_all_done(redis, app, count);
  assert.equal(await watched.end(), 2);
});

test("a host is killed, and the next one goes on where it was", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const options = { limit: "{ group = { concurrency = 2, rate = { max = 20, duration = '100ms' } } }", settings: { "queue.lock": "1s" } };
  const first = await open(t, redis.url, options);
  const watched = watch_limit(redis);
  await first.add(all_sorts(300));
  await until(async () => (await first.counts()).completed > 50, LONG);
  first.kill();
  await first.ended;
  const second = await open(t, redis.url, options);
  await is_all_done(redis, second, 300);
  assert.equal(await watched.end(), 2);
});

test("Redis is killed while groups are at their limit", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t, ["--appendonly", "yes", "--appendfsync", "always"]);
  const app = await open(t, redis.url, { limit: "{ group = { concurrency = 2 } }", settings: { "queue.lock": "3s", "queue.idle_timeout": "500ms" } });
  const watched = watch_limit(redis);
  await app.add(all_sorts(300));
  await until(async () => (await app.counts()).completed > 50, LONG);
  await redis.kill();
  await redis.launch();
  await is_all_done(redis, app, 300);
  assert.equal(await watched.end(), 2);
});

test("in a cluster the books of groups are where the queue is", { skip: missing }, async (t) => {
  const cluster = await Cluster.start(t, { masters: 2 });
  const app = await open(t, cluster.url, {
    limit: "{ group = { concurrency = 1 } }",
    settings: { "queue.prefix": "{q}", "queue.idle_timeout": "500ms" },
  });
  await app.add(all_sorts(100));
  await until(async () => (await app.counts()).completed === 100, LONG);
});
