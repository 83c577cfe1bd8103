#!/usr/bin/env node
// The clock is set forward by an hour and back by two while jobs are added and
// run, wait for their time, and come again and again. Jobs go on as if nothing
// had happened; what goes by the clock on the wall goes by the new one.
//
//     node tests/drills/queue_clock.mjs
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { Host, PROGRAM, ROOT, sleep, write_files } from "../integration/helpers.mjs";
import { report } from "./drill.mjs";

const HOUR_S = 3600;
const DELAY_MS = 3000;
const STEP_MS = 14_000; // longer than it takes to see that a clock was set

const RUN = `
local shared = require("perigee.shared").dict("seen", { size = "16mb" })
local time = require "perigee.time"
`;
const FILES = {
  "config/default.lua": `return { queue = { limits = { tenants = { group = { rate = { max = 20, duration = "1s" } } } } } }`,
  "scripts/jobs/work.lua": `${RUN} return { queue = "work", concurrency = 20, run = function(job)
    if job.name == "long" then require("perigee.task").sleep "20s" end
    shared:incr("runs:" .. job.name, 1, 0)
    if job.name == "late" then
      shared:set("late:" .. job.id, time.monotonic() - job.data.at)
    end
  end }`,
  "scripts/jobs/tenants.lua": `${RUN} return { concurrency = 20, run = function() shared:incr("runs:tenant", 1, 0) end }`,
  "scripts/jobs/often.lua": `${RUN} return { every = "500ms", run = function() shared:incr("runs:often", 1, 0) end }`,
  "scripts/jobs/each.lua": `${RUN} return { cron = "* * * * * *", run = function() shared:incr("runs:each", 1, 0) end }`,
  "scripts/routes/a.lua": `${RUN}
local queue = require "perigee.queue"
return function(router)
  router:get("/add/:name", function(req)
    local name = req.params.name
    local opts = name == "late" and { delay = ${DELAY_MS} } or name == "tenant" and { group = "t" } or nil
    local job, err = queue.get(name == "tenant" and "tenants" or "work"):add(name, { at = time.monotonic() }, opts)
    if not job then return nil, err end
    return job.id
  end)
  router:get("/seen", function()
    local out = { wall = time.now() }
    for _, key in ipairs(shared:keys()) do out[key] = shared:get(key) end
    return out
  end)
end`,
};

const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-drill-"));
write_files(dir, FILES);
const shim = path.join(dir, "clock.so");
const clock = path.join(dir, "clock");
execFileSync("cc", ["-shared", "-fPIC", "-D_GNU_SOURCE", "-o", shim, path.join(ROOT, "tests/drills/queue_clock.c")]);
const set = (seconds) => writeFileSync(clock, String(seconds));
set(0);

const argv = ["run", dir, "-e", "production", "-p", "0", "-w", "2", "--set", "admin.port=0", "--set", "log.requests=false"];
const app = new Host(dir, spawn(PROGRAM, argv, {
  cwd: dir, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, LD_PRELOAD: shim, CLOCK_FILE: clock },
}));
await app.listening();
const get = async (url) => (await fetch(app.url + url)).text();
const seen = async () => JSON.parse(await get("/seen"));

let over = false;
const added = { plain: 0, late: 0, tenant: 0 };
const adder = (async () => {
  for (let n = 0; !over; n += 1) {
    for (const name of ["plain", ...(n % 5 === 0 ? ["late"] : []), ...(n % 10 === 0 ? ["tenant"] : [])]) {
      added[name] += Number.isFinite(Number(await get(`/add/${name}`))) ? 1 : 0;
    }
    await sleep(10);
  }
})();
await get("/add/long");

const steps = {};
let walls = true;
for (const [name, seconds] of [["before", 0], ["an hour ahead", HOUR_S], ["an hour behind", -HOUR_S]]) {
  set(seconds);
  const from = await seen();
  walls = walls && Math.abs(from.wall - Date.now() - seconds * 1000) < 5000;
  await sleep(STEP_MS);
  const to = await seen();
  const grown = (what) => (to[`runs:${what}`] ?? 0) - (from[`runs:${what}`] ?? 0);
  steps[name] = { plain: grown("plain"), often: grown("often"), each: grown("each"), tenant: grown("tenant") };
}
over = true;
await adder;
await sleep(DELAY_MS + 1500);
const end = await seen();
const how = await app.stop();
const lates = Object.entries(end).filter(([key]) => key.startsWith("late:")).map(([, ms]) => ms);
rmSync(dir, { recursive: true, force: true });

const list = Object.values(steps);
report(`the clock is set an hour ahead, then an hour behind: 2 workers, ${STEP_MS / 1000} s each`, {
  ...Object.fromEntries(Object.entries(steps).map(([name, s]) => [
    `${name}: jobs, every 500 ms, cron, tenant`, `${s.plain} ${s.often} ${s.each} ${s.tenant}`])),
  "jobs added, run": `${added.plain} ${end["runs:plain"]}`,
  "delayed ones added, run": `${added.late} ${lates.length}`,
  "delayed by (ms), least and most": `${Math.min(...lates).toFixed(0)} ${Math.max(...lates).toFixed(0)}`,
  "runs of a job that took it all": end["runs:long"],
}, {
  "the host's clock was set": walls,
  "every job ran, once": end["runs:plain"] === added.plain,
  "none before its time": lates.length === added.late && Math.min(...lates) >= DELAY_MS - 1,
  "none later than a second": Math.max(...lates) <= DELAY_MS + 1000,
  "intervals go on": list.every((s) => s.often >= 20 && s.often <= 32),
  "patterns go by the new clock within 10 s": list.every((s) => s.each >= 3 && s.each <= 20),
  "tenants' rates go on": list.every((s) => s.tenant > 0) && end["runs:tenant"] === added.tenant,
  "a job that runs is not run again": end["runs:long"] === 1,
  "graceful end": how.code === 0,
});
