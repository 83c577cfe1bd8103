#!/usr/bin/env node
// 200 reloads under load: no request fails and memory stays flat.
import { readdirSync } from "node:fs";
import { host, pss, report, sleep } from "./drill.mjs";
import { load } from "./load.mjs";

const RELOADS = 200;
const ROUTE = "scripts/routes/a.lua";
const code = (n) => `
  local list = {}
  for i = 1, 200 do list[i] = function(x) return x .. i end end
  return function(router)
    router:get("/", function() return "n ${n}" .. #list[7]("x") end)
  end`;

const app = await host({ [ROUTE]: code(0) }, { workers: 2 });
const work = load(app.port, { connections: 16, expect: (body) => body.startsWith("n ") });
const fds = (pid) => readdirSync(`/proc/${pid}/fd`).length;
const workers = app.workers();
const all = [app.pid, ...workers];
const measure = () => all.map(pss);
let failed = 0;
let first;
let open_before;
const durations = [];
for (let i = 1; i <= RELOADS; i += 1) {
  app.write({ [ROUTE]: code(i) });
  const begun = performance.now();
  failed += (await app.command("reload")).code === 0 ? 0 : 1;
  durations.push(performance.now() - begun);
  if (i === 30) {
    await sleep(300);
    first = measure();
    open_before = all.map(fds);
  }
}
await sleep(300);
const last = measure();
const open_after = all.map(fds);
const counts = await work.stop();
const same = JSON.stringify(app.workers()) === JSON.stringify(workers);
const how = await app.end();
const grown = last.map((kb, i) => kb - first[i]);
durations.sort((a, b) => a - b);
report(`${RELOADS} reloads under load: 2 workers, 16 connections`, {
  "requests answered": counts.answered,
  "lost / wrong / refused": `${counts.lost} / ${counts.wrong} / ${counts.refused}`,
  "reloads that failed": failed,
  "perigee reload, median (ms)": durations[durations.length >> 1].toFixed(0),
  "PSS after 30 (master, workers; KB)": first.join(" "),
  "PSS after 200 (KB)": last.join(" "),
  "grown (KB)": grown.join(" "),
  "descriptors after 30, after 200": `${open_before.join(" ")}, ${open_after.join(" ")}`,
}, {
  "every reload committed": failed === 0,
  "no request failed": counts.lost + counts.wrong + counts.refused === 0,
  "the same workers throughout": same,
  "no process grew by more than 1 MB": grown.every((kb) => kb < 1024),
  "no descriptor leaked": open_after.every((n, i) => n <= open_before[i] + 4),
  "graceful end": how.code === 0,
});
