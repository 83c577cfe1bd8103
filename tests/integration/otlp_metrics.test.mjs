// Metrics pushed by OTLP: decoded with OpenTelemetry's own definitions.
import assert from "node:assert/strict";
import http from "node:http";
import { createRequire } from "node:module";
import test from "node:test";
import { gunzipSync } from "node:zlib";
import { start, until } from "./helpers.mjs";

const root = createRequire(import.meta.url)("@opentelemetry/otlp-transformer/build/src/generated/root.js");
const Request = root.opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest;
const WAIT = { timeout_ms: 30_000 };
const [DELTA, CUMULATIVE] = [1, 2];

const value_of = (any) => { // 64 bits are strings
  const [kind] = Object.keys(any);
  return kind === "intValue" ? Number(any.intValue) : any[kind];
};
const attributes_of = (list) => Object.fromEntries((list ?? []).map(({ key, value }) => [key, value_of(value)]));

function decode(headers, body) {
  const bytes = headers["content-encoding"] === "gzip" ? gunzipSync(body) : body;
  return headers["content-type"] === "application/json" ? JSON.parse(bytes.toString("utf8"))
    : Request.toObject(Request.decode(bytes), { longs: String });
}

/** answer(n) for the n-th request: its status. it.pushes: [{name: metric}] of those that were taken. */
async function collector(t, answer = () => 200) {
  const it = { pushes: [], requests: [], count: 0 };
  const server = http.createServer((req, res) => {
    const parts = [];
    req.on("data", (part) => parts.push(part)).on("end", () => {
      if (req.url === "/v1/traces") { // a general endpoint is theirs, too
        res.end();
        return;
      }
      const status = answer(++it.count);
      if (status === 200) {
        const { resourceMetrics: [{ resource, scopeMetrics: [{ scope, metrics }] }] } = decode(req.headers, Buffer.concat(parts));
        it.requests.push({ url: req.url, headers: req.headers, resource: attributes_of(resource.attributes), scope });
        it.pushes.push(new Map(metrics.map((m) => [m.name, m])));
      }
      res.writeHead(status).end();
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => { server.closeAllConnections(); server.close(); });
  it.url = `http://127.0.0.1:${server.address().port}`;
  /** The latest push that the predicate likes. */
  it.when = (fine, what = "the push") => until(() => it.pushes.findLast(fine), { ...WAIT, what });
  /** All points of a metric in all pushes. */
  it.points = (name) => it.pushes.flatMap((p) => points_of(p.get(name)));
  return it;
}

const data_of = (metric) => metric?.sum ?? metric?.gauge ?? metric?.histogram ?? metric?.exponentialHistogram;
const points_of = (metric) => (data_of(metric)?.dataPoints ?? []).map((p) => ({ ...p, labels: attributes_of(p.attributes) }));
const count_of = (points) => points.reduce((sum, p) => sum + Number(p.count ?? p.asDouble ?? 0), 0);

const ROUTE = `
  local metrics = require "perigee.metrics"
  local hits = metrics.counter { name = "hits_total", help = "Hits.", labels = { "page" } }
  local cold = metrics.gauge { name = "cold" }
  local size = metrics.histogram { name = "size_bytes", buckets = { 10, 100 } }
  local spread = metrics.histogram { name = "spread", exponential = true }
  router:get("/hit/:page", function(req)
    hits:inc(1, req.params.page)
    cold:set(-3)
    size:observe(10)
    spread:observe(4)
    spread:observe(-4)
    spread:observe(0)
    return {}
  end)`;

const serve = (t, vars, settings = {}) => start(t, { route: ROUTE, workers: 2, settings,
  vars: { OTEL_METRICS_EXPORTER: "otlp", OTEL_METRIC_EXPORT_INTERVAL: "300", ...vars } });

for (const protocol of ["http/protobuf", "http/json"]) {
  test(`all kinds of metrics, cumulative, in ${protocol}`, async (t) => {
    const to = await collector(t);
    const app = await serve(t, { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${to.url}/own/path`, OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
      OTEL_EXPORTER_OTLP_METRICS_HEADERS: "x-key=a%20b", OTEL_EXPORTER_OTLP_COMPRESSION: protocol.endsWith("json") ? "gzip" : "none",
      OTEL_SERVICE_NAME: "shop", OTEL_RESOURCE_ATTRIBUTES: "deployment.environment=test" });
    for (let i = 0; i < 6; i++) {
      await app.get("/hit/a");
    }
    const push = await to.when((p) => count_of(points_of(p.get("hits_total"))) === 6, "6 hits");
    const { url, headers, resource, scope } = to.requests.at(-1);
    assert.equal(url, "/own/path");
    assert.equal(headers["x-key"], "a b");
    assert.equal(headers["content-type"], protocol.endsWith("json") ? "application/json" : "application/x-protobuf");
    assert.equal(resource["service.name"], "shop");
    assert.equal(resource["deployment.environment"], "test");
    assert.equal(resource["process.pid"], app.pid);
    assert.equal(scope.name, "perigee");

    const hits = push.get("hits_total");
    assert.equal(hits.description, "Hits.");
    assert.equal(hits.sum.aggregationTemporality, CUMULATIVE);
    assert.equal(hits.sum.isMonotonic, true);
    const [hit] = points_of(hits);
    assert.deepEqual(hit.labels, { page: "a" });
    assert.ok(BigInt(hit.startTimeUnixNano) < BigInt(hit.timeUnixNano));
    assert.ok(Math.abs(Number(BigInt(hit.timeUnixNano) / 1_000_000n) - Date.now()) < 60_000);
    assert.ok([-3, -6].includes(points_of(push.get("cold"))[0].asDouble));
    assert.equal(data_of(push.get("cold")), push.get("cold").gauge);

    const size = push.get("size_bytes");
    assert.equal(size.unit, "By");
    assert.equal(size.histogram.aggregationTemporality, CUMULATIVE);
    const [sizes] = points_of(size);
    assert.equal(Number(sizes.count), 6);
    assert.equal(sizes.sum, 60);
    assert.deepEqual(sizes.explicitBounds, [10, 100]);
    assert.deepEqual(sizes.bucketCounts.map(Number), [6, 0, 0]);

    const spread = push.get("spread");
    assert.equal(spread.exponentialHistogram.aggregationTemporality, CUMULATIVE);
    const [values] = points_of(spread);
    assert.equal(Number(values.count), 18);
    assert.equal(Number(values.zeroCount), 6);
    // 4 is the bound of its bucket, which is above all that is less.
    for (const { offset, bucketCounts } of [values.positive, values.negative]) {
      assert.deepEqual(bucketCounts.map(Number), [6]);
      assert.equal(2 ** ((offset + 1) / 2 ** values.scale), 4);
    }

    const took = push.get("http.server.request.duration");
    assert.equal(took.unit, "s");
    const [point] = points_of(took).filter((p) => p.labels["http.route"] === "/hit/:page");
    assert.deepEqual(point.labels, { "http.request.method": "GET", "http.route": "/hit/:page", "http.response.status_code": 200, "url.scheme": "http" });
    const active = push.get("http.server.active_requests"); // an UpDownCounter, by the conventions
    assert.equal(active.unit, "{request}");
    assert.equal(active.sum.aggregationTemporality, CUMULATIVE);
    assert.ok(!active.sum.isMonotonic);
    assert.equal(points_of(push.get("perigee_workers_wanted"))[0].asDouble, 2);
  });
}

for (const preference of ["delta", "LowMemory"]) {
  test(`${preference}: what was added since, each once, through a kill and to the end`, async (t) => {
    const to = await collector(t);
    const app = await serve(t, { OTEL_EXPORTER_OTLP_ENDPOINT: to.url, OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: preference });
    let sent = 0;
    const hit = async () => {
      const ok = (await app.get("/hit/a").catch(() => null))?.status === 200;
      sent += ok ? 1 : 0;
      return ok;
    };
    await Promise.all(Array.from({ length: 10 }, hit));
    await until(() => count_of(to.points("hits_total")) === sent, { ...WAIT, what: "what was sent first" });
    const victim = app.workers()[0];
    process.kill(victim, "SIGKILL");
    await until(() => app.workers().length === 2 && !app.workers().includes(victim), WAIT);
    for (let i = 0; i < 5; i++) {
      await until(hit, WAIT);
    }
    assert.equal((await app.stop()).code, 0); // the last push is the stop's
    assert.equal(count_of(to.points("hits_total")), sent);
    assert.equal(count_of(to.points("size_bytes")), sent);
    assert.equal(count_of(to.points("spread")), 3 * sent);
    assert.equal(to.points("spread").reduce((sum, p) => sum + count_of((p.positive?.bucketCounts ?? []).map((count) => ({ count }))), 0), sent);
    assert.equal(to.requests[0].url, "/v1/metrics");
    const last = to.pushes.findLast((p) => p.has("hits_total"));
    assert.equal(last.get("hits_total").sum.aggregationTemporality, DELTA);
    assert.equal(last.get("spread").exponentialHistogram.aggregationTemporality, DELTA);
    // What is read from elsewhere is cumulative for lowmemory.
    const requests = to.pushes.findLast((p) => p.has("perigee_http_requests_total")).get("perigee_http_requests_total");
    assert.equal(requests.sum.aggregationTemporality, preference === "delta" ? DELTA : CUMULATIVE);
    // Intervals follow each other.
    const ends = to.points("hits_total").map((p) => [BigInt(p.startTimeUnixNano), BigInt(p.timeUnixNano)]);
    assert.ok(ends.every(([from, till], i) => from <= till && (i === 0 || from >= ends[i - 1][1])));
  });
}

test("a collector that fails loses no delta, and slows nobody down", async (t) => {
  const to = await collector(t, (n) => (n <= 2 ? 503 : 200));
  const app = await serve(t, { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${to.url}/v1/metrics`, OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: "delta" });
  for (let i = 0; i < 20; i++) {
    assert.equal((await app.get("/hit/a")).status, 200);
  }
  await until(() => count_of(to.points("hits_total")) === 20, { ...WAIT, what: "20 hits" });
});

test("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION makes histograms exponential", async (t) => {
  const to = await collector(t);
  const app = await serve(t, { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: to.url,
    OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION: "base2_exponential_bucket_histogram" });
  await app.get("/hit/a");
  const push = await to.when((p) => count_of(points_of(p.get("size_bytes"))) === 1 && p.has("http.server.request.duration"));
  assert.ok(push.get("size_bytes").exponentialHistogram);
  assert.ok(push.get("http.server.request.duration").exponentialHistogram);
});

test("nothing is pushed unless it is asked for; a reload asks and stops", async (t) => {
  const to = await collector(t);
  const vars = { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: to.url };
  const off = await start(t, { route: ROUTE, vars: { ...vars, OTEL_METRICS_EXPORTER: "none" } });
  const disabled = await start(t, { route: ROUTE, vars: { ...vars, OTEL_METRICS_EXPORTER: "otlp", OTEL_SDK_DISABLED: "true" } });
  const config = (enabled) => ({ "config/default.lua": `return { metrics = { otlp = { enabled = ${enabled}, interval = "100ms", endpoint = "${to.url}" } } }` });
  const app = await start(t, { route: ROUTE, files: config(false) });
  await app.get("/hit/a");
  for (const host of [off, disabled]) {
    assert.equal((await host.stop()).code, 0);
  }
  assert.equal(to.count, 0);
  app.write(config(true));
  assert.equal((await app.command("reload")).code, 0);
  await to.when((p) => p.has("hits_total"));
  app.write(config(false));
  assert.equal((await app.command("reload")).code, 0);
  const admin = (await app.line((l) => l.msg === "listening" && l.admin)).url;
  const text = await (await fetch(`${admin}/metrics`)).text();
  assert.doesNotMatch(text, /perigee_metrics_exported_total/);
  const count = to.count;
  assert.equal((await app.stop()).code, 0);
  assert.ok(to.count <= count + 1); // what was on its way at the reload
});

test("pools of connections go by their conventional names", async (t) => {
  const to = await collector(t);
  const app = await start(t, { settings: { "sqlite.main.path": "var/a.db" }, vars: { OTEL_METRICS_EXPORTER: "otlp",
    OTEL_METRIC_EXPORT_INTERVAL: "300", OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${to.url}/v1/metrics` }, route: `
    router:get("/", function(req)
      require("perigee.sqlite").get("main"):exec "create table t(n)"
      return { status = require("perigee.http").get("${to.url}/v1/traces").status }
    end)` });
  assert.equal((await app.get("/")).status, 200);
  const one = (push, name, state) => points_of(push.get(name)).find(({ labels }) =>
    (labels["db.client.connection.state"] ?? labels["http.connection.state"]) === state);
  const push = await to.when((p) => one(p, "db.client.connection.count", "idle")?.asDouble === 1 && one(p, "http.client.open_connections", "idle")?.asDouble === 1);
  assert.deepEqual(one(push, "db.client.connection.count", "idle").labels,
    { "db.system.name": "sqlite", "db.client.connection.pool.name": "main", "db.client.connection.state": "idle" });
  assert.deepEqual(one(push, "http.client.open_connections", "idle").labels,
    { "server.address": "127.0.0.1", "server.port": Number(new URL(to.url).port), "url.scheme": "http", "http.connection.state": "idle" });
  assert.equal(points_of(push.get("db.client.connection.pending_requests"))[0].asDouble, 0);
});
