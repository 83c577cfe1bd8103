#!/usr/bin/env node
// What single calls cost: dictionaries, caches, resilience and metrics, beside
// what nginx with Lua and Node have for it, in turns, on one CPU.
//
//   micro.mjs [--rounds 3] [--quick]
//
// opossum (a circuit breaker) and prom-client come with the tests' packages, if
// at all; without them, and without nginx, there are no ratios to them.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import http from "node:http";
import path from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "../tools/proc.mjs";
import { host } from "../drills/drill.mjs";
import { SERVER_CPU, cpu, nginx } from "./servers.mjs";

const { values: options } = parseArgs({
  options: { rounds: { type: "string", default: "3" }, quick: { type: "boolean", default: false } },
});
const ROUNDS = options.quick ? 1 : Number(options.rounds);

// Ours, theirs, and how many times theirs in calls a second it must be.
const PAIRS = [
  ["get string", "dict get", 1],
  ["set string", "dict set", 1],
  ["incr", "dict incr", 1],
  ["hit in the worker", "lrucache get", 0.5],
  ["hit in shared memory", null, 0],
  ["breaker, closed", "opossum", 10],
  ["retry without a failure", null, 0],
  ["limiter, shared", null, 0],
  ["bulkhead, free", null, 0],
  ["inc, bound", "prom inc", 20],
  ["inc, labels looked up", "prom inc", 3],
  ["observe, bound", "prom observe", 10],
  ["observe, labels looked up", "prom observe", 0],
  ["observe, native", "prom observe", 10],
  ["scrape of 1000 histograms", "prom render", 4],
  ["span, not sampled", null, 0],
];

// A span costs something only where traces are on.
const ENV = { PERIGEE_TRACE__ENABLED: "true", PERIGEE_TRACE__SAMPLER: "always_off", PERIGEE_TRACE__EXPORTER: "none" };

function run(argv, env = {}) {
  return new Promise((resolve) => {
    const child = spawn("taskset", ["-c", SERVER_CPU, ...argv],
      { cwd: path.join(ROOT, "tests/bench/app"), stdio: ["ignore", "pipe", "ignore"], env: { ...process.env, ...env } });
    let text = "";
    child.stdout.on("data", (chunk) => (text += chunk));
    child.on("close", () => resolve(text));
  });
}

function lines(text, into) {
  for (const [, name, ns] of text.matchAll(/^(.*?) +([\d.]+) ns/gm)) {
    into.set(name, Math.min(into.get(name) ?? Infinity, Number(ns)));
  }
}

const OPOSSUM = `
  const CircuitBreaker = require(process.argv[1]);
  const b = new CircuitBreaker(async (i) => i & 1, { timeout: false });
  const loop = async (n) => { for (let i = 0; i < n; i++) await b.fire(i); };
  (async () => {
    await loop(20000);
    const begun = process.hrtime.bigint();
    await loop(200000);
    console.log("opossum " + Number(process.hrtime.bigint() - begun) / 200000 + " ns");
    b.shutdown();
  })();`;

// As its users write it: labels as an object each time.
const PROM = `
  const prom = require(process.argv[1]);
  const labelNames = ["method", "route"];
  const routes = Array.from({ length: 16 }, (_, i) => "/r" + i);
  const c = new prom.Counter({ name: "c", help: "c", labelNames });
  const h = new prom.Histogram({ name: "h", help: "h", labelNames });
  function bench(name, n, f) {
    for (let i = 0; i < n / 10; i++) f(i);
    const begun = process.hrtime.bigint();
    for (let i = 0; i < n; i++) f(i);
    console.log(name + " " + Number(process.hrtime.bigint() - begun) / n + " ns");
  }
  bench("prom inc", 4e6, (i) => c.inc({ method: "GET", route: routes[i & 15] }));
  bench("prom observe", 4e6, (i) => h.observe({ method: "GET", route: routes[i & 15] }, (i & 1023) / 400));
  prom.register.clear();
  const all = new prom.Histogram({ name: "all", help: "h", labelNames });
  for (let i = 0; i < 1000; i++) all.observe({ method: "GET", route: "/route/" + i }, 0.2);
  (async () => {
    for (let i = 0; i < 5; i++) await prom.register.metrics();
    const begun = process.hrtime.bigint();
    for (let i = 0; i < 40; i++) await prom.register.metrics();
    console.log("prom render " + Number(process.hrtime.bigint() - begun) / 40 + " ns");
  })();`;

function find(name) {
  try {
    return createRequire(path.join(ROOT, "tests/package.json")).resolve(name);
  } catch {
    return process.env[name.toUpperCase()] ?? null;
  }
}

// CPU time of the master for each scrape of 1000 series, which two workers count.
const SCRAPES = 200;
const SERIES = `
  local all = require("perigee.metrics").histogram { name = "all", labels = { "method", "route" } }
  return function(router)
    router:get("/fill", function()
      for i = 0, 999 do all:observe(0.2, "GET", "/route/" .. i) end
      return { pid = require("perigee.host").pid }
    end)
  end`;

async function scrapes(into) {
  const app = await host({ "scripts/routes/a.lua": SERIES });
  const port = (await app.line((l) => l.msg === "listening" && l.admin)).port;
  for (const filled = new Set(); filled.size < 2;) {
    filled.add((await app.get("/fill")).json.pid);
  }
  const agent = new http.Agent({ keepAlive: true });
  const scrape = () => new Promise((resolve, reject) => {
    http.get({ host: "127.0.0.1", port, path: "/metrics", agent }, (res) => res.resume().on("end", resolve)).on("error", reject);
  });
  for (let i = 0; i < 20; i++) {
    await scrape();
  }
  const before = cpu([app.pid]).all;
  for (let i = 0; i < SCRAPES; i++) {
    await scrape();
  }
  const ns = ((cpu([app.pid]).all - before) / SCRAPES) * 1e9;
  into.set("scrape of 1000 histograms", Math.min(into.get("scrape of 1000 histograms") ?? Infinity, ns));
  agent.destroy();
  await app.end();
}

function ask(port) {
  return new Promise((resolve, reject) => {
    http.get({ host: "127.0.0.1", port, path: "/micro", agent: false }, (res) => {
      let text = "";
      res.on("data", (chunk) => (text += chunk)).on("end", () => resolve(text));
    }).on("error", reject);
  });
}

const program = path.join(ROOT, "build/release/perigee");
const server = nginx();
const breaker = find("opossum");
const prom = find("prom-client");
const found = new Map();
await server?.start();
try {
  for (let i = 0; i < ROUNDS; i++) {
    for (const name of ["shared", "cache", "resilience", "metrics", "trace"]) {
      const source = readFileSync(path.join(ROOT, `tests/bench/micro/${name}.lua`), "utf8");
      lines(await run([program, "exec", source], name === "trace" ? ENV : {}), found);
    }
    if (server) {
      lines(await ask(server.port), found);
    }
    if (breaker) {
      lines(await run([process.execPath, "-e", OPOSSUM, breaker]), found);
    }
    if (prom) {
      lines(await run([process.execPath, "-e", PROM, prom]), found);
    }
    await scrapes(found);
  }
} finally {
  await server?.stop();
}

console.log("\n### Single calls\n");
console.log("| call | ns | M/s | beside | ns | times as many a second | must be |");
console.log("|---|--:|--:|---|--:|--:|--:|");
for (const [ours, theirs, least] of PAIRS) {
  const own = found.get(ours);
  const other = theirs && found.get(theirs);
  console.log(`| ${[ours, own?.toFixed(1) ?? "-", own ? (1000 / own).toFixed(1) : "-", theirs ?? "", other ? other.toFixed(1) : "",
    other && own ? (other / own).toFixed(2) : "", theirs ? `≥ ${least}` : ""].join(" | ")} |`);
}
