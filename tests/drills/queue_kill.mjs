#!/usr/bin/env node
// kill -9 of a whole host, master and workers, again and again while jobs are
// added and run: what was acknowledged is run, and little of it twice.
//
//     node tests/drills/queue_kill.mjs [ROUNDS]
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { Host, PROGRAM, until, write_files } from "../integration/helpers.mjs";
import { report, sleep } from "./drill.mjs";

const ROUNDS = Number(process.argv[2] ?? 20);
const ADDERS = 16;
const CONCURRENCY = 25;
const WORKERS = 2;

const FILES = {
  "scripts/jobs/work.lua": `
local task = require "perigee.task"
local file = io.open("var/ran", "a")
file:setvbuf "no"
return { queue = "work", concurrency = ${CONCURRENCY}, run = function(job)
  task.sleep(math.random(0, 10))
  file:write(job.id .. "\\n") -- in one piece
end }`,
  "scripts/routes/a.lua": `
local queue = require "perigee.queue"
return function(router)
  router:get("/add", function()
    local job, err = queue.get("work"):add("x", { pad = ("x"):rep(100) }, { remove_on_complete = true })
    if not job then return nil, err end
    return job.id
  end)
  router:get("/counts", function() return assert(queue.get("work"):counts()) end)
end`,
};

const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-drill-"));
write_files(dir, FILES);

async function open() {
  const began = performance.now();
  const argv = ["run", dir, "-e", "production", "-p", "0", "-w", String(WORKERS), "--set", "admin.port=0", "--set", "log.requests=false"];
  const app = new Host(dir, spawn(PROGRAM, argv, { cwd: dir, stdio: ["ignore", "pipe", "pipe"] }));
  await app.listening();
  const counts = await (await fetch(`${app.url}/counts`)).json();
  return { app, counts, open_ms: performance.now() - began };
}

const acknowledged = new Set();
let slowest_ms = 0;
let running = 0;

for (let round = 0; round < ROUNDS; round += 1) {
  const { app, open_ms } = await open();
  slowest_ms = Math.max(slowest_ms, open_ms);
  let over = false;
  const adders = Array.from({ length: ADDERS }, async () => {
    while (!over) {
      try {
        const answer = await fetch(`${app.url}/add`);
        if (answer.status === 200) {
          acknowledged.add(await answer.text());
        }
      } catch {
        await sleep(5);
      }
    }
  });
  await sleep(400 + Math.random() * 600);
  running += WORKERS * CONCURRENCY; // at most
  const victims = [app.pid, ...app.workers()];
  for (const pid of victims) {
    try {
      process.kill(pid, "SIGKILL");
    } catch { /* it went with its master */ }
  }
  over = true;
  await Promise.all(adders);
  await app.ended;
  await sleep(50);
}

const { app, open_ms } = await open();
slowest_ms = Math.max(slowest_ms, open_ms);
await until(async () => {
  const counts = await (await fetch(`${app.url}/counts`)).json();
  return counts.waiting + counts.active === 0;
}, { timeout_ms: 60_000, what: "the end of the work" });
const how = await app.stop();

const times = new Map();
for (const id of readFileSync(path.join(dir, "var/ran"), "utf8").split("\n").filter(Boolean)) {
  times.set(id, (times.get(id) ?? 0) + 1);
}
const lost = [...acknowledged].filter((id) => !times.has(id)).length;
const again = [...times.values()].reduce((sum, n) => sum + n - 1, 0);
rmSync(dir, { recursive: true, force: true });
report(`kill -9 of the whole host: ${ROUNDS} rounds, ${WORKERS} workers, ${ADDERS} adders`, {
  "jobs acknowledged": acknowledged.size,
  "jobs lost": lost,
  "runs that were repeated": again,
  "jobs that ran at the kills, at most": running,
  "slowest start until it answers (ms)": slowest_ms.toFixed(0),
}, {
  "no acknowledged job is lost": lost === 0,
  "no more repeated than ran": again <= running,
  "it opens within 2 s": slowest_ms <= 2000,
  "graceful end": how.code === 0,
});
