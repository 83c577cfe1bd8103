// metrics.compat = "prom-client": what dashboards of Node services ask for,
// held against what prom-client itself gives.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import test from "node:test";
import { app_dir, perigee, start, until } from "./helpers.mjs";

const prom = createRequire(import.meta.url)("prom-client");

// Of V8 or libuv alone: docs/metrics.md says so.
const MEANINGLESS = ["nodejs_active_resources", "nodejs_active_handles", "nodejs_active_requests",
  "nodejs_heap_space_size_total_bytes", "nodejs_heap_space_size_used_bytes", "nodejs_heap_space_size_available_bytes"];

/** {name: {type, samples: [{labels, value}]}}; a histogram's by its count. */
function parse(text) {
  const all = new Map();
  for (const line of text.split("\n")) {
    const head = /^# TYPE (\S+) (\S+)$/.exec(line);
    if (head) {
      all.set(head[1], { type: head[2], samples: [] });
    }
    const [, name, labels, value] = /^(\w+?)(?:_count)?(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (all.has(name) && !line.startsWith("#")) {
      all.get(name).samples.push({ labels: Object.fromEntries([...(labels ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, k, v]) => [k, v])), value: Number(value) });
    }
  }
  return all;
}

async function theirs() {
  const registry = new prom.Registry();
  prom.collectDefaultMetrics({ register: registry });
  return parse(await registry.metrics());
}

async function serve(t, settings = {}) {
  const app = await start(t, { workers: 2, settings: { "metrics.compat": "prom-client", ...settings }, route: `
    router:get("/things/:id", function() return {} end)
    router:get("/slow", function()
      local till = os.clock() + 0.15
      while os.clock() < till do end
      return {}
    end)` });
  const admin = (await app.line((l) => l.msg === "listening" && l.admin)).url;
  app.scrape = async () => parse(await (await fetch(`${admin}/metrics`)).text());
  return app;
}

test("every default metric of prom-client that has a meaning here is given, of the same type", async (t) => {
  const app = await serve(t);
  const wanted = await theirs();
  const got = await until(async () => {
    const all = await app.scrape();
    return all.get("nodejs_heap_size_used_bytes")?.samples.length === 2 && all;
  }, { timeout_ms: 30_000 });
  assert.ok(wanted.size > 25);
  for (const [name, { type }] of wanted) {
    if (MEANINGLESS.includes(name)) {
      assert.ok(!got.has(name), name);
    } else {
      assert.equal(got.get(name)?.type, type, name);
      assert.ok(got.get(name).samples.length > 0, name);
      assert.ok(got.get(name).samples.every(({ value }) => value >= 0), name);
    }
  }
  const [{ labels }] = got.get("nodejs_version_info").samples;
  assert.match(labels.version, /^v\d+\.\d+\.\d+$/);
  assert.equal(labels.version, `v${labels.major}.${labels.minor}.${labels.patch}`);
  const [{ labels: gc }] = got.get("nodejs_gc_duration_seconds").samples;
  assert.equal(gc.kind, "incremental");
  const cpu = (name) => got.get(name).samples.reduce((sum, { value }) => sum + value, 0);
  assert.ok(Math.abs(cpu("process_cpu_user_seconds_total") + cpu("process_cpu_system_seconds_total") - cpu("process_cpu_seconds_total")) < 1e-6);
});

test("requests are counted by the labels of express-prom-bundle and fastify-metrics", async (t) => {
  const app = await serve(t);
  await app.get("/things/7");
  await app.get("/things/8");
  const { type, samples } = (await app.scrape()).get("http_request_duration_seconds");
  assert.equal(type, "histogram");
  const found = samples.filter(({ labels }) => labels.route === "/things/:id" && !("le" in labels));
  assert.equal(found.length, 1);
  assert.equal(found[0].value, 2);
  assert.deepEqual(found[0].labels, { method: "GET", route: "/things/:id", path: "/things/:id", status_code: "200", url_scheme: "http", error_type: "" });
});

test("a stall is seen in the lag of its worker's loop", async (t) => {
  const app = await serve(t);
  await app.get("/slow");
  const lags = await until(async () => {
    const all = await app.scrape();
    return all.get("nodejs_eventloop_lag_max_seconds")?.samples.some(({ value }) => value >= 0.1) && all;
  }, { timeout_ms: 30_000 });
  const of = (name) => Math.max(...lags.get(`nodejs_eventloop_lag_${name}seconds`).samples.map(({ value }) => value));
  assert.ok(of("p99_") <= of("max_") && of("p50_") <= of("p90_") && of("p90_") <= of("p99_"));
  assert.ok(of("mean_") > 0 && of("stddev_") > 0);
});

test("without it no metric has a name of Node's", async (t) => {
  const app = await serve(t, { "metrics.compat": "none" });
  await app.get("/things/1");
  const names = [...(await app.scrape()).keys()];
  assert.deepEqual(names.filter((name) => /^nodejs_|^http_request_duration|_user_|_heap_bytes$/.test(name)), ["perigee_lua_heap_bytes"]);
});

test("its names cannot be taken by an application, so that a scrape has each once", async (t) => {
  for (const name of ["nodejs_heap_size_used_bytes", "http_request_duration_seconds"]) {
    const dir = app_dir(t, { route: `require("perigee.metrics").gauge { name = "${name}" }` });
    const refused = await perigee(["check", dir, "--set", "metrics.compat=prom-client"], {});
    assert.equal(refused.code, 78);
    assert.match(refused.stdout + refused.stderr, new RegExp(`the name ${name} is the host's own, by metrics.compat`));
    assert.equal((await perigee(["check", dir], {})).code, 0);
  }
});
