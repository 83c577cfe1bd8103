// Traces: contexts in and out, spans, and their way to a collector.
import assert from "node:assert/strict";
import http from "node:http";
import test from "node:test";
import { collector } from "./collector.mjs";
import { start, until } from "./helpers.mjs";
import { Redis, missing } from "./redis_helpers.mjs";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = "b7ad6b7169203331";

const ROUTE = `
  local trace = require "perigee.trace"
  local http = require "perigee.http"
  local log = require "perigee.log"
  local errors = require "perigee.error"
  local task = require "perigee.task"

  router:get("/users/:id", function(req)
    trace.current():set("user.id", tonumber(req.params.id))
    log.info "in the handler"
    return trace.span("load", { half = 0.5, yes = true, list = { 1, 2 } }, function(span)
      span:event("cache missed", { key = "k" })
      log.info "in the span"
      local res = task.spawn(function()
        return http.get(req.query.at)
      end):join()
      return res:json()
    end)
  end)
  router:get("/headers", function(req)
    return { headers = req.headers, baggage = trace.baggage() }
  end)
  router:get("/boom", function()
    return trace.span("broken", nil, function() error "it broke" end)
  end)
  router:get("/refused", function()
    return trace.span("refused", function()
      return nil, errors.new("conflict", "it is taken")
    end)
  end)
  router:get("/out", function()
    return { out = trace.inject({}), current = trace.current() }
  end)
  router:get("/continue", function()
    local context = trace.extract { traceparent = "00-${TRACE}-${PARENT}-01" }
    return trace.span("continued", nil, function(span) return span:context() end,
      { kind = "consumer", parent = context, links = { context } })
  end)
`;

const FAST = { "trace.batch_delay": "50ms" };
const by_name = (spans, name) => spans.filter((s) => s.name === name);

test("one trace goes through requests, spans and calls", async (t) => {
  const to = await collector(t);
  const app = await start(t, { route: ROUTE, settings: { ...FAST, "trace.endpoint": `${to.url}/v1/traces`, "trace.service_name": "shop" } });
  const answer = await app.get(`/users/7?at=${app.url}/headers`, { headers: {
    traceparent: `00-${TRACE}-${PARENT}-01`, tracestate: "a=1", baggage: "user=b%20c,x=2;p=1", "user-agent": "test" } });
  assert.equal(answer.status, 200);
  const server = await to.span("GET /users/:id");
  const load = await to.span("load");
  const call = await to.span("GET");
  const inner = await to.span("GET /headers");

  assert.deepEqual(to.spans.map((s) => s.trace_id), [TRACE, TRACE, TRACE, TRACE]);
  assert.deepEqual([server, load, call, inner].map((s) => s.parent_id), [PARENT, server.span_id, load.span_id, call.span_id]);
  assert.deepEqual([server, load, call, inner].map((s) => s.kind), [2, 1, 3, 2]);
  assert.deepEqual(server.attributes, {
    "user.id": 7, "http.request.method": "GET", "url.path": "/users/7", "url.query": `at=${app.url}/headers`,
    "url.scheme": "http", "network.protocol.version": "1.1", "server.address": "127.0.0.1", "server.port": app.port,
    "client.address": "127.0.0.1", "user_agent.original": "test", "http.response.status_code": 200,
    "http.route": "/users/:id" });
  assert.deepEqual(load.attributes, { half: 0.5, yes: true, list: "[1,2]" });
  assert.deepEqual(load.events, [{ name: "cache missed", attributes: { key: "k" } }]);
  assert.deepEqual(call.attributes, {
    "http.request.method": "GET", "server.address": "127.0.0.1", "server.port": app.port,
    "url.full": `${app.url}/headers`, "network.protocol.version": "1.1", "http.response.status_code": 200 });
  assert.equal(server.state, "a=1");
  assert.ok(server.start_ns <= load.start_ns && load.end_ns <= server.end_ns);
  assert.ok(Math.abs(Number(server.start_ns / 1_000_000n) - Date.now()) < 120_000);

  assert.equal(answer.json.headers.traceparent, `00-${TRACE}-${call.span_id}-01`);
  assert.equal(answer.json.headers.tracestate, "a=1");
  assert.equal(answer.json.headers.baggage, "user=b%20c,x=2;p=1");
  assert.deepEqual(answer.json.baggage, { user: "b c", x: "2" });

  const lines = await Promise.all(["in the handler", "in the span"].map((m) => app.line(m)));
  assert.deepEqual(lines.map((l) => [l.trace_id, l.span_id]), [[TRACE, server.span_id], [TRACE, load.span_id]]);
  const done = await app.line((l) => l.msg === "request completed" && l.req.url.startsWith("/users"));
  assert.deepEqual([done.trace_id, done.span_id], [TRACE, server.span_id]);

  // The request is an example of its duration, in OpenMetrics.
  const open = await metrics_of(app, { accept: "application/openmetrics-text" });
  const example = /^http_server_request_duration_seconds_bucket\{[^}]*http_route="\/users\/:id"[^}]*,le="([^"]+)"\} 1 # \{trace_id="(\w+)",span_id="(\w+)"\} (\S+) (\S+)$/m.exec(open);
  assert.deepEqual(example.slice(2, 4), [TRACE, server.span_id]);
  assert.ok(Number(example[4]) > 0 && Number(example[4]) <= Number(example[1]));
  assert.ok(Math.abs(Number(example[5]) - Date.now() / 1000) < 120);
  assert.ok(!(await metrics_of(app)).includes(TRACE));

  const { headers, url, resource, scope } = to.requests[0];
  assert.equal(headers["content-type"], "application/x-protobuf");
  assert.equal(url, "/v1/traces");
  assert.equal(resource["service.name"], "shop");
  assert.equal(resource["telemetry.sdk.name"], "perigee");
  assert.equal(scope.name, "perigee");
});

test("an answer that is cut off is a failure for the log, the metrics and the trace", async (t) => {
  const to = await collector(t);
  const app = await start(t, { settings: { ...FAST, "trace.endpoint": `${to.url}/v1/traces` }, route: `
    router:get("/late", function()
      return require("perigee.http").stream(function(out)
        out:write "begun"
        error "it broke"
      end)
    end)` });
  const connection = await app.connect();
  connection.write("GET /late HTTP/1.1\r\nHost: x\r\n\r\n");
  const bytes = (await connection.rest()).toString();
  assert.match(bytes, /^HTTP\/1\.1 200 OK\r\n/);
  assert.ok(!bytes.endsWith("0\r\n\r\n"), bytes);

  const line = await app.line("request aborted");
  assert.deepEqual([line.level, line.res.statusCode, line.err.message], [50, 200, "the answer was cut off"]);
  const span = await to.span("GET /late");
  assert.deepEqual([span.attributes["error.type"], span.status], ["cut_off", 2]);
  assert.match(await metrics_of(app), /_count\{[^}]*http_route="\/late",http_response_status_code="200",url_scheme="http",error_type="cut_off"\} 1\n/);
});

test("a request that is sent again, for a redirect or after a failure, says so", async (t) => {
  const to = await collector(t);
  const app = await start(t, { settings: { ...FAST, "trace.endpoint": to.url }, route: `
    local http = require "perigee.http"
    router:get("/moved", function() return http.redirect "/busy" end)
    router:get("/busy", function() return 503, "", { ["retry-after"] = "0" } end)
    router:get("/ask", function(req)
      return { status = http.get("http://" .. req:header "host" .. "/moved", { retry = 2 }).status }
    end)` });
  assert.deepEqual((await app.get("/ask")).json, { status: 503 });
  const calls = await until(() => by_name(to.spans, "GET").length === 3 && by_name(to.spans, "GET"));
  assert.deepEqual(calls.map((s) => [s.attributes["http.response.status_code"], s.attributes["http.request.resend_count"]]),
    [[302, undefined], [503, 1], [503, 2]]);
});

test("credentials in a URL do not go to the collector", async (t) => {
  const route = `
    local http = require "perigee.http"
    router:get("/ask", function()
      local at = "127.0.0.1:" .. require("perigee.config").app.at
      http.get("http://user:pass@" .. at .. "/plain?a=1&X-Amz-Signature=s1&X-Amz-Date=2&sig=s2&sig&b=sig")
      return "asked"
    end)
    router:get("/plain", function() return "plain" end)`;
  const upstream = await start(t, { route });
  for (const protocol of ["http/protobuf", "http/json"]) {
    const to = await collector(t);
    const app = await start(t, { route, settings: {
      ...FAST, "trace.endpoint": `${to.url}/v1/traces`, "trace.protocol": protocol, "app.at": upstream.port } });
    const text = (names) => names.map((name) => `${name}=secret`).join("&");
    await app.get(`/ask?${text(["AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature", "Sig", "assig", "sigs"])}`);
    await app.get("/plain?sig=&a=sig=1&Signature");
    await app.get(`/plain?${"sig=0123456789&".repeat(100)}`);
    const asked = await to.span("GET /ask");
    assert.equal(asked.attributes["url.query"], "AWSAccessKeyId=REDACTED&Signature=REDACTED&sig=REDACTED"
      + "&X-Goog-Signature=REDACTED&Sig=secret&assig=secret&sigs=secret");
    const call = await to.span("GET");
    assert.equal(call.attributes["url.full"],
      `${upstream.url}/plain?a=1&X-Amz-Signature=REDACTED&X-Amz-Date=2&sig=REDACTED&sig&b=sig`);
    await until(() => by_name(to.spans, "GET /plain").length === 2);
    assert.deepEqual(by_name(to.spans, "GET /plain").map((s) => s.attributes["url.query"]),
      ["sig=REDACTED&a=sig=1&Signature", "sig=REDACTED&".repeat(100)]);
  }
});

test("what fails is marked, in JSON and packed too", async (t) => {
  const to = await collector(t);
  const app = await start(t, { route: ROUTE, vars: {
    OTEL_EXPORTER_OTLP_ENDPOINT: `${to.url}/`, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json", OTEL_BSP_SCHEDULE_DELAY: "50",
    OTEL_EXPORTER_OTLP_COMPRESSION: "gzip", OTEL_EXPORTER_OTLP_HEADERS: "x-key=a%20b", OTEL_RESOURCE_ATTRIBUTES: "service.name=s,team=red" } });
  await app.get("/boom");
  await app.get("/refused");
  await app.get("/continue");
  const broken = await to.span("broken");
  assert.equal(broken.status, 2);
  assert.match(broken.message, /it broke$/);
  assert.equal(broken.events[0].name, "exception");
  assert.match(broken.events[0].attributes["exception.stacktrace"], /scripts\/routes\/test\.lua:\d+/);
  const boom = await to.span("GET /boom");
  assert.equal(boom.status, 2);
  assert.equal(boom.attributes["error.type"], "500");
  const failed = await app.line("request failed");
  assert.equal(failed.trace_id, boom.trace_id);

  const refused = await to.span("refused");
  assert.equal(refused.attributes["error.type"], "conflict");
  assert.equal((await to.span("GET /refused")).status, 0);

  const continued = await to.span("continued");
  assert.deepEqual([continued.trace_id, continued.parent_id, continued.kind], [TRACE, PARENT, 5]);
  assert.deepEqual(continued.links, [{ trace_id: TRACE, span_id: PARENT }]);

  const { headers, url, resource } = to.requests[0];
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers["content-encoding"], "gzip");
  assert.equal(headers["x-key"], "a b");
  assert.equal(url, "/v1/traces");
  assert.deepEqual([resource["service.name"], resource.team], ["s", "red"]);
});

test("what is not sampled is passed on, and kept only if it fails", async (t) => {
  const to = await collector(t);
  const app = await start(t, { route: ROUTE, settings: { ...FAST, "trace.endpoint": to.url, "trace.keep_failed": "true",
    "trace.sampler": "parentbased_always_off", "trace.propagators": '["tracecontext","b3","b3multi"]' } });
  const made = (await app.get("/out")).json;
  assert.equal(made.current.sampled, false);
  assert.equal(made.out.traceparent, `00-${made.current.trace_id}-${made.current.span_id}-00`);
  assert.equal(made.out.b3, `${made.current.trace_id}-${made.current.span_id}-0`);
  assert.equal(made.out["x-b3-sampled"], "0");
  const parent = (await app.get("/out", { headers: { b3: `${TRACE}-${PARENT}-1` } })).json;
  assert.equal(parent.current.trace_id, TRACE);
  assert.equal(parent.current.sampled, true);
  // Two headers say two things: none is believed.
  const two = (await app.get("/out", { headers: { traceparent: [`00-${TRACE}-${PARENT}-01`, `00-${TRACE}-${PARENT}-01`] } })).json;
  assert.notEqual(two.current.trace_id, TRACE);
  await app.get("/boom");
  await to.span("GET /boom");
  assert.deepEqual(to.spans.map((s) => s.name).sort(), ["GET /boom", "GET /out", "broken"]);
  assert.equal(by_name(to.spans, "GET /out")[0].trace_id, TRACE);
});

async function metrics_of(app, headers = {}) {
  const admin = (await app.line((l) => l.msg === "listening" && l.admin)).url;
  return new Promise((resolve, reject) => {
    http.get(`${admin}/metrics`, { headers }, (res) => {
      let all = "";
      res.on("data", (part) => { all += part; }).on("end", () => resolve(all));
    }).on("error", reject);
  });
}

async function spans_counted(app, result) {
  const text = await metrics_of(app);
  return Number(new RegExp(`^perigee_trace_spans_total\\{result="${result}"\\} (\\d+)`, "m").exec(text)?.[1] ?? 0);
}

test("a busy collector is asked again, one that refuses is not", async (t) => {
  const answers = [{ status: 429, headers: { "retry-after": "0" } }, { status: 503, headers: { "retry-after": "0" } }, { status: 200 }, { status: 400 }];
  const to = await collector(t, (n) => answers[n - 1] ?? { status: 200 });
  const app = await start(t, { route: ROUTE, settings: { ...FAST, "trace.endpoint": to.url } });
  await app.get("/out");
  await to.span("GET /out");
  assert.equal(to.count, 3);
  await app.get("/refused");
  const line = await app.line("traces cannot be exported");
  assert.equal(line.reason, "status 400");
  assert.equal(await until(() => spans_counted(app, "failed"), { timeout_ms: 30_000 }), 2);
  await app.get("/continue");
  await app.line("traces are exported again");
  assert.equal(await spans_counted(app, "exported"), 3);
});

test("a collector that is away costs no request; what is left leaves at the stop", async (t) => {
  let there = () => {};
  const back = new Promise((resolve) => { there = resolve; });
  const to = await collector(t, () => back.then(() => ({ status: 200 })));
  const app = await start(t, { route: ROUTE, settings: { "trace.endpoint": to.url, "trace.batch_delay": "1h", "trace.batch_max": 2, "trace.queue_max": 5 } });
  for (let i = 0; i < 8; i++) {
    assert.equal((await app.get("/out")).status, 200);
  }
  assert.equal(await spans_counted(app, "dropped"), 3);
  assert.equal(to.spans.length, 0);
  there();
  await until(() => to.spans.length === 4, { timeout_ms: 30_000, what: "the two full batches" });
  assert.deepEqual(await app.stop(), { code: 0, signal: null });
  assert.equal(to.spans.length, 5);
});

test("what turns out to be slow is kept, with what it called", async (t) => {
  const to = await collector(t);
  const app = await start(t, { settings: { ...FAST, "trace.endpoint": to.url, "trace.sampler": "always_off", "trace.keep_slow": "2s" }, route: `
    local trace = require "perigee.trace"
    local task = require "perigee.task"
    router:get("/quick", function() return "quick" end)
    router:get("/slow", function()
      return trace.span("wait", nil, function() task.sleep "2100ms" return "slow" end)
    end)` });
  const slow = app.get("/slow");
  assert.equal((await app.get("/quick")).status, 200);
  assert.equal((await slow).status, 200);
  const server = await to.span("GET /slow");
  assert.equal((await to.span("wait")).parent_id, server.span_id);
  assert.deepEqual(to.spans.map((s) => s.name).sort(), ["GET /slow", "wait"]);
});

test("spans for which a trace that is held has no room are counted as dropped", async (t) => {
  const to = await collector(t);
  const app = await start(t, { settings: { ...FAST, "trace.endpoint": to.url, "trace.sampler": "always_off", "trace.keep_failed": "true" }, route: `
    local trace = require "perigee.trace"
    router:get("/much", function()
      for i = 1, 100 do
        trace.span("one", { much = ("x"):rep(8000) .. i }, function() end)
      end
      error "now it is kept"
    end)
    router:get("/fine", function()
      for i = 1, 100 do
        trace.span("one", { much = ("x"):rep(8000) .. i }, function() end)
      end
      return "ok"
    end)` });
  assert.equal((await app.get("/fine")).status, 200);
  assert.equal((await app.get("/much")).status, 500);
  const dropped = await until(() => spans_counted(app, "dropped"));
  assert.ok(dropped > 0 && dropped < 101, `${dropped} dropped`);
  await until(async () => await spans_counted(app, "exported") + dropped === 101);
  assert.equal(to.spans.length + dropped, 101);
});

const DATA = `
  local redis = require "perigee.redis"
  local db = require("perigee.sqlite").get "main"
  router:get("/data", function()
    local r = redis.get()
    db:one("select 1 as one")
    db:transaction(function(tx) tx:exec "create table t (a)" end)
    db:one "select nothing"
    r:set("k", "v")
    r:lpush("k", 1)
    r:pipeline(function(p) p:get "k" p:get "k" end)
    return {}
  end)
`;

test("operations of databases have spans and are counted", { skip: missing }, async (t) => {
  const redis = await Redis.start(t);
  const to = await collector(t);
  const app = await start(t, { route: DATA, settings: { ...FAST, "trace.endpoint": to.url, "redis.main.url": `redis://127.0.0.1:${redis.port}/0` } });
  assert.equal((await app.get("/data")).status, 200);
  const server = await to.span("GET /data");
  const found = to.spans.filter((s) => s.parent_id === server.span_id)
    .map((s) => [s.kind, s.name, s.attributes["db.system.name"], s.attributes["error.type"] ?? ""]);
  assert.deepEqual(found, [
    [3, "SELECT", "sqlite", ""], [3, "BEGIN", "sqlite", ""], [3, "CREATE", "sqlite", ""], [3, "COMMIT", "sqlite", ""],
    [3, "SELECT", "sqlite", "SQLITE_ERROR"], [3, "SET", "redis", ""], [3, "LPUSH", "redis", "WRONGTYPE"], [3, "PIPELINE", "redis", ""]]);
  assert.equal(by_name(to.spans, "SELECT")[0].attributes["db.query.text"], "select ? as one"); // a literal may be anybody's
  assert.equal(by_name(to.spans, "SET")[0].attributes["db.namespace"], "main");
  const text = await metrics_of(app);
  for (const [system, operation, error] of [["redis", "SET", ""], ["redis", "LPUSH", "WRONGTYPE"], ["sqlite", "COMMIT", ""]]) {
    assert.ok(text.includes(`db_client_operation_duration_seconds_count{db_system_name="${system}",db_namespace="main",db_operation_name="${operation}",error_type="${error}"} 1\n`), text);
  }
});

const JOBS = {
  "scripts/jobs/mail.lua": `
    local log = require "perigee.log"
    local errors = require "perigee.error"
    return { queue = "mail", run = function(job)
      log.info("sending", { to = job.data.to })
      if job.data.to == "nobody" then
        return nil, errors.new("not_found", "nobody is there")
      end
      return 1
    end }`,
  "scripts/routes/mail.lua": `
    local queue = require "perigee.queue"
    return function(router)
      router:post("/mail", function(req)
        return { id = assert(queue.get("mail"):add("one", req:json())).id }
      end)
    end`,
};

test("a job is a part of the trace that added it", async (t) => {
  const to = await collector(t);
  const app = await start(t, { files: JOBS, settings: { ...FAST, "trace.endpoint": to.url } });
  assert.equal((await app.post("/mail", { to: "a" }, { headers: { traceparent: `00-${TRACE}-${PARENT}-01` } })).status, 200);
  const add = await to.span("add mail");
  const server = await to.span("POST /mail");
  const job = await to.span("process mail");
  assert.deepEqual([add.kind, add.parent_id, add.trace_id], [4, server.span_id, TRACE]);
  assert.deepEqual([job.kind, job.parent_id, job.trace_id], [5, add.span_id, TRACE]);
  assert.equal(job.attributes["messaging.destination.name"], "mail");
  assert.equal(job.attributes["perigee.job.attempt"], 1);
  const line = await app.line("sending");
  assert.deepEqual([line.trace_id, line.span_id], [TRACE, job.span_id]);
  await app.post("/mail", { to: "nobody" });
  const failed = await until(() => to.spans.find((s) => s.name === "process mail" && s.status === 2), { timeout_ms: 30_000 });
  assert.equal(failed.attributes["error.type"], "not_found");
  const told = await app.line("job failed");
  assert.deepEqual([told.trace_id, told.span_id], [failed.trace_id, failed.span_id]);
  const admin = (await app.line((l) => l.msg === "listening" && l.admin)).url;
  const counted = /messaging_process_duration_seconds_count\{messaging_system="([^"]*)",messaging_destination_name="mail",messaging_operation_name="([^"]*)",error_type=""\}/.exec(await (await fetch(`${admin}/metrics`)).text());
  assert.deepEqual(counted.slice(1), ["system", "operation.name"].map((key) => job.attributes[`messaging.${key}`]));
});

const CACHE = `
  local cache = require("perigee.cache").new("prices", { levels = { "shared" } })
  local db = require("perigee.sqlite").get "main"
  router:get("/price", function()
    return { price = cache:get("apple", function() return db:one("select 3 as price").price end) }
  end)
`;

test("a cache shows what it does, and what its loads do", async (t) => {
  const to = await collector(t);
  const app = await start(t, { route: CACHE, settings: { ...FAST, "trace.endpoint": to.url } });
  assert.deepEqual((await app.get("/price")).json, { price: 3 });
  const server = await to.span("GET /price");
  const get = await to.span("cache get prices");
  const load = await to.span("cache load prices");
  const select = await to.span("SELECT");
  assert.deepEqual([get, load, select].map((s) => s.parent_id), [server.span_id, get.span_id, load.span_id]);
  assert.deepEqual(get.attributes, { "perigee.cache.name": "prices", "perigee.cache.key": "apple", "perigee.cache.result": "miss" });
  await app.get("/price");
  const hit = await until(() => by_name(to.spans, "cache get prices")[1], { timeout_ms: 30_000 });
  assert.equal(hit.attributes["perigee.cache.result"], "hit");
  assert.equal(hit.attributes["perigee.cache.level"], "shared");
  assert.equal(by_name(to.spans, "cache load prices").length, 1);
});

test("limits hold, and what makes no sense in a variable is said", async (t) => {
  const to = await collector(t);
  const app = await start(t, { vars: {
    OTEL_EXPORTER_OTLP_ENDPOINT: to.url, OTEL_BSP_SCHEDULE_DELAY: "50", OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: "2", OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT: "5",
    OTEL_SPAN_EVENT_COUNT_LIMIT: "1", OTEL_EXPORTER_OTLP_PROTOCOL: "grpc", OTEL_TRACES_SAMPLER_ARG: "none" },
  route: `
    local trace = require "perigee.trace"
    router:get("/much", function()
      return trace.span("much", nil, function(span)
        span:set("a", "123456789"):set("b", 2):set("c", 3)
        span:event("one", { a = 1, b = 2, c = 3 }):event "two"
        return "much"
      end)
    end)` });
  await app.get("/much");
  const much = await to.span("much");
  assert.deepEqual(much.attributes, { a: "12345", b: 2 });
  assert.deepEqual(much.events.map((e) => e.name), ["one"]);
  assert.deepEqual(much.dropped, [1, 1, 0]);
  assert.equal(to.requests[0].resource["service.name"], "unknown_service:perigee");
  const notes = app.lines.filter((l) => l.level === 40 && l.msg !== "event loop stalled").map((l) => l.msg).sort();
  assert.deepEqual(notes, [
    "configuration: environment OTEL_EXPORTER_OTLP_PROTOCOL: grpc is not spoken here; http/protobuf is used",
    "configuration: environment OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1"]);
});

test("contexts go on as W3C says", async (t) => {
  const app = await start(t, { route: ROUTE, settings: { "trace.enabled": "true", "trace.exporter": "none" } });
  const out = async (headers) => (await app.get("/out", { headers })).json.out;
  const parent = `00-${TRACE}-${PARENT}-03`;
  const go = await out({ traceparent: parent, tracestate: ["a=1", ",b=2 , c@d=3,"], baggage: ["k=1", "l=2"] });
  assert.match(go.traceparent, new RegExp(`^00-${TRACE}-(?!${PARENT})[0-9a-f]{16}-03$`));
  assert.equal(go.tracestate, "a=1,b=2,c@d=3");
  assert.equal(go.baggage, "k=1,l=2");
  const told = (await app.get("/headers", { headers: { baggage: "a=%zz,b=x%ff,c=%E2%82%AC;p=%ff, d = 1" } })).json.baggage;
  assert.deepEqual(told, { a: "%zz", b: "x\ufffd", c: "\u20ac", d: "1" });
  assert.match((await out({ traceparent: `cc-${TRACE}-${PARENT}-ff-more` })).traceparent, new RegExp(`^00-${TRACE}-[0-9a-f]{16}-03$`));
  for (const bad of ["A=1", "a=b=c", "a", Array.from({ length: 33 }, (_, i) => `k${i}=1`).join(",")]) {
    const passed = await out({ traceparent: parent, tracestate: bad });
    assert.equal(passed.tracestate, undefined, bad);
    assert.ok(passed.traceparent.includes(TRACE));
  }
  for (const bad of [parent.toUpperCase(), `${parent}-`, `ff-${TRACE}-${PARENT}-01`, `00-${"0".repeat(32)}-${PARENT}-01`, "00", "-".repeat(55)]) {
    const fresh = await out({ traceparent: bad, tracestate: "a=1" });
    assert.match(fresh.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    assert.ok(!fresh.traceparent.includes(TRACE), bad);
    assert.equal(fresh.tracestate, undefined);
  }
});

test("b3 goes on in the form that was chosen, with the wish for all of it", async (t) => {
  const app = await start(t, { route: ROUTE, settings: { "trace.enabled": "true", "trace.exporter": "none", "trace.propagators": "b3,b3multi" } });
  const out = async (headers) => (await app.get("/out", { headers })).json.out;
  const plain = await out({ b3: `${TRACE}-${PARENT}-1` });
  assert.match(plain.b3, new RegExp(`^${TRACE}-(?!${PARENT})[0-9a-f]{16}-1$`));
  assert.equal(plain["x-b3-sampled"], "1");
  assert.equal(plain["x-b3-flags"], undefined);
  for (const headers of [{ b3: `${TRACE}-${PARENT}-d` }, { "x-b3-traceid": TRACE, "x-b3-spanid": PARENT, "x-b3-flags": "1" }]) {
    const debug = await out(headers);
    assert.match(debug.b3, new RegExp(`^${TRACE}-[0-9a-f]{16}-d$`));
    assert.equal(debug["x-b3-traceid"], TRACE);
    assert.equal(debug["x-b3-flags"], "1");
    assert.equal(debug["x-b3-sampled"], undefined);
  }
});

test("a line keeps the ids of its request and its trace, whatever its fields are called", async (t) => {
  const app = await start(t, { settings: { "trace.enabled": "true", "trace.exporter": "none" }, route: `
    local log = require "perigee.log"
    router:get("/log", function()
      log.info("mine", { trace_id = "t", span_id = "s", reqId = "r" })
      require("perigee.task").spawn_detached(function() log.info("free", { reqId = "r" }) end)
      return {}
    end)` });
  const { headers } = await app.get("/log", { headers: { traceparent: `00-${TRACE}-${PARENT}-01` } });
  const line = await app.line("mine");
  assert.equal(line.trace_id, TRACE);
  assert.equal(line.reqId, headers["x-request-id"]);
  assert.deepEqual([line.trace_id_, line.span_id_, line.reqId_], ["t", "s", "r"]);
  assert.equal((await app.line("free")).reqId, "r");
});

test("a whole number beyond 2^53 is an attribute's text, digit by digit", async (t) => {
  const to = await collector(t);
  const app = await start(t, { settings: { ...FAST, "trace.endpoint": to.url }, route: `
    router:get("/big", function()
      return require("perigee.trace").span("big", { id = 9007199254740993LL, none = require("perigee.json").null }, function() return {} end)
    end)` });
  await app.get("/big");
  assert.deepEqual((await to.span("big")).attributes, { id: "9007199254740993", none: "null" });
});

test("OpenMetrics shows exemplars of traced requests, unless they are not wanted", async (t) => {
  const shown = async (vars) => {
    const app = await start(t, { route: ROUTE, settings: { "trace.enabled": "true", "trace.exporter": "none" }, vars });
    await app.get("/out", { headers: { traceparent: `00-${TRACE}-${PARENT}-01` } });
    const admin = (await app.line((l) => l.msg === "listening" && l.admin)).url;
    const text = await (await fetch(`${admin}/metrics`, { headers: { accept: "application/openmetrics-text" } })).text();
    assert.match(text, /http_server_request_duration_seconds_count\{http_request_method="GET",http_route="\/out"/);
    return text.includes(`# {trace_id="${TRACE}"`);
  };
  assert.ok(await shown({}));
  assert.ok(!(await shown({ OTEL_METRICS_EXEMPLAR_FILTER: "always_off" })));
});

test("a wrong call of trace.span raises at its line, traced or not", async (t) => {
  const route = `
    local trace = require "perigee.trace"
    router:get("/wrong", function()
      local said = {}
      for _, call in ipairs {
        function() trace.span() end,
        function() trace.span(5, nil, function() end) end,
        function() trace.span("a", {}) end,
        function() trace.span("a", nil, function() end, { kind = "clinet" }) end,
        function() trace.span("a", "b", function() end) end,
        function() trace.span("a", nil, function() end, { parent = "b" }) end,
      } do
        local _, why = pcall(call)
        said[#said + 1] = tostring(why)
      end
      return said
    end)`;
  for (const enabled of [true, false]) {
    const app = await start(t, { route, settings: { "trace.enabled": enabled, "trace.exporter": "none" } });
    const said = (await app.get("/wrong")).json.map((why) => /^scripts\/routes\/test\.lua:\d+: trace\.span: (a name|a function|kind|attributes|parent)/.exec(why)?.[1] ?? why);
    assert.deepEqual(said, ["a name", "a name", "a function", "kind", "attributes", "parent"]);
  }
});
