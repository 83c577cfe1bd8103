#!/usr/bin/env node
// What single calls cost: dictionaries, caches and resilience, beside what
// nginx with Lua and Node have for it, in turns, on one CPU.
//
//   micro.mjs [--rounds 3] [--quick]
//
// opossum (a circuit breaker) comes with the tests' packages, if at all; without
// it, and without nginx, there are no ratios to them.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import http from "node:http";
import path from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "../tools/proc.mjs";
import { SERVER_CPU, nginx } from "./servers.mjs";

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
];

function run(argv) {
  return new Promise((resolve) => {
    const child = spawn("taskset", ["-c", SERVER_CPU, ...argv],
      { cwd: path.join(ROOT, "tests/bench/app"), stdio: ["ignore", "pipe", "ignore"] });
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

function opossum() {
  try {
    return createRequire(path.join(ROOT, "tests/package.json")).resolve("opossum");
  } catch {
    return process.env.OPOSSUM ?? null;
  }
}

function ask(port) {
  return new Promise((resolve, reject) => {
    http.get({ port, path: "/micro", agent: false }, (res) => {
      let text = "";
      res.on("data", (chunk) => (text += chunk)).on("end", () => resolve(text));
    }).on("error", reject);
  });
}

const program = path.join(ROOT, "build/release/perigee");
const server = nginx();
const breaker = opossum();
const found = new Map();
await server?.start();
try {
  for (let i = 0; i < ROUNDS; i++) {
    for (const name of ["shared", "cache", "resilience"]) {
      const source = readFileSync(path.join(ROOT, `tests/bench/micro/${name}.lua`), "utf8");
      lines(await run([program, "exec", source]), found);
    }
    if (server) {
      lines(await ask(server.port), found);
    }
    if (breaker) {
      lines(await run([process.execPath, "-e", OPOSSUM, breaker]), found);
    }
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
