// What a host says of itself when what it depends on fails: /readyz on both
// listeners, `perigee status`, /metrics, and the end with 69.
import assert from "node:assert/strict";
import http from "node:http";
import { test } from "node:test";
import { app_dir, launch, perigee, start, until } from "./helpers.mjs";
import { missing, RedisServer } from "./redis_server.mjs";

const ROUTES = `
  local cache = require "perigee.cache"
  local errors = require "perigee.error"
  local health = require "perigee.health"
  local resilience = require "perigee.resilience"
  local shared = require "perigee.shared"
  local task = require "perigee.task"
  local flags = shared.dict("flags", { size = "1mb" })
  local b = resilience.breaker("payments", { failures = 1, open = "10m" })
  local slots = resilience.bulkhead("reports", { concurrency = 1 })
  local limit = resilience.limiter("api", { rate = 1, per = "10m" })
  local c = cache.new("things", { ttl = 1, stale_if_error = "10m" })
  health.check("own", function() return not flags:get "own_fails" end,
    { every = 20, required = true })
  health.check("nice", function()
    if flags:get "nice_fails" then return nil, errors.new("unavailable", "gone") end
    return true
  end, { every = 20 })
  router:post("/set/:flag/:value", function(req)
    flags:set(req.params.flag, req.params.value == "on" or nil)
    return 204
  end)
  router:get("/work", function()
    limit:take() limit:take()
    slots:call(function()
      slots:call(function() end)
    end)
    if flags:get "down" then
      b:call(function() return nil, errors.new("unavailable", "down") end)
    end
    return 204
  end)
  router:get("/cached", function()
    return { value = c:get("k", function()
      if flags:get "down" then return nil, errors.new("unavailable", "down") end
      return 1
    end) }
  end)
`;

function get(port, target) {
  return new Promise((resolve, reject) => {
    http.get({ host: "127.0.0.1", port, path: target, agent: false }, (res) => {
      let text = "";
      res.on("data", (chunk) => { text += chunk; }).on("end", () => resolve({ status: res.statusCode, text }));
    }).on("error", reject);
  });
}

async function begin(t, options = {}) {
  const app = await start(t, { route: ROUTES, ...options });
  const { port } = await app.line((l) => l.msg === "listening" && l.admin);
  app.both = async (wanted) => {
    for (const at of [app.port, port]) {
      await until(async () => {
        const answer = await get(at, "/readyz?verbose");
        app.last = answer;
        return wanted(answer);
      }, { what: `the wanted health of ${at}`, timeout_ms: 20_000 }).catch((error) => {
        throw new Error(`${error.message}: ${app.last.status} ${app.last.text}`);
      });
    }
  };
  app.metrics = async () => (await get(port, "/metrics")).text;
  return app;
}

const status = async (app) => JSON.parse((await app.command("status", "--json")).stdout);

test("required checks decide on readiness, others make it warn", async (t) => {
  const app = await begin(t);
  await app.both((a) => a.status === 200 && /^\[\+\] own: required, there$/m.test(a.text)
    && /^\[\+\] nice: there$/m.test(a.text) && /readyz passed\n$/.test(a.text));
  assert.match(app.last.text, /^\[\+\] running: generation 1 serves$/m); // the admin listener's
  assert.deepEqual((await app.get("/readyz")).json, { status: "pass" });
  await app.post("/set/nice_fails/on", "");
  await app.both((a) => a.status === 200 && /^\[!\] nice: warn: .*gone/m.test(a.text) && /readyz passed, warn\n$/.test(a.text));
  assert.deepEqual((await app.get("/readyz")).json, { status: "warn" });
  await app.post("/set/own_fails/on", "");
  await app.both((a) => a.status === 503 && /^\[-\] own: required, /m.test(a.text) && /readyz failed\n$/.test(a.text));
  assert.equal((await app.get("/livez")).status, 200);
  await app.post("/set/own_fails/off", "");
  await app.post("/set/nice_fails/off", "");
  await app.both((a) => a.status === 200 && /readyz passed\n$/.test(a.text));
});

test("each path has a verbose form, wherever the word stands in the query", async (t) => {
  const app = await begin(t);
  const { port } = await app.line((l) => l.msg === "listening" && l.admin);
  for (const at of [app.port, port]) {
    for (const name of ["livez", "readyz", "startupz"]) {
      for (const query of ["verbose", "verbose=1", "a=b&verbose", "verbose&x"]) {
        const answer = await get(at, `/${name}?${query}`);
        assert.equal(answer.status, 200);
        assert.match(answer.text, new RegExp(`^(\\[\\+\\] [\\w ]+: .+\\n)+${name} passed\\n$`), `${at} ${name}?${query}`);
      }
      for (const query of ["", "?verbosely", "?verbose=false", "?x=verbose"]) {
        assert.doesNotMatch((await get(at, `/${name}${query}`)).text, /\[\+\]/);
      }
    }
  }
});

test("an open breaker and stale values show as warn, in status and in metrics", async (t) => {
  const app = await begin(t);
  assert.equal((await app.get("/work")).status, 204);
  assert.equal((await app.get("/cached")).json.value, 1);
  await app.post("/set/down/on", "");
  const stale = /perigee_cache_requests_total\{cache="things",level="loader",result="stale"\} [1-9]/;
  await until(async () => {
    assert.equal((await app.get("/cached")).json.value, 1);
    return stale.test(await app.metrics());
  });
  assert.equal((await app.get("/work")).status, 204);
  await app.both((a) => a.status === 200 && /^\[!\] breaker payments: warn: open$/m.test(a.text)
    && /^\[!\] cache things: warn: stale/m.test(a.text));
  const told = await status(app);
  assert.equal(told.breakers.find((b) => b.name === "payments").state, "open");
  assert.equal(told.breakers.find((b) => b.name === "payments").opened, 1);
  assert.ok(told.health.some((c) => c.name === "cache things" && c.status === "warn"));
  assert.deepEqual(told.limiters.filter((l) => l.limiter === "api").map((l) => [l.result, l.value]).sort(),
    [["allowed", 1], ["limited", 3], ["redis_away", 0]]);
  assert.deepEqual(told.bulkheads.map((l) => [l.bulkhead, l.state, l.value]).sort(),
    [["reports", "active", 0], ["reports", "waiting", 0]]);
  const flags = told.shared.find((d) => d.name === "flags");
  assert.equal(flags.items, 1);
  const text = await app.metrics();
  for (const line of [
    'perigee_breaker_state{breaker="payments",state="open"} 1',
    'perigee_breaker_state{breaker="payments",state="closed"} 0',
    'perigee_breaker_opened_total{breaker="payments"} 1',
    'perigee_limiter_requests_total{limiter="api",result="limited"} 3',
    'perigee_bulkhead_refused_total{bulkhead="reports"} 2',
    'perigee_shared_items{dict="flags"} 1',
    'perigee_shared_size_bytes{dict="flags"} 1048576',
    'perigee_cache_requests_total{cache="things",level="worker",result="miss"}',
  ]) {
    assert.ok(text.includes(line), `${line}\n${text.split("\n").filter((l) => l.includes("perigee_")).join("\n")}`);
  }
  assert.match(text, /perigee_shared_requests_total\{dict="flags",result="miss"\} [1-9]/);
  assert.match((await app.command("status")).stdout, /health +breaker payments: warn: open/);
});

test("what code and libraries say of a failure is for the admin listener and development", async (t) => {
  const route = `
    local errors = require "perigee.error"
    local health = require "perigee.health"
    local looks = 0
    health.check("raises", function()
      looks = looks + 1
      return looks == 1 or error "secret"
    end, { every = 20, required = true })
    health.check("library", function()
      return require("perigee.http").get "http://127.0.0.1:1/"
    end, { every = 20 })
    health.check("own words", function() return nil, errors.new("unavailable", "no stock") end, { every = 20 })`;
  for (const env of ["production", "development"]) {
    const app = await start(t, { route, env, settings: { "log.format": "json" } });
    const { port } = await app.line((l) => l.msg === "listening" && l.admin);
    const ready = async (at) => (await get(at, "/readyz?verbose")).text;
    await until(async () => /^\[-\] raises(.*\n)+.*own words: warn: no stock/m.test(await ready(app.port)));
    const told = env === "production" ? "required, not there" : "required, scripts/routes/test.lua:\\d+: secret";
    assert.match(await ready(app.port), new RegExp(`^\\[-\\] raises: ${told}$`, "m"));
    assert.equal(/^\[!\] library: warn: not there$/m.test(await ready(app.port)), env === "production");
    assert.match(await ready(port), /^\[-\] raises: required, .*secret$/m);
    assert.match(await ready(port), /^\[!\] library: warn: .*127\.0\.0\.1/m);
    assert.match((await app.command("status")).stdout, /raises: required, .*secret/);
  }
});

test("readiness follows a Redis that is required", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const app = await begin(t, { settings: { "redis.main.url": redis.url, "redis.main.required": true } });
  await app.both((a) => a.status === 200 && /^\[\+\] redis\.main: required, there$/m.test(a.text));
  await redis.kill();
  await app.both((a) => a.status === 503 && /^\[-\] redis\.main: required, /m.test(a.text));
  assert.equal((await app.command("reload")).code, 0); // no reason to refuse code
  await redis.launch();
  await app.both((a) => a.status === 200);
});

test("without a required Redis at the start it ends with 69", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  await redis.kill();
  const dir = app_dir(t, { route: ROUTES });
  const app = launch(t, { dir, settings: { "redis.main.url": redis.url, "redis.main.required": true } });
  assert.deepEqual(await app.ended, { code: 69, signal: null });
  assert.match(app.printed(), /required dependency is not available: redis\.main/);
  assert.equal((await perigee(["check", dir])).code, 0);
});

test("a check is replaced while it runs, and wrong calls name the caller's line", async (t) => {
  const app = await start(t, { route: `
    local health = require "perigee.health"
    health.check("own", function() return nil, "old" end, { every = 20 })
    health.check("rare", function() return true end, { every = "7d" })
    health.warn("long", "away", "30d")
    router:get("/replace", function()
      health.check("own", function() return nil, "new" end, { every = 20 })
      return 204
    end)
    router:get("/wrong", function()
      local said = {}
      for _, call in ipairs {
        function() health.warn() end,
        function() health.warn("a\\n[+] b", "text") end,
        function() health.warn("a", nil) end,
        function() health.check("a\\nb", print) end,
      } do
        local _, why = pcall(call)
        said[#said + 1] = tostring(why)
      end
      return said
    end)` });
  const ready = async () => (await app.get("/readyz?verbose")).text;
  await until(async () => (await ready()).includes("own: warn: old"));
  assert.match(await ready(), /^\[\+\] rare: there$/m);
  assert.match(await ready(), /^\[!\] long: warn: away$/m);
  await app.get("/replace");
  await until(async () => (await ready()).includes("own: warn: new"));
  assert.ok(!(await ready()).includes("old"));
  for (const why of (await app.get("/wrong")).json) {
    assert.match(why, /^scripts\/routes\/test\.lua:\d+: health\.(warn|check): a /);
  }
});
