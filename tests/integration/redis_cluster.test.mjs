// perigee.redis with a real cluster of three servers: commands by slot, moving
// slots, redirections, a server that is lost.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Cluster, missing, setup } from "./redis_helpers.mjs";
import { until } from "./helpers.mjs";

async function commands({ redis, run }) {
  assert.deepEqual(await run(`
    local wrong = 0
    for i = 1, 300 do r:set("k" .. i, i) end
    for i = 1, 300 do if r:get("k" .. i) ~= tostring(i) then wrong = wrong + 1 end end
    return wrong, r:dbsize(), #r:keys "*"`), [0, 300, 300]);
  const counts = await Promise.all(redis.masters.map((node) => node.call("DBSIZE")));
  assert.ok(counts.every((count) => Number(count) > 50), counts.join());
  // Several keys.
  assert.deepEqual(await run(`r:mset { ["{x}1"] = 1, ["{x}2"] = 2 } return r:mget("{x}1", "{x}2"), r:del { "{x}1", "{x}2" }`),
    [["1", "2"], 2]);
  const [, cross] = await run(`return r:mget("k1", "k2")`);
  assert.deepEqual([cross.kind, cross.code], ["invalid", "CROSSSLOT"]);
  assert.match(cross.message, /MGET .*tag/);
  assert.deepEqual(await run(`return r:hset("h", { a = 1 }), r:hgetall "h", (r:ping())`), [1, { a: "1" }, "PONG"]);
  const [, wrong] = await run(`return r:lpush("h", 1)`);
  assert.equal(wrong.code, "WRONGTYPE");
  // Where keys stand elsewhere.
  assert.deepEqual(await run(`
    r:xadd("st", "1-0", "f", "v")
    r:xgroup_create("st", "g", "0")
    return r:eval("return KEYS[1]", 1, "some"), r:object_encoding "k7", r:bitop("AND", "{b}1", "{b}2"),
      r:xreadgroup("GROUP", "g", "streams", "STREAMS", "st", ">")[1][2][1][1], r:zunionstore("{z}", 2, "{z}1", "{z}2")`),
    ["some", "int", 0, "1-0", 0]);
  // Pipelines over all servers, in order; transactions and scripts in one slot.
  assert.deepEqual(await run(`
    local list = r:pipeline(function(p)
      for i = 1, 300 do p:get("k" .. i) end
      p:hgetall "h"
      p:lpush("h", 1)
      p:mget("k1", "k2")
      p:ping()
    end)
    local wrong = 0
    for i = 1, 300 do if list[i] ~= tostring(i) then wrong = wrong + 1 end end
    return wrong, list[301], list[302].code, list[303].code, list[304]`), [0, { a: "1" }, "WRONGTYPE", "CROSSSLOT", "PONG"]);
  assert.deepEqual(await run(`return r:transaction(function(p) p:set("{t}a", 1) p:incr "{t}a" end)`), [["OK", 2]]);
  assert.equal((await run(`return r:transaction(function(p) p:set("a", 1) p:set("b", 1) end)`))[1].code, "CROSSSLOT");
  assert.deepEqual(await run(`
    local s = r:script "return {KEYS[1], ARGV[1]}"
    local a = s({ "some" }, { 1 })
    r:script_flush()
    local w = r:watch("{t}a", function(w) local v = w:get "{t}a" return w:transaction(function(p) p:set("{t}a", v + 1) end) end)
    return a, s({ "other" }, { 2 }), w, r:get "{t}a"`), [["some", "1"], ["other", "2"], ["OK"], "3"]);
  // Blocking, scans, messages.
  assert.deepEqual(await run(`
    local popped = task.spawn(function() return r:blpop("list", 20) end)
    task.sleep(30)
    r:rpush("list", "x")
    local n = 0
    for key in r:each { match = "k*", count = 20 } do n = n + 1 end
    local h = {}
    for f, v in r:heach "h" do h[f] = v end
    return popped:join(), n, h`), [["list", "x"], 300, { a: "1" }]);
  assert.deepEqual(await run(`
    local sub, psub, ssub = r:subscribe "c", r:psubscribe "c*", r:ssubscribe "sharded"
    for i = 1, 3 do r:publish("c", i) end
    r:spublish("sharded", "s")
    local got = {}
    for m in sub do got[#got + 1] = m.message if #got == 3 then sub:close() end end
    return got, psub:next().pattern, ssub:next()`), [["1", "2", "3"], "c*", { channel: "sharded", message: "s" }]);
  assert.deepEqual(await run(`return r:flushall(), r:dbsize(), r:stats().connects >= 3`), ["OK", 0, true]);
}

// Reads and writes of 60 keys of one slot, as long as going says.
const LOAD = `
  local stop = false
  local done, wrong, failed, codes = 0, 0, 0, {}
  local values = {}
  local function note(err)
    failed = failed + 1
    local name = tostring(err.kind) .. " " .. tostring(err.code)
    codes[name] = (codes[name] or 0) + 1
  end
  local function client(c)
    local i = 0
    while not stop do
      i = i + 1
      local key = ("{moving}%d-%d"):format(c, i % 6)
      local value = c .. "/" .. i
      local ok, err = r:set(key, value)
      if not ok then note(err) end
      local got
      got, err = r:get(key)
      if not err and ok and got ~= value then wrong = wrong + 1 elseif err then note(err) end
      local list = r:pipeline(function(p) p:incr("{moving}n" .. c) p:get(key) p:set("other" .. c, i) end)
      if list and ok and type(list[2]) == "string" and list[2] ~= value then wrong = wrong + 1 end
      values[c] = (values[c] or 0) + (type(list and list[1]) == "number" and 1 or 0)
      done = done + 1
    end
    return true
  end
`;

async function moving_slot(t, { redis, run }) {
  const slot = Number(await redis.masters[0].call("CLUSTER", "KEYSLOT", "moving"));
  const at = redis.masters.findIndex((_, i) => slot < Math.floor(((i + 1) * 16384) / 3));
  const [from, to] = [redis.masters[at], redis.masters[(at + 1) % 3]];
  const working = run(`
    ${LOAD}
    local stopper = task.spawn(function()
      while not r:get "stop" do task.sleep(20) end
      stop = true
    end)
    task.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, client)
    local sum = 0
    for c = 1, 10 do sum = sum + (tonumber(r:get("{moving}n" .. c)) or 0) - (values[c] or 0) end
    return done, wrong, failed, codes, sum`);
  const own = run(`
    for i = 1, 400 do
      local ok = r:transaction(function(p) p:incr "{moving}t" p:incr "{moving}t" end)
      if not ok then return i end
      task.sleep(2)
    end
    return r:get "{moving}t"`);
  for (let i = 0; i < 3; i += 1) {
    await redis.move(slot, from, to);
    await redis.move(slot, to, from);
  }
  await redis.move(slot, from, to);
  assert.deepEqual(await own, ["800"]);
  await run(`return r:set("stop", 1)`);
  const [done, wrong, failed, codes, sum] = await working;
  t.diagnostic(JSON.stringify({ done, wrong, failed, codes, sum }));
  assert.equal(wrong, 0);
  assert.equal(failed, 0, JSON.stringify(codes));
  assert.equal(sum, 0); // each increment once
  assert.ok(done > 20);
  // Half of the way: keys that are still there, and some that are not.
  await run(`return r:mset { ["{moving}x"] = 1, ["{moving}y"] = 2 }`);
  await redis.move(slot, to, from, async () => {
    await to.call("MIGRATE", "127.0.0.1", from.port, "{moving}x", 0, 5000);
    assert.deepEqual(await run(`
      local function add(key)
        return (r:watch(key, function(w)
          local v = tonumber(w:get(key)) or 0
          return w:transaction(function(p) p:set(key, v + 1) p:get(key) end)
        end))
      end
      return add "{moving}x", add "{moving}y", add "{moving}z", r:del "{moving}z", r:set("{moving}x", 1), r:set("{moving}y", 2)`),
    [["OK", "2"], ["OK", "3"], ["OK", "1"], 1, "OK", "OK"]);
    const [x, y, z, err, list] = await run(`
      local both, err = task.with_deadline("100ms", function() return r:mget("{moving}x", "{moving}y") end)
      local list = r:pipeline(function(p) p:get "{moving}x" p:get "{moving}y" p:get "{moving}new" end)
      return r:get "{moving}x", r:get "{moving}y", both, err, list`);
    assert.deepEqual([x, y, z, list], ["1", "2", null, ["1", "2", null]]);
    assert.ok(["timeout", "unavailable"].includes(err.kind), err.kind); // TRYAGAIN
  });
  assert.deepEqual(await run(`return r:mget("{moving}x", "{moving}y")`), [["1", "2"]]);
}

test("three servers", { skip: missing }, async (t) => {
  const redis = await Cluster.start(t);
  const { run } = await setup(t, { redis });
  await t.test("commands go where their keys are", () => commands({ redis, run }));
  await t.test("a slot moves under load: no wrong answer, no error", (inner) => moving_slot(inner, { redis, run }));
});

test("servers that do not say where they are", { skip: missing }, async (t) => {
  const redis = await Cluster.start(t);
  for (const type of ["unknown-endpoint", "hostname"]) { // nobody has told them a name
    for (const node of redis.nodes) {
      await node.call("CONFIG", "SET", "cluster-preferred-endpoint-type", type);
    }
    const { run } = await setup(t, { redis });
    assert.deepEqual(await run(`
      local good = 0
      for i = 1, 60 do good = good + (r:set("k" .. i, i) and 1 or 0) end
      return good`), [60], type);
  }
});

test("a lost master: its slots fail fast, its replica takes over", { skip: missing }, async (t) => {
  const redis = await Cluster.start(t, { replicas: 1, timeout_ms: 1000 });
  const { run, app } = await setup(t, { redis, settings: { "redis.main.read_from": "replica" } });
  // Who read them? The replicas.
  assert.deepEqual(await run(`
    for i = 1, 100 do r:set("k" .. i, "v") end
    task.sleep(100)
    for i = 1, 100 do r:get("k" .. i) end
    return true`), [true]);
  const gets = async (node) => Number(/cmdstat_get:calls=(\d+)/.exec(await node.call("INFO", "commandstats"))?.[1] ?? 0);
  const counted = await Promise.all(redis.replicas.map(gets));
  assert.equal(counted.reduce((a, b) => a + b), 100, counted.join());
  await redis.masters[0].kill();
  const kinds = {};
  const since = Date.now();
  await until(async () => {
    const [good, errors] = await run(`
      local good, errors = 0, {}
      for i = 1, 100 do
        local ok, err = r:set("k" .. i, "w")
        if ok then good = good + 1 else errors[err.kind .. " " .. err.code] = (errors[err.kind .. " " .. err.code] or 0) + 1 end
      end
      return good, errors`);
    Object.assign(kinds, errors);
    return good === 100;
  }, { timeout_ms: 60_000, what: "the replica's taking over" });
  t.diagnostic(`whole again after ${Date.now() - since} ms; ${JSON.stringify(kinds)}`);
  assert.deepEqual(await run(`return r:get "k1", r:stats().connects < 1000`), ["w", true]);
  assert.ok(Object.keys(kinds).every((kind) => /^(unavailable|timeout) /.test(kind)), JSON.stringify(kinds));
  assert.ok(app.pid > 0);
});

test("no cluster there: a clear error, at once", { skip: missing }, async (t) => {
  const { run } = await setup(t, { url: (redis) => `redis+cluster://127.0.0.1:${redis.port}` });
  const [, err] = await run(`return r:get "a"`);
  assert.match(err.message, /cluster support disabled/);
  const gone = await setup(t, { url: () => "redis+cluster://127.0.0.1:1,127.0.0.1:2" });
  const [, refused] = await gone.run(`return r:get "a"`);
  assert.deepEqual([refused.kind, refused.code], ["unavailable", "ECONNREFUSED"]);
});
