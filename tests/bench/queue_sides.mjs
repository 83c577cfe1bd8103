// Who is measured by queue.mjs: hosts of ours, Node's bullmq, and their Redis.
// A side has add, bulk, run and latency; each gives { rate, us } or { p50, p99 }.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import net from "node:net";
import path from "node:path";
import { Host, PROGRAM, until, write_files } from "../integration/helpers.mjs";
import { cpu, free_port, sleep, tree } from "./servers.mjs";

export const RATE = 200;
const IN_FLIGHT = 100;
const AT_ONCE = 50;
const BULK = 1000;

const FILES = {
  "scripts/seen.lua": `return { done = 0 }`,
  "scripts/jobs/bench.lua": `
local late = require("perigee.shared").dict("late")
local seen = require "seen"
local time = require "perigee.time"
return { queue = "bench", concurrency = ${AT_ONCE}, run = function(job)
  seen.done = seen.done + 1
  if job.data.at then
    late:set(late:incr "count", time.monotonic() - job.data.at)
  end
end }`,
  "scripts/routes/bench.lua": `
local late = require("perigee.shared").dict("late")
local queue = require "perigee.queue"
local seen = require "seen"
local task = require "perigee.task"
local time = require "perigee.time"
local OPTS = { remove_on_complete = true, remove_on_fail = true }
local function data(i) return { n = i, user = "user-" .. i, note = ("x"):rep(64) } end
local LONG = { timeout = "10m" }
local function fill(q, n)
  for i = 0, n - 1, ${BULK} do
    local list = {}
    for k = 1, ${BULK} do list[k] = { name = "job", data = data(i + k), opts = OPTS } end
    assert(q:add_bulk(list))
  end
end
local function timed(n, fn)
  local began = time.monotonic()
  fn()
  return { rate = n / (time.monotonic() - began) * 1000 }
end
return function(router)
  router:get("/add/:n", function(req)
    local q, n, i = queue.get "sink", tonumber(req.params.n), 0
    local fns = {}
    for k = 1, ${IN_FLIGHT} do
      fns[k] = function()
        while i < n do i = i + 1 assert(q:add("job", data(i), OPTS)) end
        return true
      end
    end
    return timed(n, function() assert(task.all(fns)) end)
  end, LONG)
  router:get("/bulk/:n", function(req)
    local n = tonumber(req.params.n)
    return timed(n, function() fill(queue.get "sink", n) end)
  end, LONG)
  router:get("/drain", function()
    assert(queue.get("sink"):drain())
    return 204
  end, LONG)
  router:get("/fill/:n", function(req)
    local q = queue.get "bench"
    assert(q:pause())
    fill(q, tonumber(req.params.n))
    return 204
  end, LONG)
  router:get("/run/:n", function(req)
    local n = tonumber(req.params.n)
    seen.done = 0
    return timed(n, function()
      assert(queue.get("bench"):resume())
      while seen.done < n do task.sleep(2) end
    end)
  end, LONG)
  router:get("/latency/:n", function(req)
    local q, n = queue.get "bench", tonumber(req.params.n)
    late:flush()
    local began = time.monotonic()
    for i = 1, n do
      local wait = began + i * ${1000 / RATE} - time.monotonic()
      if wait > 0 then task.sleep(wait) end
      local d = data(i)
      d.at = time.monotonic()
      task.spawn_detached(function() q:add("job", d, OPTS) end)
    end
    while (late:get "count" or 0) < n do task.sleep(5) end
    local times = {}
    for i = 1, n do times[i] = late:get(i) end
    table.sort(times)
    return { p50 = times[math.ceil(n * 0.5)], p99 = times[math.ceil(n * 0.99)] }
  end, LONG)
end`,
};

/** A command as one line; its reply as text. */
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

/** A redis-server of one's own, appendonly everysec. */
export async function start_redis(dir) {
  const port = await free_port();
  const child = spawn("redis-server", ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir,
    "--appendonly", "yes", "--appendfsync", "everysec"], { stdio: "ignore" });
  await until(() => ask(port, "PING").catch(() => null), { what: "redis-server" });
  return {
    port,
    cpu_s: async () => [...(await ask(port, "INFO cpu")).matchAll(/used_cpu_(?:user|sys):([\d.]+)/g)]
      .reduce((sum, [, value]) => sum + Number(value), 0),
    end: () => child.kill(),
  };
}

/** A host with one worker; apart: jobs run in a second one. CPU is that of all
 * its threads, for a job. */
export async function ours(dir, name, settings, { jobs, apart = false }) {
  const folder = path.join(dir, `${name}${apart ? " apart" : ""}`.replace(/\W/g, "-"));
  const roles = apart ? { "config/default.lua": "return { cluster = { roles = { web = 1, jobs = 1 } } }" } : {};
  write_files(folder, { ...FILES, ...roles });
  const all = { "admin.port": 0, "log.requests": false, "http.request_timeout": "10m", "queue.metrics": false, ...settings };
  const argv = ["run", folder, "-e", "production", "-p", "0", ...(apart ? [] : ["-w", "1"]),
    ...Object.entries(all).flatMap(([key, value]) => ["--set", `${key}=${value}`])];
  const app = new Host(folder, spawn(PROGRAM, argv, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] }));
  await app.listening();
  const get = async (url) => {
    const answer = await fetch(app.url + url);
    if (!answer.ok) {
      throw new Error(`${name}: ${answer.status} ${await answer.text()}\n${app.printed(5)}`);
    }
    return answer.status === 204 ? {} : answer.json();
  };
  const timed = async (what) => {
    const before = cpu(tree(app.pid)).all;
    const answer = await get(`/${what}/${jobs}`);
    return { rate: answer.rate, us: ((cpu(tree(app.pid)).all - before) * 1e6) / jobs };
  };
  return {
    name,
    before: { run: () => get(`/fill/${jobs}`) },
    add: () => timed("add"),
    bulk: () => timed("bulk"),
    run: () => timed("run"),
    latency: () => get(`/latency/${RATE * 3}`),
    after: { add: () => get("/drain"), bulk: () => get("/drain") },
    end: () => app.stop(),
  };
}

/** bullmq in this process, with the CPU of this process. */
export async function bullmq(port, { jobs }) {
  const require = createRequire(import.meta.url);
  const { Queue, Worker } = require("bullmq-6");
  const connection = () => ({ host: "127.0.0.1", port, maxRetriesPerRequest: null });
  const opts = { removeOnComplete: true, removeOnFail: true };
  const data = (i) => ({ n: i, user: `user-${i}`, note: "x".repeat(64) });
  const timed = async (act) => {
    const before = process.cpuUsage();
    const began = performance.now();
    await act();
    const rate = (jobs / (performance.now() - began)) * 1000;
    const used = process.cpuUsage(before);
    return { rate, us: (used.user + used.system) / jobs };
  };
  const open = (name) => {
    const q = new Queue(name, { connection: connection() });
    q.on("error", () => {});
    return q;
  };
  const sink = open("sink");
  const bench = open("bench");
  await Promise.all([sink.waitUntilReady(), bench.waitUntilReady()]);
  const fill = async (q) => {
    for (let i = 0; i < jobs; i += BULK) {
      await q.addBulk(Array.from({ length: BULK }, (_, k) => ({ name: "job", data: data(i + k), opts })));
    }
  };
  let worker;
  const work = (run) => {
    worker = new Worker("bench", run, { connection: connection(), concurrency: AT_ONCE });
    return worker.on("error", () => {});
  };
  return {
    name: `bullmq ${require("bullmq-6/package.json").version}`,
    before: { run: () => fill(bench) },
    add: () => timed(() => {
      let i = 0;
      return Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
        while (i < jobs) {
          i += 1;
          await sink.add("job", data(i), opts);
        }
      }));
    }),
    bulk: () => timed(() => fill(sink)),
    run: () => timed(() => new Promise((resolve) => {
      let done = 0;
      work(async () => {}).on("completed", () => {
        done += 1;
        if (done === jobs) {
          resolve();
        }
      });
    })),
    latency: async () => {
      const n = RATE * 3;
      const times = [];
      await work(async (job) => { times.push(performance.now() - job.data.at); }).waitUntilReady();
      const began = performance.now();
      for (let i = 1; i <= n; i += 1) {
        const wait = began + (i * 1000) / RATE - performance.now();
        if (wait > 0) {
          await sleep(wait);
        }
        bench.add("job", { ...data(i), at: performance.now() }, opts);
      }
      await until(() => times.length >= n, { timeout_ms: 60_000 });
      times.sort((a, b) => a - b);
      return { p50: times[Math.ceil(n * 0.5) - 1], p99: times[Math.ceil(n * 0.99) - 1] };
    },
    after: { add: () => sink.drain(), bulk: () => sink.drain(), run: () => worker.close(), latency: () => worker.close() },
    end: () => Promise.all([sink.close(), bench.close()]),
  };
}
