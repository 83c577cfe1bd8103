// Configuration from outside: where values come from, and all that may be wrong with them.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { test } from "node:test";
import { app_dir, launch, perigee, start } from "./helpers.mjs";

async function config(dir, { args = [], env } = {}) {
  const { code, stdout, stderr } = await perigee(["config", dir, "--json", ...args], { env });
  assert.equal(code, 0, stderr);
  return Object.fromEntries(JSON.parse(stdout).map(({ key, value, source }) => [key, { value, source }]));
}

const ROUTE = 'router:get("/", function() return require("perigee.config").app end)';

test("config lists every value with its source", async (t) => {
  const dir = app_dir(t, {
    route: ROUTE,
    files: {
      "config/default.lua": 'return {\n  http = {\n    body_max = "2mb",\n  },\n  app = { a = env("A", 1), b = env("B") },\n}',
      "config/staging.lua": 'return {\n  app = { a = 2, lines = "two\\nlines" } }',
      ".env": "B=from file\nHOST=0.0.0.0\n",
    },
  });
  const values = await config(dir, { args: ["-e", "staging"], env: { PERIGEE_LOG__LEVEL: "warn" } });
  assert.deepEqual(values["http.body_max"], { value: 2097152, source: "config/default.lua:3" });
  assert.deepEqual(values["app.a"], { value: 2, source: "config/staging.lua:2" });
  assert.deepEqual(values["app.b"], { value: "from file", source: "config/default.lua:5" });
  assert.deepEqual(values["http.host"], { value: "0.0.0.0", source: ".env:2: HOST" });
  assert.deepEqual(values["log.level"], { value: "warn", source: "environment PERIGEE_LOG__LEVEL" });
  assert.deepEqual(values["http.port"], { value: 3000, source: "built-in default" });
  const text = await perigee(["config", dir, "-e", "staging"]);
  assert.equal(text.code, 0);
  assert.match(text.stdout, /^http\.port +3000 +built-in default$/m);
  assert.match(text.stdout, /^app\.lines +"two\\nlines" +config\/staging\.lua:2$/m);
});

test("secrets are masked, wherever they come from", async (t) => {
  const dir = app_dir(t, {
    route: ROUTE,
    files: {
      "config/default.lua": "return { app = { api_key = 'hunter1', db = env 'DB' } }",
      "secret": "hunter2\n",
    },
  });
  const env = { DB_FILE: "secret", REDIS_URL: "redis://user:hunter3@h:1/0" };
  for (const args of [[], ["--json"]]) {
    const { code, stdout, stderr } = await perigee(["config", dir, ...args], { env });
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stdout, /hunter/);
    assert.match(stdout, /redis:\/\/user:\*+@h:1\/0/);
  }
});

test("the application sees its settings, the defaults of its schema too", async (t) => {
  const app = await start(t, {
    route: ROUTE,
    files: {
      "config/default.lua": "return { app = { name = 'x' } }",
      "config/schema.lua": `return { type = "object", properties = {
        name = { type = "string" }, size = { type = "integer", default = 7 }, on = { type = "boolean" } } }`,
    },
    vars: { PERIGEE_APP__ON: "true" },
  });
  assert.deepEqual((await app.get("/")).json, { name: "x", size: 7, on: true });
});

test("all faults are listed, with exit 78 and no port opened", async (t) => {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.on("listening", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  const dir = app_dir(t, {
    route: ROUTE,
    files: {
      "config/default.lua": "return {\n  htp = {},\n  http = {\n    prot = 1,\n    body_max = 'much',\n  },\n  app = { n = 'x' },\n}",
      "config/schema.lua": `return { type = "object", required = { "key" },
        properties = { n = { type = "integer" }, key = { type = "string" } } }`,
      "scripts/broken.lua": "local x =\n",
      ".env": "nonsense\nPERIGEE_LOG__FORMAT=xml",
    },
  });
  const expected = [
    /^\.env:1: neither NAME=value nor a comment$/m,
    /^config\/default\.lua:2: htp: unknown key; did you mean "http"\?$/m,
    /^config\/default\.lua:4: http\.prot: unknown key; did you mean "http\.port"\?$/m,
    /^config\/default\.lua:5: http\.body_max: must be a size .*, not "much"$/m,
    /^config\/default\.lua:7: app\.n: .*integer/m,
    /app\.key: .*(required|missing)/m,
    /^\.env:2: PERIGEE_LOG__FORMAT: log\.format: must be one of "json", "pretty", not "xml"/m,
    /^environment WEB_CONCURRENCY: cluster\.workers: must be/m,
    /^flag --set log\.level: log\.level: must be/m,
    /^scripts\/broken\.lua:[12]: /m,
  ];
  for (const command of ["run", "check", "config"]) {
    const { code, stdout, stderr } = await perigee(
      [command, dir, "-e", "staging", "-p", String(port), "--set", "log.level=loud"],
      { env: { WEB_CONCURRENCY: "many" } },
    );
    assert.equal(code, 78, command);
    assert.equal(stdout, "");
    for (const fault of expected) {
      assert.match(stderr, fault);
    }
    assert.match(stderr, new RegExp(`^perigee: ${expected.length} faults$`, "m"));
  }
  const taken = net.connect({ port, host: "127.0.0.1" });
  await assert.rejects(new Promise((resolve, reject) => taken.on("connect", resolve).on("error", reject)));
});

test("a request's head and body are never waited for without end", async (t) => {
  const file = (ms) => `return {\n  http = {\n    header_timeout = ${ms},\n    body_timeout = ${ms},\n  },\n}`;
  const dir = app_dir(t, { route: ROUTE, files: { "config/default.lua": file(0) } });
  for (const command of ["run", "check"]) {
    const { code, stdout, stderr } = await perigee([command, dir]);
    assert.equal(code, 78, command);
    assert.equal(stdout, "");
    assert.match(stderr, /^config\/default\.lua:3: http\.header_timeout: must be a duration .* of at least 1 ms, not 0$/m);
    assert.match(stderr, /^config\/default\.lua:4: http\.body_timeout: must be a duration .* of at least 1 ms, not 0$/m);
  }
  writeFileSync(path.join(dir, "config/default.lua"), file(1));
  assert.equal((await perigee(["check", dir])).code, 0);
  const { stderr } = await perigee(["check", dir, "--set", "http.url_max=2gb"]);
  assert.match(stderr, /must be a size \(.*\) from 256 to 1048576 bytes, not "2gb"$/m);
});

test("a configuration file that never ends is refused, with its place", async (t) => {
  const loops = {
    "config/default.lua": "local n = 0\nwhile true do\n  n = n + 1\nend",
    "config/production.lua": "local f = function()\n  while true do end\nend\nwhile true do pcall(f) end",
    "config/schema.lua": "local c = coroutine.wrap(function()\n  while true do env('X') end\nend)\nc()\nreturn {}",
  };
  const over = "runs for over 50 million instructions: does it end\\?";
  const places = { "config/default.lua": "[23]", "config/production.lua": "[124]", "config/schema.lua": "2" };
  for (const [file, text] of Object.entries(loops)) {
    const dir = app_dir(t, { route: ROUTE, files: { [file]: text } });
    const { code, stderr } = await perigee(["check", dir]);
    assert.equal(code, 78, file);
    assert.match(stderr, new RegExp(`^${file.replace(".", "\\.")}:${places[file]}: ${over}$`, "m"));
    assert.match(stderr, /^perigee: 1 fault$/m);
  }
  const dir = app_dir(t, { route: ROUTE, files: { ...loops, "scripts/broken.lua": "local x =\n" } });
  const { code, stderr } = await perigee(["run", dir]);
  assert.equal(code, 78);
  assert.equal(stderr.match(new RegExp(over, "g")).length, 3);
  assert.match(stderr, /^scripts\/broken\.lua:[12]: /m);
});

test("check --json has file and line of each fault", async (t) => {
  const dir = app_dir(t, {
    files: {
      "config/default.lua": "return {\n  htp = 1,\n}",
      "scripts/routes/a.lua": "return function(",
    },
  });
  const { code, stdout, stderr } = await perigee(["check", dir, "--json"], { env: { PORT: "x" } });
  assert.equal(code, 78);
  assert.equal(stderr, "");
  const { ok, faults } = JSON.parse(stdout);
  assert.equal(ok, false);
  assert.deepEqual(faults.map(({ file, line }) => [file, line]),
    [["config/default.lua", 2], [undefined, undefined], ["scripts/routes/a.lua", 1]]);
  assert.match(faults[1].message, /^environment PORT: http\.port: must be an integer/);
});

test("check builds routes and schemas, and goes past a fault to the next", async (t) => {
  const dir = app_dir(t, {
    files: {
      "scripts/main.lua": "return { befor = {} }",
      "scripts/routes/a.lua": "return 5",
      "scripts/routes/b.lua": 'return function(router)\n  router:get("/b", nil)\nend',
      "scripts/routes/c.lua": 'local gone = require "gone"\nreturn function() end',
      "scripts/routes/d.lua": 'return function(router)\n  router:post("/d", function() end, { body = { tipe = "object" } })\nend',
      "scripts/routes/e.lua": 'return function(router)\n  router:get("/e", function() end, { timout = 1 })\nend',
      "scripts/routes/f.lua": 'return function(router)\n  router:get("/f", print)\n  router:get("/f", print)\nend',
      "scripts/routes/g.lua": 'error "at load"',
      "scripts/routes/h.lua": "return function(",
      "scripts/services/i.lua": "local x =\n",
    },
  });
  const { code, stdout } = await perigee(["check", dir, "--json"]);
  assert.equal(code, 78);
  const { faults } = JSON.parse(stdout);
  const places = faults.map((f) => `${f.file}:${f.line}`);
  for (const place of [
    "scripts/routes/a.lua:1", "scripts/routes/b.lua:2", "scripts/routes/c.lua:1", "scripts/routes/d.lua:2",
    "scripts/routes/e.lua:2", "scripts/routes/f.lua:3", "scripts/routes/g.lua:1", "scripts/routes/h.lua:1",
  ]) {
    assert.ok(places.includes(place), `${place} is not in ${places}`);
  }
  assert.equal(places.filter((place) => place.startsWith("scripts/routes/h.lua")).length, 1, "told once");
  assert.ok(places.some((place) => place.startsWith("scripts/services/i.lua:")));
  assert.ok(faults.some((f) => /scripts\/main\.lua/.test(f.file ?? f.message)));
});

test("an option of a route that has the wrong type is told with its place", async (t) => {
  const cases = {
    'router:get("/", h, { before = h })': "before is a function, not a table",
    'router:get("/", h, { tags = "orders" })': "tags is a string, not a table",
    'router:group("/g", { before = h }, h)': "before is a function, not a table",
    'router:group("/g", 5, h)': "the options of /g are a number, not a table",
    "router:group(5, h)": "the prefix is a number, not a string",
  };
  const files = Object.fromEntries(Object.keys(cases).map((line, i) =>
    [`scripts/routes/${i}.lua`, `local function h() end\nreturn function(router)\n${line}\nend\n`]));
  const { code, stdout } = await perigee(["check", app_dir(t, { files }), "--json"]);
  assert.equal(code, 78);
  const told = JSON.parse(stdout).faults.map(({ file, line, message }) => `${file}:${line}: ${message}`);
  assert.deepEqual(told, Object.values(cases).map((message, i) => `scripts/routes/${i}.lua:3: ${message}`));
});

test("check runs no script that nothing requires", async (t) => {
  const dir = app_dir(t, {
    route: ROUTE,
    files: { "scripts/services/lonely.lua": 'error "it ran"', "scripts/main.lua": 'return { on_start = function() error "it started" end }' },
  });
  const { code, stdout, stderr } = await perigee(["check", dir]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^no faults: 1 routes, 3 scripts$/m);
});

test("the environment is production unless told, and dev brings its own", async (t) => {
  const dir = app_dir(t, { route: ROUTE });
  const level = async (options) => (await config(dir, options))["log.level"].source;
  assert.equal(await level(), "built-in default");
  assert.equal(await level({ env: { NODE_ENV: "development" } }), "built-in default for development");
  assert.equal(await level({ env: { APP_ENV: "test", NODE_ENV: "development" } }), "built-in default for test");
  assert.equal(await level({ env: { PERIGEE_ENV: "production", APP_ENV: "test" } }), "built-in default");
  const wrong = await perigee(["config", dir], { env: { PERIGEE_ENV: "prod" } });
  assert.equal(wrong.code, 78);
  assert.match(wrong.stderr, /^environment PERIGEE_ENV: must be one of .* did you mean "production"\?$/m);
});

test("a reload takes a new configuration over, and refuses a wrong one", async (t) => {
  const app = await start(t, { route: ROUTE, files: { "config/default.lua": "return { app = { v = 1 } }" } });
  assert.deepEqual((await app.get("/")).json, { v: 1 });
  writeFileSync(path.join(app.dir, "config/default.lua"), "return { app = { v = 2 } }");
  assert.equal((await app.command("reload")).code, 0);
  assert.deepEqual((await app.get("/")).json, { v: 2 });
  writeFileSync(path.join(app.dir, "config/default.lua"), "return {\n  ap = { v = 3 } }");
  const refused = await app.command("reload");
  assert.equal(refused.code, 3);
  assert.match(refused.stderr, /config\/default\.lua:2: ap: unknown key/);
  assert.deepEqual((await app.get("/")).json, { v: 2 });
});

test("flags hold across a reload", async (t) => {
  const app = await start(t, {
    route: 'router:get("/", function() return { max = require("perigee.config").http.body_max } end)',
    settings: { "http.body_max": "3kb" },
  });
  assert.equal((await app.command("reload")).code, 0);
  assert.deepEqual((await app.get("/")).json, { max: 3072 });
});

test("a port in use is exit 71", async (t) => {
  const taken = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.on("listening", resolve));
  t.after(() => taken.close());
  const app = launch(t, { route: ROUTE, args: ["--set", `http.port=${taken.address().port}`] });
  assert.equal((await app.ended).code, 71);
});
