#!/usr/bin/env node
// Broken saves under load, of every kind: no request fails, none is answered by
// broken code, and a mended save is served.
import { host, report, sleep } from "./drill.mjs";
import { load } from "./load.mjs";

const ROUTE = "scripts/routes/a.lua";
const good = (n) => `return function(router) router:get("/", function() return "good ${n}" end) end`;
const broken = [
  ["syntax error", { [ROUTE]: "return function(router" }],
  ["error while loading", { [ROUTE]: `error("while loading")` }],
  ["missing module", { [ROUTE]: `require "services.nowhere" return function() end` }],
  ["half-written file", { [ROUTE]: good(0).slice(0, 40) }],
  ["empty file", { [ROUTE]: "" }],
  ["endless loop in a module", { "scripts/main.lua": `return { selfcheck = function() require("perigee.task").sleep(60000) end }` }],
  ["worker dies", { "scripts/main.lua": `return { selfcheck = function()
    local ffi = require "ffi"
    ffi.cdef "int raise(int);"
    ffi.C.raise(9)
  end }` }],
  ["bad configuration", { "config/default.lua": "return { htpp = {} }" }],
];
const mended = { "scripts/main.lua": "return {}", "config/default.lua": "return {}" };

const app = await host({ [ROUTE]: good(0) }, { workers: 2, settings: { "reload.selfcheck_timeout": "500ms" } });
const work = load(app.port, { connections: 16, expect: (body) => body.startsWith("good ") });
const codes = [];
for (let i = 0; i < broken.length; i += 1) {
  const [what, files] = broken[i];
  app.write(files);
  codes.push([what, (await app.command("reload")).code]);
  await sleep(100);
  app.write({ ...mended, [ROUTE]: good(i + 1) });
  codes.push(["mended", (await app.command("reload")).code]);
}
await sleep(200);
const counts = await work.stop();
const last = (await app.get("/")).text;
const how = await app.end();
// A worker that ends itself while it votes takes what it had begun with it.
const excused = 16;
report("broken saves under load: 2 workers, 16 connections", {
  "requests answered": counts.answered,
  "requests lost": counts.lost,
  "wrong answers": counts.wrong + (work.samples.length > 0 ? ` ${work.samples[0]}` : ""),
  "refused with exit 3": codes.filter(([what, code]) => what !== "mended" && code === 3).length,
  "mended with exit 0": codes.filter(([what, code]) => what === "mended" && code === 0).length,
}, {
  "every broken save is refused": codes.every(([what, code]) => what === "mended" || code === 3),
  "every mended save is served": codes.every(([what, code]) => what !== "mended" || code === 0),
  "no wrong answer": counts.wrong === 0,
  "lost: only by the worker that ended itself": counts.lost <= excused,
  "the last code serves": last === `good ${broken.length}`,
  "graceful end": how.code === 0,
});
