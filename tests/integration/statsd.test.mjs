// Metrics pushed to StatsD: every line of both forms, over UDP.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import dgram from "node:dgram";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import test from "node:test";
import { app_dir, free_port, start, until } from "./helpers.mjs";

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

// Perl is on every Debian; Node has no datagrams on UNIX sockets.
const RECEIVER = `use Socket; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; bind($s, sockaddr_un($ARGV[0])) or die;
  $| = 1; print "ready\\n"; while (defined recv($s, my $data, 65536, 0)) { print "$data\\n" }`;

test("a UNIX datagram socket takes the lines, also one that comes later", async (t) => {
  const dir = app_dir(t);
  const socket = path.join(dir, "statsd.sock");
  const app = await start(t, { route: ROUTE, settings: { "metrics.statsd.socket": socket, "metrics.statsd.interval": "200ms" } });
  assert.equal((await app.get("/hit/x")).status, 200);
  const receiver = spawn("perl", ["-e", RECEIVER, socket], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => receiver.kill("SIGKILL"));
  let text = "";
  receiver.stdout.on("data", (part) => { text += part; });
  await until(() => text.includes("ready\n"), { timeout_ms: 30_000, what: "the receiver" });
  await app.get("/hit/y");
  await until(() => /^hits_total\.y:1\|c$/m.test(text), { timeout_ms: 30_000, what: "the counter" });
  for (const line of text.trimEnd().split("\n").slice(1)) {
    assert.match(line, LINE);
  }
});

// A backend of statsd's that tells what each flush has.
const BACKEND = `exports.init = (started, config, events) => {
  events.on("flush", (at, { counters, gauges }) => console.log(JSON.stringify({ counters, gauges })));
  return true;
};`;

test("npm's statsd receives and understands every line", async (t) => {
  const dir = app_dir(t, { files: { "backend.js": BACKEND } });
  const [port, mgmt_port] = [await free_port(), await free_port()];
  const config = path.join(dir, "statsd.js");
  writeFileSync(config, JSON.stringify({ port, mgmt_port, address: "127.0.0.1", mgmt_address: "127.0.0.1",
    backends: [path.join(dir, "backend.js")], flushInterval: 200 }));
  const statsd = spawn(process.execPath, [createRequire(import.meta.url).resolve("statsd/stats.js"), config], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => statsd.kill("SIGKILL"));
  let flushes = [];
  let said = "";
  statsd.stdout.on("data", (part) => {
    said += part;
    flushes = said.split("\n").slice(0, -1).filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  });
  await until(() => said.includes("server is up"), { timeout_ms: 30_000, what: "statsd" });
  const app = await start(t, { route: ROUTE, workers: 2, settings: { "metrics.statsd.host": "127.0.0.1", "metrics.statsd.port": port, "metrics.statsd.interval": "300ms" } });
  for (let i = 0; i < 7; i++) {
    await app.get("/hit/page");
  }
  const sum = (name) => flushes.reduce((total, { counters }) => total + (counters[name] ?? 0), 0);
  await until(() => sum("hits_total.page") === 7 && sum("size.count") === 7, { timeout_ms: 30_000, what: "what was counted" });
  const gauge = (name) => flushes.at(-1).gauges[name];
  await until(() => [-3, -6].includes(gauge("cold")) && gauge("perigee_workers_wanted") === 2, { timeout_ms: 30_000, what: "the gauges" });
  assert.equal((await app.stop()).code, 0);
  assert.equal(sum("statsd.bad_lines_seen"), 0);
});
