// Code that changes while it serves: all workers switch, or none.
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { in_time, routes, sleep, start, until } from "./helpers.mjs";

const saying = (word) => routes(`router:get("/", function() return "${word}" end)`);
const ROUTE = "scripts/routes/a.lua";

const serve = (t, word, options = {}) =>
  start(t, { files: { [ROUTE]: saying(word), ...options.files }, workers: 2, ...options,
    ...(options.files && { files: { [ROUTE]: saying(word), ...options.files } }) });

/** What many connections, so all workers, answer. */
async function answers(app, count = 12) {
  const all = await Promise.all(Array.from({ length: count }, () => app.get("/")));
  return [...new Set(all.map((a) => a.text))];
}

async function generation(app) {
  return JSON.parse((await app.command("status", "--json")).stdout).generation;
}

test("`perigee reload` waits until all workers serve the new code", async (t) => {
  const app = await serve(t, "one");
  app.write({ [ROUTE]: saying("two") });
  const answer = await app.command("reload");
  assert.equal(answer.code, 0, answer.stderr);
  assert.deepEqual(await answers(app), ["two"]);
  assert.equal(await generation(app), 2);
});

test("HUP to the master reloads", async (t) => {
  const app = await serve(t, "one");
  app.write({ [ROUTE]: saying("two") });
  app.signal("SIGHUP");
  const line = await app.line("reload committed");
  assert.equal(line.generation, 2);
  assert.equal(typeof line.durationMs, "number");
  assert.deepEqual(await answers(app), ["two"]);
});

const broken = {
  "a syntax error": [{ [ROUTE]: "return function(router\n  router:get(" }, /scripts\/routes\/a\.lua:\d+/],
  "an error while loading": [{ [ROUTE]: "local x = nil\nreturn x.y" }, /scripts\/routes\/a\.lua:2/],
  "a missing module": [{ [ROUTE]: `local s = require "services.nowhere"\nreturn function() end` }, /services[./]nowhere/],
  "a routes file that is no function": [{ [ROUTE]: "return 42" }, /scripts\/routes\/a\.lua/],
  "an empty routes file": [{ [ROUTE]: "" }, /scripts\/routes\/a\.lua/],
  "a bad configuration": [{ "config/default.lua": "return { http = { prot = 1 } }" }, /http\.prot/],
  "a selfcheck that says no": [
    { "scripts/main.lua": `return { selfcheck = function() error("not today") end }` }, /not today/],
  "an on_start that fails": [
    { "scripts/main.lua": `return { on_start = function() error("no database") end }` }, /no database/],
};

for (const [what, [files, reason]] of Object.entries(broken)) {
  test(`${what} is refused with exit 3 and its place; the old code serves on`, async (t) => {
    const app = await serve(t, "one");
    app.write(files);
    const answer = await app.command("reload");
    assert.equal(answer.code, 3, answer.stdout + answer.stderr);
    assert.match(answer.stderr + answer.stdout, reason);
    const line = await app.line("reload refused");
    assert.match(line.reason, reason);
    assert.deepEqual(await answers(app), ["one"]);
    assert.equal(await generation(app), 1);
  });
}

test("what one worker alone refuses, none serves", async (t) => {
  const app = await serve(t, "one");
  app.write({
    "scripts/main.lua": `
      return { selfcheck = function()
        if require("perigee.host").worker ~= 0 then error("not in this worker") end
      end }`,
    [ROUTE]: saying("two"),
  });
  const answer = await app.command("reload");
  assert.equal(answer.code, 3);
  assert.match(answer.stderr + answer.stdout, /not in this worker/);
  assert.deepEqual(await answers(app), ["one"]);
});

test("a selfcheck that takes too long is a no", async (t) => {
  const app = await serve(t, "one", { settings: { "reload.selfcheck_timeout": "300ms" } });
  app.write({
    "scripts/main.lua": `return { selfcheck = function() require("perigee.task").sleep(60000) end }`,
  });
  const answer = await app.command("reload");
  assert.equal(answer.code, 3);
  assert.match(answer.stderr + answer.stdout, /selfcheck_timeout/);
  assert.deepEqual(await answers(app), ["one"]);
});

test("a worker that dies while it loads the new code: the old code serves on", async (t) => {
  const app = await serve(t, "one");
  app.write({ "scripts/main.lua": `return { selfcheck = function()
    local ffi = require "ffi"
    ffi.cdef "int raise(int);"
    ffi.C.raise(9)
  end }` });
  const answer = await app.command("reload");
  assert.equal(answer.code, 3);
  assert.deepEqual(await answers(app), ["one"]);
});

test("a mended file after a broken one is served", async (t) => {
  const app = await serve(t, "one");
  app.write({ [ROUTE]: "return" });
  assert.equal((await app.command("reload")).code, 3);
  app.write({ [ROUTE]: saying("three") });
  assert.equal((await app.command("reload")).code, 0);
  assert.deepEqual(await answers(app), ["three"]);
});

test("reloads asked for at once are all answered", async (t) => {
  const app = await serve(t, "one");
  app.write({ [ROUTE]: saying("two") });
  const all = await Promise.all(Array.from({ length: 6 }, () => app.command("reload")));
  assert.deepEqual(all.map((a) => a.code), [0, 0, 0, 0, 0, 0]);
  assert.deepEqual(await answers(app), ["two"]);
  assert.ok((await generation(app)) <= 7);
});

test("rollback goes back to the code before", async (t) => {
  const app = await serve(t, "one");
  assert.equal((await app.command("rollback")).code, 1);
  app.write({ [ROUTE]: saying("two") });
  assert.equal((await app.command("reload")).code, 0);
  assert.equal((await app.command("rollback")).code, 0);
  assert.deepEqual(await answers(app), ["one"]);
});

test("a worker restarted while the disk holds broken code serves what was committed", async (t) => {
  const app = await serve(t, "one", { workers: 1 });
  app.write({ [ROUTE]: saying("two") });
  assert.equal((await app.command("reload")).code, 0);
  app.write({ [ROUTE]: "return function(" });
  process.kill(app.workers()[0], "SIGKILL");
  assert.deepEqual(await answers(app, 3), ["two"]);
});

test("a request that began on the old code ends on it", async (t) => {
  const slow = (word) => routes(`local task = require "perigee.task"
    router:get("/", function() return "${word}" end)
    router:get("/slow", function() -- until it is told to go on
      require("perigee.log").info "it has begun"
      repeat task.sleep(5) until io.open "var/go"
      return "${word}"
    end)`);
  const app = await start(t, { files: { [ROUTE]: slow("one") } });
  const begun = app.get("/slow");
  await app.line("it has begun");
  app.write({ [ROUTE]: slow("two") });
  assert.equal((await app.command("reload")).code, 0);
  assert.equal((await app.get("/")).text, "two");
  app.write({ "var/go": "" });
  assert.equal((await begun).text, "one");
});

test("no request starts on old code after the commit, also on an open connection", async (t) => {
  const app = await serve(t, "one");
  const open = await Promise.all(Array.from({ length: 8 }, () => app.connect()));
  t.after(() => open.forEach((c) => c.end()));
  const ask = async (c) => {
    c.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    return (await c.answer()).text;
  };
  assert.deepEqual([...new Set(await Promise.all(open.map(ask)))], ["one"]);
  app.write({ [ROUTE]: saying("two") });
  assert.equal((await app.command("reload")).code, 0);
  assert.deepEqual([...new Set(await Promise.all(open.map(ask)))], ["two"]);
});

test("broken and mended saves under load: no request fails", async (t) => {
  const app = await serve(t, "one");
  const seen = new Map();
  let done = false;
  const load = Promise.all(Array.from({ length: 6 }, async () => {
    while (!done) {
      const answer = await app.get("/").catch((error) => ({ status: 0, text: error.message }));
      const key = `${answer.status} ${answer.text}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
    }
  }));
  for (let i = 0; i < 5; i += 1) {
    app.write({ [ROUTE]: "return function(router" });
    assert.equal((await app.command("reload")).code, 3);
    app.write({ [ROUTE]: saying(`word${i}`) });
    assert.equal((await app.command("reload")).code, 0);
  }
  done = true;
  await load;
  assert.deepEqual([...seen.keys()].filter((k) => !k.startsWith("200 ")), []);
});

// --- on save ----------------------------------------------------------------------

const develop = (t, word, options) =>
  serve(t, word, { command: "dev", env: "development", workers: 1, settings: { "log.format": "json" }, ...options });

test("dev: a save is served at once, a broken one is explained in the browser", async (t) => {
  const app = await develop(t, "one");
  let saves = 0;
  await in_time(1000, async () => {
    saves += 1;
    app.write({ [ROUTE]: saying(`save ${saves}`) });
    await until(async () => (await app.get("/")).text === `save ${saves}`, { what: "the new code" });
  });
  app.write({ [ROUTE]: "return function(router\n" });
  const line = await app.line("reload refused");
  assert.match(line.reason, /scripts\/routes\/a\.lua:\d+/);
  assert.equal((await app.get("/")).text, `save ${saves}`);
  const page = await app.get("/", { headers: { accept: "text/html" } });
  assert.doesNotMatch(page.text, /<pre><\/pre>/); // no part without content
  assert.match(page.text, /scripts\/routes\/a\.lua:\d+/);
  app.write({ [ROUTE]: saying("three") });
  await until(async () => (await app.get("/", { headers: { accept: "text/html" } })).text === "three");
});

test("dev: a file in a new folder is noticed, and changes in it", async (t) => {
  const app = await develop(t, "one");
  const lib = (word) => `return "${word}"`;
  mkdirSync(path.join(app.dir, "scripts/services/deep"), { recursive: true });
  app.write({
    "scripts/services/deep/word.lua": lib("deep"),
    [ROUTE]: routes(`local word = require "services.deep.word"
      router:get("/", function() return word end)`),
  });
  await until(async () => (await app.get("/")).text === "deep");
  app.write({ "scripts/services/deep/word.lua": lib("deeper") });
  await until(async () => (await app.get("/")).text === "deeper");
});

test("dev: a folder that comes after the start is noticed", async (t) => {
  const app = await develop(t, "one");
  app.write({ "config/default.lua": `return { app = { word = "configured" } }` });
  await app.line("reload committed");
});

test("dev: a saved .env is read again, that of the environment too", async (t) => {
  const app = await develop(t, "one", {
    files: {
      "config/default.lua": 'return { app = { word = env("WORD", "none") } }',
      [ROUTE]: routes('router:get("/", function() return require("perigee.config").app.word end)'),
    },
  });
  assert.equal((await app.get("/")).text, "none");
  app.write({ ".env": "WORD=first\n" });
  await until(async () => (await app.get("/")).text === "first");
  app.write({ ".env": "WORD=second\n" });
  await until(async () => (await app.get("/")).text === "second");
  app.write({ ".env.development": "WORD=own\n" });
  await until(async () => (await app.get("/")).text === "own");
  app.write({ ".env.development": "WORD\n" });
  const refused = await app.line("reload refused");
  assert.match(refused.reason, /\.env\.development:1: neither NAME=value nor a comment/);
  assert.equal((await app.get("/")).text, "own");
  rmSync(path.join(app.dir, ".env.development"));
  await until(async () => (await app.get("/")).text === "second");
});

test("dev: a half-written file does no harm", async (t) => {
  const app = await develop(t, "one");
  const file = path.join(app.dir, ROUTE);
  const text = saying("two");
  writeFileSync(file, text.slice(0, 30));
  await app.line("reload refused");
  assert.equal((await app.get("/")).text, "one");
  appendFileSync(file, text.slice(30));
  await until(async () => (await app.get("/")).text === "two");
});

test("dev: editors' temporary files are ignored", async (t) => {
  const app = await develop(t, "one");
  for (const name of ["4913", ".a.lua.swp", "a.lua~", ".#a.lua", "#a.lua#"]) {
    app.write({ [`scripts/routes/${name}`]: "broken(" });
  }
  app.write({ "public/x.html": "x", "var/y": "y", ".env~": "A", ".env.swp": "A", ".env.production": "A", ".envrc": "A" });
  await sleep(300);
  assert.equal(app.lines.some((l) => /^reload/.test(l.msg ?? "")), false);
});

test("production does not watch", async (t) => {
  const app = await serve(t, "one");
  app.write({ [ROUTE]: saying("two") });
  await sleep(300);
  assert.equal((await app.get("/")).text, "one");
});

test("limits and the log's level follow a reload; what cannot is told", async (t) => {
  const app = await serve(t, "one", { files: { "config/default.lua": `return { http = { body_max = "1kb" } }` } });
  const big = "x".repeat(4000);
  const route = routes(`router:post("/", function(req) return tostring(#req:body()) end)`);
  app.write({ [ROUTE]: route });
  assert.equal((await app.command("reload")).code, 0);
  assert.equal((await app.post("/", big)).status, 413);
  app.write({ "config/default.lua": `return { http = { body_max = "8kb", backlog = 100 } }` });
  assert.equal((await app.command("reload")).code, 0);
  assert.equal((await app.post("/", big)).text, "4000");
  await app.line((l) => /http\.backlog has changed/.test(l.msg ?? ""));
});
