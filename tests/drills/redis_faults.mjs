#!/usr/bin/env node
// Redis behind policies with a fallback: slow, lying at every byte, with a closed
// window; its master lost under sentinels; a slot of a cluster moved in use.
import Client from "ioredis";
import { host, report, sleep } from "./drill.mjs";
import { load } from "./load.mjs";
import { proxy } from "./redis_proxy.mjs";
import { Cluster, Redis, Sentinels } from "../integration/redis_helpers.mjs";

const KEYS = 500;
const HARM_MS = 5000;
const WORKERS = 2;
const PAUSE_MS = 2;

const FILES = {
  "scripts/routes/a.lua": `
    local host = require "perigee.host"
    local r = require("perigee.redis").get()
    local resilience = require "perigee.resilience"
    local function policy(name)
      return resilience.policy {
        name = name, timeout = "500ms", fallback = { fallback = true },
        breaker = { failures = 5, window = "5s", open = "300ms" },
      }
    end
    local reads, writes = policy "reads", policy "writes"
    local big, acked = ("x"):rep(50000), 0
    return function(router)
      router:get("/read", function()
        local n = math.random(${KEYS})
        return reads:call(function()
          local value, err = r:get("key{moved}" .. n)
          if err then return nil, err end
          return { right = value == "value " .. n, value = value }
        end)
      end)
      router:get("/write", function()
        return writes:call(function()
          local ok, err = r:set("big", big)
          return ok and { right = ok == "OK" }, err
        end)
      end)
      router:get("/count", function()
        return writes:call(function()
          local n, err = r:incr "count{moved}"
          if n then acked = acked + 1 end
          return n and { right = type(n) == "number" }, err
        end)
      end)
      router:get("/plain", function() return "plain" end)
      router:get("/worker", function()
        return { worker = host.worker, connects = r:stats().connects, acked = acked }
      end)
      router:get("/fill", function()
        r:pipeline(function(p)
          for n = 1, ${KEYS} do p:set("key{moved}" .. n, "value " .. n) end
        end)
        return "filled"
      end)
    end`,
};

const cleaners = [];
const scope = { after: (fn) => cleaners.push(fn) };
const p99 = (list) => list.sort((a, b) => a - b)[Math.floor(list.length * 0.99)] ?? 0;

async function begin(url) {
  const app = await host(FILES, { workers: WORKERS, settings: { "redis.main.url": url, "redis.main.timeout": "300ms" } });
  await app.get("/fill");
  return app;
}

/** What all workers have counted. */
async function sums(app) {
  const seen = new Map();
  while (seen.size < WORKERS) {
    const { json } = await app.get("/worker");
    seen.set(json.worker, json);
  }
  const sum = (name) => [...seen.values()].reduce((total, each) => total + each[name], 0);
  return { connects: sum("connects"), acked: sum("acked") };
}

/** Until 20 answers in a row come from Redis. */
async function good_again(app) {
  const begun = performance.now();
  for (let good = 0; good < 20;) {
    const { json } = await app.get("/read");
    good = json.fallback ? 0 : good + 1;
  }
  return performance.now() - begun;
}

async function hurt(title, app, paths, harm, more = {}) {
  const plain_ms = [];
  const asked_ms = [];
  const seen = { fallback: 0 };
  const right = (body) => {
    const { fallback, right: is_right } = JSON.parse(body);
    seen.fallback += fallback ? 1 : 0;
    return fallback === true || is_right === true;
  };
  const asking = paths.map((path) => load(app.port, {
    connections: 6, path, expect: right, seen: (ms) => asked_ms.push(ms), pause_ms: PAUSE_MS,
  }));
  const other = load(app.port, { connections: 4, path: "/plain", seen: (ms) => plain_ms.push(ms), pause_ms: PAUSE_MS });
  await sleep(1000);
  const before = (await sums(app)).connects;
  const from = performance.now();
  await harm();
  const again_ms = await good_again(app);
  const seconds = (performance.now() - from) / 1000;
  const storm = ((await sums(app)).connects - before) / seconds / WORKERS;
  const counts = [];
  for (const one of [...asking, other]) {
    counts.push(await one.stop());
  }
  const sum = (name) => counts.reduce((total, each) => total + each[name], 0);
  const slowest_ms = asked_ms.reduce((most, ms) => Math.max(most, ms), 0);
  const { figures = {}, checks = {} } = (await more.look?.()) ?? {};
  report(title, {
    "requests, of them answered by the fallback": `${asked_ms.length}, ${seen.fallback}`,
    "wrong / lost": `${sum("wrong")} / ${sum("lost")}`,
    "slowest (ms)": slowest_ms.toFixed(0),
    "99 % (ms)": p99(asked_ms).toFixed(1),
    "99 % of another route (ms)": p99(plain_ms).toFixed(1),
    "good again after (ms)": again_ms.toFixed(0),
    "attempts to connect a second and worker": storm.toFixed(1),
    ...figures,
  }, {
    "no wrong answer, none lost": sum("wrong") === 0 && sum("lost") === 0,
    "bounded by 1 s": slowest_ms <= 1000,
    "another route's 99 % below 20 ms": p99(plain_ms) <= 20,
    "good again within 1 s": again_ms <= 1000,
    "no storm of connections": storm <= 20,
    ...checks,
  });
  for (const one of [...asking, other]) {
    one.samples.forEach((text) => console.log(`  wrong: ${text}`));
  }
}

// ---- one server, behind a proxy ----

const redis = await Redis.start(scope);
const between = await proxy(redis.port);
let app = await begin(`redis://127.0.0.1:${between.port}`);
for (const [title, mode, paths] of [
  ["replies 2 s late", "slow", ["/read", "/write"]],
  ["garbage at every byte of the replies", "garbage", ["/read"]], // "OxK" would be a sound reply
  ["a window of zero", "stuck", ["/read", "/write"]],
]) {
  await hurt(`Redis: ${title}, for ${HARM_MS / 1000} s`, app, paths, async () => {
    between.mode(mode);
    await sleep(HARM_MS);
    between.mode("pass");
  });
}
const ends = [await app.end()];
await between.end();

// ---- sentinels ----

const all = await Sentinels.start(scope);
app = await begin(all.url);
await hurt("the master killed, below 3 sentinels", app, ["/read", "/write"], async () => {
  await all.master.kill();
  const next = String(all.replicas[0].port);
  while (!(await all.sentinels[0].call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")).includes(next)) {
    await sleep(10);
  }
});
ends.push(await app.end());

// ---- a cluster ----

const cluster = await Cluster.start(scope);
app = await begin(cluster.url);
const slot = Number(await cluster.nodes[0].call("CLUSTER", "KEYSLOT", "key{moved}1"));
let owner = cluster.masters.find((_, i) => slot < Math.floor(((i + 1) * 16384) / 3));
const MOVES = 10;
for (const node of cluster.masters) { // redis-cli for each step would hold this process up
  node.client = new Client(node.port, "127.0.0.1");
}

async function move(from, to) {
  await to.client.cluster("SETSLOT", slot, "IMPORTING", from.id);
  await from.client.cluster("SETSLOT", slot, "MIGRATING", to.id);
  for (;;) {
    const keys = await from.client.cluster("GETKEYSINSLOT", slot, 10);
    if (keys.length === 0) {
      break;
    }
    await from.client.call("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", ...keys);
  }
  for (const node of [to, from, ...cluster.masters]) {
    await node.client.cluster("SETSLOT", slot, "NODE", to.id);
  }
}

await hurt(`a cluster's slot with ${KEYS} keys moved ${MOVES} times`, app, ["/read", "/count"], async () => {
  for (let i = 0; i < MOVES; i += 1) {
    const to = cluster.masters[(cluster.masters.indexOf(owner) + 1) % 3];
    await move(owner, to);
    owner = to;
    await sleep(100);
  }
}, {
  look: async () => {
    const { acked } = await sums(app);
    const counted = Number(await owner.call("GET", "count{moved}"));
    return {
      figures: { "increments acknowledged, counted": `${acked}, ${counted}` },
      checks: { "every acknowledged increment is there": counted >= acked },
    };
  },
});
ends.push(await app.end());
cluster.masters.forEach((node) => node.client.disconnect());

for (const fn of cleaners.reverse()) {
  await fn();
}
report("the end", {}, { "graceful": ends.every((e) => e.code === 0) });
