#!/usr/bin/env node
// Queues in Redis, two hosts: a worker killed with its jobs, a host stopped with
// its own, Redis killed and started again while jobs are added and run.
import { until } from "../integration/helpers.mjs";
import { RedisServer } from "../integration/redis_server.mjs";
import { host, report, sleep } from "./drill.mjs";

const FILES = {
  "scripts/jobs/work.lua": `
    local task = require "perigee.task"
    local redis = require("perigee.redis").get()
    return { queue = "work", concurrency = 50, run = function(job)
      redis:rpush("began", job.id .. " " .. require("perigee.host").pid)
      task.sleep(job.data.ms)
      return job.id
    end }`,
  "scripts/routes/a.lua": `
    local queue = require "perigee.queue"
    return function(router)
      router:get("/add/:n/:ms", function(req)
        local list = {}
        for i = 1, tonumber(req.params.n) do
          list[i] = { name = "x", data = { ms = tonumber(req.params.ms) } }
        end
        local jobs, err = queue.get("work"):add_bulk(list)
        if not jobs then return nil, err end
        local ids = {}
        for i, job in ipairs(jobs) do ids[i] = job.id end
        return ids
      end)
    end`,
};

const cleaners = [];
const redis = await RedisServer.start({ after: (fn) => cleaners.push(fn) },
  ["--appendonly", "yes", "--appendfsync", "always"]);
const begin = (settings = {}) => host(FILES, {
  settings: { "redis.main.url": redis.url, "queue.driver": "redis", ...settings },
});
const number = async (command) => Number(/:(\d+)/.exec(await redis.ask(command).catch(() => ""))?.[1] ?? NaN);
const completed = () => number("ZCARD bull:work:completed");
const LONG = { timeout_ms: 60_000 };

// A worker with about half of 100 running jobs; the lease is of no help.
const lone = await begin({ "queue.lock": "10m" });
await lone.get("/add/100/1500");
await until(async () => await number("LLEN began") === 100, LONG);
const victim = lone.workers()[0];
const killed_at = performance.now();
process.kill(victim, "SIGKILL");
await until(async () => await number("LLEN began") > 100, LONG);
const again_ms = performance.now() - killed_at;
await until(async () => await completed() === 100, LONG);
await lone.end();

// A host that stops with 20 running jobs: another one has them after the lease.
await redis.ask("FLUSHALL");
const first = await begin();
await first.get("/add/20/60000");
await until(async () => await number("LLEN began") === 20, LONG);
const second = await begin();
const stopped_at = performance.now();
process.kill(-first.pid, "SIGSTOP");
await until(async () => await number("LLEN began") > 20, LONG);
const moved_ms = performance.now() - stopped_at;
await until(async () => await number("LLEN began") >= 40, LONG);
const all_moved_ms = performance.now() - stopped_at;
first.kill();
second.kill();
await Promise.all([first.ended, second.ended]);

// Redis killed ten times while jobs are added and run: what was acknowledged.
await redis.ask("FLUSHALL");
const hosts = [await begin({ "queue.lock": "3s" }), await begin({ "queue.lock": "3s" })];
const acknowledged = [];
let adding = true;
const adders = hosts.map(async (app) => {
  while (adding) {
    const answer = await app.get("/add/10/2").catch(() => null);
    if (answer?.status === 200) {
      acknowledged.push(...answer.json);
    } else {
      await sleep(20);
    }
  }
});
for (let i = 0; i < 10; i += 1) {
  await sleep(700);
  await redis.kill();
  await sleep(100);
  await redis.launch();
}
adding = false;
await Promise.all(adders);
const idle = async () => await number("LLEN bull:work:wait") === 0 && await number("LLEN bull:work:active") === 0;
const ended_at = performance.now();
await until(idle, LONG);
const settled_ms = performance.now() - ended_at;
let lost = 0;
for (const id of acknowledged) {
  const done = await redis.ask(`ZSCORE bull:work:completed ${id}`);
  lost += done.startsWith("$-1") ? 1 : 0;
}
const runs = await number("LLEN began");
await Promise.all(hosts.map((app) => app.end()));

report("queues in Redis: a worker killed, a host stopped, Redis killed 10 times", {
  "killed worker's jobs run again (ms)": again_ms.toFixed(0),
  "stopped host's first job moves (ms)": moved_ms.toFixed(0),
  "stopped host's last job moves (ms)": all_moved_ms.toFixed(0),
  "jobs acknowledged, Redis killed": acknowledged.length,
  "of them not done": lost,
  "runs": runs,
  "settled after the last start (ms)": settled_ms.toFixed(0),
}, {
  "a worker's death is noticed within 1 s": again_ms < 1000,
  "a stopped host's jobs move within the lease and 1 s": all_moved_ms < 11_000,
  "no acknowledged job is lost": lost === 0 && acknowledged.length > 100,
});
for (const clean of cleaners) {
  await clean();
}
