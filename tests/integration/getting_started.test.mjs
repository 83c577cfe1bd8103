// docs/getting-started.md, followed as it is written: its files are saved one by one below a running `perigee dev`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { ROOT, app_dir, perigee, start, until } from "./helpers.mjs";

const PAGE = readFileSync(path.join(ROOT, "docs/getting-started.md"), "utf8");

/** The page's blocks that begin with the name of a file, in its order. */
function files() {
  return [...PAGE.matchAll(/```(?:lua|sql)\n(.*?)```/gs)].map(([, text]) => text)
    .filter((text) => /^-- \w+\/.*\.\w+\n/.test(text))
    .map((text) => [text.match(/^-- (\S+)/)[1], text]);
}

test("getting started: what the page says happens", async (t) => {
  const parent = app_dir(t);
  assert.equal((await perigee(["new", "shop"], { cwd: parent })).code, 0);
  const dir = path.join(parent, "shop");
  const app = await start(t, { dir, command: "dev", env: "development", settings: { "log.format": "json" } });

  const names = files().map(([name]) => name);
  assert.deepEqual(names.filter((name) => /^scripts\/routes/.test(name)), ["scripts/routes/hello.lua", "scripts/routes/orders.lua"]);
  for (const [name, text] of files()) {
    app.write({ [name]: text });
  }
  await until(async () => (await app.get("/hello/moon")).text === '{"hello":"moon"}', { what: "hello" });
  await until(async () => (await app.get("/orders/1")).json?.detail === "no order 1", { what: "the orders" });

  const made = await app.post("/orders", { item: "tea" });
  assert.equal(made.status, 201);
  assert.deepEqual((await app.get(made.headers.location)).json, { id: made.json.id, item: "tea", count: 1 });
  const faulty = await app.post("/orders", { count: 0 });
  assert.equal(faulty.status, 400);
  assert.deepEqual(faulty.json.errors.map((e) => e.pointer).sort(), ["/count", "/item"]);
  assert.equal((await app.post("/orders", { item: "moon" })).status, 409);

  const hello = files().find(([name]) => name === "scripts/routes/hello.lua")[1];
  const from = app.lines.length;
  app.write({ "scripts/routes/hello.lua": hello.replace(/end\n$/, "") });
  const refused = await app.line("reload refused", { from });
  assert.match(refused.reason, /^scripts\/routes\/hello\.lua:\d+: /);
  const page = await app.get("/hello/moon", { headers: { accept: "text/html" } });
  assert.match(page.text, /scripts\/routes\/hello\.lua/);
  assert.equal((await app.get("/hello/moon")).text, '{"hello":"moon"}');
  app.write({ "scripts/routes/hello.lua": hello });
  await until(async () => (await app.get("/hello/moon", { headers: { accept: "text/html" } })).status === 200);

  const specs = await perigee(["test"], { cwd: dir });
  assert.equal(specs.code, 0, specs.stdout);
  assert.match(specs.stdout, /^4 successes /m);
  const check = await perigee(["check"], { cwd: dir });
  assert.equal(check.code, 0, check.stderr);
});
