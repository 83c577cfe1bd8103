// A cache whose Redis is a cluster, or has sentinels: one load for two hosts,
// invalidation, another master.
import assert from "node:assert/strict";
import { test } from "node:test";
import { start, until } from "./helpers.mjs";
import { Cluster, Sentinels, missing } from "./redis_helpers.mjs";

const ROUTES = `
  local cache = require "perigee.cache"
  local shared = require "perigee.shared"
  local task = require "perigee.task"
  local counts = shared.dict("counts", { size = "1mb" })
  local c = cache.new("things", { ttl = "10m", levels = { "worker", "shared", "redis" } })
  router:get("/load/:key", function(req)
    return { value = c:get(req.params.key, function()
      counts:incr "loads"
      task.sleep(tonumber(req.query.ms or 1))
      return req.query.value or "x"
    end, { tags = { "t" } }) }
  end)
  router:get("/count", function() return { count = counts:get "loads" or 0 } end)
  router:post("/set/:key/:value", function(req) c:set(req.params.key, req.params.value) return 204 end)
  router:post("/delete/:key", function(req) c:delete(req.params.key) return 204 end)
  router:post("/flush", function(req) c:flush(req.query.tag and { tag = req.query.tag }) return 204 end)
`;

test("a cache on a cluster: one load for two hosts, invalidation of both", { skip: missing }, async (t) => {
  const redis = await Cluster.start(t);
  const begin = () => start(t, { route: ROUTES, workers: 2,
    settings: { "redis.main.url": redis.url } });
  const [a, b] = await Promise.all([begin(), begin()]);
  const value = async (app, key, query) => (await app.get(`/load/${key}?${query}`)).json.value;
  const count = async () => (await a.get("/count")).json.count + (await b.get("/count")).json.count;
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => value(i % 2 ? a : b, "one", "ms=1000&value=1")));
  assert.ok(answers.every((v) => v === "1"));
  assert.equal(await count(), 1);
  await until(async () => {
    const heard = await Promise.all(redis.nodes.map((n) => n.call("PUBSUB", "NUMSUB", "cache:events")));
    return heard.reduce((sum, text) => sum + Number(text.split("\n")[1]), 0) === 2;
  }, { what: "both subscriptions", timeout_ms: 20_000 });
  for (const key of ["k1", "k2", "k3", "k4"]) {
    await value(a, key, "value=old");
    await until(async () => (await value(b, key, "value=other")) === "old");
    await a.post(`/set/${key}/new`, "");
    await until(async () => (await value(b, key, "value=other")) === "new");
    await b.post(`/delete/${key}`, "");
    await until(async () => (await value(a, key, "value=third")) === "third");
  }
  await a.post("/flush", "");
  await until(async () => (await value(b, "k1", "value=fourth")) === "fourth");
  await value(a, "tagged", "value=1");
  await until(async () => (await value(b, "tagged", "value=x")) === "1");
  await a.post("/flush?tag=t", "");
  await until(async () => (await value(b, "tagged", "value=2")) === "2");
});

test("a cache with sentinels: the next master's keys are watched", { skip: missing }, async (t) => {
  const redis = await Sentinels.start(t);
  const begin = () => start(t, { route: ROUTES, workers: 1,
    settings: { "redis.main.url": redis.url } });
  const [a, b] = await Promise.all([begin(), begin()]);
  const value = async (app, query) => (await app.get(`/load/k?${query}`)).json.value;
  const watched = (server) => until(async () => (await server.call("CLIENT", "LIST").catch(() => "")).split("\n")
    .filter((l) => / flags=\w*t/.test(l)).length === 2, { what: "both watches", timeout_ms: 60_000 });
  await value(a, "value=old");
  await watched(redis.master);
  await redis.master.kill();
  assert.equal(await value(b, "value=other").then((v) => typeof v), "string");
  await until(async () => (await redis.replicas[0].role()) === "master",
    { what: "failover", timeout_ms: 60_000 });
  await watched(redis.replicas[0]);
  await until(async () => {
    await a.post("/set/k/new", "");
    return (await value(b, "value=x")) === "new";
  }, { timeout_ms: 30_000 });
});
