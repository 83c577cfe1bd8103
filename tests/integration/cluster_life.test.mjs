// The life of a host: start, one a directory, workers that die, the end.
import assert from "node:assert/strict";
import net from "node:net";
import { once } from "node:events";
import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { app_dir, in_time, launch, perigee, sleep, start, until } from "./helpers.mjs";

const WHO = `
  local host = require "perigee.host"
  local log = require "perigee.log"
  local task = require "perigee.task"
  router:get("/", function() return tostring(host.pid) end)
  router:get("/slow", function() -- until it is told to go on
    log.info "it has begun"
    repeat task.sleep(5) until io.open "var/go"
    return "slow"
  end)
  router:get("/stuck", function()
    log.info "it has begun"
    task.sleep(60000)
    return "late"
  end)
`;

const refuses = (app) => app.get("/").then(() => false, () => true);

/** Requests by several clients; end() gives what failed and who answered. */
function keep_asking(app) {
  const failures = [];
  const seen = new Set();
  let answered = 0;
  let done = false;
  const clients = Array.from({ length: 4 }, async () => {
    while (!done) {
      const answer = await app.get("/").catch((error) => ({ status: 0, text: error.message }));
      if (answer.status === 200) {
        seen.add(Number(answer.text));
      } else {
        failures.push(`${answer.status} ${answer.text}`);
      }
      answered += 1;
    }
  });
  return {
    seen,
    /** Until that many more have been answered. */
    async more(count) {
      const wanted = answered + count;
      await until(() => answered >= wanted, { what: "answers" });
    },
    async end() {
      done = true;
      await Promise.all(clients);
      return failures;
    },
  };
}

const alive = (pid) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

async function status(app) {
  const answer = await app.command("status", "--json");
  assert.equal(answer.code, 0, answer.stderr);
  return JSON.parse(answer.stdout);
}

test("status tells of the host and its workers", async (t) => {
  const app = await start(t, { route: WHO, workers: 2 });
  const now = await status(app);
  assert.equal(now.pid, app.pid);
  assert.equal(now.env, "production");
  assert.equal(now.generation, 1);
  assert.equal(now.http[0].port, app.port);
  assert.equal(now.workers.length, 2);
  assert.deepEqual(now.workers.map((w) => w.slot).sort(), [0, 1]);
  for (const worker of now.workers) {
    assert.equal(worker.state, "serving");
    assert.ok(worker.rss > 1_000_000);
  }
});

test("the control socket is its owner's alone", async (t) => {
  const app = await start(t, { route: WHO });
  assert.equal(statSync(path.join(app.dir, "var/perigee.sock")).mode & 0o777, 0o600);
});

test("who says nothing on the control socket does not keep its place", async (t) => {
  const app = await start(t, { route: WHO });
  const socket = path.join(app.dir, "var/perigee.sock");
  // The queue of the socket is short: EAGAIN.
  const connect = () => until(async () => {
    const peer = net.connect(socket);
    t.after(() => peer.destroy());
    return once(peer, "connect").then(() => peer, () => false);
  });
  const follower = await connect();
  follower.write("logs follow\n");
  await once(follower, "data");
  const closed = [];
  for (let i = 0; i < 63; i++) {
    const peer = await connect();
    closed.push(once(peer.resume(), "close"));
    if (i % 2 === 1) {
      peer.write("stat"); // half a line is none
    }
  }
  await Promise.all(closed);
  assert.equal((await app.command("status")).code, 0);
  assert.equal(follower.closed, false, "followers stay");
});

test("a second host in the directory exits 71 and names the first", async (t) => {
  const app = await start(t, { route: WHO });
  const second = await perigee(["run", app.dir, "-p", "0"]);
  assert.equal(second.code, 71);
  assert.match(second.stderr, new RegExp(`\\b${app.pid}\\b`));
});

test("a dead host's place is taken over, on the same port", async (t) => {
  const first = await start(t, { route: WHO });
  process.kill(first.pid, "SIGKILL");
  const second = launch(t, { dir: first.dir, args: ["-p", String(first.port)] });
  await second.listening();
  assert.equal((await second.get("/")).status, 200);
});

test("a port in use: exit 71, with its holder's name", async (t) => {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  t.after(() => server.close());
  const { port } = server.address();
  const run = await perigee(["run", app_dir(t, { route: WHO }), "-p", String(port)]);
  assert.equal(run.code, 71);
  assert.match(run.stderr, new RegExp(`port ${port} is in use by pid ${process.pid} `));
});

test("an address that cannot be listened on: exit 71, with the reason", async (t) => {
  const dir = app_dir(t, { route: WHO });
  for (const [key, host, why] of [
    ["http.host", "192.0.2.1", /^perigee: 192\.0\.2\.1 port 0: \S/m],
    ["admin.host", "192.0.2.1", /^perigee: 192\.0\.2\.1 port 0: \S/m],
    ["admin.host", "host.invalid", /^perigee: cannot listen on host\.invalid: \S/m],
  ]) {
    const run = await perigee(["run", dir, "-p", "0", "--set", "admin.port=0", "--set", `${key}=${host}`]);
    assert.equal(run.code, 71);
    assert.match(run.stderr, why);
  }
});

test("the port of another host of the same user is not shared", async (t) => {
  const app = await start(t, { route: WHO });
  const run = await perigee(["run", app_dir(t, { route: WHO }), "-p", String(app.port)]);
  assert.equal(run.code, 71);
  assert.match(run.stderr, /in use/);
});

test("a worker killed with -9 is replaced; the others serve on", async (t) => {
  const app = await start(t, { route: WHO, workers: 2 });
  const [victim] = app.workers();
  process.kill(victim, "SIGKILL");
  for (let i = 0; i < 40; i += 1) {
    const answer = await app.get("/");
    assert.equal(answer.status, 200);
    assert.notEqual(Number(answer.text), victim);
  }
  await until(async () => (await status(app)).workers.filter((w) => w.state === "serving").length === 2);
});

test("the only worker is killed: connections wait for its successor", async (t) => {
  const app = await start(t, { route: WHO });
  process.kill(app.workers()[0], "SIGKILL");
  assert.equal((await app.get("/")).status, 200);
});

test("a worker that can never start: 503 with Retry-After within 100 ms", async (t) => {
  const app = await start(t, {
    route: WHO,
    files: { "scripts/main.lua": `
      return { on_start = function()
        local flag = io.open("var/die")
        if flag then
          local ffi = require "ffi"
          ffi.cdef "int raise(int);"
          ffi.C.raise(9)
        end
      end }` },
  });
  writeFileSync(path.join(app.dir, "var/die"), "");
  process.kill(app.workers()[0], "SIGKILL");
  await app.line((l) => /keeps failing/.test(l.msg ?? ""));
  for (let i = 0; i < 5; i += 1) {
    const answer = await in_time(100, () => app.get("/"));
    assert.equal(answer.status, 503);
    assert.ok(Number(answer.headers["retry-after"]) >= 1);
    await sleep(30);
  }
});

test("signals that are the master's do nothing to a worker", async (t) => {
  const app = await start(t, { route: WHO });
  const [worker] = app.workers();
  for (const signal of ["SIGHUP", "SIGUSR1", "SIGINT"]) {
    process.kill(worker, signal);
  }
  await sleep(50);
  assert.equal(Number((await app.get("/")).text), worker);
});

test("TERM: new connections are refused, what has begun is answered", async (t) => {
  const app = await start(t, { route: WHO, workers: 2 });
  const slow = app.get("/slow");
  await app.line("it has begun");
  app.signal("SIGTERM");
  await until(() => refuses(app), { what: "a refusal" });
  app.write({ "var/go": "" });
  assert.equal((await slow).text, "slow");
  assert.deepEqual(await app.ended, { code: 0, signal: null });
});

for (const signal of ["SIGTERM", "SIGQUIT", "SIGINT"]) {
  test(`${signal} is a graceful stop with exit 0`, async (t) => {
    const app = await start(t, { route: WHO });
    const [worker] = app.workers();
    assert.deepEqual(await app.stop(signal), { code: 0, signal: null });
    assert.equal(alive(worker), false);
    assert.equal(existsSync(path.join(app.dir, "var/perigee.sock")), false);
  });
}

test("a second INT ends at once with exit 1", async (t) => {
  const app = await start(t, { route: WHO });
  app.get("/stuck").catch(() => {});
  await app.line("it has begun");
  app.signal("SIGINT");
  await app.line((l) => /^stopping/.test(l.msg ?? ""));
  app.signal("SIGINT");
  assert.deepEqual(await app.ended, { code: 1, signal: null });
});

test("shutdown.timeout ends what does not end by itself", async (t) => {
  const app = await start(t, { route: WHO, settings: { "shutdown.timeout": "600ms" } });
  app.get("/stuck").catch(() => {});
  await app.line("it has begun");
  const begun = performance.now();
  app.signal("SIGTERM");
  await app.ended;
  const took = performance.now() - begun;
  assert.ok(took > 300 && took < 3000, `${took} ms`);
});

test("shutdown.timeout = 0 cuts off at once what runs, and is exit 0 when nothing does", async (t) => {
  const files = {
    "scripts/main.lua": `return { on_stop = function() require("perigee.log").info "on_stop has run" end }`,
  };
  for (const timeout of [0, "1ms", "10ms"]) {
    const app = await start(t, { route: WHO, files, workers: 2, settings: { "shutdown.timeout": timeout } });
    const idle = await app.connect();
    idle.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert.equal((await idle.answer()).status, 200);
    assert.deepEqual(await app.stop(), { code: 0, signal: null }, `${timeout}`);
    assert.equal(app.lines.filter((l) => l.msg === "on_stop has run").length, 2);
  }
  const app = await start(t, { settings: { "shutdown.timeout": 0 }, route: WHO });
  const busy = await app.connect();
  busy.write("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n");
  await app.line("it has begun");
  app.signal("SIGTERM");
  assert.equal((await busy.answer()).status, 503);
  assert.deepEqual(await app.ended, { code: 1, signal: null });
  assert.ok(app.lines.some((l) => /cutting off 1 requests/.test(l.msg ?? "")));
});

test("what outlasts shutdown.timeout is told so", async (t) => {
  const app = await start(t, { route: WHO, settings: { "shutdown.timeout": "6s" } });
  const connection = await app.connect();
  connection.write("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n");
  await app.line("it has begun");
  app.signal("SIGTERM");
  const answer = await connection.answer();
  assert.equal(answer.status, 503);
  assert.equal(answer.headers.connection, "close");
  assert.equal(answer.json.status, 503);
  assert.equal(await connection.rest(), "");
  assert.deepEqual(await app.ended, { code: 1, signal: null });
});

test("while shutdown.drain_delay runs, readiness fails and requests are served", async (t) => {
  const app = await start(t, { route: WHO, settings: { "shutdown.drain_delay": "3s" } });
  const admin = (await app.line((l) => l.msg === "listening" && l.admin)).port;
  const ready = () => fetch(`http://127.0.0.1:${admin}/readyz?verbose`).then((r) => r.status);
  assert.equal(await ready(), 200);
  assert.equal((await app.get("/readyz")).status, 200);
  app.signal("SIGTERM");
  await app.line((l) => /^stopping/.test(l.msg ?? ""));
  assert.equal(await ready(), 503);
  assert.equal((await app.get("/readyz")).status, 503);
  assert.equal((await app.get("/livez")).status, 200);
  assert.equal((await app.get("/")).status, 200);
  assert.deepEqual(await app.ended, { code: 0, signal: null });
});

test("`perigee stop` waits until it has stopped", async (t) => {
  const app = await start(t, { route: WHO });
  const answer = await app.command("stop");
  assert.equal(answer.code, 0, answer.stderr);
  assert.deepEqual(await app.ended, { code: 0, signal: null });
  const again = await app.command("stop");
  assert.equal(again.code, 1);
  assert.match(again.stderr, /no host runs/);
});

test("`perigee stop` leaves its place to the next host, also where the log's reader has gone", async (t) => {
  const app = await start(t, { route: WHO });
  app.process.stdout.destroy();
  await app.get("/"); // a line that nobody takes
  assert.equal((await app.command("stop")).code, 0);
  const next = await start(t, { dir: app.dir });
  assert.equal((await next.get("/")).status, 200);
});

test("workers end when their master is killed", async (t) => {
  const app = await start(t, { route: WHO, workers: 2 });
  const workers = app.workers();
  process.kill(app.pid, "SIGKILL");
  await until(() => workers.every((pid) => !alive(pid)));
});

test("TTIN and TTOU: one worker more, one less, without a lost request", async (t) => {
  const app = await start(t, { route: WHO });
  app.signal("SIGTTIN");
  await until(async () => (await status(app)).workers.filter((w) => w.state === "serving").length === 2);
  const asking = keep_asking(app);
  await asking.more(50);
  app.signal("SIGTTOU");
  await until(async () => (await status(app)).workers.length === 1);
  await asking.more(500);
  assert.deepEqual(await asking.end(), []);
});

test("cluster.max_requests: workers are replaced, without a lost request, and counted", async (t) => {
  const app = await start(t, { route: WHO, workers: 2, settings: { "cluster.max_requests": 20 } });
  const admin = await app.line((l) => l.msg === "listening" && l.admin);
  for (let i = 0; i < 100; i++) {
    assert.equal((await app.get("/livez")).status, 200);
  }
  const counts = await until(async () => {
    const text = await (await fetch(`http://127.0.0.1:${admin.port}/metrics`)).text();
    const found = Object.fromEntries([...text.matchAll(/^perigee_worker_restarts_total\{reason="(\w+)"\} (\d+)$/gm)]
      .map(([, reason, count]) => [reason, Number(count)]));
    return found.recycle > 0 && found;
  });
  assert.deepEqual({ ...counts, recycle: 0 }, { exit: 0, signal: 0, watchdog: 0, start: 0, recycle: 0 });
});

test("USR1: the log file is opened anew after a rotation", async (t) => {
  const dir = app_dir(t, {
    route: `local log = require "perigee.log"
      router:get("/", function(req) log.info(req.query.say) return "ok" end)`,
  });
  const file = path.join(dir, "app.log");
  const app = launch(t, { dir, settings: { "log.destination": "app.log" } });
  const lines = (name) => (existsSync(name) ? readFileSync(name, "utf8") : "");
  const port = await until(() => /"port":(\d+)[^\n]*"env"/.exec(lines(file))?.[1]);
  app.port = Number(port);
  await app.get("/?say=first");
  await until(() => lines(file).includes('"msg":"first"'));
  renameSync(file, `${file}.1`);
  app.signal("SIGUSR1");
  await until(() => lines(file).includes("logs reopened"));
  await app.get("/?say=second");
  await until(() => lines(file).includes('"msg":"second"'));
  assert.ok(!lines(`${file}.1`).includes('"msg":"second"'));
});

test("a worker that aborts loses no line of its log", async (t) => {
  const app = await start(t, {
    route: `local log = require "perigee.log"
      router:get("/", function()
        for i = 1, 500 do log.info("line " .. i) end
        local ffi = require "ffi"
        ffi.cdef "void abort(void);"
        ffi.C.abort()
      end)`,
  });
  await app.get("/").catch(() => {});
  await app.line("line 500");
  const said = app.lines.map((l) => l.msg).filter((m) => /^line \d+$/.test(m ?? ""));
  assert.equal(new Set(said).size, 500);
});

test("USR2: the program on disk takes over the listeners, without a lost request", async (t) => {
  const app = await start(t, { route: WHO, workers: 2 });
  const before = app.workers();
  const asking = keep_asking(app);
  const slow = app.get("/slow");
  await app.line("it has begun");
  const from = app.lines.length;
  app.signal("SIGUSR2");
  const line = await app.line((l) => l.msg === "listening" && !l.admin, { from });
  assert.equal(line.port, app.port);
  assert.equal(line.pid, app.pid);
  app.write({ "var/go": "" });
  assert.equal((await slow).text, "slow");
  await until(() => before.every((pid) => !alive(pid)));
  await asking.more(100);
  assert.deepEqual(await asking.end(), []);
  assert.ok([...asking.seen].some((pid) => !before.includes(pid)));
  assert.equal((await status(app)).pid, app.pid);
  assert.deepEqual(await app.stop(), { code: 0, signal: null });
});

test("USR2 with broken code on disk changes nothing", async (t) => {
  const app = await start(t, { route: WHO });
  const [worker] = app.workers();
  app.write({ "scripts/routes/test.lua": "return function(" });
  app.signal("SIGUSR2");
  const line = await app.line((l) => /not taken over/.test(l.msg ?? ""));
  assert.match(line.reason, /scripts\/routes\/test\.lua/);
  assert.equal(Number((await app.get("/")).text), worker);
});
