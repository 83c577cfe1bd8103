// task.offload in a worker: others are served meanwhile, budgets and deadlines
// hold, a reload takes the new code.
import assert from "node:assert/strict";
import { test } from "node:test";

import { start, until } from "./helpers.mjs";

const ROUTE = `
  local task = require "perigee.task"
  local work = require "services.work"
  router:get("/quick", function() return "quick" end)
  router:get("/name", function() return (task.offload(work.name)) end)
  router:get("/runaway", function()
    return task.offload(function()
      local x = 0
      while true do
        x = x + 1
        if x > 1e9 then
          x = 0
        end
      end
    end)
  end, { timeout = "200ms" })
  router:get("/busy", function() while true do end end)
  router:get("/sum", function()
    return { sum = task.offload(function(n)
      local sum = 0
      for i = 1, n do
        sum = sum + i
      end
      return sum
    end, 1000000) }
  end)
`;

function service(name) {
  return `local M = {}\nfunction M.name() return "${name}" end\nreturn M\n`;
}

async function host(t) {
  return start(t, {
    route: ROUTE,
    files: {
      "scripts/services/work.lua": service("first"),
      "config/default.lua": `return { cluster = { workers = 1 }, limits = { cpu_per_request = "100ms", offload_threads = 2 } }`,
    },
  });
}

test("runaways are stopped, others are served meanwhile", async (t) => {
  const app = await host(t);
  for (let round = 0; round < 3; round++) {
    const runaways = [1, 2, 3].map(() => app.get("/runaway"));
    assert.equal((await app.get("/quick")).text, "quick");
    for (const answer of await Promise.all(runaways)) {
      assert.equal(answer.status, 504);
    }
    assert.deepEqual((await app.get("/sum")).json, { sum: 500000500000 });
    // The budget has its profiler back.
    assert.equal((await app.get("/busy")).status, 504);
  }
});

test("a reload brings its own threads", async (t) => {
  const app = await host(t);
  assert.equal((await app.get("/name")).text, "first");
  app.write({ "scripts/services/work.lua": service("second") });
  assert.equal((await app.command("reload")).code, 0);
  await until(async () => (await app.get("/name")).text === "second", { what: "the new code" });
});
