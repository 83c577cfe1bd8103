// perigee.events: every worker hears what one of them says.
import assert from "node:assert/strict";
import test from "node:test";
import { sleep, start, until } from "./helpers.mjs";

const ROUTE = `
local events = require "perigee.events"
local host = require "perigee.host"
local heard = {}
events.on("said", function(data) heard[#heard + 1] = data.n end)
router:get("/say/:n", function(req)
  local ok, err = events.publish("said", { n = tonumber(req.params.n) })
  if not ok then return nil, err end
  return 204
end)
router:get("/heard", function() return { worker = host.worker, heard = heard } end)
router:get("/big", function()
  return nil, select(2, events.publish("said", ("x"):rep(40000)))
end)
router:get("/twice", function()
  local n = 0
  local function count() n = n + 1 end
  local off = events.on("twice", count)
  events.on("twice", count)
  off()
  off()
  events.publish("twice", 1)
  require("perigee.task").sleep(100)
  return { n = n }
end)
router:get("/function", function()
  return nil, select(2, events.publish("said", print))
end)
`;

test("events", async (t) => {
  const app = await start(t, { route: ROUTE, workers: 2 });

  await t.test("reach every worker once, in order", async () => {
    for (let n = 1; n <= 20; n++) {
      assert.equal((await app.get(`/say/${n}`)).status, 204);
    }
    const seen = new Map();
    await until(async () => {
      const { json } = await app.get("/heard");
      seen.set(json.worker, json.heard);
      return seen.size === 2 && [...seen.values()].every((list) => list.length >= 20);
    }, { what: "both workers' news" });
    for (const heard of seen.values()) {
      assert.deepEqual([...heard].sort((a, b) => a - b), Array.from({ length: 20 }, (_, i) => i + 1));
    }
  });

  await t.test("refuse what is too large, and what is no JSON", async () => {
    assert.equal((await app.get("/big")).status, 413);
    assert.equal((await app.get("/function")).status, 400);
  });

  await t.test("take back what was given, once", async () => {
    assert.equal((await app.get("/twice")).json.n, 1);
  });

  await t.test("an old generation stops hearing", async () => {
    assert.equal((await app.command("reload")).code, 0);
    await app.get("/say/99");
    await until(async () => {
      const { json } = await app.get("/heard");
      return json.heard.length === 1 && json.heard[0] === 99;
    }, { what: "the new generation's news" });
  });
});

test("a worker that starts while others publish serves all the same", async (t) => {
  const app = await start(t, {
    workers: 2,
    files: { "scripts/main.lua": 'require("perigee.task").sleep(200)\nreturn {}' },
    route: ROUTE,
  });
  let publishing = true;
  const publisher = (async () => {
    while (publishing) {
      await app.get("/say/1").catch(() => {}); // one on the killed worker's connection
      await sleep(5);
    }
  })();
  const [first] = app.workers();
  try {
    process.kill(first, "SIGKILL");
    await app.line((l) => l.msg === "worker ended" && l.workerPid === first);
    await until(async () => {
      const { workers } = JSON.parse((await app.command("status", "--json")).stdout);
      return workers.length === 2 && workers.every((w) => w.state === "serving");
    }, { what: "the successor" });
  } finally {
    publishing = false;
    await publisher;
  }
  assert.deepEqual(app.lines.filter((l) => l.msg === "worker ended").map((l) => l.workerPid), [first]);
});
