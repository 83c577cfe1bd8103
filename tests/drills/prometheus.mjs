#!/usr/bin/env node
// A real Prometheus scrapes a loaded host of two workers for a minute, while
// workers are killed and the code is reloaded: no counter goes back, and what
// it works out from them is what was really asked. `./bootstrap drill
// prometheus` installs Debian's; PROMETHEUS and PROMTOOL name others.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { host, report, sleep } from "./drill.mjs";
import { load } from "./load.mjs";
import { free_port, until } from "../integration/helpers.mjs";

const PROMETHEUS = process.env.PROMETHEUS || "prometheus";
const PROMTOOL = process.env.PROMTOOL || "promtool";
const SECONDS = Number(process.env.SECONDS || 60);
const PAUSE_MS = 40; // of each connection between two requests: a steady rate

const ROUTE = "scripts/routes/a.lua";
const code = (n) => `
  local metrics = require "perigee.metrics"
  local seen = metrics.counter { name = "seen_total", help = "Requests that were \\\\ seen\\n.", labels = { "odd" } }
  local size = metrics.histogram { name = "size_bytes", help = "Of nothing.", exponential = true }
  return function(router)
    router:get("/", function()
      seen:inc(1, 'a"b\\\\c')
      size:observe(math.random(1, 1000))
      return "n ${n}"
    end)
  end`;

if (spawnSync(PROMETHEUS, ["--version"]).error) {
  console.error("there is no prometheus here: ./bootstrap drill prometheus installs it");
  process.exit(1);
}

const app = await host({ [ROUTE]: code(0) }, { workers: 2 });
const admin = (await app.line((l) => l.msg === "listening" && l.admin)).port;
const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-prometheus-"));
const port = await free_port();
writeFileSync(path.join(dir, "prometheus.yml"), `
global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs:
  - job_name: perigee
    static_configs: [{ targets: ["127.0.0.1:${admin}"] }]
`);
const prometheus = spawn(PROMETHEUS, [`--config.file=${dir}/prometheus.yml`, `--storage.tsdb.path=${dir}/data`,
  `--web.listen-address=127.0.0.1:${port}`, "--enable-feature=native-histograms", "--log.level=warn"], { stdio: ["ignore", "inherit", "inherit"] });

/** The samples of an instant query: [{metric, value}]. */
async function query(text, at_ms) {
  const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(text)}${at_ms ? `&time=${at_ms / 1000}` : ""}`;
  const { status, data, error } = await (await fetch(url)).json();
  if (status !== "success") {
    throw new Error(`${text}: ${error}`);
  }
  return data.result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
}
const scalar = async (text, at_ms) => (await query(text, at_ms))[0]?.value ?? NaN;

const work = load(app.port, { connections: 16, pause_ms: PAUSE_MS, expect: (body) => body.startsWith("n ") });
await until(async () => await scalar("up").catch(() => 0) === 1, { timeout_ms: 60_000, what: "a first scrape" });
await sleep(3000);

const truth = []; // [ms, answered and lost]
const clock = setInterval(() => truth.push([Date.now(), work.counts.answered, work.counts.lost]), 10);
const begun = Date.now();
let [kills, reloads, refused, next_kill, next_reload] = [0, 0, 0, begun + 3000, begun + 5000];
while (Date.now() < begun + SECONDS * 1000) {
  if (Date.now() > next_kill) {
    const victims = app.workers();
    process.kill(victims[kills % victims.length], "SIGKILL");
    kills += 1;
    next_kill = Date.now() + 5000;
  }
  if (Date.now() > next_reload) {
    reloads += 1;
    app.write({ [ROUTE]: code(reloads) });
    refused += (await app.command("reload")).code === 0 ? 0 : 1;
    next_reload = Date.now() + 4000;
  }
  await sleep(50);
}
await sleep(1500); // the last scrapes
clearInterval(clock);
const counts = await work.stop();

const till = begun + SECONDS * 1000;
const window_s = SECONDS - 5;
const at = (ms) => truth.findLast(([t]) => t <= ms);
const [, answered_till, lost_till] = at(till);
const [, answered_from, lost_from] = at(till - window_s * 1000);
const asked = answered_till - answered_from;
const lost = lost_till - lost_from; // may have been counted, or not
const near = (value) => (value >= asked ? Math.max(0, value - asked - lost) : asked - value) / asked;
const window = `[${window_s}s]`;
const rate = await scalar(`sum(rate(http_server_request_duration_seconds_count${window})) * ${window_s}`, till);
const seen = await scalar(`sum(increase(seen_total${window}))`, till);
const native = await scalar(`histogram_count(sum(rate(size_bytes${window}))) * ${window_s}`, till);
const median = await scalar(`histogram_quantile(0.5, sum(rate(size_bytes${window})))`, till);
const names = await query('count by (__name__) ({__name__=~".+_(total|count|sum|bucket)"})', till);
const series = names.reduce((sum, { value }) => sum + value, 0);
const resets = [];
for (const { metric: { __name__: name } } of names) {
  if (await scalar(`sum(resets(${name}[${SECONDS}s]))`, till) > 0) {
    resets.push(name);
  }
}
const down = await scalar(`count_over_time((up == 0)[${SECONDS}s:1s])`, till);
const scrapes = await scalar(`count_over_time(up[${SECONDS}s])`, till);
const checked = await Promise.all(["text/plain", "application/openmetrics-text"].map(async (accept) => {
  const text = await (await fetch(`http://127.0.0.1:${admin}/metrics`, { headers: { accept } })).text();
  return accept === "text/plain" ? spawnSync(PROMTOOL, ["check", "metrics"], { input: text, encoding: "utf8" }) : { status: text.endsWith("# EOF\n") ? 0 : 1 };
}));
prometheus.kill("SIGTERM");
await new Promise((resolve) => prometheus.on("exit", resolve));
rmSync(dir, { recursive: true, force: true });
const how = await app.end();

const percent = (value) => `${(100 * value / asked - 100).toFixed(2)} %`;
report(`Prometheus scrapes for ${SECONDS} s: 2 workers, ${kills} kills, ${reloads} reloads`, {
  "requests answered, lost": `${counts.answered}, ${counts.lost}`,
  "scrapes, failed": `${scrapes}, ${down || 0}`,
  "counters that it holds": series,
  "in the window: answered, lost": `${asked}, ${lost}`,
  "rate() of the host's histogram": `${rate.toFixed(1)} (${percent(rate)})`,
  "increase() of our counter": `${seen.toFixed(1)} (${percent(seen)})`,
  "rate() of our native histogram": `${native.toFixed(1)} (${percent(native)})`,
  "median from it (500.5)": median.toFixed(1),
  "resets": resets.length === 0 ? 0 : resets.join(" "),
}, {
  "no counter went back": resets.length === 0 && names.length > 10,
  "rate() right within 1 %": near(rate) < 0.01 && near(seen) < 0.01,
  "native histograms right within 1 %, their median within 5 %": near(native) < 0.01 && Math.abs(median / 500.5 - 1) < 0.05,
  "every scrape came in time": !(down > 0),
  "promtool check metrics is clean": checked.every(({ status }) => status === 0) && !checked[0].stderr,
  "no reload was refused": refused === 0,
  "graceful end": how.code === 0,
});
if (checked[0].stderr) {
  console.error(checked[0].stderr);
}
