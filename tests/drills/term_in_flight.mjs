#!/usr/bin/env node
// TERM with slow requests in flight: all are answered, nothing new is taken, and
// the exit is 0 and soon after the slowest answer.
import { host, report, sleep } from "./drill.mjs";
import { load } from "./load.mjs";

const SLOW_MS = 1500;
const COUNT = 100;

const app = await host({
  "scripts/routes/a.lua": `
    local task = require "perigee.task"
    return function(router)
      router:get("/", function() return "quick" end)
      router:get("/slow", function() task.sleep(${SLOW_MS}) return "slow" end)
    end`,
}, { workers: 2 });
const work = load(app.port, { connections: 16 }); // quick ones, beside
const slow = Array.from({ length: COUNT }, () => app.get("/slow"));
const idle = await Promise.all(Array.from({ length: 20 }, () => app.connect()));
await sleep(400);
const quick = { ...work.counts };
const begun = performance.now();
app.signal("SIGTERM");
await sleep(200);
const taken = await app.get("/").then(() => true, () => false);
const answers = await Promise.allSettled(slow);
const how = await app.ended;
const took = performance.now() - begun;
await work.stop();
idle.forEach((c) => c.end());
const good = answers.filter((a) => a.status === "fulfilled" && a.value.text === "slow").length;
report(`TERM with ${COUNT} requests of ${SLOW_MS} ms in flight: 2 workers`, {
  "slow requests answered": `${good} of ${COUNT}`,
  "quick ones answered before": quick.answered,
  "quick ones lost": work.counts.lost,
  "wrong answers": work.counts.wrong,
  "from TERM to the end (ms)": took.toFixed(0),
  "exit code": how.code,
}, {
  "every slow request was answered": good === COUNT,
  "no quick request was lost": work.counts.lost === 0 && work.counts.wrong === 0,
  "no new connection was taken": !taken,
  "exit 0": how.code === 0,
  "ended soon after the slowest": took < SLOW_MS + 500,
});
