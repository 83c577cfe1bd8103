// Log lines seen from outside: what real pino-pretty makes of them, where they
// go, and that none is lost.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, renameSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { PROGRAM, ROOT, launch, start, until } from "./helpers.mjs";

const PINO_PRETTY = path.join(ROOT, "tests/node_modules/pino-pretty/bin.js");

const ROUTES = `
  local log = require "perigee.log"
  local errors = require "perigee.error"
  router:get("/log", function()
    log.child({ part = "orders" }).info("order placed", { id = 7, who = "A B" })
    return "ok"
  end)
  router:get("/err", function()
    log.error("could not", { err = errors.new("conflict", "taken") })
    return "ok"
  end)
  router:get("/secret", function()
    log.info("secret", { user = { password = "hunter2" } })
    return "ok"
  end)
  router:get("/levels", function()
    for _, level in ipairs { "trace", "debug", "info", "warn", "error", "fatal" } do
      log[level]("level " .. level)
    end
    return "ok"
  end)
  router:get("/abort", function()
    for i = 1, 500 do log.info("before the end", { i = i }) end
    require("ffi").cdef "void abort(void);"
    require("ffi").C.abort()
  end)
`;

function pretty(lines) {
  const input = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
  const result = spawnSync(process.execPath, [PINO_PRETTY, "--no-colorize"], { input, encoding: "utf8" });
  assert.equal(result.status, 0, result.stderr);
  return result.stdout;
}

const of = (app, msg) => app.lines.filter((line) => line.msg === msg);

// A host that logs to var/app.log.
async function start_with_file(t, options = {}) {
  const app = launch(t, { ...options, settings: { "log.destination": "var/app.log", ...options.settings } });
  const file = path.join(app.dir, "var/app.log");
  const lines = (name = file) => (existsSync(name) ? readFileSync(name, "utf8") : "")
    .split("\n").slice(0, -1).filter(Boolean).map((line) => JSON.parse(line)); // the last may be half written
  const line = await until(() => lines().find((l) => l.msg === "listening" && l.port && !l.admin),
    { what: "the line listening", timeout_ms: 20_000 });
  app.port = line.port;
  return { app, file, lines };
}

test("lines are pino's", async (t) => {
  const app = await start(t, { route: ROUTES });
  const { headers } = await app.get("/log?q=1");
  await app.get("/err");
  await app.line("could not");
  await until(() => of(app, "request completed").length === 2);

  await t.test("fields come in pino's order", () => {
    const [line] = of(app, "order placed");
    const { time, pid, hostname, reqId, ...rest } = line;
    assert.deepEqual(Object.keys(line).slice(0, 4), ["level", "time", "pid", "hostname"]);
    assert.equal(Object.keys(line).at(-1), "msg");
    assert.ok(Math.abs(Date.now() - time) < 60_000);
    assert.ok(pid > 0 && hostname.length > 0);
    assert.equal(reqId, headers["x-request-id"]);
    assert.deepEqual(rest, { level: 30, part: "orders", id: 7, who: "A B", msg: "order placed" });
  });

  await t.test("a request has one line, as pino-http's", () => {
    const [line] = of(app, "request completed");
    const { id, ...req } = line.req;
    assert.equal(id, headers["x-request-id"]);
    assert.deepEqual(req, { method: "GET", url: "/log?q=1", remoteAddress: "127.0.0.1" });
    assert.deepEqual(line.res, { statusCode: 200 });
    assert.ok(line.responseTime >= 0 && line.responseTime < 10_000);
  });

  await t.test("an error has type, message and stack", () => {
    const [line] = of(app, "could not");
    assert.equal(line.err.type, "perigee.Error");
    assert.equal(line.err.message, "taken");
    assert.equal(line.err.kind, "conflict");
    assert.match(line.err.stack, /^taken\nstack traceback:\n[^]*scripts\/routes\/test.lua:\d+/);
  });

  await t.test("pino-pretty reads them", () => {
    const [placed, failed, completed] = ["order placed", "could not", "request completed"].map((m) => of(app, m)[0]);
    const text = pretty([placed, failed, completed]);
    assert.match(text, new RegExp(`\\] INFO \\(${placed.pid}\\): order placed\n    reqId: "[^"]+"\n    part: "orders"\n`));
    assert.match(text, /ERROR \(\d+\): could not\n(    .*\n)*?    err: \{\n      "type": "perigee.Error",\n/);
    assert.match(text, /INFO \(\d+\): request completed\n    req: \{\n/);
    assert.ok(!text.includes('{"level"'), "each line was understood");
  });
});

test("levels and request lines follow the configuration", async (t) => {
  const app = await start(t, {
    route: ROUTES,
    files: {
      "config/default.lua":
        'return { log = { level = "info", requests = false } }',
    },
  });
  await app.get("/levels");
  await app.line("level fatal");
  assert.deepEqual(app.lines.filter((l) => /^level/.test(l.msg)).map((l) => l.level), [30, 40, 50, 60]);
  assert.equal(of(app, "request completed").length, 0);
});

test("modules have levels of their own, changed by a reload", async (t) => {
  const config = (levels) => `return { log = { level = "info", redact = { "secret" }, levels = ${levels} } }`;
  const app = await start(t, {
    route: `
      local log = require("perigee.log").get "services.billing"
      router:get("/", function()
        log.debug("a detail", { secret = 1 })
        log.warn "a warning"
        return { debug = log.enabled "debug" }
      end)`,
    files: { "config/default.lua": config('{ services = "error" }') },
  });
  assert.deepEqual((await app.get("/")).json, { debug: false });
  app.write({ "config/default.lua": config('{ services = "error", ["services.billing"] = "debug" }') });
  assert.equal((await app.command("reload")).code, 0);
  assert.deepEqual((await app.get("/")).json, { debug: true });
  const line = await app.line("a detail");
  assert.equal(line.module, "services.billing");
  assert.equal(line.secret, "[Redacted]");
  await app.line("a warning");
  assert.equal(of(app, "a warning").length, 1);
});

test("redaction holds for the lines of requests, and follows a reload", async (t) => {
  const config = (paths) => ({ "config/default.lua": `return { log = { redact = { ${paths} } } }` });
  const app = await start(t, { files: config('"req.url", "*.remoteAddress", "req[\'x\']", "responseTime.x"'), route: 'router:get("/secret", function() return {} end)' });
  const line = async () => {
    const { headers } = await app.get("/secret");
    return app.line((l) => l.msg === "request completed" && l.req?.id === headers["x-request-id"]);
  };
  const first = await line();
  assert.deepEqual({ ...first.req, id: "" }, { id: "", method: "GET", url: "[Redacted]", remoteAddress: "[Redacted]" });
  assert.deepEqual(first.res, { statusCode: 200 });
  assert.equal(typeof first.responseTime, "number");
  app.write(config('"res.*", "responseTime"'));
  assert.equal((await app.command("reload")).code, 0);
  const { req, res, responseTime } = await line();
  assert.equal(req.url, "/secret");
  assert.deepEqual([res, responseTime], [{ statusCode: "[Redacted]" }, "[Redacted]"]);
});

test("what is redacted does not appear", async (t) => {
  const app = await start(t, {
    route: ROUTES,
    files: { "config/default.lua": 'return { log = { redact = { "*.password" } } }' },
  });
  await app.get("/secret");
  assert.deepEqual((await app.line("secret")).user, { password: "[Redacted]" });
});

test("a file is reopened on USR1", async (t) => {
  const { app, file, lines } = await start_with_file(t, { route: ROUTES });
  await app.get("/log");
  await until(() => lines().some((l) => l.msg === "order placed"));
  renameSync(file, `${file}.1`);
  app.signal("SIGUSR1");
  await until(() => existsSync(file) && lines().some((l) => l.msg === "logs reopened"));
  // The worker is told over its channel: what it wrote meanwhile is in the old one.
  await until(async () => {
    await app.get("/log");
    return lines().some((l) => l.msg === "order placed");
  });
  assert.equal((await app.stop()).code, 0);
});

test("no line is lost when a worker aborts", async (t) => {
  const { app, lines } = await start_with_file(t, { route: ROUTES });
  await app.get("/abort").catch(() => {});
  await until(() => lines().filter((l) => l.msg === "before the end").length >= 500, { what: "the last line" });
  assert.deepEqual(lines().filter((l) => l.msg === "before the end").map((l) => l.i),
    Array.from({ length: 500 }, (_, i) => i + 1));
});

test("no line is lost at the end", async (t) => {
  const { app, lines } = await start_with_file(t, { route: ROUTES });
  for (let i = 0; i < 50; i++) {
    await app.get("/log");
  }
  assert.equal((await app.stop()).code, 0);
  assert.equal(lines().filter((l) => l.msg === "order placed").length, 50);
  assert.equal(lines().filter((l) => l.msg === "request completed").length, 50);
});

test("a file that is large enough is moved aside, and no line is lost", async (t) => {
  const { app, file } = await start_with_file(t, { route: ROUTES, workers: 2,
    settings: { "log.rotate.size": "4kb", "log.rotate.keep": 100 } });
  const files = () => [file, ...Array.from({ length: 100 }, (_, i) => `${file}.${i + 1}`)].filter(existsSync);
  let sent = 0;
  await until(async () => {
    for (let i = 0; i < 20; i++, sent++) {
      await app.get("/log");
    }
    return existsSync(`${file}.2`);
  }, { timeout_ms: 30_000, what: "the second rotation" });
  assert.equal((await app.stop()).code, 0);
  const text = files().map((name) => readFileSync(name, "utf8")).join("");
  assert.match(text, /"msg":"log rotated"/);
  assert.equal(text.match(/"msg":"order placed"/g).length, sent);
});

test("a changed destination waits for a restart, of new workers and of rotation, too", async (t) => {
  const config = (name) => ({ "config/default.lua": `return { log = { destination = "var/${name}", format = "json", rotate = { size = "4kb", keep = 50 } } }` });
  const app = launch(t, { route: ROUTES, files: config("old.log") });
  const at = (name) => path.join(app.dir, "var", name);
  const text = () => ["old.log", ...Array.from({ length: 50 }, (_, i) => `old.log.${i + 1}`)].map(at)
    .filter(existsSync).map((name) => readFileSync(name, "utf8")).join("");
  const lines = () => text().split("\n").filter(Boolean).map((line) => JSON.parse(line));
  app.port = (await until(() => lines().find((l) => l.msg === "listening" && l.port && !l.admin))).port;
  app.write(config("new.log"));
  assert.equal((await app.command("reload")).code, 0);
  await until(() => lines().some((l) => /^log\.destination has changed/.test(l.msg)));
  const [before] = app.workers();
  process.kill(before, "SIGKILL");
  await until(() => app.workers().some((pid) => pid !== before));
  await until(async () => {
    await app.get("/log").catch(() => {});
    const [now] = app.workers();
    return existsSync(at("old.log.1")) && lines().some((l) => l.pid === now);
  }, { timeout_ms: 20_000 });
  assert.equal(existsSync(at("new.log")), false);
  assert.equal((await app.stop()).code, 0);
});

test("pretty shows what passes its filters", () => {
  const line = (fields) => JSON.stringify({ level: 30, time: 1, pid: 1, hostname: "h", ...fields });
  const input = [
    line({ req: { id: "a", method: "GET", url: "/users/7?x=1" }, res: { statusCode: 200 }, responseTime: 1, trace_id: "0af7", msg: "one" }),
    line({ level: 50, route: "/boom", msg: "two" }),
    line({ req: { id: "a", method: "GET", url: "/users/7/more" }, msg: "three" }),
    "no JSON",
  ].join("\n");
  const shown = (...args) => {
    const run = spawnSync(PROGRAM, ["pretty", ...args], { input, encoding: "utf8" });
    assert.equal(run.status, 0, run.stderr);
    return ["one", "two", "three", "no JSON"].filter((text) => run.stdout.includes(text));
  };
  assert.deepEqual(shown(), ["one", "two", "three", "no JSON"]);
  assert.deepEqual(shown("--level", "warn"), ["two"]);
  assert.deepEqual(shown("--route", "/users/:id"), ["one"]);
  assert.deepEqual(shown("--route", "/users/*rest"), ["one", "three"]);
  assert.deepEqual(shown("--route=/boom"), ["two"]);
  assert.deepEqual(shown("--trace-id", "0af7"), ["one"]);
  assert.equal(spawnSync(PROGRAM, ["logs", "--level", "loud"], { input: "" }).status, 2);
});
