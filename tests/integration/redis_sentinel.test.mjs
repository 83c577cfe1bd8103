// perigee.redis with real sentinels: finding the master, following a failover
// under load, reading from replicas.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Sentinels, missing, setup } from "./redis_helpers.mjs";
import { until } from "./helpers.mjs";

const gets = async (server) => Number(/cmdstat_get:calls=(\d+)/.exec(await server.call("INFO", "commandstats"))?.[1] ?? 0);

test("the master is found and followed; replicas are read from", { skip: missing }, async (t) => {
  const redis = await Sentinels.start(t);
  const { run } = await setup(t, { redis });
  const reader = await setup(t, { redis, settings: { "redis.main.read_from": "replica" } });
  assert.deepEqual(await run(`
    r:set("a", 1)
    local list = r:pipeline(function(p) p:get "a" p:incr "a" end)
    local s = r:script "return ARGV[1]"
    local sub = r:subscribe "c"
    r:publish("c", "m")
    local n = 0
    for _ in r:each() do n = n + 1 end
    local w = r:watch("a", function(w) return w:transaction(function(p) p:incr "a" end) end)
    return list, s(nil, { "x" }), sub:next().message, n, w, r:mget("a", "b"), r:blpop("none", 0.01) == nil`),
  [["1", 2], "x", "m", 1, [3], ["3", null], true]);
  await until(async () => (await reader.run(`return r:get "a"`))[0] === "3"); // replicas are behind
  const before = await gets(redis.replicas[0]);
  await reader.run(`for i = 1, 50 do r:get "a" end return r:set("b", 1)`);
  assert.equal(await gets(redis.replicas[0]) - before, 50);

  // Failover under load.
  const working = run(`
    local now = require("perigee.time").monotonic
    local sub = r:subscribe "events"
    local heard = 0
    task.spawn(function() for _ in sub do heard = heard + 1 end end)
    local good, failed, kinds, longest, wrong, after = 0, 0, {}, 0, 0, 0
    local stop = false
    task.spawn(function() while not r:get "stop" do task.sleep(20) end stop = true end)
    local switched
    local function one(c)
      local i = 0
      while not stop do
        i = i + 1
        local t0 = now()
        local text = c .. "-" .. i
        local ok, err = r:set("k" .. c, text)
        local got = r:echo(text)
        if got and got ~= text then wrong = wrong + 1 end
        longest = math.max(longest, now() - t0)
        if ok then good = good + 1 if failed > 0 then after = after + 1 end
        else failed = failed + 1 kinds[err.kind .. " " .. tostring(err.code)] = true end
        r:publish("events", text)
        task.sleep(5)
      end
      return true
    end
    task.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, one)
    local before, deadline = heard, now() + 20000
    repeat -- the subscription comes back
      r:publish("events", "x")
      task.sleep(50)
    until heard > before or now() > deadline
    return good, failed, kinds, longest, wrong, after, heard > before`);
  await until(async () => (await redis.master.call("EXISTS", "k8")) === "1", { what: "the load" });
  await redis.master.kill();
  const since = Date.now();
  await until(async () => (await redis.replicas[0].role()) === "master", { timeout_ms: 60_000, what: "failover" });
  const promoted = Date.now();
  await until(async () => (await run(`return r:set("probe", 1)`))[0] === "OK");
  t.diagnostic(`a new master after ${promoted - since} ms, written to ${Date.now() - promoted} ms later`);
  await run(`return r:set("stop", 1)`);
  const [good, failed, kinds, longest, wrong, after, heard] = await working;
  t.diagnostic(JSON.stringify({ good, failed, kinds, longest, wrong, after, heard }));
  assert.equal(wrong, 0);
  assert.ok(after > 0 && failed > 0);
  assert.ok(Object.keys(kinds).every((kind) => /^(unavailable|timeout) /.test(kind)), JSON.stringify(kinds));
  assert.equal(heard, true);
  assert.deepEqual(await run(`return r:stats().connects < 500`), [true]);
  await until(async () => (await reader.run(`return (r:set("c", 1))`))[0] === "OK");
});

test("what was under way to a master that hangs ends with the switch, and is not sent again", { skip: missing }, async (t) => {
  const redis = await Sentinels.start(t);
  const { run } = await setup(t, { redis, settings: { "redis.main.timeout": "50s" } });
  await run(`r:set("n", 5) return r:blpop("none", 0.01)`); // a connection for what waits
  const popping = run(`return r:blpop("list", 50)`);
  const hearing = run(`
    local sub = r:subscribe "c"
    for m in sub do if m.message == "stop" then sub:close() return "heard" end end`);
  await until(async () => (await redis.master.call("PUBSUB", "NUMSUB", "c")) === "c\n1"
    && /blocked_clients:1/.test(await redis.master.call("INFO", "clients")), { what: "what waits" });
  redis.master.process.kill("SIGSTOP");
  const counting = run(`return r:incr "n"`);
  await until(async () => (await redis.replicas[0].role()) === "master", { timeout_ms: 60_000, what: "failover" });
  const [count, counted] = await counting;
  assert.deepEqual([count, counted.kind, counted.code], [null, "unavailable", "ECANCELED"]);
  const [item, popped] = await popping;
  assert.deepEqual([item, popped.kind, popped.code], [null, "unavailable", "ECANCELED"]);
  await until(async () => (await redis.replicas[0].call("PUBLISH", "c", "stop")) === "1", { what: "the subscription" });
  assert.deepEqual(await hearing, ["heard"]);
  assert.deepEqual(await run(`return r:get "n"`), ["5"]);
});

test("no sentinel, no such master: clear errors", { skip: missing }, async (t) => {
  const { run } = await setup(t, { url: () => "redis+sentinel://127.0.0.1:1,127.0.0.1:2/main" });
  const [, err] = await run(`return r:get "a"`);
  assert.deepEqual([err.kind, err.code], ["unavailable", "ECONNREFUSED"]);
  const other = await setup(t, { url: (redis) => `redis+sentinel://127.0.0.1:${redis.port}/main` });
  const [, none] = await other.run(`return r:get "a"`);
  assert.equal(none.code, "ERR"); // it is no sentinel
});
