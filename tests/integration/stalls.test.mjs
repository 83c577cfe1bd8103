// What keeps a worker's loop from turning is told, with its place.
import assert from "node:assert/strict";
import { test } from "node:test";

import { start, until } from "./helpers.mjs";

const STALLED = (l) => l.msg === "event loop stalled";

const ROUTE = `
  local task = require "perigee.task"
  local work = require "services.work"
  router:get("/burn/:ms", function(req) work.burn(tonumber(req.params.ms)) return "done" end)
  router:get("/compiled/:ms", function(req) return { sum = work.compiled(tonumber(req.params.ms)) } end)
  router:get("/blocked", function()
    os.execute("sleep 0.2")
    return "done"
  end)
  router:get("/wait", function() task.sleep(1200) return "done" end)
  router:get("/ok", function() return "ok" end)
`;

// Of the time that a stall is measured in: however little CPU there is.
const WORK = `local M, now = {}, require("perigee.time").monotonic

function M.burn(ms)
  local till = now() + ms
  while now() < till do end
end

function M.compiled(ms)
  local till, sum = now() + ms, 0
  repeat
    for i = 1, 1e6 do
      sum = sum + i % 3
    end
  until now() >= till
  return sum
end

return M
`;

function host(t, settings) {
  return start(t, { route: ROUTE, files: { "scripts/services/work.lua": WORK }, settings });
}

test("a handler that keeps the loop is told of once, with route, request and stack", async (t) => {
  const app = await host(t);
  assert.equal((await app.get("/burn/600", { headers: { "x-request-id": "the-slow-one" } })).text, "done");
  const line = await app.line(STALLED);
  assert.equal(line.level, 40);
  assert.ok(line.stall_ms >= 590, line.stall_ms);
  assert.equal(line.route, "/burn/:ms");
  assert.equal(line.reqId, "the-slow-one");
  assert.match(line.stack, /^services\/work\.lua:[56]: in burn\nroutes\/test\.lua:5: in \S+/);
  assert.equal((await app.get("/ok")).text, "ok");
  await app.line((l) => l.req?.url === "/ok");
  assert.equal(app.lines.filter((l) => STALLED(l) && l.reqId === "the-slow-one").length, 1);
});

test("compiled code and a C function that blocks are told of where they end", async (t) => {
  const app = await host(t, { "log.stall": "60ms" });
  await app.get("/compiled/600");
  const compiled = await app.line((l) => STALLED(l) && l.route === "/compiled/:ms");
  assert.match(compiled.stack, /^services\/work\.lua:\d+: in compiled\nroutes\/test\.lua:6/);
  const blocked = await until(async () => { // a line a second
    await app.get("/blocked");
    return app.lines.find((l) => STALLED(l) && l.route === "/blocked" && l.stack);
  });
  assert.ok(blocked.stall_ms >= 190, blocked.stall_ms);
  assert.match(blocked.stack, /^routes\/test\.lua:(8|9): in /);
});

test("stalls in a row are one line, and the next one says how many there were", async (t) => {
  const app = await host(t, { "log.requests": false });
  let asked = 0;
  const last = await until(async () => {
    await app.get("/burn/80");
    asked++;
    return app.lines.find((l) => STALLED(l) && l.suppressed);
  });
  const lines = app.lines.filter(STALLED);
  const told = lines.reduce((n, l) => n + 1 + (l.suppressed ?? 0), 0);
  assert.ok(last.suppressed >= 1 && told <= asked, JSON.stringify(lines));
  assert.ok(told >= asked - 1, `${told} of ${asked}`); // its line may be on its way
});

test("what waits stalls nothing, and 0 watches nothing", async (t) => {
  const app = await host(t, { "log.stall": "1s" });
  assert.equal((await app.get("/wait")).text, "done");
  await app.line((l) => l.req?.url === "/wait");
  assert.deepEqual(app.lines.filter(STALLED), []);
  const off = await host(t, { "log.stall": 0 });
  await off.get("/burn/120");
  await off.line((l) => l.req?.url === "/burn/120");
  assert.deepEqual(off.lines.filter(STALLED), []);
});

test("the budget and the profiler go on beside it", async (t) => {
  const app = await host(t, { "limits.cpu_per_request": "200ms" });
  let done = false;
  const profile = app.command("profile", "--cpu", "2s", "--format", "collapsed").finally(() => { done = true; });
  for (let i = 0; i < 12 || !done; i++) {
    const over = i % 4 === 3;
    assert.equal((await app.get(over ? "/compiled/60000" : "/burn/100")).status, over ? 504 : 200);
  }
  assert.match((await profile).stdout, /services\/work\.lua:burn:3/);
  const line = await app.line((l) => STALLED(l) && l.stack);
  assert.match(line.stack, /services\/work\.lua/);
});
