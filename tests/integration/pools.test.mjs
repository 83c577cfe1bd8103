// What /metrics and `perigee status` say of pools of connections.
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import path from "node:path";
import test from "node:test";
import { client_app, upstream } from "./client_helpers.mjs";
import { until } from "./helpers.mjs";
import { missing, setup } from "./redis_helpers.mjs";

const KEPT = { "client.idle_timeout": "60s" };
const ANSWER = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/** Samples of a scrape whose name and labels match: [[text, value], ...]. */
async function samples(app, pattern) {
  app.admin ??= (await app.line((l) => l.msg === "listening" && l.admin)).url;
  const text = await (await fetch(`${app.admin}/metrics`)).text();
  return text.split("\n").filter((line) => pattern.test(line) && !line.startsWith("#"))
    .map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]);
}

/** Of the series that match; what is not there is nothing. */
async function sum(app, pattern) {
  return (await samples(app, pattern)).reduce((all, [, value]) => all + value, 0);
}

/** [in use, idle, waiting] as a scrape has it. */
async function http_pool(app, port) {
  const at = `server_address="127.0.0.1",server_port="${port}",url_scheme="http"`;
  return [
    await sum(app, new RegExp(`^http_client_open_connections\\{${at},http_connection_state="active"\\}`)),
    await sum(app, new RegExp(`^http_client_open_connections\\{${at},http_connection_state="idle"\\}`)),
    await sum(app, new RegExp(`^perigee_http_client_pending_requests\\{${at}\\}`)),
  ];
}

async function db_pool(app, system, name) {
  const at = `db_system_name="${system}",db_client_connection_pool_name="${name}"`;
  return [
    await sum(app, new RegExp(`^db_client_open_connections\\{${at},db_client_connection_state="used"\\}`)),
    await sum(app, new RegExp(`^db_client_open_connections\\{${at},db_client_connection_state="idle"\\}`)),
    await sum(app, new RegExp(`^db_client_connection_pending_requests\\{${at}\\}`)),
  ];
}

/** Waits until the pool is as wanted; else says how it was. */
async function becomes(read, wanted) {
  let last;
  await until(async () => {
    last = await read();
    return String(last) === String(wanted);
  }, { what: `${wanted}` }).catch(() => assert.deepEqual(last, wanted));
}

/** An upstream that holds its answers until give(). */
async function holding(t) {
  const held = [];
  const server = await upstream(t, (socket, head) => held.push({ socket, head }));
  server.held = held;
  server.give = () => {
    server.open = true;
    for (const { socket } of held.splice(0)) {
      socket.write(ANSWER);
    }
  };
  return server;
}

test("an origin's connections in use, kept and waited for are shown, and go back to 0", async (t) => {
  const server = await holding(t);
  const app = await client_app(t, { settings: { ...KEPT, "client.connections": 2 } });
  const pool = () => http_pool(app, server.port);
  const calls = Promise.all(Array.from({ length: 5 }, () => app.fetch(server.port)));
  await becomes(pool, [2, 0, 3]);

  const status = JSON.parse((await app.command("status", "--json")).stdout);
  assert.deepEqual(status.pools.find((each) => each.name === `127.0.0.1:${server.port}`),
    { kind: "http", name: `127.0.0.1:${server.port}`, used: 2, idle: 0, waiting: 3 });
  assert.match((await app.command("status")).stdout,
    new RegExp(`pool +kind +in use +idle +waiting\n(.*\n)*127\\.0\\.0\\.1:${server.port} +http +2 +0 +3\n`));

  const giving = setInterval(() => server.give(), 10); // those who waited ask later
  assert.deepEqual((await calls).map((res) => res.status), [200, 200, 200, 200, 200]);
  clearInterval(giving);
  await becomes(pool, [0, 2, 0]);
  for (const socket of server.sockets) {
    socket.destroy();
  }
  await becomes(pool, [0, 0, 0]);
  assert.equal(JSON.parse((await app.command("status", "--json")).stdout)
    .pools.some((each) => each.name === `127.0.0.1:${server.port}`), false);
});

test("connections of all workers are added up, and those of a killed one are gone", async (t) => {
  const server = await holding(t);
  const app = await client_app(t, { workers: 2, settings: KEPT });
  const pool = () => http_pool(app, server.port);
  const calls = [];
  const of = (pid) => server.held.filter(({ head }) => head.includes(`x-pid: ${pid}\r\n`)).length;
  const [victim, other] = app.workers();
  await until(() => {
    if (calls.length === server.held.length) { // the last one's worker is known
      calls.push(app.run(`return { status = http.get("http://127.0.0.1:${server.port}/",
        { headers = { ["x-pid"] = tostring(require("perigee.host").pid) } }).status }`).catch(() => null));
    }
    return of(victim) > 0 && of(other) > 0;
  });
  await until(() => calls.length === server.held.length);
  await becomes(pool, [calls.length, 0, 0]);
  const left = of(other);
  process.kill(victim, "SIGKILL");
  await becomes(pool, [left, 0, 0]);
  const successor = await until(() => app.workers().find((pid) => pid !== victim && pid !== other));
  await until(async () => JSON.parse((await app.command("status", "--json")).stdout)
    .workers.some((worker) => worker.pid === successor && worker.state === "serving"));
  await becomes(pool, [left, 0, 0]);
  server.give();
  await Promise.all(calls);
  await becomes(pool, [0, left, 0]);
});

test("a reload keeps the connections, and counts them once", async (t) => {
  const server = await upstream(t, (socket) => socket.write(ANSWER));
  const app = await client_app(t, { settings: KEPT });
  await app.fetch(server.port);
  await becomes(() => http_pool(app, server.port), [0, 1, 0]);
  assert.equal((await app.command("reload")).code, 0);
  await app.fetch(server.port);
  const beat = () => sum(app, /^perigee_eventloop_lag_seconds_count/);
  const before = await beat();
  await until(async () => await beat() > before + 1);
  await becomes(() => http_pool(app, server.port), [0, 1, 0]);
});

test("origins beyond the series limit share one series, which goes back to 0", async (t) => {
  const app = await client_app(t, { settings: { ...KEPT, "metrics.series_max": 2 } });
  const servers = [];
  for (let i = 0; i < 4; i++) {
    servers.push(await upstream(t, (socket) => socket.write(ANSWER)));
    await app.fetch(servers[i].port);
  }
  const family = /^http_client_open_connections\{/;
  await becomes(() => sum(app, family), 4);
  const all = await samples(app, family);
  assert.deepEqual(all.map(([text]) => text.includes('overflow="true"')), [false, false, true]);
  assert.deepEqual(all.map(([, value]) => value).sort(), [0, 1, 3]);
  for (const server of servers) {
    for (const socket of server.sockets) {
      socket.destroy();
    }
  }
  await becomes(async () => (await samples(app, family)).map(([, value]) => value), [0, 0, 0]);
});

test("redis: connections in use and idle, commands without a reply", { skip: missing }, async (t) => {
  const { redis, app, run } = await setup(t);
  const pool = () => db_pool(app, "redis", "main");
  await run("return r:set('a', 1)");
  await becomes(pool, [0, 1, 0]); // the shared one
  const blocked = run("return r:blpop('list', 30)");
  await becomes(pool, [1, 1, 0]);
  await redis.call("rpush", "list", "x");
  await blocked;
  await becomes(pool, [0, 2, 0]); // both are kept

  await redis.call("client", "pause", "60000", "write");
  const waiting = run("return task.all { function() return r:set('b', 1) end, function() return r:set('c', 2) end, function() return r:set('d', 3) end }");
  await becomes(pool, [1, 1, 3]);
  await redis.call("client", "unpause");
  await waiting;
  await becomes(pool, [0, 2, 0]);
  await redis.kill();
  await becomes(pool, [0, 0, 0]);
  const { pools } = JSON.parse((await app.command("status", "--json")).stdout);
  assert.deepEqual(pools, [{ kind: "redis", name: "main", used: 0, idle: 0, waiting: 0 }]);
});

test("sqlite: threads of a database in use and idle, what waits for one", async (t) => {
  const app = await client_app(t, { settings: { "sqlite.main.path": "var/a.db" } });
  const pool = () => db_pool(app, "sqlite", "main");
  const db = 'local db = require("perigee.sqlite").get "main"\n';
  const server = await holding(t);
  await app.run(`${db} db:exec "create table t(n)" return {}`);
  await becomes(pool, [0, 1, 0]);
  await app.run(`${db} return db:one "select count(*) as n from t"`);
  await becomes(pool, [0, 2, 0]);
  const holds = app.run(`${db} return db:transaction(function(tx)
    tx:exec "insert into t values (1)"
    return { status = http.get("http://127.0.0.1:${server.port}/").status }
  end)`);
  await becomes(pool, [1, 1, 0]);
  const writes = [2, 3].map((n) => app.run(`${db} db:exec("insert into t values (${n})") return {}`));
  await becomes(pool, [1, 1, 2]);
  server.give();
  assert.equal((await holds).status, 200);
  await Promise.all(writes);
  await becomes(pool, [0, 2, 0]);
});

test("metrics.enabled = false: nobody looks at pools", async (t) => {
  const server = await upstream(t, (socket) => socket.write(ANSWER));
  const app = await client_app(t, { settings: { ...KEPT, "metrics.enabled": false } });
  await app.fetch(server.port);
  assert.deepEqual(JSON.parse((await app.command("status", "--json")).stdout).pools, []);
});

test("an origin behind a tunnel or a UNIX socket has its own name", async (t) => {
  const app = await client_app(t, { settings: KEPT });
  const proxy = await upstream(t, () => {}); // never answers CONNECT
  app.run(`http.get("https://inner.test:8443/", { proxy = "http://127.0.0.1:${proxy.port}" }) return {}`).catch(() => {});
  app.run(`http.get("https://[2001:db8::1]/", { proxy = "http://127.0.0.1:${proxy.port}" }) return {}`).catch(() => {});
  await becomes(async () => (await samples(app, /^perigee_http_client_pending_requests\{/)).map(([text]) => text).sort(), [
    'perigee_http_client_pending_requests{server_address="2001:db8::1",server_port="443",url_scheme="https"}',
    'perigee_http_client_pending_requests{server_address="inner.test",server_port="8443",url_scheme="https"}',
  ]);

  const socket = path.join(app.dir, "var/upstream.sock");
  const server = http.createServer((req, res) => res.end("ok")).listen(socket);
  t.after(() => server.close());
  await once(server, "listening");
  assert.equal((await app.run(`return { status = http.get("http://any/", { unix = "${socket}" }).status }`)).status, 200);
  await becomes(() => sum(app, new RegExp(`server_address="${socket}",server_port="",url_scheme="http",http_connection_state="idle"`)), 1);
  assert.ok(JSON.parse((await app.command("status", "--json")).stdout).pools.some((pool) => pool.name === socket));
  server.closeAllConnections();
});
