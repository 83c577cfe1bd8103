// Where log lines go beside a stream and a file, and who reads along: sockets,
// syslog, a log of requests of its own, `perigee logs`.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import dgram from "node:dgram";
import { once } from "node:events";
import { existsSync, readFileSync, renameSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { PROGRAM, app_dir, launch, perigee, start, until } from "./helpers.mjs";

const ROUTES = `
  local log = require "perigee.log"
  router:get("/levels", function()
    for _, level in ipairs { "trace", "debug", "info", "warn", "error", "fatal" } do
      log[level]("level " .. level)
    end
    return "ok"
  end)
  router:get("/users/:id", function(req)
    log.info("a user", { id = req.params.id })
    return "hello"
  end)
  router:get("/part", function()
    require("perigee.log").get("services.billing").debug "a detail"
    return "ok"
  end)
  router:get("/die", function()
    require("ffi").cdef "void abort(void);"
    require("ffi").C.abort()
  end)
  router:get("/flood", function(req)
    local text = ("x"):rep(1000)
    for i = 1, tonumber(req.query.n) do log.info("flood", { i = i, text = text }) end
    return "ok"
  end)
`;

const of = (app, msg) => app.lines.filter((line) => line.msg === msg);

// A host whose own port is told by its control socket: its lines are elsewhere.
async function start_quiet(t, options) {
  const app = launch(t, { route: ROUTES, ...options });
  app.port = await until(async () => {
    const { code, stdout } = await perigee(["status", app.dir, "--json"]);
    const status = code === 0 ? JSON.parse(stdout) : {};
    return status.state === "running" && status.http[0].port;
  }, { timeout_ms: 20_000, what: "the host" });
  app.admin = JSON.parse((await perigee(["status", app.dir, "--json"])).stdout).admin?.port;
  return app;
}

// One line a datagram, of a socket that node has none for: a small Python program.
async function unix_datagrams(t, file) {
  const child = spawn("python3", ["-c", `
import socket, sys, json
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    print(json.dumps(s.recv(1 << 20).decode()), flush=True)
`, file], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const got = [];
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (chunk) => {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop();
    got.push(...parts);
  });
  await until(() => got[0] === "bound", { what: "the socket" });
  return { messages: () => got.slice(1).map((text) => JSON.parse(text)), child };
}

const RFC5424 = /^<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\S+) (\S+) (\d+) - - (\{.*\})$/s;

function assert_levels(messages, facility, name) {
  const seen = messages.map((text) => RFC5424.exec(text)).filter((m) => m && /"msg":"level /.test(m[6]));
  assert.deepEqual(seen.map((m) => Number(m[1]) - 8 * facility), [7, 7, 6, 4, 3, 2]);
  for (const [, , time, host, app, pid, line] of seen) {
    const { time: ms, pid: own } = JSON.parse(line);
    assert.equal(Date.parse(time), ms);
    assert.deepEqual([host, app, Number(pid)], [os.hostname(), name, own]);
  }
}

test("syslog over a UNIX socket gets each line as RFC 5424, all levels", async (t) => {
  const dir = app_dir(t, { route: ROUTES });
  const file = path.join(dir, "syslog.sock");
  const { messages } = await unix_datagrams(t, file);
  const app = await start_quiet(t, { dir, settings: { "log.destination": "syslog:syslog.sock", "log.level": "trace",
    "log.syslog.facility": "local3", "log.syslog.app_name": "shop" } });
  await app.get("/levels");
  await until(() => messages().some((text) => text.includes("level fatal")), { what: "the last level" });
  assert_levels(messages(), 19, "shop");
  assert.equal((await app.stop()).code, 0);
  await until(() => messages().some((text) => text.includes('"msg":"stopped"')), { what: "the last line" });
});

test("syslog over UDP too", async (t) => {
  const socket = dgram.createSocket("udp4");
  const messages = [];
  socket.on("message", (bytes) => messages.push(bytes.toString()));
  await new Promise((resolve) => socket.bind(0, "127.0.0.1", resolve));
  t.after(() => socket.close());
  const app = await start_quiet(t, { settings: { "log.level": "trace",
    "log.destination": `syslog://127.0.0.1:${socket.address().port}` } });
  await app.get("/levels");
  await until(() => messages.some((text) => text.includes("level fatal")), { what: "the last level" });
  assert_levels(messages, 3, "perigee");
});

test("a UNIX stream gets the lines; while its other side is away they wait", async (t) => {
  const dir = app_dir(t, { route: ROUTES });
  const file = path.join(dir, "log.sock");
  const app = await start_quiet(t, { dir, settings: { "log.destination": "unix:log.sock" } });
  await app.get("/users/1");
  await app.line((l) => /log destination unix:log.sock: /.test(l.raw ?? ""));
  const texts = []; // of each connection: the master has one, too
  const peers = new Set();
  const server = net.createServer((socket) => {
    const at = texts.push("") - 1;
    peers.add(socket);
    socket.setEncoding("utf8").on("data", (chunk) => (texts[at] += chunk)).on("error", () => {});
  });
  t.after(() => { server.close(); peers.forEach((peer) => peer.destroy()); });
  await new Promise((resolve) => server.listen(file, resolve));
  const lines = () => texts.flatMap((text) => text.split("\n").slice(0, -1)).map((line) => JSON.parse(line));
  const users = () => lines().filter((l) => l.msg === "a user").map((l) => l.id);
  await until(() => users().length === 1, { what: "the line from before" });
  await until(() => lines().some((l) => l.msg === "listening"), { what: "the master's lines" });
  peers.forEach((peer) => peer.destroy()); // they connect again
  await until(async () => {
    await app.get("/users/2");
    return users().includes("2");
  }, { what: "a line after the break" });
  assert.ok(app.lines.filter((l) => /log destination/.test(l.raw ?? "")).length <= 2); // of the master and a worker
});

test("a named pipe needs a reader at the start; later on, lines wait for one", async (t) => {
  const dir = app_dir(t, { route: ROUTES });
  const options = { dir, settings: { "log.destination": "log.pipe" } };
  execFileSync("mkfifo", [path.join(dir, "log.pipe")]);
  const alone = launch(t, options);
  assert.deepEqual(await alone.ended, { code: 71, signal: null });
  assert.match(alone.printed(), /log\.destination log\.pipe: No such device/);
  const read = () => {
    const child = spawn("cat", ["log.pipe"], { cwd: dir, stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill("SIGKILL"));
    const reader = { child, text: "" };
    child.stdout.on("data", (chunk) => (reader.text += chunk));
    return reader;
  };
  const first = read();
  const app = await start_quiet(t, options);
  await app.get("/users/1");
  await until(() => /"id":"1"/.test(first.text));
  first.child.kill("SIGKILL");
  await once(first.child, "close");
  assert.equal((await app.get("/users/2")).status, 200);
  const second = read();
  await until(() => /"id":"2"/.test(second.text));
});

test("lines for which there is no room are counted, and told of", async (t) => {
  const dir = app_dir(t, { route: ROUTES });
  const file = path.join(dir, "log.sock");
  const app = await start_quiet(t, { dir, settings: { "log.destination": "unix-dgram:log.sock", "log.requests": false, "log.stall": 0 } });
  const sent = 3000; // a kilobyte each, into a ring of a megabyte
  assert.equal((await app.get(`/flood?n=${sent}`)).status, 200);
  const { messages } = await unix_datagrams(t, file);
  await until(() => messages().some((text) => text.includes('"msg":"log lines lost"')), { what: "the word of it" });
  const lines = messages().map((text) => JSON.parse(text));
  const [told] = lines.filter((l) => l.msg === "log lines lost");
  assert.equal(told.level, 40);
  assert.ok(told.lost > 1000);
  assert.equal(told.lost + lines.filter((l) => l.msg === "flood").length, sent);
  const metrics = await fetch(`http://127.0.0.1:${app.admin}/metrics`).then((r) => r.text());
  assert.equal(Number(/^perigee_log_lines_lost_total (\d+)$/m.exec(metrics)[1]), told.lost);
});

// --- the log of requests --------------------------------------------------------

test("requests have a log of their own, in the combined format", async (t) => {
  const app = await start(t, { route: ROUTES, settings: {
    "log.access.format": "combined", "log.access.destination": "var/access.log" } });
  const file = path.join(app.dir, "var/access.log");
  const lines = () => (existsSync(file) ? readFileSync(file, "utf8").split("\n").filter(Boolean) : []);
  await app.get("/users/7?a=1", { headers: { "user-agent": 'evil" "x\\\t\u00e9', referer: "http://a/", "authorization": `Basic ${btoa("ada:pw")}` } });
  await app.get("/none");
  await until(() => lines().length === 2);
  assert.match(lines()[0], new RegExp(String.raw`^127\.0\.0\.1 - ada \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] `
    + String.raw`"GET /users/7\?a=1 HTTP/1\.1" 200 5 "http://a/" "evil\\x22 \\x22x\\x5C\\x09\\xC3\\xA9"$`));
  assert.match(lines()[1], /^127\.0\.0\.1 - - \[[^\]]+\] "GET \/none HTTP\/1\.1" 404 \d+ "-" "-"$/);
  await until(() => of(app, "a user").length === 1);
  assert.equal(of(app, "request completed").length, 0);
  renameSync(file, `${file}.1`);
  assert.equal((await app.command("reopen")).code, 0);
  await until(async () => {
    await app.get("/users/8");
    return lines().length > 0;
  }, { what: "the new file" });
  await app.get("/die").catch(() => {});
  await until(() => lines().some((line) => line.includes("/users/8")));
});

test("requests are logged in a format of one's own, among the other lines", async (t) => {
  const app = await start(t, { route: ROUTES, settings: {
    "log.access.format": "$request_method $uri args=$args route=$route $status $body_bytes_sent $request_time $response_time $http_x_thing $request_id end" } });
  const { headers } = await app.get("/users/7?a=1", { headers: { "x-thing": "v" } });
  const { raw } = await app.line((l) => l.raw?.startsWith("GET /users/7"));
  assert.match(raw, new RegExp(String.raw`^GET /users/7 args=a=1 route=/users/:id 200 5 0\.\d{3} \d+\.\d{3} v ${headers["x-request-id"]} end$`));
  await app.raw("GET / HTTP/1.1\r\nbad header\r\n\r\n");
  await app.line((l) => / 400 \d+ /.test(l.raw ?? ""));
});

test("what is no format, destination or path is a fault of the configuration", async (t) => {
  const dir = app_dir(t, { files: { "config/default.lua": `return { log = {
    access = { format = "$status $nothing" }, destination = "ftp://x", redact = { "a..b" } } }` } });
  for (const command of ["check", "run"]) {
    const { code, stderr, stdout } = await perigee([command, dir]);
    assert.equal(code, 78);
    assert.match(stderr + stdout, /log\.access\.format: there is no variable \$nothing/);
    assert.match(stderr + stdout, /log\.destination: must be stdout, stderr, a file, syslog/);
    assert.match(stderr + stdout, /log\.redact\.1: must be a dotted path/);
  }
});

// --- reading along ------------------------------------------------------------------

// `perigee logs ARGS` beside the host.
function follow(t, app, ...args) {
  const child = spawn(PROGRAM, ["logs", ...args], { cwd: app.dir, env: { ...process.env, NO_COLOR: "1" }, stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  const run = { text: "", process: child, ended: new Promise((resolve) => child.on("close", resolve)) };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk) => (run.text += chunk));
  }
  return run;
}

test("logs shows the last lines of a host whose lines go to standard output", async (t) => {
  const app = await start(t, { route: ROUTES, workers: 2 });
  for (let i = 1; i <= 20; i++) {
    await app.get(`/users/${i}`);
  }
  const { code, stdout } = await perigee(["logs", app.dir, "--route", "/users/:id"]);
  assert.equal(code, 0);
  assert.equal(stdout.match(/INFO \(\d+\): request completed/g).length, 20);
  const ids = [...stdout.matchAll(/GET \/users\/(\d+)/g)].map(([, id]) => Number(id));
  assert.deepEqual(ids.sort((a, b) => a - b), Array.from({ length: 20 }, (_, i) => i + 1));
  const times = stdout.match(/^\[[\d:.]+\]/gm);
  assert.deepEqual(times, [...times].sort()); // of two workers, one after the other
  const all = await follow(t, app); // without a directory: the host of this one
  await all.ended;
  assert.match(all.text, /INFO \(\d+\): listening/);
});

test("logs leaves out no worker, however much many of them have logged", async (t) => {
  const workers = 12;
  const app = await start_quiet(t, {
    workers,
    files: {
      "scripts/main.lua": `
        local log, host = require "perigee.log", require "perigee.host"
        return { on_start = function()
          for i = 1, 300 do log.info("line " .. i .. " of worker " .. host.worker, { fill = ("x"):rep(500) }) end
        end }`,
    },
  });
  const { code, stdout } = await perigee(["logs", app.dir]);
  assert.equal(code, 0);
  for (let i = 0; i < workers; i++) {
    assert.match(stdout, new RegExp(`line 300 of worker ${i}\n`));
  }
});

test("logs -f follows all processes through rotations, filtered, to the end", async (t) => {
  const app = await start_quiet(t, { workers: 2, settings: { "log.destination": "var/app.log", "log.level": "trace" } });
  const all = follow(t, app, "-f");
  const warnings = follow(t, app, "-f", "--level", "warn");
  await until(() => /listening/.test(all.text), { what: "the past" });
  renameSync(path.join(app.dir, "var/app.log"), path.join(app.dir, "var/app.log.1"));
  assert.equal((await app.command("reopen")).code, 0);
  await app.get("/levels");
  await app.get("/die").catch(() => {});
  await until(() => /logs reopened[^]*level fatal[^]*worker ended/.test(all.text), { what: "what was logged" });
  await until(() => /worker ended/.test(warnings.text), { what: "the warnings" })
    .catch((err) => assert.fail(`${err.message}: ${warnings.text}`));
  assert.deepEqual(warnings.text.match(/level \w+/g), ["level warn", "level error", "level fatal"]);
  assert.equal((await app.command("stop")).code, 0);
  assert.equal(await all.ended, 0);
  assert.match(all.text, /INFO \(\d+\): stopped\n$/);
});

/** How many lines a reader was told that it missed, and how many it was shown. */
const tally = (reader) => ({
  told: () => [...reader.text.matchAll(/^perigee: (\d+) lines passed over: .*$/gm)].reduce((sum, [, n]) => sum + Number(n), 0),
  shown: () => reader.text.match(/INFO \(\d+\): flood$/gm)?.length ?? 0,
});

test("what logs -f passes over is told on standard error and counted, line by line", async (t) => {
  const count = 20_000;
  const app = await start_quiet(t, { settings: { "log.destination": "var/app.log", "log.requests": false, "log.stall": 0 } });
  const { admin } = JSON.parse((await perigee(["status", app.dir, "--json"])).stdout);
  const metric = async (series) => {
    const text = await (await fetch(`http://127.0.0.1:${admin.port}/metrics`)).text();
    return Number(text.split("\n").find((line) => line.startsWith(`${series} `)).slice(series.length));
  };
  const all = follow(t, app, "-f");
  await until(() => /listening/.test(all.text), { what: "the past" });
  assert.equal((await app.get(`/flood?n=${count}`)).status, 200);
  const { told, shown } = tally(all);
  await until(async () => shown() + told() + await metric("perigee_log_lines_lost_total") >= count, { timeout_ms: 30_000, what: "all of the lines" })
    .catch(async (err) => assert.fail(`${err.message}: ${shown()} shown, ${told()} passed over`));
  assert.ok(told() > 0 && shown() > 0, `${told()} ${shown()}`);
  const lost = await metric("perigee_log_lines_lost_total");
  const more = shown() + told() + lost - count; // "log lines lost", if any were
  assert.ok(lost === 0 ? more === 0 : more < 10, `${shown()} shown, ${told()} passed over, ${lost} lost`);
  assert.equal(await metric('perigee_log_lines_missed_total{reader="logs"}'), told());
});

test("a reader of logs -f that stood still is given or told all of the lines", async (t) => {
  const app = await start_quiet(t, { settings: { "log.destination": "var/app.log", "log.requests": false, "log.stall": 0 } });
  const all = follow(t, app, "-f");
  await until(() => /listening/.test(all.text), { what: "the past" });
  const { admin } = JSON.parse((await perigee(["status", app.dir, "--json"])).stdout);
  const beats = async () => { // ten in a second, as often as the host looks for lines
    const text = await (await fetch(`http://127.0.0.1:${admin.port}/metrics`)).text();
    return Number(/^perigee_eventloop_lag_seconds_count\S* (\d+)$/m.exec(text)[1]);
  };
  const { told, shown } = tally(all);
  let count = 0;
  for (const pieces of [2, 3, 4, 8]) { // of 440 kB: a reader may owe 1 MB
    all.process.kill("SIGSTOP");
    for (let i = 0; i < pieces; i++) {
      assert.equal((await app.get("/flood?n=400")).status, 200);
      count += 400;
      const before = await beats();
      await until(async () => await beats() > before + 2);
    }
    all.process.kill("SIGCONT");
    await until(() => shown() + told() >= count, { what: "all of the lines" })
      .catch((err) => assert.fail(`${err.message}: ${count} written, ${shown()} shown, ${told()} passed over`));
    assert.equal(shown() + told(), count);
  }
});

test("logs of a directory without a host says so", async (t) => {
  const { code, stderr } = await perigee(["logs", app_dir(t, {}), "-f"]);
  assert.equal(code, 1);
  assert.match(stderr, /no host runs in/);
});

// --- levels while it runs --------------------------------------------------------------

test("log-level changes the level of a running host and of its parts until it reloads", async (t) => {
  const app = await start(t, { route: ROUTES, workers: 2 });
  const ask = async (target, msg, times) => {
    const from = app.lines.length;
    for (let i = 0; i < times; i++) {
      await app.get(target);
    }
    await until(() => app.lines.slice(from).filter((l) => l.msg === "request completed").length === times);
    return app.lines.slice(from).filter((l) => l.msg === msg).length;
  };
  assert.equal(await ask("/part", "a detail", 4), 0);
  const { code, stdout } = await app.command("log-level", "services=debug");
  assert.equal(code, 0);
  assert.match(stdout, /services logs at debug until the next reload/);
  await until(async () => (await ask("/part", "a detail", 6)) === 6, { what: "both workers" });
  assert.equal(await ask("/levels", "level debug", 4), 0);
  assert.equal((await app.command("log-level", "debug")).code, 0);
  await until(async () => (await ask("/levels", "level debug", 6)) === 6, { what: "both workers" });
  await app.get("/die").catch(() => {}); // its successor is told
  await app.line("worker ended");
  await until(() => app.workers().length === 2, { what: "the successor" });
  await until(async () => (await ask("/levels", "level debug", 6)) === 6, { what: "the successor's lines" });
  assert.equal((await app.command("reload")).code, 0);
  assert.equal(await ask("/levels", "level debug", 4), 0);
  assert.equal(await ask("/part", "a detail", 4), 0);
  const wrong = await app.command("log-level", "loud");
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /a level is trace, debug, info/);
});
