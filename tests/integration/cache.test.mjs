// Caches and dictionaries of real workers: one load for all, no stale answer
// after an invalidation, and what a killed loader leaves.
import assert from "node:assert/strict";
import { test } from "node:test";
import { start, until } from "./helpers.mjs";

const ROUTES = `
  local cache = require "perigee.cache"
  local errors = require "perigee.error"
  local host = require "perigee.host"
  local shared = require "perigee.shared"
  local task = require "perigee.task"
  local counts = shared.dict("counts", { size = "1mb" })
  local c = cache.new("things", { ttl = "1m", negative = "1m" })
  router:get("/load/:key", function(req)
    local key = req.params.key
    local value, err = c:get(key, function()
      counts:incr("loads:" .. key)
      counts:set("loader:" .. key, host.pid)
      task.sleep(tonumber(req.query.ms or 100))
      if req.query.fail then
        return nil, errors.new("unavailable", "down")
      end
      return { made_by = host.pid }
    end)
    if err then
      return nil, err
    end
    return { value = value, pid = host.pid }
  end)
  router:get("/count/:name", function(req)
    return { count = counts:get(req.params.name) or 0 }
  end)
  router:get("/get/:key", function(req)
    return { value = c:get(req.params.key), pid = host.pid }
  end)
  router:post("/set/:key/:value", function(req)
    c:set(req.params.key, req.params.value, { tags = { "t" } })
    return 204
  end)
  router:post("/delete/:key", function(req)
    c:delete(req.params.key)
    return 204
  end)
  router:post("/flush", function()
    c:flush { tag = "t" }
    return 204
  end)
`;

const begin = (t) => start(t, { route: ROUTES, workers: 2 });

const count = async (app, name) => (await app.get(`/count/${name}`)).json.count;

// Connections to each of the two workers, one a pid.
async function both(app, t) {
  const found = new Map();
  await until(async () => {
    const connection = await app.connect();
    connection.write("GET /get/none HTTP/1.1\r\nhost: a\r\n\r\n");
    const { pid } = (await connection.answer()).json;
    if (found.has(pid)) {
      connection.end();
    } else {
      found.set(pid, connection);
      t.after(() => connection.end());
    }
    return found.size === 2;
  });
  return [...found.values()];
}

async function ask(connection, method, target) {
  connection.write(`${method} ${target} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n`);
  return connection.answer();
}

test("1,000 concurrent misses of a key on two workers are one load", async (t) => {
  const app = await begin(t);
  const answers = await Promise.all(
    Array.from({ length: 1000 }, () => app.get("/load/a?ms=1500")),
  );
  const makers = new Set(answers.map((a) => a.json.value.made_by));
  const served = new Set(answers.map((a) => a.json.pid));
  assert.equal(makers.size, 1);
  assert.equal(served.size, 2);
  assert.equal(await count(app, "loads:a"), 1);
});

test("the waiters of both workers share a load's error", async (t) => {
  const app = await begin(t);
  const answers = await Promise.all(
    Array.from({ length: 100 }, () => app.get("/load/e?ms=500&fail=1")),
  );
  assert.ok(answers.every((a) => a.status === 503));
  assert.equal(await count(app, "loads:e"), 1);
});

test("after set, delete and flush no worker serves the old value", async (t) => {
  const app = await begin(t);
  const [a, b] = await both(app, t);
  const value = async (connection) => (await ask(connection, "GET", "/get/k")).json.value;
  for (let i = 0; i < 100; i += 1) {
    await ask(i % 2 ? a : b, "POST", `/set/k/${i}`);
    assert.equal(await value(a), String(i));
    assert.equal(await value(b), String(i));
    if (i % 3 === 0) {
      await ask(i % 2 ? b : a, "POST", i % 2 ? "/flush" : "/delete/k");
      assert.equal(await value(a), undefined);
      assert.equal(await value(b), undefined);
    }
  }
});

test("a loader that is killed does not block the others", async (t) => {
  const app = await begin(t);
  const lost = app.get("/load/d?ms=60000").catch(() => null);
  const loader = await until(() => count(app, "loader:d"));
  process.kill(loader, "SIGKILL");
  await lost;
  await until(() => app.workers().length === 2 && !app.workers().includes(loader), { what: "its successor" });
  await both(app, t);
  const begun = Date.now();
  const answer = await app.get("/load/d?ms=1");
  assert.equal(answer.status, 200);
  assert.ok(Date.now() - begun < 2000);
  assert.equal(await count(app, "loads:d"), 2);
});

test("a load that a reload cuts off is begun anew by who waits in the next generation", async (t) => {
  const app = await start(t, { route: ROUTES, settings: { "reload.drain": 300 } });
  const cut = app.get("/load/k?ms=60000");
  await until(async () => (await count(app, "loads:k")) === 1);
  assert.equal((await app.command("reload")).code, 0);
  const next = await app.get("/load/k?ms=1");
  assert.equal(next.status, 200, next.text);
  assert.equal((await cut).status, 503);
  assert.equal(await count(app, "loads:k"), 2);
});
