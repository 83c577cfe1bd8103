#!/usr/bin/env node
// Queues beside Node's BullMQ in the same run: jobs a second added with 100 in
// flight, run at a concurrency of 50, and the time from add to run.
//
//   queue.mjs [--rounds 3] [--jobs 20000] [--json FILE]
//
// Ours: the embedded store (synchronous FULL and NORMAL) and the redis driver.
// BullMQ and our redis driver use one redis-server, with appendonly everysec.
// CPU is that of all threads of the worker (or of Node) for a job.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { Host, PROGRAM, until, write_files } from "../integration/helpers.mjs";
import { ROOT } from "../tools/proc.mjs";
import { cpu, tree } from "./servers.mjs";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    jobs: { type: "string", default: "20000" },
    json: { type: "string" },
  },
  strict: false,
});
const ROUNDS = Number(options.rounds);
const JOBS = Number(options.jobs);
const RATE = 200;

const FILES = {
  "scripts/seen.lua": "return { done = 0, times = {} }",
  "scripts/jobs/bench.lua": `
local seen = require "seen"
local time = require "perigee.time"
return { queue = "bench", concurrency = 50, run = function(job)
  seen.done = seen.done + 1
  if job.data.at then seen.times[#seen.times + 1] = time.monotonic() - job.data.at end
end }`,
  "scripts/routes/bench.lua": `
local queue = require "perigee.queue"
local seen = require "seen"
local task = require "perigee.task"
local time = require "perigee.time"
local OPTS = { remove_on_complete = true, remove_on_fail = true }
local function data(i) return { n = i, user = "user-" .. i, note = ("x"):rep(64) } end
local LONG = { timeout = "10m" }
return function(router)
  router:get("/add/:n", function(req)
    local q, n, i = queue.get "sink", tonumber(req.params.n), 0
    local fns = {}
    for k = 1, 100 do
      fns[k] = function()
        while i < n do i = i + 1 assert(q:add("job", data(i), OPTS)) end
        return true
      end
    end
    local began = time.monotonic()
    assert(task.all(fns))
    local rate = n / (time.monotonic() - began) * 1000
    assert(q:drain())
    return { rate = rate }
  end, LONG)
  router:get("/fill/:n", function(req)
    local q, n = queue.get "bench", tonumber(req.params.n)
    assert(q:pause())
    for i = 1, n, 1000 do
      local list = {}
      for k = 1, 1000 do list[k] = { name = "job", data = data(i + k), opts = OPTS } end
      assert(q:add_bulk(list))
    end
    return 204
  end, LONG)
  router:get("/run/:n", function(req)
    local q, n = queue.get "bench", tonumber(req.params.n)
    seen.done = 0
    local began = time.monotonic()
    assert(q:resume())
    while seen.done < n do task.sleep(2) end
    return { rate = n / (time.monotonic() - began) * 1000 }
  end, LONG)
  router:get("/latency/:n", function(req)
    local q, n = queue.get "bench", tonumber(req.params.n)
    seen.times = {}
    for i = 1, n do
      task.sleep(${1000 / RATE})
      local d = data(i)
      d.at = time.monotonic()
      task.spawn_detached(function() q:add("job", d, OPTS) end)
    end
    while #seen.times < n do task.sleep(5) end
    table.sort(seen.times)
    return { p50 = seen.times[math.ceil(n * 0.5)], p99 = seen.times[math.ceil(n * 0.99)] }
  end, LONG)
end`,
};

function port() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port: free } = server.address();
      server.close(() => resolve(free));
    });
  });
}

const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-bench-"));

async function redis() {
  const at = await port();
  const child = spawn("redis-server", ["--port", String(at), "--bind", "127.0.0.1", "--save", "", "--dir", dir,
    "--appendonly", "yes", "--appendfsync", "everysec"], { stdio: "ignore" });
  const there = () => new Promise((resolve) => {
    const socket = net.connect(at, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.end());
  });
  await until(there, { what: "redis-server" });
  return { port: at, end: () => child.kill() };
}

async function ours(name, settings) {
  const folder = path.join(dir, name.replace(/\W/g, "-"));
  write_files(folder, FILES);
  const all = { "admin.port": 0, "log.requests": false, "http.request_timeout": "10m", "queue.metrics": false, ...settings };
  const argv = ["run", folder, "-e", "production", "-p", "0", "-w", "1",
    ...Object.entries(all).flatMap(([key, value]) => ["--set", `${key}=${value}`])];
  const app = new Host(folder, spawn(PROGRAM, argv, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] }));
  await app.listening();
  const get = async (url) => {
    const answer = await fetch(app.url + url);
    return answer.status === 204 ? {} : answer.json();
  };
  const timed = async (url) => {
    const before = cpu(tree(app.pid)).all;
    const answer = await get(url);
    return { rate: answer.rate, us: ((cpu(tree(app.pid)).all - before) * 1e6) / JOBS };
  };
  return {
    name,
    add: () => timed(`/add/${JOBS}`),
    run: async () => {
      await get(`/fill/${JOBS}`);
      return timed(`/run/${JOBS}`);
    },
    latency: () => get(`/latency/${RATE * 3}`),
    end: () => app.stop(),
  };
}

async function bullmq(at) {
  const require = createRequire(path.join(ROOT, "tests/package.json"));
  const { Queue, Worker } = require("bullmq");
  const connection = () => ({ host: "127.0.0.1", port: at, maxRetriesPerRequest: null });
  const opts = { removeOnComplete: true, removeOnFail: true };
  const data = (i) => ({ n: i, user: `user-${i}`, note: "x".repeat(64) });
  const timed = async (act) => {
    const before = process.cpuUsage();
    const began = performance.now();
    await act();
    const rate = (JOBS / (performance.now() - began)) * 1000;
    const used = process.cpuUsage(before);
    return { rate, us: (used.user + used.system) / JOBS };
  };
  const q = new Queue("node", { connection: connection() });
  q.on("error", () => {});
  await q.waitUntilReady();
  return {
    name: "BullMQ",
    add: async () => {
      let i = 0;
      const result = await timed(() => Promise.all(Array.from({ length: 100 }, async () => {
        while (i < JOBS) {
          i += 1;
          await q.add("job", data(i), opts);
        }
      })));
      await q.drain();
      return result;
    },
    run: async () => {
      for (let i = 0; i < JOBS; i += 1000) {
        await q.addBulk(Array.from({ length: 1000 }, (_, k) => ({ name: "job", data: data(i + k), opts })));
      }
      let worker;
      const result = await timed(() => new Promise((resolve) => {
        let done = 0;
        worker = new Worker("node", async () => {}, { connection: connection(), concurrency: 50 });
        worker.on("error", () => {}).on("completed", () => {
          done += 1;
          if (done === JOBS) {
            resolve();
          }
        });
      }));
      await worker.close();
      return result;
    },
    latency: async () => {
      const n = RATE * 3;
      const times = [];
      const worker = new Worker("node", async (job) => {
        times.push(performance.now() - job.data.at);
      }, { connection: connection(), concurrency: 50 });
      worker.on("error", () => {});
      await worker.waitUntilReady();
      const began = performance.now();
      for (let i = 0; i < n; i += 1) {
        const wait = began + (i * 1000) / RATE - performance.now();
        if (wait > 0) {
          await new Promise((resolve) => setTimeout(resolve, wait));
        }
        q.add("job", { ...data(i), at: performance.now() }, opts);
      }
      await until(() => times.length >= n, { timeout_ms: 60_000 });
      await worker.close();
      times.sort((a, b) => a - b);
      return { p50: times[Math.ceil(n * 0.5) - 1], p99: times[Math.ceil(n * 0.99) - 1] };
    },
    end: () => q.close(),
  };
}

function median(list) {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

const server = await redis();
const sides = [
  await bullmq(server.port),
  await ours("redis", { "queue.driver": "redis", "redis.main.url": `redis://127.0.0.1:${server.port}/1` }),
  await ours("embedded FULL", { "queue.synchronous": "full" }),
  await ours("embedded NORMAL", { "queue.synchronous": "normal" }),
];
const results = new Map(sides.map((side) => [side.name, { add: [], run: [], latency: [] }]));
for (let round = -1; round < ROUNDS; round += 1) {
  for (const what of ["add", "run", "latency"]) {
    for (const side of sides) {
      const result = await side[what]();
      if (round >= 0) { // the first warms up
        results.get(side.name)[what].push(result);
      }
    }
  }
}
console.log(`\n### queues: add with 100 in flight, run at 50, latency at ${RATE} a second\n`);
console.log("|                 | add/s | ratio | CPU µs | run/s | ratio | CPU µs | p50 ms | p99 ms |");
console.log("|-----------------|------:|------:|-------:|------:|------:|-------:|-------:|-------:|");
const base = results.get("BullMQ");
for (const [name, { add, run, latency }] of results) {
  const ratio = (list, theirs) => median(list.map((r, i) => r.rate / theirs[i].rate)).toFixed(2);
  const cells = [
    Math.round(median(add.map((r) => r.rate))), ratio(add, base.add), median(add.map((r) => r.us)).toFixed(1),
    Math.round(median(run.map((r) => r.rate))), ratio(run, base.run), median(run.map((r) => r.us)).toFixed(1),
    median(latency.map((r) => r.p50)).toFixed(2), median(latency.map((r) => r.p99)).toFixed(2),
  ];
  console.log(`| ${name.padEnd(15)} | ${cells.join(" | ")} |`);
}
if (options.json) {
  writeFileSync(options.json, JSON.stringify(Object.fromEntries(results)));
}
for (const side of sides) {
  await side.end();
}
server.end();
rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
