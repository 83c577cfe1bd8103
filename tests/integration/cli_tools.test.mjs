// Commands that look at an application without serving it: routes, exec, repl; and pretty, new.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { app_dir, launch, perigee, start, until } from "./helpers.mjs";

const SERVICE = `local M = {}
function M.twice(n)
  return n * 2
end
function M.fail()
  error("broken")
end
return M
`;

function app(t, files = {}) {
  return app_dir(t, {
    files: {
      "scripts/services/math.lua": SERVICE,
      "scripts/routes/a.lua": `local function show() return "x" end
return function(router)
  router:get("/a/:id", show)
  router:group("/g", {}, function(g)
    g:post("/b", function() end)
  end)
end`,
      ...files,
    },
  });
}

test("routes lists method, path and handler", async (t) => {
  const dir = app(t);
  const { code, stdout } = await perigee(["routes", dir, "--json"]);
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(stdout).map(({ method, path: p, handler }) => ({ method, path: p, handler })), [
    { method: "GET", path: "/a/:id", handler: "scripts/routes/a.lua:1" },
    { method: "POST", path: "/g/b", handler: "scripts/routes/a.lua:5" },
  ]);
  const text = await perigee(["routes", dir]);
  assert.equal(text.stdout, "GET     /a/:id  scripts/routes/a.lua:1\nPOST    /g/b    scripts/routes/a.lua:5\n");
});

test("files of routes and jobs may have dots in their names, and their folders", async (t) => {
  const dir = app(t, {
    "scripts/routes/v1.2.lua": 'return function(router) router:get("/v1.2", function() return "x" end) end',
    "scripts/routes/v2.lua/b.lua": 'return function(router) router:get("/v2", function() return "y" end) end',
    "scripts/jobs/mail.daily.lua": 'return { every = "1d", run = function() end }',
  });
  const { stdout } = await perigee(["routes", dir]);
  assert.match(stdout, /^GET +\/v1\.2 +scripts\/routes\/v1\.2\.lua:1\nGET +\/v2 +scripts\/routes\/v2\.lua\/b\.lua:1\n/m);
  const jobs = await perigee(["exec", 'return require("perigee.jobs").list()[1].every', dir]);
  assert.equal(jobs.stdout, "86400000\n");
  writeFileSync(path.join(dir, "scripts/routes/v1.2.lua"), "return {");
  const broken = await perigee(["check", dir]);
  assert.equal(broken.code, 78);
  assert.match(broken.stderr, /^scripts\/routes\/v1\.2\.lua:1: .*near/m);
});

test("routes of a broken application is exit 78", async (t) => {
  const dir = app(t, { "scripts/routes/b.lua": "return 1" });
  const { code, stdout, stderr } = await perigee(["routes", dir, "--json"]);
  assert.equal(code, 78);
  assert.equal(stdout, "");
  assert.match(stderr, /scripts\/routes\/b\.lua:1: /);
});

test("a script that loads for ever is refused by each command that loads it, with its place", async (t) => {
  const endless = {
    "scripts/main.lua": "local n = 0\nwhile true do\n  n = n + 1\nend\n",
    "scripts/routes/c.lua": "return function(router)\n  while true do\n    pcall(function() while true do end end)\n  end\nend\n",
    "scripts/jobs/d.lua": "local co = coroutine.wrap(function()\n  while true do end\nend)\nco()\nreturn {}\n",
  };
  const commands = { "scripts/main.lua": ["check"], "scripts/routes/c.lua": ["routes"], "scripts/jobs/d.lua": ["exec", "1"] };
  await Promise.all(Object.entries(endless).map(async ([file, text]) => {
    const dir = app(t, { [file]: text });
    const { code, stdout, stderr } = await perigee(commands[file], { cwd: dir, timeout_ms: 60_000 });
    assert.equal(code, 78, file);
    assert.equal(stdout, "");
    assert.match(stderr, new RegExp(`^${file.replace(".", "\\.")}:[1-4]: loading takes over 2000 ms of CPU time$`, "m"));
  }));
  const dir = app(t, { "scripts/main.lua": "return { befor = {} }", "scripts/routes/c.lua": endless["scripts/routes/c.lua"] });
  const { faults } = JSON.parse((await perigee(["check", dir, "--json"], { timeout_ms: 60_000 })).stdout);
  assert.equal(faults.length, 2); // what was found before it is told too
  assert.deepEqual(faults[0], { file: "scripts/main.lua", line: 1, message: 'unknown field "befor"' });
  assert.equal(faults[1].file, "scripts/routes/c.lua");
});

test("a fault of a whole file names it", async (t) => {
  const dir = app(t, { "config/schema.lua": "return 5" });
  const check = async () => JSON.parse((await perigee(["check", dir, "--json"])).stdout).faults;
  assert.deepEqual(await check(), [{ file: "config/schema.lua", message: "must return a table, not 5" }]);
  writeFileSync(path.join(dir, "config/schema.lua"), "return {}");
  writeFileSync(path.join(dir, "scripts/main.lua"), "");
  assert.deepEqual(await check(), [{ file: "scripts/main.lua", line: 1, message: "returns nothing, not a table" }]);
});

test("os.exit in a configuration file, or in a script that is loaded, is a fault with its place", async (t) => {
  const route = "return function(router)\n  os.exit(0)\nend\n";
  for (const [name, text] of [["config/default.lua", "\nos.exit(0)"], ["scripts/routes/c.lua", route]]) {
    const dir = app(t, { [name]: text });
    for (const command of [["check"], ["routes"], ["exec", "1"]]) {
      const { code, stderr } = await perigee([...command, dir]);
      assert.equal(code, 78, `${name}, ${command[0]}`);
      assert.match(stderr, new RegExp(`^${name.replaceAll(".", "\\.")}:2: os\\.exit would end`, "m"));
    }
  }
  const { code, stderr } = await perigee(["exec", "os.exit(7)", app(t)]);
  assert.equal(code, 7, stderr); // what is evaluated may
});

test("a script that waits for ever while it loads is refused by each command that loads it", async (t) => {
  const dir = app(t, {
    "scripts/main.lua": "return { befor = {} }",
    "scripts/routes/c.lua": `local task = require "perigee.task"\nwhile true do pcall(task.sleep, 1e9) end`,
  });
  const limit = ["--set", "reload.selfcheck_timeout=300ms"];
  for (const command of [["routes"], ["exec", "1"], ["check"]]) {
    const { code, stdout, stderr } = await perigee([...command, ...limit], { cwd: dir });
    assert.equal(code, 78, command[0]);
    assert.equal(stdout, "");
    assert.match(stderr, command[0] === "check" ? /^the scripts were not ready within reload\.selfcheck_timeout$/m : /unknown field "befor"/);
  }
  const { faults } = JSON.parse((await perigee(["check", "--json", ...limit], { cwd: dir })).stdout);
  assert.match(faults[0].message, /unknown field "befor"/); // what was found before it is told too
  assert.match(faults.at(-1).message, /not ready within/);

  // Somebody else's time-out is a fault like any other.
  const { stderr } = await perigee(["check", ...limit],
    { cwd: app(t, { "scripts/routes/d.lua": `error(require("perigee.error").new("timeout", "theirs"), 0)` }) });
  assert.match(stderr, /^theirs$/m);
});

test("what exec is given to evaluate may compute for longer than loading may", async (t) => {
  const code = "local since = os.clock() while os.clock() - since < 2.5 do end return 'done'";
  const { stdout } = await perigee(["exec", code], { cwd: app(t) });
  assert.equal(stdout, "done\n");
});

test("exec prints the values, separated by tabs", async (t) => {
  const dir = app(t);
  const cases = [
    ['return 1, "a b", true, nil', "1\ta b\ttrue\tnil\n"],
    ["1 + 1", "2\n"],
    ['return require("services.math").twice(21)', "42\n"],
    ["return { a = { 1, 2 } }", '{"a":[1,2]}\n'],
    ["local x = 1", ""],
    ["x = 5 return x", "5\n"],
    ['require("perigee.task").sleep(20) return "slept"', "slept\n"],
    ['return nil, require("perigee.error").new("conflict", "no")', "nil\tconflict: no\n"],
    ["1 -- one", "1\n"],
    ['print("hi")', "hi\n"],
  ];
  for (const [text, expected] of cases) {
    const { code, stdout, stderr } = await perigee(["exec", text, dir]);
    assert.equal(code, 0, stderr);
    assert.equal(stdout, expected, text);
  }
});

test("exec in the working directory, with flags", async (t) => {
  const { code, stdout } = await perigee(
    ["exec", "-e", "staging", 'return require("perigee.host").env, require("perigee.config").http.port', "-p", "5"],
    { cwd: app(t) },
  );
  assert.equal(code, 0);
  assert.equal(stdout, "staging\t5\n");
});

test("math.random begins elsewhere in each VM", async (t) => {
  const dir = app_dir(t, { files: { "config/default.lua": "return {}" } });
  const drawn = new Set();
  for (let i = 0; i < 3; i++) {
    drawn.add((await perigee(["exec", "return math.random(1, 2^31)"], { cwd: dir })).stdout);
  }
  assert.ok(drawn.size > 1, [...drawn].join());
});

test("exec of what fails is exit 1, with where", async (t) => {
  const dir = app(t);
  const raised = await perigee(["exec", 'require("services.math").fail()', dir]);
  assert.equal(raised.code, 1);
  assert.match(raised.stderr, /^scripts\/services\/math\.lua:6: broken\nstack traceback:\n/);
  assert.match(raised.stderr, /exec:1: in main chunk/);
  assert.doesNotMatch(raised.stderr, /perigee\/cli/);
  const syntax = await perigee(["exec", "local x =", dir]);
  assert.equal(syntax.code, 1);
  assert.match(syntax.stderr, /^exec:1: /);
  const broken = await perigee(["exec", "1", app(t, { "scripts/main.lua": "return 1" })]);
  assert.equal(broken.code, 78);
});

test("log lines of exec do not mix with its values", async (t) => {
  const { stdout, stderr } = await perigee(["exec", 'require("perigee.log").info("hello") return 1', app(t)]);
  assert.equal(stdout, "1\n");
  assert.equal(JSON.parse(stderr).msg, "hello");
});

test("repl evaluates what comes in, statements over several lines too", async (t) => {
  const { code, stdout, stderr } = await perigee(["repl", app(t)], {
    input: 'x = 20\nx + 1\nfor i = 1, 2 do\n  print(i)\nend\nrequire("services.math").twice(x)\n-- nothing\n\n"last"',
  });
  assert.equal(stderr, "");
  assert.equal(code, 0);
  assert.equal(stdout, "21\n1\n2\n40\nlast\n");
});

test("repl goes on after an error, and remembers that there was one", async (t) => {
  const { code, stdout, stderr } = await perigee(["repl", app(t)], { input: "error('a')\n1 +* 2\n3\nfor" });
  assert.equal(code, 1);
  assert.equal(stdout, "3\n");
  assert.match(stderr, /repl:1: a/);
  assert.match(stderr, /unexpected symbol/);
  assert.match(stderr, /'<eof>'/);
});

test("pretty shows log lines for people and lets others pass", async () => {
  const input = '{"level":30,"time":1522431328992,"pid":42,"hostname":"h","msg":"hello","a":{"b":1}}\nplain\n{"x":1}\nlast';
  for (const name of ["pretty", "logs"]) {
    const { code, stdout } = await perigee([name], { input, env: { TZ: "UTC" } });
    assert.equal(code, 0);
    assert.equal(stdout, '[17:35:28.992] INFO (42): hello\n    a: {\n      "b": 1\n    }\nplain\n{"x":1}\nlast\n');
  }
});

test("new makes an application that runs and whose specs pass", async (t) => {
  const parent = app_dir(t);
  const made = await perigee(["new", "shop"], { cwd: parent });
  assert.equal(made.code, 0, made.stderr);
  const dir = path.join(parent, "shop");
  for (const name of [".gitignore", ".luarc.json", "README.md", "config/default.lua", "scripts/main.lua",
    "var/lua/perigee/task.lua"]) {
    assert.ok(existsSync(path.join(dir, name)), name);
  }
  assert.match(readFileSync(path.join(dir, "README.md"), "utf8"), /^# shop$/m);
  JSON.parse(readFileSync(path.join(dir, ".luarc.json"), "utf8"));

  const checked = await perigee(["check"], { cwd: dir });
  assert.equal(checked.code, 0, checked.stderr);
  const tested = await perigee(["test"], { cwd: dir });
  assert.equal(tested.code, 0, tested.stdout + tested.stderr);
  assert.match(tested.stdout, /[1-9]\d* successes \/ 0 failures \/ 0 errors/);

  const host = await start(t, { dir, env: "development", command: "dev", settings: { "log.format": "json" } });
  assert.deepEqual((await host.get("/")).json, { app: "shop", notes: "/notes" });
  const note = await host.post("/notes", { text: "buy tea" });
  assert.equal(note.status, 201);
  assert.equal((await host.get(note.headers.location)).json.text, "buy tea");
  assert.equal((await host.post("/notes", {})).status, 400);
  assert.equal((await host.get("/notes/none")).status, 404);
  assert.equal((await host.request("DELETE", `/notes/${note.json.id}`)).status, 204);
  assert.deepEqual((await host.get("/notes")).json, { notes: [] });
});

test("new refuses a folder with something in it, and senseless names", async (t) => {
  const parent = app_dir(t);
  mkdirSync(path.join(parent, "full"));
  writeFileSync(path.join(parent, "full/x"), "");
  const full = await perigee(["new", "full"], { cwd: parent });
  assert.equal(full.code, 1);
  assert.match(full.stderr, /full is there already and is not empty/);
  mkdirSync(path.join(parent, "empty"));
  assert.equal((await perigee(["new", "empty"], { cwd: parent })).code, 0);
  for (const name of ["a b", "1st", "..", "a/..", "x".repeat(65), "ä", ""]) {
    const { code, stderr } = await perigee(["new", name], { cwd: parent });
    assert.equal(code, 2, `${name}: ${stderr}`);
  }
  assert.equal((await perigee(["new", "deeper/er"], { cwd: parent })).code, 0);
});

test("status and stop of a running host", async (t) => {
  const host = await start(t, { dir: app(t), workers: 2 });
  const { code, stdout } = await host.command("status", "--json");
  assert.equal(code, 0);
  const status = JSON.parse(stdout);
  assert.equal(status.pid, host.pid);
  assert.equal(status.http[0].port, host.port);
  assert.equal(status.workers.length, 2);
  const text = await host.command("status");
  assert.equal(text.code, 0);
  assert.match(text.stdout, /^host +running, pid \d+/m);
  assert.match(text.stdout, /^slot +pid +state/m);
  assert.match(text.stdout, /^1 +\d+ +serving/m);
  assert.equal((await host.command("stop")).code, 0);
  assert.equal((await host.ended).code, 0);
});

test("commands find a control socket that was put elsewhere", async (t) => {
  const host = await start(t, { dir: app(t), settings: { "admin.socket": "var/other.sock" } });
  assert.ok(existsSync(path.join(host.dir, "var/other.sock")));
  assert.equal((await host.command("status", "--json")).code, 0);
  assert.equal((await host.command("stop")).code, 0);
  assert.equal((await host.ended).code, 0);
  for (const name of ["other.sock", "perigee.sock"]) {
    assert.ok(!existsSync(path.join(host.dir, "var", name)), name);
  }
});
