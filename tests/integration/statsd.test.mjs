// Metrics pushed to StatsD: every line of both forms, over UDP.
import assert from "node:assert/strict";
import dgram from "node:dgram";
import test from "node:test";
import { start, until } from "./helpers.mjs";

const LINE = /^([^:|#\n]+):(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\|(c|g)(?:\|#([^|\n]+))?$/;

async function server(t) {
  const it = { lines: [], largest: 0 };
  const socket = dgram.createSocket({ type: "udp4", recvBufferSize: 1 << 22 });
  t.after(() => socket.close());
  socket.on("message", (message) => {
    it.largest = Math.max(it.largest, message.length);
    for (const line of message.toString("utf8").split("\n")) {
      const [, name, value, type, tags] = LINE.exec(line) ?? assert.fail(line);
      it.lines.push({ name, value: Number(value), type, tags: tags?.split(",").sort().join(",") });
    }
  });
  await new Promise((resolve) => socket.bind(0, "127.0.0.1", resolve));
  it.port = socket.address().port;
  it.sum = (name, tags) => it.lines.filter((l) => l.name === name && l.tags === tags).reduce((sum, l) => sum + l.value, 0);
  it.has = (name, tags) => until(() => it.lines.findLast((l) => l.name === name && l.tags === tags), { timeout_ms: 30_000, what: name });
  return it;
}

const ROUTE = `
  local metrics = require "perigee.metrics"
  local hits = metrics.counter { name = "hits_total", labels = { "page", "kind" } }
  local cold = metrics.gauge { name = "cold" }
  local size = metrics.histogram { name = "size", buckets = { 10, 100 } }
  router:get("/hit/:page", function(req)
    hits:inc(1, req.params.page, "")
    cold:set(-3)
    size:observe(10)
    return {}
  end)
`;

test("plain StatsD: labels are a part of the name", async (t) => {
  const to = await server(t);
  const app = await start(t, { route: ROUTE, workers: 2, vars: { STATSD_HOST: "127.0.0.1", STATSD_PORT: String(to.port) }, settings: { "metrics.statsd.interval": "300ms" } });
  for (let i = 0; i < 5; i++) {
    await app.get("/hit/a%3Ab");
  }
  await until(() => to.sum("hits_total.a_b") === 5, { timeout_ms: 30_000, what: "5 hits" });
  await until(() => to.lines.some((l) => l.name === "cold" && l.value < 0), { timeout_ms: 30_000 });
  await until(() => to.sum("size.count") === 5 && to.sum("size.sum") === 50, { timeout_ms: 30_000 });
  const p50 = await to.has("size.p50");
  assert.equal(p50.type, "g");
  assert.ok(p50.value > 0 && p50.value <= 10);
  await until(() => to.sum("http_server_request_duration_seconds.GET._hit__page.200.http.count") === 5, { timeout_ms: 30_000 });
  // One worker or both have set it. A value with a sign comes behind a 0.
  const cold = to.lines.filter((l) => l.name === "cold").map((l) => l.value);
  assert.ok(cold.every((value, i) => value === 0 || ([-3, -6].includes(value) && cold[i - 1] === 0)), String(cold));
  assert.ok(to.largest <= 1432);
  // What was counted is sent once, also at the stop.
  await app.get("/hit/last");
  assert.equal((await app.stop()).code, 0);
  await until(() => to.sum("hits_total.last") === 1, { timeout_ms: 30_000 });
  assert.equal(to.sum("hits_total.a_b"), 5);
});

test("DogStatsD: labels are tags; a name is looked up", async (t) => {
  const to = await server(t);
  const app = await start(t, { route: ROUTE, settings: { "metrics.statsd.host": "localhost", "metrics.statsd.port": to.port, "metrics.statsd.interval": "300ms",
    "metrics.statsd.format": "dogstatsd", "metrics.statsd.prefix": "shop." } });
  await app.get("/hit/x");
  assert.equal((await to.has("shop.hits_total", "page:x")).value, 1);
  await until(() => to.lines.some((l) => l.name === "shop.perigee_workers" && l.tags === "state:serving" && l.value === 1), { timeout_ms: 30_000 });
  await until(() => to.lines.some((l) => l.name === "shop.cold" && l.value === -3), { timeout_ms: 30_000 });
});
