// Log lines by OTLP, decoded with OpenTelemetry's own protocol definitions.
import assert from "node:assert/strict";
import http from "node:http";
import { createRequire } from "node:module";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { launch, start, until } from "./helpers.mjs";

const root = createRequire(import.meta.url)("@opentelemetry/otlp-transformer/build/src/generated/root.js");
const { ExportLogsServiceRequest: Request } = root.opentelemetry.proto.collector.logs.v1;

const ROUTES = `
  local log = require "perigee.log"
  router:get("/levels", function()
    for _, level in ipairs { "trace", "debug", "info", "warn", "error", "fatal" } do
      log[level]("level " .. level)
    end
    return "ok"
  end)
  router:get("/fields", function()
    log.child({ part = "a" }).info('say "hi"\\n', { n = 7, x = 1.5, yes = true, list = { 1, 2 }, user = { name = "Ad\\195\\161" } })
    log.error("could not", { err = require("perigee.error").new("conflict", "taken") })
    return "ok"
  end)
  router:get("/die", function()
    log.info "last words"
    require("ffi").cdef "void abort(void);"
    require("ffi").C.abort()
  end)
`;

const hex = (bytes) => Buffer.from(bytes ?? []).toString("hex");

function value_of(any) {
  const [kind] = Object.keys(any);
  return kind === "intValue" ? Number(any.intValue) : any[kind];
}

const attributes_of = (list) => Object.fromEntries((list ?? []).map(({ key, value }) => [key, value_of(value)]));

// answer(n): the status of the n-th answer.
async function collector(t, answer = () => 200) {
  const it = { records: [], requests: [], count: 0 };
  const server = http.createServer((req, res) => {
    const parts = [];
    req.on("data", (part) => parts.push(part)).on("end", () => {
      const body = Buffer.concat(parts);
      const status = answer(++it.count);
      if (status === 200) {
        const bytes = req.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body;
        const json = req.headers["content-type"] === "application/json";
        if (req.url !== "/v1/logs") {
          it.requests.push({ url: req.url });
          res.writeHead(200).end();
          return;
        }
        const message = json ? JSON.parse(bytes) : Request.toObject(Request.decode(bytes), { longs: String });
        const id = json ? (text) => text ?? "" : hex;
        it.requests.push({ url: req.url, headers: req.headers, resource: attributes_of(message.resourceLogs[0].resource.attributes) });
        for (const record of message.resourceLogs.flatMap((r) => r.scopeLogs).flatMap((s) => s.logRecords)) {
          it.records.push({ ms: Number(BigInt(String(record.timeUnixNano)) / 1000000n), severity: [record.severityNumber, record.severityText],
            body: record.body.stringValue, attributes: attributes_of(record.attributes), trace_id: id(record.traceId), span_id: id(record.spanId) });
        }
      }
      res.writeHead(status).end();
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => { server.closeAllConnections(); server.close(); });
  it.url = `http://127.0.0.1:${server.address().port}`;
  it.record = (body) => until(() => it.records.find((r) => r.body === body), { timeout_ms: 30_000, what: `the record ${body}` });
  return it;
}

for (const protocol of ["http/protobuf", "http/json"]) {
  test(`lines go out by OTLP, all levels, with what they hold: ${protocol}`, async (t) => {
    const it = await collector(t);
    const app = await start(t, { route: ROUTES, workers: 2, settings: { "log.level": "trace" }, vars: {
      OTEL_LOGS_EXPORTER: "otlp", OTEL_EXPORTER_OTLP_ENDPOINT: it.url, OTEL_TRACES_EXPORTER: "none", OTEL_SERVICE_NAME: "shop",
      OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: protocol, OTEL_EXPORTER_OTLP_LOGS_COMPRESSION: "gzip",
      OTEL_EXPORTER_OTLP_LOGS_HEADERS: "x-key=secret", OTEL_BLRP_SCHEDULE_DELAY: "50" } });
    await app.get("/levels");
    await app.get("/fields");
    await it.record("could not");
    await it.record("level fatal"); // perhaps of another worker
    const of = (body) => it.records.find((r) => r.body === body);
    assert.deepEqual(["trace", "debug", "info", "warn", "error", "fatal"].map((level) => of(`level ${level}`).severity),
      [[1, "TRACE"], [5, "DEBUG"], [9, "INFO"], [13, "WARN"], [17, "ERROR"], [21, "FATAL"]]);
    const { reqId, "process.pid": pid, ...held } = of('say "hi"\n').attributes;
    assert.deepEqual(held, { part: "a", n: 7, x: 1.5, yes: true, list: "[1,2]", "user.name": "Adá" });
    assert.ok(reqId && app.workers().includes(pid));
    const line = await app.line("could not");
    assert.equal(of("could not").ms, line.time);
    const err = of("could not").attributes;
    assert.deepEqual([err["exception.type"], err["exception.message"], err["err.kind"]], ["perigee.Error", "taken", "conflict"]);
    assert.match(err["exception.stacktrace"], /test\.lua/);
    const { attributes: request } = await until(() => it.records.find((r) => r.body === "request completed" && r.attributes["req.url"] === "/levels"));
    assert.deepEqual([request["req.method"], request["res.statusCode"]], ["GET", 200]);
    await it.record("listening"); // the master's lines too
    const [first] = it.requests;
    assert.equal(first.url, "/v1/logs");
    assert.equal(first.headers["x-key"], "secret");
    assert.equal(first.resource["service.name"], "shop");
    await app.get("/die").catch(() => {});
    await it.record("last words"); // of a worker that is no more
    assert.equal((await app.stop()).code, 0);
    assert.ok(of("stopped"), "the last line");
    assert.equal(it.records.filter((r) => r.body === "level info").length, 1);
  });
}

test("a line belongs to its trace, and a collector that is away costs nothing but a count", async (t) => {
  let up = false;
  const it = await collector(t, () => (up ? 200 : 400));
  const app = await start(t, { route: ROUTES, settings: {
    "trace.enabled": true, "trace.exporter": "none", "log.otlp.enabled": true, "log.otlp.endpoint": `${it.url}/v1/logs`, "log.otlp.batch_delay": "20ms" } });
  await app.line("logs cannot be exported");
  up = true;
  const trace = "0af7651916cd43dd8448eb211c80319c";
  await app.get("/fields", { headers: { traceparent: `00-${trace}-b7ad6b7169203331-01` } });
  const record = await it.record("could not");
  assert.equal(record.trace_id, trace);
  assert.match(record.span_id, /^[0-9a-f]{16}$/);
  await app.line("logs are exported again");
  const admin = app.lines.find((l) => l.admin).port;
  const metrics = await fetch(`http://127.0.0.1:${admin}/metrics`).then((r) => r.text());
  const count = (result) => Number(new RegExp(`^perigee_log_records_total\\{result="${result}"\\} (\\d+)$`, "m").exec(metrics)[1]);
  assert.ok(count("failed") >= 1 && count("exported") >= 1);
});

test("lines that come faster than they are read are counted, one by one", async (t) => {
  const count = 20_000;
  const it = await collector(t);
  const app = launch(t, { settings: { "log.otlp.enabled": true, "log.otlp.endpoint": `${it.url}/v1/logs`, "log.destination": "var/app.log",
    "log.requests": false, "log.stall": 0 }, route: `
    local log = require "perigee.log"
    local text = ("x"):rep(1000)
    router:get("/flood", function()
      for i = 1, ${count} do log.info("flood", { i = i, text = text }) end
      return "ok"
    end)` });
  const status = await until(async () => {
    const { code, stdout } = await app.command("status", "--json");
    return code === 0 && JSON.parse(stdout).state === "running" && JSON.parse(stdout);
  }, { timeout_ms: 20_000 });
  app.port = status.http[0].port;
  const metrics = async () => {
    const text = await (await fetch(`http://127.0.0.1:${status.admin.port}/metrics`)).text();
    const results = Object.fromEntries([...text.matchAll(/^perigee_log_records_total\{result="(\w+)"\} (\d+)$/gm)].map(([, name, n]) => [name, Number(n)]));
    return { ...results, lost: Number(/^perigee_log_lines_lost_total (\d+)$/m.exec(text)[1]) };
  };
  const sum = (all) => Object.values(all).reduce((total, n) => total + n, 0);
  await until(async () => (await metrics()).exported > 0); // "listening" and the like
  const before = await metrics();
  assert.equal((await app.get("/flood")).status, 200);
  let last;
  await until(async () => sum(last = await metrics()) >= sum(before) + count, { timeout_ms: 30_000 })
    .catch(() => assert.fail(JSON.stringify(last)));
  assert.ok(last.missed > 0, JSON.stringify(last));
  assert.ok(sum(last) - sum(before) - count < 10, JSON.stringify([before, last])); // of the start, and "log lines lost"
});

test("a reload does not give up what waits for a collector", async (t) => {
  let away = true;
  const it = await collector(t, () => (away ? 503 : 200));
  const app = await start(t, { route: ROUTES, settings: { "log.otlp.enabled": true, "log.otlp.endpoint": `${it.url}/v1/logs`, "log.otlp.batch_delay": 10 } });
  await app.get("/fields");
  await until(() => it.count > 0, { what: "an attempt" });
  assert.equal((await app.command("reload")).code, 0);
  const before = it.count;
  await until(() => it.count > before, { what: "another attempt" });
  away = false;
  await it.record("could not");
});

test("the attributes of a line have limits", async (t) => {
  const it = await collector(t);
  const app = await start(t, { route: ROUTES, vars: { OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: `${it.url}/v1/logs`, OTEL_BLRP_SCHEDULE_DELAY: "50",
    OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT: "3", OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT: "5" } });
  await app.get("/fields");
  const { attributes } = await it.record('say "hi"\n');
  assert.equal(Object.keys(attributes).length, 3);
  assert.equal(attributes.reqId.length, 5);
});

test("nothing is sent that was not asked for", async (t) => {
  const it = await collector(t);
  const app = await start(t, { route: ROUTES, vars: { OTEL_EXPORTER_OTLP_ENDPOINT: it.url, OTEL_BSP_SCHEDULE_DELAY: "20" } });
  await app.get("/levels");
  await until(() => it.count > 0); // the spans
  assert.equal((await app.stop()).code, 0);
  assert.ok(it.requests.every((r) => r.url === "/v1/traces"));
});
