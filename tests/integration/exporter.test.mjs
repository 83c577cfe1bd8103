// The exporter: batches over TLS, and collectors that say more than yes or no.
import assert from "node:assert/strict";
import test from "node:test";
import { collector, partial } from "./collector.mjs";
import { launch, start, until } from "./helpers.mjs";
import { Authority } from "./tls_helpers.mjs";

const ROUTE = `
  local trace = require "perigee.trace"
  router:get("/one", function() return "one" end)
  router:get("/many", function()
    for i = 1, 400 do
      trace.span("part", { text = ("text "):rep(100) .. i }, function() end)
    end
    return "many"
  end)
`;

const counted = async (app, result) => {
  const admin = (await app.line((l) => l.msg === "listening" && l.admin)).url;
  const text = await (await fetch(`${admin}/metrics`)).text();
  return Number(new RegExp(`^perigee_trace_spans_total\\{result="${result}"\\} (\\d+)`, "m").exec(text)?.[1] ?? 0);
};

const eventually = (app, result, count) => until(async () => (await counted(app, result)) === count, { timeout_ms: 30_000, what: `${count} ${result}` });

test("spans go to a collector that speaks TLS, and wants to know who comes", async (t) => {
  const authority = new Authority(t);
  const { cert, key } = authority.issue(["127.0.0.1"]);
  const own = authority.issue(["perigee"]);
  const to = await collector(t, undefined, { cert, key, ca: authority.cert, requestCert: true, rejectUnauthorized: true });
  const app = await start(t, { route: ROUTE, vars: {
    OTEL_EXPORTER_OTLP_ENDPOINT: to.url, OTEL_BSP_SCHEDULE_DELAY: "50", OTEL_EXPORTER_OTLP_CERTIFICATE: authority.cert_file,
    OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: own.cert_file, OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY: own.key_file } });
  assert.equal((await app.get("/one")).status, 200);
  await to.span("GET /one");
  assert.equal(to.requests[0].url, "/v1/traces");
});

test("a collector whose certificate nobody vouches for gets nothing", async (t) => {
  const { cert, key } = new Authority(t).issue(["127.0.0.1"]);
  const to = await collector(t, undefined, { cert, key });
  const app = await start(t, { route: ROUTE, settings: { "trace.endpoint": `${to.url}/v1/traces`, "trace.batch_delay": "50ms" } });
  assert.equal((await app.get("/one")).status, 200);
  assert.deepEqual(await app.stop(), { code: 0, signal: null });
  const line = await app.line("traces cannot be exported");
  assert.match(line.reason, /certificate|issue/);
  assert.equal(to.count, 0);
});

test("what a collector takes in part, or refuses in words, is counted and said", async (t) => {
  const answers = [
    { status: 200, body: partial(1, "an attribute too many") },
    { status: 200 },
    { status: 400, headers: { "content-type": "application/x-protobuf" }, body: Buffer.from("\x08\x03\x12\x07no good", "latin1") },
  ];
  const to = await collector(t, (n) => answers[n - 1]);
  const app = await start(t, { route: ROUTE, settings: { "trace.endpoint": to.url, "trace.batch_delay": "1h", "trace.batch_max": 2 } });
  await app.get("/one");
  await app.get("/one");
  const line = await app.line("traces were accepted in part");
  assert.deepEqual([line.reason, line.items], ["an attribute too many", 1]);
  await eventually(app, "exported", 1);
  await eventually(app, "failed", 1);
  await app.get("/one");
  await app.get("/one");
  await app.line("traces are exported again");
  await app.get("/one");
  await app.get("/one");
  assert.equal((await app.line("traces cannot be exported")).reason, "status 400: no good");
  await eventually(app, "failed", 3);
});

test("a partial success is read in JSON too", async (t) => {
  const to = await collector(t, () => ({ status: 200, body: JSON.stringify({ partialSuccess: { rejectedSpans: "1", errorMessage: "too \"old\"" } }) }));
  const app = await start(t, { route: ROUTE, settings: { "trace.endpoint": to.url, "trace.batch_delay": "50ms", "trace.protocol": "http/json" } });
  await app.get("/one");
  const line = await app.line("traces were accepted in part");
  assert.equal(line.items, 1);
  assert.match(line.reason, /^too .*old/);
  await eventually(app, "failed", 1);
});

test("a collector may say when in a date, and large batches are packed", async (t) => {
  const busy = { status: 503, headers: { "retry-after": "Thu, 01 Jan 1970 00:00:01 GMT" } };
  const to = await collector(t, (n) => (n === 1 ? busy : { status: 200 }));
  const app = await start(t, { route: ROUTE, settings: { "trace.endpoint": to.url, "trace.batch_delay": "1h", "trace.batch_max": 401, "trace.compression": "gzip" } });
  assert.equal((await app.get("/many")).status, 200);
  await to.span("GET /many");
  assert.equal(to.count, 2);
  assert.equal(to.spans.length, 401);
  assert.equal(to.requests[0].headers["content-encoding"], "gzip");
  assert.ok(to.requests[0].bytes < 50_000, `${to.requests[0].bytes}`);
});

test("an endpoint that is no URL is said, and nobody is worse off", async (t) => {
  const app = await launch(t, { route: ROUTE, settings: { "trace.enabled": "true", "trace.endpoint": "https://user@host/" } });
  await app.listening();
  await app.line("traces are not exported: trace.endpoint: no http or https URL");
  assert.equal((await app.get("/one")).status, 200);
});
