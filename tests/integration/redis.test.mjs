// Redis in a running host, with a real redis-server: commands and their values,
// time-outs, connections that are cut, a server that dies, hangs and returns.
import assert from "node:assert/strict";
import { test } from "node:test";
import { missing, setup } from "./redis_helpers.mjs";
import { sleep, until } from "./helpers.mjs";

test("commands and their values", { skip: missing }, async (t) => {
  const { run } = await setup(t);
  assert.deepEqual(await run(`return r:set("a", 1), r:get("a"), r:get "none"`), ["OK", "1"]);
  assert.deepEqual(await run(`return r:incrby("n", 41), r:incr "n", r:del("n", "x")`), [41, 42, 1]);
  assert.deepEqual(await run(`r:set("bin", "\\0\\r\\n\\255") return r:get("bin") == "\\0\\r\\n\\255"`), [true]);
  assert.deepEqual(await run(`r:hset("h", { one = 1 }) return r:hgetall "h", r:hgetall "none"`), [{ one: "1" }, {}]);
  assert.deepEqual(await run(`return r:mget("a", "none"), r:lrange("none", 0, -1)`), [["1", null], []]);
  assert.deepEqual(await run(`r:set("big", "9223372036854775806") return r:incr "big"`), ["9223372036854775807LL"]);
  assert.deepEqual(await run(`return r:set("num", 2^53), r:get "num", r:append("num", 0.1)`), ["OK", "9007199254740992", 19]);
  assert.deepEqual(await run(`return r:config_get "maxmemory-policy", r:call("config", "get", "save")`),
    [{ "maxmemory-policy": "noeviction" }, { save: "" }]);
  const [, err] = await run(`return r:lpush("a", 1)`);
  assert.equal(err.code, "WRONGTYPE");
  assert.equal(err.kind, "conflict");
  assert.equal((await run(`return r:call("NOSUCH")`))[1].code, "ERR");
  assert.match((await run(`return select(2, pcall(r.get, r, nil))`))[0], /an argument is nil/);
  assert.match((await run(`return select(2, pcall(function() r:select(1) end))`))[0], /cannot be sent/);
  assert.match((await run(`return select(2, pcall(function() r:client("REPLY", "OFF") end))`))[0], /cannot be sent/);
  assert.match((await run(`return select(2, pcall(r.call, r, "CLIENT", { "TRACKING", "ON" }))`))[0], /cannot be sent/);
  assert.deepEqual(await run(`
    local big = ("x"):rep(5e6)
    r:set("large", big)
    return r:get("large") == big`), [true]);
});

test("pipelines, transactions, watched keys, scripts", { skip: missing }, async (t) => {
  const { run } = await setup(t);
  const [list] = await run(`
    local list = r:pipeline(function(p)
      p:set("k", "v") p:get("k") p:get("none") p:lpush("k", 1) p:hset("h", "f", 1) p:hgetall("h")
    end)
    list[4] = list[4].code
    return list`);
  assert.deepEqual(list, ["OK", "v", null, "WRONGTYPE", 1, { f: "1" }]);
  assert.deepEqual(await run(`return r:transaction(function(p) p:incr "t" p:incr "t" p:hgetall "h" end)`), [[1, 2, { f: "1" }]]);
  const [, refused] = await run(`return r:transaction(function(p) p:set "x" p:set("k", "new") end)`);
  assert.equal(refused.code, "ERR");
  assert.deepEqual(await run(`return r:get "k"`), ["v"]);
  assert.deepEqual(await run(`
    return r:watch("k", function(w)
      local v = w:get "k"
      return w:transaction(function(p) p:set("k", v .. "2") end)
    end)`), [["OK"]]);
  const [, changed] = await run(`
    return r:watch("k", function(w)
      r:set("k", "other")
      return w:transaction(function(p) p:set("k", "mine") end)
    end)`);
  assert.deepEqual([changed.kind, changed.code], ["conflict", "WATCH"]);
  assert.deepEqual(await run(`
    local s = r:script "return {KEYS[1], ARGV[1]}"
    local a = s({ "k" }, { 5 })
    r:script_flush()
    return a, s({ "k" }, { 6 }), r:script("return 1")()`), [["k", "5"], ["k", "6"], 1]);
});

test("commands that wait have connections of their own", { skip: missing }, async (t) => {
  const { run } = await setup(t);
  assert.deepEqual(await run(`
    local t0 = require("perigee.time").monotonic()
    local popped = task.spawn(function() return r:blpop("list", 5) end)
    task.sleep(50)
    local pong = r:ping()
    r:rpush("list", "x")
    return pong, popped:join(), require("perigee.time").monotonic() - t0 < 2000`), ["PONG", ["list", "x"], true]);
  // The time-out may stand in a list, and a consumer may be called like an option.
  assert.deepEqual(await run(`
    r:xgroup_create("log", "g", "$", "MKSTREAM")
    local waiting = {
      task.spawn(function() return r:blpop { "none", 5 } end),
      task.spawn(function() return r:xreadgroup("GROUP", "g", "streams", "BLOCK", 5000, "STREAMS", "log", ">") end),
    }
    task.sleep(50)
    local pong, err = task.with_deadline("3s", function() return r:ping() end)
    for _, one in ipairs(waiting) do one:cancel() end
    return pong or err`), ["PONG"]);
  assert.deepEqual(await run(`return r:blpop("list", 0.1) == nil`), [true]);
  assert.deepEqual(await run(`return r:xread("BLOCK", 50, "STREAMS", "s", "$") == nil`), [true]);
  const [, err] = await run(`return task.with_deadline("100ms", function() return r:blpop("list", 0) end)`);
  assert.equal(err.kind, "timeout");
  await until(async () => !/cmd=blpop/.test((await run(`return r:client_list()`))[0]));
});

test("subscriptions", { skip: missing }, async (t) => {
  const { run, redis } = await setup(t);
  assert.deepEqual(await run(`
    local got = {}
    local sub = r:subscribe("a", "b")
    local psub = r:psubscribe("x*")
    r:publish("a", "1") r:publish("b", "2\\0") r:publish("xy", "3")
    for m in sub do
      got[#got + 1] = m.channel .. "=" .. m.message
      if #got == 2 then sub:close() end
    end
    local m = psub:next()
    return got, m`), [["a=1", "b=2\0"], { channel: "xy", pattern: "x*", message: "3" }]);
  // 3,000 messages that nobody takes for a while, then all in order.
  assert.deepEqual(await run(`
    local sub = r:subscribe "many"
    for i = 1, 3000 do r:publish("many", i) end
    for i = 1, 3000 do if sub:next().message ~= tostring(i) then return i end end
    return true`), [true]);
  // A loop that is left, or cut off, leaves nothing behind, before any garbage is collected.
  await run(`
    collectgarbage "stop"
    local left = r:subscribe "left"
    r:publish("left", "x")
    for _ in left do break end
    task.with_deadline(20, function() for _ in r:subscribe "cut" do end end)
    return true`);
  await until(async () => JSON.stringify(await run(`return r:pubsub_numsub("left", "cut")`)) === '[["left",0,"cut",0]]');
  await run(`collectgarbage "restart" return true`);
  // It comes back when its connection is cut.
  const back = run(`
    local sub = r:subscribe "c"
    r:client_kill("TYPE", "pubsub")
    task.spawn(function() while true do r:publish("c", "again") task.sleep(20) end end)
    return sub:next().message`);
  assert.deepEqual(await back, ["again"]);
  await redis.kill();
  const [, err] = await run(`local s, e = r:subscribe "a" return s, e`);
  assert.equal(err.kind, "unavailable");
});

test("scans", { skip: missing }, async (t) => {
  const { run } = await setup(t);
  assert.deepEqual(await run(`
    r:pipeline(function(p) for i = 1, 500 do p:set("s:" .. i, i) end p:set("t", 1) end)
    local n = 0
    for key in r:each { match = "s:*", count = 50 } do n = n + 1 end
    for i = 1, 300 do r:hset("h", "f" .. i, i) end
    local sum = 0
    for f, v in r:heach "h" do sum = sum + v end
    return n, sum`), [500, 45150]);
  assert.deepEqual(await run(`
    for i = 1, 250 do r:xadd("log", i .. "-0", "n", i) end
    local sum, last = 0, nil
    for id, e in r:xeach("log", { count = 100 }) do sum, last = sum + e.n, id end
    task.spawn(function() task.sleep(50) r:xadd("log", "251-0", "n", "x") end)
    for id, e in r:xeach("log", { after = last, block = "20ms" }) do
      return sum, last, id, e
    end`), [31375, "250-0", "251-0", { n: "x" }]);
});

test("password, database, UNIX socket", { skip: missing }, async (t) => {
  const { run } = await setup(t, {
    args: ["--requirepass", "p@ss"],
    url: (redis) => `redis://:p%40ss@127.0.0.1:${redis.port}/3`,
  });
  assert.match((await run(`return r:call("CLIENT", "INFO")`))[0], / db=3 /);
  const local = await setup(t, { url: (redis) => `unix://${redis.socket}?db=2` });
  assert.match((await local.run(`return r:client_info()`))[0], / db=2 /);
  const wrong = await setup(t, {
    args: ["--requirepass", "secret"],
    url: (redis) => `redis://:other@127.0.0.1:${redis.port}`,
  });
  const [, err] = await wrong.run(`return r:get "a"`);
  assert.deepEqual([err.kind, err.code], ["unauthorized", "WRONGPASS"]);
});

test("50,000 echoes with time-outs and cut connections never mix up", { skip: missing, timeout: 120_000 }, async (t) => {
  const { run } = await setup(t, { settings: { "redis.main.timeout": 150, "redis.main.queue_max": 100000 } });
  const [right, wrong, failed, kinds, count] = await run(`
    local right, wrong, failed, kinds = 0, 0, 0, {}
    local function one(i)
      local text = "echo-" .. i
      if i % 6007 == 0 then r:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no") end
      local reply, err = r:echo(text)
      if reply == text then right = right + 1
      elseif reply ~= nil then wrong = wrong + 1
      else failed = failed + 1 kinds[err.kind] = (kinds[err.kind] or 0) + 1 end
    end
    local stop = false
    local trouble = task.spawn(function()
      local turn = 0
      while not stop do
        task.sleep(40)
        turn = turn + 1
        if turn % 4 == 0 then
          r:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
        elseif turn % 4 == 2 then
          r:call("DEBUG", "SLEEP", "0.2")
        end
      end
    end)
    local n = 0
    local function many(count)
      local part = {}
      for i = 1, count do part[i] = n + i end
      n = n + count
      task.map(part, one, { concurrency = count })
      task.sleep(30)
    end
    while n < 50000 do many(5000) end
    local function enough() return right > 5000 and kinds.timeout and kinds.unavailable end
    while not enough() and n < 100000 do many(100) end -- where 5000 take long, or no time
    stop = true
    trouble:join()
    return right, wrong, failed, kinds, n`);
  t.diagnostic(JSON.stringify({ right, wrong, failed, kinds, count }));
  assert.equal(wrong, 0);
  assert.equal(right + failed, count);
  assert.ok(right > 5000 && kinds.timeout > 0 && kinds.unavailable > 0, `${right} ${JSON.stringify(kinds)}`);
});

test("a late reply is dropped, the connection goes on", { skip: missing }, async (t) => {
  const { run } = await setup(t, { settings: { "redis.main.timeout": 200 } });
  assert.deepEqual(await run(`
    r:ping()
    local before = r:stats().connects
    local slow = task.spawn(function() return select(2, r:call("DEBUG", "SLEEP", "0.3")).kind end)
    local kind = slow:join()
    local reply
    repeat reply = r:echo "next" until reply -- the server may sleep yet
    return kind, reply, r:stats().connects - before`), ["timeout", "next", 0]);
});

test("a server that is killed fails fast, and comes back", { skip: missing }, async (t) => {
  const { run, redis } = await setup(t);
  assert.deepEqual(await run(`return r:ping()`), ["PONG"]);
  await redis.kill();
  await sleep(200);
  const [kind, code, took] = await run(`
    local now = require("perigee.time").monotonic
    local t0 = now()
    local _, err
    for i = 1, 100 do _, err = r:ping() end
    return err.kind, err.code, now() - t0`);
  assert.deepEqual([kind, code], ["unavailable", "ECONNREFUSED"]);
  t.diagnostic(`100 refused in ${took} ms`);
  const [attempts, span] = await run(`
    local now = require("perigee.time").monotonic
    local a, t0 = r:stats().connects, now()
    task.sleep(2000)
    return r:stats().connects - a, now() - t0`);
  assert.ok(attempts >= 1 && attempts <= span / 50 + 1, `${attempts} attempts in ${span} ms`);
  await redis.launch();
  const since = Date.now();
  await until(async () => (await run(`return r:ping()`))[0] === "PONG");
  t.diagnostic(`good again after ${Date.now() - since} ms, ${attempts} attempts in ${span} ms`);
});

test("a server that hangs: bounded by the time-out, then at once", { skip: missing }, async (t) => {
  const { run, redis } = await setup(t, {
    settings: { "redis.main.timeout": 300, "redis.main.connect_timeout": 300 },
  });
  await run(`return r:ping()`);
  redis.process.kill("SIGSTOP");
  const [longest, kinds] = await run(`
    local now = require("perigee.time").monotonic
    local longest, kinds = 0, {}
    local until_ms = now() + 2000
    while now() < until_ms do
      local t0 = now()
      local _, err = r:ping()
      kinds[err.kind] = (kinds[err.kind] or 0) + 1
      longest = math.max(longest, now() - t0)
      task.sleep(10)
    end
    return longest, kinds`);
  t.diagnostic(`longest ${longest} ms, ${JSON.stringify(kinds)}`);
  assert.ok(longest < 10_000, `${longest} ms`);
  assert.ok(kinds.timeout > 0 && kinds.unavailable > 0, JSON.stringify(kinds));
  redis.process.kill("SIGCONT");
  await until(async () => (await run(`return r:ping()`))[0] === "PONG");
});

test("limits: replies, queue; the client survives a reload", { skip: missing }, async (t) => {
  const { run, app } = await setup(t, {
    settings: { "redis.main.reply_max": 10000, "redis.main.queue_max": 10 },
  });
  const [, large] = await run(`r:set("x", ("y"):rep(20000)) return r:get "x"`);
  assert.equal(large.kind, "too_large");
  assert.deepEqual(await run(`task.sleep(200) r:set("x", ("y"):rep(9000)) return #r:get "x"`), [9000]);
  const [, heavy] = await run(`return r:set("x", ("y"):rep(2^26 + 1))`);
  assert.equal(heavy.kind, "too_large");
  const [full] = await run(`
    local full = 0
    local list = {}
    for i = 1, 20 do list[i] = i end
    task.map(list, function()
      local _, err = r:ping()
      if err and err.code == "queue_full" then full = full + 1 end
      return true
    end, { concurrency = 20 })
    return full`);
  assert.equal(full, 10);
  const [before] = await run(`return r:client_id()`);
  app.signal("SIGHUP");
  await app.line("reload committed");
  assert.deepEqual(await run(`return r:client_id()`), [before]);
});
