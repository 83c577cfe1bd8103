#!/usr/bin/env node
// What a job costs, Redis included: the redis driver of queues beside Node's
// bullmq, in turns.
//
//   queue_redis.mjs [--tests "add:100 ..."] [--rounds 5] [--who "redis full normal"] [--quick]
//
// add:N is N adds in flight, bulk:N one add_bulk of N after the other, process:N
// a worker of concurrency N with nothing to do on a filled queue, latency:N N
// jobs a second, add called to function called. Redis (appendonly everysec) has
// CPU 1, the rest CPU 0; `full` and `normal` are the embedded driver's ways to be
// durable. A ratio is the median of the rounds' ratios.
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ROOT } from "../tools/proc.mjs";
import { CLIENT_CPU, SERVER_CPU, free_port, sleep } from "./servers.mjs";

const COUNTS = { add: 20000, bulk: 30000, process: 20000, latency: 600 };

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function ask(port, line) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1");
    let text = "";
    socket.on("error", reject);
    socket.on("data", (chunk) => {
      text += chunk;
      if (/\r\n$/.test(text)) {
        socket.destroy();
        resolve(text);
      }
    });
    socket.write(`${line}\r\n`);
  });
}

async function redis_cpu_s(port) {
  const info = await ask(port, "INFO cpu");
  return Number(/used_cpu_user:([\d.]+)/.exec(info)[1]) + Number(/used_cpu_sys:([\d.]+)/.exec(info)[1]);
}

async function start_redis(dir) {
  const port = await free_port();
  const child = spawn("taskset", ["-c", CLIENT_CPU, "redis-server", "--port", String(port), "--bind", "127.0.0.1",
    "--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--dir", dir], { stdio: "ignore" });
  for (let i = 0; i < 200; i += 1) {
    if (await ask(port, "PING").catch(() => null)) {
      return { port, child };
    }
    await sleep(50);
  }
  throw new Error("redis-server does not answer");
}

function make_app(dir, name, port) {
  const app = path.join(dir, name);
  mkdirSync(path.join(app, "config"), { recursive: true });
  mkdirSync(path.join(app, "scripts/services"), { recursive: true });
  const queue = name === "redis" ? `{ driver = "redis" }` : `{ driver = "embedded", synchronous = "${name}" }`;
  writeFileSync(path.join(app, "config/default.lua"),
    `return { queue = ${queue}, redis = { main = { url = "redis://127.0.0.1:${port}" } } }\n`);
  copyFileSync(path.join(ROOT, "tests/bench/queue_redis/ours.lua"), path.join(app, "scripts/services/bench.lua"));
  return app;
}

function run(argv, cwd) {
  const done = spawnSync("taskset", ["-c", SERVER_CPU, ...argv], { cwd, encoding: "utf8", timeout: 120_000 });
  try {
    return JSON.parse(done.stdout.trim().split("\n").at(-1));
  } catch {
    throw new Error(`${argv.join(" ")}: ${done.stdout}${done.stderr}`);
  }
}

function one(who, test, count, { dir, port }) {
  if (who === "bullmq") {
    return run([process.execPath, path.join(ROOT, "tests/bench/queue_redis/node.mjs"), test, String(count), String(port)], ROOT);
  }
  const app = path.join(dir, who);
  rmSync(path.join(app, "var"), { recursive: true, force: true });
  return run([path.join(ROOT, "build/release/perigee"), "exec",
    `return require("services.bench")("${test}", ${count})`], app);
}

function print(test, rounds, names) {
  console.log(`\n${test}`);
  for (const name of names) {
    const mine = (key) => median(rounds.map((r) => r[name][key] ?? NaN));
    const ratio = (key) => median(rounds.map((r) => r[name][key] / r.bullmq[key])).toFixed(2);
    if (test.startsWith("latency")) {
      console.log(`  ${name.padEnd(8)} p50 ${mine("p50_ms").toFixed(2)} ms (x ${ratio("p50_ms")}), `
        + `p99 ${mine("p99_ms").toFixed(2)} ms (x ${ratio("p99_ms")}), ${mine("done")} done`);
    } else {
      console.log(`  ${name.padEnd(8)} ${mine("rate").toFixed(0)} jobs/s (x ${ratio("rate")}), `
        + `${mine("cpu_us").toFixed(1)} us (x ${ratio("cpu_us")}), redis ${mine("redis_us").toFixed(1)} us`
        + (name === "redis" ? ` (x ${ratio("redis_us")})` : ""));
    }
  }
}

export async function print_queues({ tests, rounds = 5, who, quick = false } = {}) {
  if (spawnSync("redis-server", ["--version"]).status !== 0
    || !existsSync(path.join(ROOT, "tests/node_modules/bullmq-6"))) {
    console.log("no redis-server or no test packages (./bootstrap test installs them): no queues");
    return;
  }
  const names = ["bullmq", ...(who ?? "redis").split(/[ ,]+/)];
  const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-bench-"));
  const { port, child } = await start_redis(dir);
  try {
    names.slice(1).forEach((name) => make_app(dir, name, port));
    const version = createRequire(import.meta.url)("bullmq-6/package.json").version;
    console.log(`\nqueues, beside bullmq ${version} on Node ${process.version}`);
    for (const test of (tests ?? "add:100 bulk:1000 process:50 latency:200").trim().split(/[ ,]+/)) {
      const count = COUNTS[test.split(":")[0]] / (quick ? 4 : 1);
      const kept = [];
      for (let round = 0; round < (quick ? 2 : rounds); round += 1) {
        const results = {};
        for (const name of names) {
          await ask(port, "FLUSHALL");
          const before = await redis_cpu_s(port);
          results[name] = one(name, test, count, { dir, port });
          results[name].redis_us = ((await redis_cpu_s(port)) - before) / count * 1e6;
        }
        kept.push(results);
      }
      print(test, kept, names);
    }
  } finally {
    child.kill("SIGKILL");
    await sleep(100);
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      tests: { type: "string" },
      rounds: { type: "string", default: "5" },
      who: { type: "string" },
      quick: { type: "boolean", default: false },
    },
  });
  await print_queues({ ...values, rounds: Number(values.rounds) });
}
