// SQLite in a running host: migrations at start and at reload, workers that
// write at once, a worker that dies in a transaction.
import assert from "node:assert/strict";
import { test } from "node:test";
import { app_dir, in_time, launch, perigee, start, until } from "./helpers.mjs";

const FIRST = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, worker INTEGER);\n";

const ROUTES = `
  local sqlite = require "perigee.sqlite"
  local task = require "perigee.task"
  router:post("/items/:name", function(req)
    local result, err = sqlite.get():exec(
      "INSERT INTO item(name, worker) VALUES (?, ?)", req.params.name, require("perigee.host").pid)
    if not result then return nil, err end
    return 201, { id = result.last_id }
  end)
  router:get("/items", function() return sqlite.get():query "SELECT name FROM item ORDER BY id" end)
  router:post("/hold", function(req)
    return sqlite.get():transaction(function(tx)
      tx:exec "INSERT INTO item(name) VALUES ('half done')"
      require("perigee.log").info "half done"
      task.sleep "30s"
      return {}
    end)
  end, { timeout = "60s" })
  router:get("/slow", function()
    return sqlite.get():query [[WITH RECURSIVE c(x) AS
      (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c]]
  end, { timeout = "100ms" })
`;

const files = (more = {}) => ({ "scripts/data/migrations/001_item.sql": FIRST, ...more });
const names = async (app) => (await app.get("/items")).json.map((row) => row.name);

test("several workers start on one new database", async (t) => {
  const app = await start(t, { route: ROUTES, files: files({
    "scripts/data/migrations/002_first.sql": "-- one row\nINSERT INTO item(name) VALUES ('first');\n",
  }), workers: 4 });
  assert.deepEqual(await names(app), ["first"]);
  const applied = () => app.lines.filter((l) => l.msg === "migration applied");
  await until(() => applied().length === 2, { what: "the lines of both migrations" });
  assert.deepEqual(applied().map((l) => l.path).sort(),
    ["scripts/data/migrations/001_item.sql", "scripts/data/migrations/002_first.sql"]);
});

test("a failing migration keeps the host from starting", async (t) => {
  const app = launch(t, { route: ROUTES, files: files({
    "scripts/data/migrations/002_bad.sql": "CREATE TABLE b (a);\n\nINSERT INTO nowhere VALUES (1);\n",
  }) });
  const { code } = await app.ended;
  assert.notEqual(code, 0);
  assert.match(app.printed(), /scripts\/data\/migrations\/002_bad\.sql:3: no such table: nowhere/);
});

test("at a reload migrations are applied, or the reload is refused", async (t) => {
  const app = await start(t, { route: ROUTES, files: files(), workers: 2 });
  assert.equal((await app.post("/items/a")).status, 201);
  app.write({ "scripts/data/migrations/002_more.sql": "INSERT INTO item(name) VALUES ('b');" });
  app.signal("SIGHUP");
  await until(async () => (await names(app)).length === 2);
  app.write({ "scripts/data/migrations/001_item.sql": `${FIRST}-- touched\n` });
  const from = app.lines.length;
  app.signal("SIGHUP");
  const line = await app.line((l) => JSON.stringify(l).includes("changed after it was applied"), { from });
  assert.match(JSON.stringify(line), /001_item\.sql/);
  assert.deepEqual(await names(app), ["a", "b"]);
});

test("workers write at once, and none is lost", async (t) => {
  const app = await start(t, { route: ROUTES, files: files(), workers: 4 });
  const wanted = Array.from({ length: 300 }, (_, i) => `n${i}`);
  const answers = await Promise.all(wanted.map((name) => app.post(`/items/${name}`)));
  assert.deepEqual([...new Set(answers.map((a) => a.status))], [201]);
  assert.deepEqual((await names(app)).sort(), wanted.sort());
  assert.equal((await app.post("/items/n1")).status, 409);
});

test("kill -9 in a transaction leaves nothing of it", async (t) => {
  const app = await start(t, { route: ROUTES, files: files() });
  await app.post("/items/a");
  app.post("/hold").catch(() => {});
  await app.line("half done");
  const [worker] = app.workers();
  process.kill(worker, "SIGKILL");
  await until(() => app.workers().some((pid) => pid !== worker));
  await until(async () => (await app.post("/items/b").catch(() => ({}))).status === 201);
  assert.deepEqual(await names(app), ["a", "b"]);
});

test("a query that takes too long is ended with its request", async (t) => {
  const app = await start(t, { route: ROUTES, files: files() });
  for (let i = 0; i < 6; i++) {
    assert.equal((await in_time(3000, () => app.get("/slow"))).status, 504);
  }
  assert.deepEqual(await names(app), []);
  assert.equal((await app.stop()).code, 0);
});

test("a client that goes away rolls its transaction back", async (t) => {
  const app = await start(t, { route: ROUTES, files: files() });
  const connection = await app.connect();
  connection.write("POST /hold HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
  await app.line("half done");
  connection.socket.destroy();
  assert.equal((await app.post("/items/after")).status, 201); // it waits 10 s, the other would hold on for 30
  assert.deepEqual(await names(app), ["after"]);
});

test("the folder of migrations may be another", async (t) => {
  const dir = app_dir(t, { route: ROUTES, files: {
    "config/default.lua": 'return { sqlite = { main = { path = "var/x.sqlite", migrations = "db/changes" } } }',
    "db/changes/001_item.sql": FIRST,
  } });
  const app = await start(t, { dir });
  assert.deepEqual(await names(app), []);
});

test("check and config know the database", async (t) => {
  const dir = app_dir(t, { route: ROUTES, files: files({
    "config/default.lua": 'return { sqlite = { main = { path = "var/x.sqlite", synchronous = "sometimes" } } }',
  }) });
  const result = await perigee(["config"], { cwd: dir });
  assert.equal(result.code, 78);
  assert.match(result.stderr + result.stdout, /sqlite\.main\.synchronous/);
});
