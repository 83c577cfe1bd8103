// /metrics: every line of both forms, and counters that never go back.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import test from "node:test";
import { ACCEPT } from "./prometheus_proto.mjs";
import { Connection, start, until } from "./helpers.mjs";

// --- a strict parser of the text format ------------------------------------------

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"/;
const NUMBER = /^(?:NaN|[+-]Inf|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/;
const SUFFIXES = {
  counter: { false: [""], true: ["_total", "_created"] },
  gauge: { false: [""], true: [""] },
  histogram: { false: ["_bucket", "_sum", "_count"], true: ["_bucket", "_sum", "_count", "_created"] },
  info: { true: ["_info"] },
};

function parse_sample(line) {
  const name = NAME.exec(line)?.[0];
  assert.ok(name, line);
  let rest = line.slice(name.length);
  const labels = {};
  if (rest.startsWith("{")) {
    do {
      const match = LABEL.exec(rest.slice(1));
      assert.ok(match, line);
      assert.ok(!(match[1] in labels), `twice: ${line}`);
      labels[match[1]] = match[2];
      rest = rest.slice(1 + match[0].length);
    } while (rest.startsWith(","));
    assert.equal(rest[0], "}", line);
    rest = rest.slice(1);
  }
  assert.match(rest, /^ \S+$/, line);
  assert.match(rest.slice(1), NUMBER, line);
  return { name, labels, value: Number(rest.slice(1).replace("Inf", "Infinity")) };
}

/** {name: {type, samples: Map(text before the value -> value)}}; throws at the first fault. */
function parse(text, openmetrics = false) {
  const families = new Map();
  let family = null;
  assert.ok(text.endsWith("\n"));
  const lines = text.slice(0, -1).split("\n");
  if (openmetrics) {
    assert.equal(lines.pop(), "# EOF");
  }
  for (const line of lines) {
    const head = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (head?.[1] === "HELP") {
      assert.equal(NAME.exec(head[2])?.[0], head[2], line);
      assert.ok(!families.has(head[2]), `a family twice: ${line}`);
      assert.ok(/^(?:[^\\]|\\[\\n"])*$/.test(head[3]), line);
      family = { name: head[2], samples: new Map() };
      families.set(head[2], family);
    } else if (head?.[1] === "TYPE") {
      assert.equal(head[2], family.name, line);
      assert.ok(SUFFIXES[head[3]]?.[openmetrics], line);
      assert.ok(family.type === undefined && family.samples.size === 0, line);
      family.type = head[3];
      assert.ok(family.type === "histogram" || !/_(count|sum|bucket)$/.test(head[2]), `a histogram's name: ${line}`);
    } else {
      const sample = parse_sample(line);
      const suffix = sample.name.slice(family.name.length);
      const key = line.slice(0, line.lastIndexOf(" "));
      assert.ok(sample.name.startsWith(family.name), `not of ${family.name}: ${line}`);
      assert.ok(SUFFIXES[family.type][openmetrics].includes(suffix), line);
      assert.equal("le" in sample.labels, suffix === "_bucket", line);
      assert.ok(!family.samples.has(key), `a sample twice: ${line}`);
      family.samples.set(key, sample);
    }
  }
  check_histograms(families);
  return families;
}

function check_histograms(families) {
  for (const { name, type, samples } of families.values()) {
    const last = new Map(); // series -> {bound, count}
    for (const { name: full, labels, value } of type === "histogram" ? samples.values() : []) {
      const { le, ...own } = labels;
      const key = JSON.stringify(own);
      if (full === `${name}_bucket`) {
        const before = last.get(key) ?? { bound: -Infinity, count: 0 };
        const bound = Number(le.replace("Inf", "Infinity"));
        assert.ok(bound > before.bound && value >= before.count, `${name}${key}`);
        last.set(key, { bound, count: value });
      } else if (full === `${name}_count`) {
        assert.deepEqual(last.get(key), { bound: Infinity, count: value }, `${name}${key}`);
      }
    }
  }
}

/** No counter, bucket or count is lower or gone. */
function assert_grown(before, after) {
  for (const [name, family] of before) {
    if (family.type === "gauge" || family.type === "info") {
      continue;
    }
    for (const [key, { name: full, value }] of family.samples) {
      // A process that is no more has no line of its own; those of the host stay.
      if (!/^process_/.test(name) && !/_created$/.test(full)) {
        assert.ok(after.get(name)?.samples.get(key)?.value >= value, `${key} went back`);
      }
    }
  }
}

// --- a host ------------------------------------------------------------------------

const ROUTE = `
  local metrics = require "perigee.metrics"
  local hits = metrics.counter{ name = "hits_total", help = "Hits.", labels = { "page" } }
  local depth = metrics.gauge{ name = "depth", help = "a\\nb\\\\c" }
  local size = metrics.histogram{ name = "size_bytes", buckets = { 10, 100.5 } }
  router:get("/hit/:page", function(req)
    hits:inc(1, req.params.page)
    size:observe(#req.params.page)
    depth:set(2)
    return { pid = require("perigee.host").pid }
  end)
  router:get("/fail", function() error "no" end)`;

async function serve(t, options = {}) {
  const app = await start(t, { route: ROUTE, workers: 2, ...options });
  const line = await app.line((l) => l.msg === "listening" && l.admin);
  app.admin = line.port;
  return app;
}

async function scrape(app, accept) {
  const connection = await Connection.open(app.admin);
  connection.write(`GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${accept ? `accept: ${accept}\r\n` : ""}\r\n`);
  return connection.answer();
}

const families = async (app) => parse((await scrape(app)).text);
const value = (all, name, key) => all.get(name)?.samples.get(key)?.value;
const hit = (app, page, count) => Promise.all(Array.from({ length: count }, () => app.get(`/hit/${page}`)));

const DURATION = "http_server_request_duration_seconds";
const count_of = (method, route, status, error = "") =>
  `${DURATION}_count{http_request_method="${method}",http_route="${route}",` +
  `http_response_status_code="${status}",url_scheme="http",error_type="${error}"}`;

test("every request is counted by method, route and status", async (t) => {
  const app = await serve(t);
  await hit(app, "a", 10);
  await app.request("HEAD", "/hit/b");
  await app.get("/fail");
  await app.get("/nowhere/1");
  await app.get("/nowhere/2");
  await app.post("/hit/a", "x");
  await app.raw("BREW / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  await app.raw("nonsense\r\n\r\n");
  const all = await families(app);
  assert.equal(value(all, DURATION, count_of("GET", "/hit/:page", 200)), 10);
  assert.equal(value(all, DURATION, count_of("HEAD", "/hit/:page", 200)), 1);
  assert.equal(value(all, DURATION, count_of("GET", "/fail", 500, "500")), 1);
  assert.equal(value(all, DURATION, count_of("GET", "", 404)), 2);
  assert.equal(value(all, DURATION, count_of("POST", "", 405)), 1);
  assert.equal(value(all, DURATION, count_of("_OTHER", "", 501, "501")), 1);
  assert.equal(value(all, DURATION, count_of("_OTHER", "", 400)), 1);
  assert.equal(value(all, "http_server_active_requests", "http_server_active_requests"), 0);
});

test("what workers count is added up", async (t) => {
  const app = await serve(t);
  await hit(app, "page", 30);
  const all = await families(app);
  assert.equal(value(all, "hits_total", 'hits_total{page="page"}'), 30);
  assert.equal(value(all, "size_bytes", "size_bytes_sum"), 120);
  assert.equal(value(all, "size_bytes", 'size_bytes_bucket{le="10"}'), 30);
  assert.ok([2, 4].includes(value(all, "depth", "depth"))); // of the workers that set it
});

test("the form is chosen by Accept", async (t) => {
  const app = await serve(t);
  const text = "text/plain; version=0.0.4; charset=utf-8";
  const open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
  for (const [accept, type] of [
    [undefined, text],
    ["*/*", text],
    ["text/plain", text],
    ["application/json", text],
    ["application/openmetrics-text", open],
    ["application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", open],
    ["application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.4", open],
    ["application/openmetrics-text;version=0.0.1", text],
    ["application/openmetrics-text;q=0.2, text/plain;q=0.9", text],
    ["application/openmetrics-text;q=0", text],
    ["APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.9, text/*;q=0.8", open],
    ["text/plain, application/openmetrics-text", open],
    ["application/vnd.google.protobuf, text/plain", text], // of another kind
    ["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", text],
    [`${ACCEPT};q=0.3,application/openmetrics-text;version=1.0.0;q=0.8`, open],
    [`${ACCEPT};q=0,text/plain;q=0.1`, text],
  ]) {
    const answer = await scrape(app, accept);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["content-type"], type, accept);
    parse(answer.text, type === open);
  }
});

test("OpenMetrics names counters and tells when they began", async (t) => {
  const app = await serve(t);
  await hit(app, "x", 1);
  const all = parse((await scrape(app, "application/openmetrics-text")).text, true);
  assert.equal(all.get("hits").type, "counter");
  assert.equal(value(all, "hits", 'hits_total{page="x"}'), 1);
  const age_s = Date.now() / 1000 - value(all, "hits", 'hits_created{page="x"}');
  assert.ok(age_s > -1 && age_s < 60);
  assert.equal(value(all, "size_bytes", 'size_bytes_bucket{le="10.0"}'), 1);
  assert.equal(all.get("perigee_build").type, "info");
});

test("counters do not go back when a worker is killed, nor by a reload", async (t) => {
  const app = await serve(t);
  await hit(app, "a", 40);
  let before = await families(app);
  for (let round = 0; round < 3; round++) {
    const victim = app.workers()[0];
    process.kill(victim, "SIGKILL");
    assert_grown(before, await families(app));
    await until(() => app.workers().length === 2 && !app.workers().includes(victim));
    await until(async () => (await hit(app, "a", 5)).every((a) => a.status === 200));
    const after = await families(app);
    assert_grown(before, after);
    before = after;
    assert.equal((await app.command("reload")).code, 0);
    await hit(app, "a", 5);
    const reloaded = await families(app);
    assert_grown(before, reloaded);
    assert.ok(value(reloaded, "hits_total", 'hits_total{page="a"}')
      >= value(before, "hits_total", 'hits_total{page="a"}') + 5);
    before = reloaded;
  }
});

test("counters do not go back when workers come and go", async (t) => {
  const app = await serve(t);
  await hit(app, "a", 20);
  let before = await families(app);
  for (const [signal, workers] of [["SIGTTIN", 3], ["SIGTTOU", 2], ["SIGTTOU", 1], ["SIGTTIN", 2]]) {
    process.kill(app.pid, signal);
    await until(() => app.workers().length === workers, { timeout_ms: 30_000, what: `${workers} workers` });
    assert_grown(before, await families(app));
    await until(async () => (await hit(app, "a", 4)).every((a) => a.status === 200), { timeout_ms: 30_000 });
    const after = await families(app);
    assert_grown(before, after);
    before = after;
  }
  assert.ok(value(before, "hits_total", 'hits_total{page="a"}') >= 36);
});

test("a killed worker's gauge no longer counts", async (t) => {
  const app = await serve(t);
  await until(async () => {
    await hit(app, "a", 8);
    return value(await families(app), "depth", "depth") === 4;
  });
  process.kill(app.workers()[0], "SIGKILL");
  await until(async () => value(await families(app), "depth", "depth") === 2);
});

test("a reload may declare a metric anew; a refused one changes nothing", async (t) => {
  const app = await serve(t);
  await hit(app, "a", 3);
  const buckets = (more) => ({ "scripts/routes/test.lua": `return function(router)${
    ROUTE.replace("{ 10, 100.5 }", "{ 7 }")}\n${more}\nend` });
  app.write(buckets("error 'not now'"));
  assert.equal((await app.command("reload")).code, 3);
  assert.equal(value(await families(app), "size_bytes", 'size_bytes_bucket{le="10"}'), 3);
  app.write(buckets(""));
  assert.equal((await app.command("reload")).code, 0);
  await hit(app, "a", 1);
  const all = await families(app);
  assert.equal(value(all, "size_bytes", 'size_bytes_bucket{le="10"}'), undefined);
  assert.equal(value(all, "size_bytes", 'size_bytes_bucket{le="7"}'), 1);
  assert.equal(value(all, "hits_total", 'hits_total{page="a"}'), 4);
});

test("a contradiction in what is declared does not load", async (t) => {
  const app = await serve(t);
  app.write({ "scripts/routes/z.lua": `require("perigee.metrics").gauge{ name = "hits_total" }\nreturn function() end` });
  const answer = await app.command("reload");
  assert.equal(answer.code, 3);
  assert.match(answer.stdout + answer.stderr, /z\.lua:1: metrics: the metric hits_total is declared already/);
});

test("over series_max there is one series more, and one warning for all workers", async (t) => {
  const app = await serve(t, { settings: { "metrics.series_max": 20 } });
  for (let i = 0; i < 40; i++) {
    await app.get(`/hit/p${i}`);
  }
  const all = await families(app);
  const samples = [...all.get("hits_total").samples.keys()];
  assert.equal(samples.length, 21);
  assert.equal(value(all, "hits_total", 'hits_total{overflow="true"}'), 20);
  await until(() => app.lines.filter((l) => l.req?.url.startsWith("/hit/")).length === 40); // warnings came before
  const warnings = app.lines.filter((l) => /too many series/.test(l.msg));
  assert.equal(warnings.length, 1);
  assert.equal(warnings[0].level, 40);
});

test("metrics.enabled = false answers 404", async (t) => {
  const app = await serve(t, { settings: { "metrics.enabled": false } });
  assert.equal((await app.get("/hit/a")).status, 200);
  assert.equal((await scrape(app)).status, 404);
});

test("metrics.buckets are those of request durations", async (t) => {
  const app = await serve(t, { files: { "config/default.lua": "return { metrics = { buckets = { 0.001, 1 } } }" } });
  await hit(app, "a", 1);
  const bounds = [...(await families(app)).get(DURATION).samples.values()]
    .map((s) => s.labels.le).filter(Boolean);
  assert.deepEqual(bounds, ["0.001", "1", "+Inf"]);
});

test("the loop's lag and the heap are those of each worker", async (t) => {
  const app = await serve(t);
  for (const worker of [0, 1]) {
    await until(async () => {
      const all = await families(app);
      return value(all, "perigee_lua_heap_bytes", `perigee_lua_heap_bytes{worker="${worker}"}`) > 50_000
        && value(all, "perigee_eventloop_lag_seconds", `perigee_eventloop_lag_seconds_count{worker="${worker}"}`) > 0;
    }, { what: `what worker ${worker} says` });
  }
});

test("garbage is collected while nobody waits", async (t) => {
  const app = await serve(t, { workers: 1, route: `
    router:get("/", function()
      for i = 1, 20000 do local _ = { ("x"):rep(100 + i) } end -- luacheck: ignore
      collectgarbage "stop"
      local kept = {}
      for i = 1, 20000 do kept[i] = { tostring(i) } end
      collectgarbage "restart"
      return {}
    end)` });
  await app.get("/");
  await until(async () => value(await families(app), "perigee_gc_duration_seconds", 'perigee_gc_duration_seconds_count{worker="0"}') > 0,
    { timeout_ms: 30_000, what: "a piece of collection" });
});

test("calls of perigee.sqlite are timed by database and outcome", async (t) => {
  const app = await serve(t, { workers: 1, route: `
    local db = require("perigee.sqlite").get "main"
    router:get("/", function()
      db:one "select 1 as one"
      return { failed = db:one "select nothing" == nil }
    end)` });
  assert.equal((await app.get("/")).json.failed, true);
  const all = await families(app);
  const count = (error) => value(all, "db_client_operation_duration_seconds",
    `db_client_operation_duration_seconds_count{db_system_name="sqlite",db_namespace="main",db_operation_name="SELECT",error_type="${error}"}`);
  assert.equal(count(""), 1);
  assert.equal(count("SQLITE_ERROR"), 1);
});

const promtool = spawnSync("promtool", ["--version"]).status === 0;

test("promtool has no complaint", { skip: promtool ? false : "no promtool here" }, async (t) => {
  const app = await serve(t);
  await hit(app, "a", 3);
  const answer = await scrape(app);
  const run = spawnSync("promtool", ["check", "metrics"], { input: answer.text, encoding: "utf8" });
  assert.equal(run.status, 0, run.stdout + run.stderr);
});
