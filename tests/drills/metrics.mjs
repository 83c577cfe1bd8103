#!/usr/bin/env node
// Metrics that are used badly: a label with 100,000 values, scrapes 50 times a
// second in all forms, a collector that never answers. Requests are as quick
// as ever, memory is bounded, and what was lost is counted.
import http from "node:http";
import net from "node:net";
import { host, pss, report, sleep } from "./drill.mjs";
import { load } from "./load.mjs";
import { ACCEPT } from "../integration/prometheus_proto.mjs";

const VALUES = 100_000;
const SECONDS = 15;
const SCRAPES_A_SECOND = 50;
const PAUSE_MS = 10; // of each connection between two requests

const FILES = {
  "scripts/routes/a.lua": `
    local metrics = require "perigee.metrics"
    local ids = metrics.counter { name = "ids_total", labels = { "id" } }
    local sizes = metrics.histogram { name = "sizes", labels = { "id" }, exponential = true }
    return function(router)
      router:get("/", function() return "fine" end)
      router:get("/id/:id", function(req)
        local first = tonumber(req.params.id)
        for i = first, first + 99 do
          ids:inc(1, i)
          sizes:observe(i, i)
        end
        return "fine"
      end)
    end`,
};

const percentile = (list, share) => list.sort((a, b) => a - b)[Math.floor(list.length * share)] ?? 0;

function ask(port, path, accept, agent) {
  return new Promise((resolve, reject) => {
    http.get({ host: "127.0.0.1", port, path, headers: accept ? { accept } : {}, agent }, (res) => {
      let length = 0;
      let text = "";
      res.on("data", (part) => { length += part.length; text = path === "/metrics" && !accept ? text + part : ""; });
      res.on("end", () => resolve({ status: res.statusCode, length, text }));
    }).on("error", reject);
  });
}

async function timed(app, what) {
  const took = [];
  const work = load(app.port, { connections: 8, pause_ms: PAUSE_MS, seen: (ms) => took.push(ms) });
  const found = await what();
  const counts = await work.stop();
  return { p50: percentile(took, 0.5), p99: percentile(took, 0.99), slowest: percentile(took, 0.9999), bad: counts.wrong + counts.lost + counts.refused, found };
}

// A collector that takes all and says nothing.
const silent = net.createServer((socket) => socket.on("error", () => {}).resume());
await new Promise((resolve) => silent.listen(0, "127.0.0.1", resolve));

const app = await host(FILES, { settings: { "metrics.otlp.enabled": true, "metrics.otlp.interval": "200ms", "metrics.otlp.timeout": "1s",
  "metrics.otlp.endpoint": `http://127.0.0.1:${silent.address().port}/`, "metrics.statsd.host": "127.0.0.1", "metrics.statsd.port": 9, "metrics.statsd.interval": "500ms",
  "metrics.compat": "prom-client" } });
const admin = (await app.line((l) => l.msg === "listening" && l.admin)).port;
const all = () => [app.pid, ...app.workers()].map(pss);
await sleep(1000);
const before = all();

const quiet = await timed(app, () => sleep(5000));
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const flood = await timed(app, async () => {
  for (let i = 0; i < VALUES; i += 100) {
    await ask(app.port, `/id/${i}`, null, agent);
  }
});
const grown = all();
for (let i = 0; i < VALUES; i += 100) { // once more costs nothing more
  await ask(app.port, `/id/${VALUES + i}`, null, agent);
}
const again = all();
const storm = await timed(app, async () => {
  const forms = [undefined, "application/openmetrics-text", ACCEPT];
  const took = [];
  const pending = [];
  let largest = 0;
  for (let i = 0; i < SECONDS * SCRAPES_A_SECOND; i += 1) {
    const begun = performance.now();
    pending.push(ask(admin, "/metrics", forms[i % 3], agent).then(({ status, length }) => {
      took.push(performance.now() - begun);
      largest = Math.max(largest, length);
      return status === 200;
    }, () => false));
    await sleep(1000 / SCRAPES_A_SECOND);
  }
  const fine = (await Promise.all(pending)).filter(Boolean).length;
  return { fine, asked: pending.length, p99: percentile(took, 0.99), largest };
});
const after = all();
const { text } = await ask(admin, "/metrics");
const series = (name) => text.split("\n").filter((line) => line.startsWith(`${name}{`)).length;
const overflow = Number(/^ids_total\{overflow="true"\} (\d+)$/m.exec(text)?.[1]);
const counted = text.split("\n").filter((line) => line.startsWith("ids_total{")).reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
const pushes = Object.fromEntries([...text.matchAll(/^perigee_metrics_exported_total\{result="(\w+)"\} (\d+)$/gm)].map(([, k, v]) => [k, Number(v)]));
const warnings = app.lines.filter((l) => /too many series/.test(l.msg ?? "")).length;
const how = await app.end();
silent.close();

const mb = (list) => list.map((kb) => (kb / 1024).toFixed(1)).join(" ");
const ms = (run) => `${run.p50.toFixed(1)}, ${run.p99.toFixed(1)}, ${run.slowest.toFixed(1)}`;
report(`metrics used badly: 2 workers, ${VALUES.toLocaleString("en")} label values, ${SCRAPES_A_SECOND} scrapes a second`, {
  "p50, p99, slowest, at rest (ms)": ms(quiet),
  "the same while labels flood in": ms(flood),
  "the same while scraped": ms(storm),
  "scrapes answered, p99 (ms)": `${storm.found.fine} of ${storm.found.asked}, ${storm.found.p99.toFixed(1)}`,
  "largest scrape (KB)": (storm.found.largest / 1024).toFixed(0),
  "series, counted in overflow": `${series("ids_total")}, ${overflow}`,
  "PSS before (master, workers; MB)": mb(before),
  "with 100,000 values, with 200,000": `${mb(grown)}, ${mb(again)}`,
  "after the scrapes": mb(after),
  "metrics pushed to nobody": JSON.stringify(pushes),
}, {
  "requests unaffected: p99 at most 20 ms": [flood, storm].every(({ p99 }) => p99 <= 20),
  "no request failed": [quiet, flood, storm].every(({ bad }) => bad === 0),
  "every scrape was answered": storm.found.fine === storm.found.asked,
  "2000 series and one for the rest, none uncounted": series("ids_total") === 2001 && counted === 2 * VALUES && overflow === counted - 2000,
  "one warning a metric": warnings === 2,
  "memory bounded: 64 MB of metrics, and some": after.reduce((a, b) => a + b) - before.reduce((a, b) => a + b) < 110 * 1024,
  "as much again adds under 5 MB": again.reduce((a, b) => a + b) - grown.reduce((a, b) => a + b) < 5 * 1024,
  "what a dead collector did not take is counted": pushes.failed > 0,
  "graceful end": how.code === 0,
});
