// Limits in Redis: one for two hosts, and what becomes of them without it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { start, until } from "./helpers.mjs";
import { missing, RedisServer } from "./redis_server.mjs";

const ROUTES = `
  local resilience = require "perigee.resilience"
  local limits = {}
  for _, away in ipairs { "host", "allow", "refuse" } do
    limits[away] = resilience.limiter(away, { rate = 5, per = "10m", scope = "redis", when_away = away })
  end
  limits.window = resilience.limiter("window", { rate = 5, per = "10m", window = true, scope = "redis" })
  limits.sliding = resilience.limiter("sliding", { rate = 10, per = "1s", window = true, scope = "redis" })
  limits.quick = resilience.limiter("quick", { rate = 20, burst = 1, scope = "redis" })
  router:get("/take/:name/:key", function(req)
    local ok, err = limits[req.params.name]:take(req.params.key)
    if not ok then return nil, err end
    return "taken"
  end)
`;

async function statuses(apps, target, count) {
  const found = {};
  for (let i = 0; i < count; i += 1) {
    const { status } = await apps[i % apps.length].get(target);
    found[status] = (found[status] ?? 0) + 1;
  }
  return found;
}

test("a limit in Redis holds for two hosts, and by its option without it", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const settings = { "redis.main.url": redis.url };
  const apps = await Promise.all([start(t, { route: ROUTES, settings }), start(t, { route: ROUTES, settings })]);
  for (const name of ["host", "allow", "window"]) {
    assert.deepEqual(await statuses(apps, `/take/${name}/a`, 10), { 200: 5, 429: 5 }, name);
  }
  assert.deepEqual(await statuses(apps, "/take/host/b", 4), { 200: 4 });
  const refused = await apps[0].get("/take/host/a");
  assert.ok(Number(refused.headers["retry-after"]) > 0 && Number(refused.headers["retry-after"]) <= 120);
  assert.equal((await apps[0].get("/take/quick/a")).status, 200);
  await until(async () => (await apps[1].get("/take/quick/a")).status === 200);
  await redis.ask("SCRIPT FLUSH");
  assert.deepEqual(await statuses(apps, "/take/host/c", 6), { 200: 5, 429: 1 });

  redis.signal("SIGSTOP");
  assert.deepEqual(await statuses(apps, "/take/allow/a", 6), { 200: 6 });
  assert.deepEqual(await statuses(apps, "/take/refuse/a", 2), { 503: 2 });
  assert.deepEqual(await statuses([apps[0]], "/take/host/z", 8), { 200: 5, 429: 3 });
  redis.signal("SIGCONT");
  await until(async () => (await apps[0].get("/take/allow/a")).status === 429);
});

// Each was taken between sent and done, whatever happened meanwhile.
async function take_until(app, taken, count) {
  while (taken.length < count) {
    const sent = performance.now();
    const { status } = await app.get("/take/sliding/a");
    assert.ok(status === 200 || status === 429, `status ${status}`);
    if (status === 200) {
      taken.push({ sent, done: performance.now() });
    }
  }
}

test("no window of two hosts holds more than the limit, wherever it begins", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const settings = { "redis.main.url": redis.url };
  const apps = await Promise.all([start(t, { route: ROUTES, settings }), start(t, { route: ROUTES, settings })]);
  // Within a second of the clock: a limit that counts by the clock's seconds, weighed or not, lets the next in too early.
  await until(async () => {
    const fraction = Number(/\d+\r\n$/.exec(await redis.ask("TIME"))[0]) / 1e6;
    return fraction > 0.5 && fraction < 0.8;
  });
  const taken = [];
  await Promise.all(apps.map((app) => take_until(app, taken, 35)));
  taken.sort((a, b) => a.done - b.done);
  for (let last = 10; last < taken.length; last += 1) {
    const first_sent = Math.min(...taken.slice(last - 10, last + 1).map(({ sent }) => sent));
    assert.ok(taken[last].done - first_sent >= 1000, `11 within ${taken[last].done - first_sent} ms`);
  }
});
