#!/usr/bin/env node
// kill -9 of a worker under load: it may lose the requests it had begun, one a
// connection of its own, and no other.
import { host, report, sleep, status } from "./drill.mjs";
import { load } from "./load.mjs";

const CONNECTIONS = 32;
const KILLS = 10;
const WORKERS = 2;

const app = await host({
  "scripts/routes/a.lua": `
    local host = require "perigee.host"
    return function(router)
      router:get("/", function() return tostring(host.pid) end)
    end`,
}, { workers: WORKERS });

const work = load(app.port, { connections: CONNECTIONS });
await sleep(500);
let allowed = 0;
let down_ms = 0;
for (let i = 0; i < KILLS; i += 1) {
  const before = await status(app);
  const victim = before.workers[i % before.workers.length];
  allowed += victim.connections; // each may have had one request begun
  process.kill(victim.pid, "SIGKILL");
  const begun = performance.now();
  for (;;) {
    const now = await status(app);
    const serving = now.workers.filter((w) => w.state === "serving" && w.pid !== victim.pid);
    if (serving.length === WORKERS) {
      break;
    }
    await sleep(5);
  }
  down_ms = Math.max(down_ms, performance.now() - begun);
  await sleep(700);
}
const counts = await work.stop();
const how = await app.end();
report(`kill -9 of a worker under load: ${KILLS} kills, ${WORKERS} workers, ${CONNECTIONS} connections`, {
  "requests answered": counts.answered,
  "requests lost": counts.lost,
  "connections of the killed": allowed,
  "wrong answers": counts.wrong,
  "connections refused": counts.refused,
  "slowest answer (ms)": counts.slowest_ms.toFixed(0),
  "longest until all serve again (ms)": down_ms.toFixed(0),
}, {
  "no more lost than the killed workers had begun": counts.lost <= allowed,
  "no wrong answer": counts.wrong === 0,
  "no connection refused": counts.refused === 0,
  "graceful end": how.code === 0,
});
