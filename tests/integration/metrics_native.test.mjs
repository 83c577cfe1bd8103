// Native histograms: counted in exponential buckets, scraped in protobuf.
import assert from "node:assert/strict";
import test from "node:test";
import { isDeepStrictEqual } from "node:util";
import { start, until } from "./helpers.mjs";
import { ACCEPT, decode } from "./prometheus_proto.mjs";

const ROUTE = `
  local metrics = require "perigee.metrics"
  local size = metrics.histogram { name = "size_bytes", labels = { "kind" }, buckets = { 10, 1000 }, exponential = true }
  local plain = metrics.histogram { name = "plain_seconds" }
  router:get("/see/:value", function(req)
    size:observe(tonumber(req.params.value), "a\\"b\\n")
    plain:observe(1)
    return {}
  end)`;

async function serve(t, options = {}) {
  const app = await start(t, { route: ROUTE, workers: 2, ...options });
  app.admin = (await app.line((l) => l.msg === "listening" && l.admin)).url;
  return app;
}

async function scrape(app) {
  const answer = await fetch(`${app.admin}/metrics`, { headers: { accept: `${ACCEPT},text/plain;q=0.5,*/*;q=0.1` } });
  assert.equal(answer.headers.get("content-type"), "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited");
  return decode(new Uint8Array(await answer.arrayBuffer()));
}

const KEY = "kind=a\"b\n";
const VALUES = [0, 1, 1.5, 2, 3, 8, 8, 8.1, 100, 5000, -4, -4, 1e-3, 64];

// Prometheus: bucket i is up to 2^(i / 2^schema), from the one before it.
function expected(values, schema) {
  const found = new Map();
  for (const value of values) {
    const index = Math.ceil(Math.log2(value) * 2 ** schema);
    found.set(index, (found.get(index) ?? 0) + 1);
  }
  return found;
}

const filled = (buckets) => new Map([...buckets].filter(([, count]) => count > 0).sort(([a], [b]) => a - b));
const sorted = (map) => new Map([...map].sort(([a], [b]) => a - b));

test("what both workers observed is one native histogram, beside its classic buckets", async (t) => {
  const app = await serve(t);
  await Promise.all(VALUES.map((value) => app.get(`/see/${value}`)));
  const all = await scrape(app);
  const { type, series } = all.get("size_bytes");
  assert.equal(type, "HISTOGRAM");
  const h = series.get(KEY);
  assert.equal(h.count, VALUES.length);
  assert.ok(Math.abs(h.sum - VALUES.reduce((a, b) => a + b)) < 1e-9);
  assert.deepEqual(h.classic, [[10, 11], [1000, 13]]);
  assert.equal(h.zero, 1);
  assert.ok(h.zero_threshold > 0);
  assert.ok(h.schema >= 2 && h.schema <= 8, String(h.schema));
  assert.deepEqual(filled(h.positive), sorted(expected(VALUES.filter((v) => v > 0), h.schema)));
  assert.deepEqual(filled(h.negative), expected([4, 4], h.schema));
  assert.ok(Math.abs(h.created_s - Date.now() / 1000) < 60);
  // What was not declared so has classic buckets alone.
  const plain = all.get("plain_seconds").series.get("");
  assert.equal(plain.zero_threshold, undefined);
  assert.equal(plain.classic.length, 11);
});

test("all families and values of the text are in protobuf, too", async (t) => {
  const app = await serve(t);
  await app.get("/see/3");
  const families = async () => [...(await (await fetch(`${app.admin}/metrics`)).text()).matchAll(/^# TYPE (\S+) (\S+)$/gm)]
    .map(([, name, type]) => [name, type]);
  let names;
  let all;
  await until(async () => {
    names = await families();
    all = await scrape(app);
    return isDeepStrictEqual(names, await families()); // none came meanwhile
  });
  assert.deepEqual([...all.keys()], names.map(([name]) => name));
  for (const [name, type] of names) {
    assert.equal(all.get(name).type, type.toUpperCase(), name);
  }
  assert.equal(all.get("perigee_workers_wanted").series.get(""), 2);
  assert.equal(all.get("perigee_build_info").series.size, 1);
});

test("metrics.exponential: all histograms of requests and of the application", async (t) => {
  const app = await serve(t, { settings: { "metrics.exponential": true } });
  await app.get("/see/3");
  const all = await scrape(app);
  assert.ok(all.get("plain_seconds").series.get("").zero_threshold > 0);
  const [took] = all.get("http_server_request_duration_seconds").series.values();
  assert.equal([...took.positive.values()].reduce((a, b) => a + b), 1);
  const text = await (await fetch(`${app.admin}/metrics`)).text();
  assert.match(text, /^size_bytes_bucket\{.*le="10"\} 1$/m); // text has the classic ones
});

test("buckets do not go back when workers are killed or the code is reloaded", async (t) => {
  const app = await serve(t);
  let sent = 0;
  const see = async (value) => {
    const answer = await app.get(`/see/${value}`).catch(() => null);
    sent += answer?.status === 200 ? 1 : 0;
    return answer?.status === 200;
  };
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 10; i++) {
      await see(10 ** (round - 2) * (1 + i)); // wider each round: the scale falls
    }
    assert.ok((await scrape(app)).get("size_bytes").series.get(KEY).count >= sent);
    const victim = app.workers()[0];
    process.kill(victim, "SIGKILL");
    await until(() => app.workers().length === 2 && !app.workers().includes(victim), { timeout_ms: 30_000 });
    assert.equal((await app.command("reload")).code, 0);
  }
  await until(() => see(1));
  const h = (await scrape(app)).get("size_bytes").series.get(KEY);
  assert.equal(h.count, sent);
  assert.equal([...h.positive.values()].reduce((a, b) => a + b) + h.zero, sent);
});
