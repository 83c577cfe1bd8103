// rediss://: Redis over TLS.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { free_port, start, until } from "./helpers.mjs";
import { missing } from "./redis_helpers.mjs";
import { Authority } from "./tls_helpers.mjs";

const skip = missing;

const ROUTE = `
  local redis = require "perigee.redis"
  local errors = require "perigee.error"
  router:post("/run", function(req)
    local chunk = assert(loadstring(req:body()))
    local value, err = chunk(redis.get())
    if err then return { kind = err.kind, code = err.code, message = err.message } end
    return { value = value }
  end, { timeout = "30s" })`;

/** A redis-server that speaks nothing but TLS. */
async function serve(t, authority, identity, args = []) {
  const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-rediss-"));
  const port = await free_port();
  const child = spawn("redis-server", ["--port", "0", "--tls-port", String(port), "--bind", "127.0.0.1",
    "--tls-cert-file", identity.cert_file, "--tls-key-file", identity.key_file,
    "--tls-ca-cert-file", authority.cert_file, "--save", "", "--dir", dir, ...args], { stdio: "ignore" });
  const ended = once(child, "exit");
  t.after(async () => {
    child.kill("SIGKILL");
    await ended;
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });
  await until(() => new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.on("connect", () => { socket.destroy(); resolve(true); });
    socket.on("error", () => resolve(false));
  }), { what: "redis-server" });
  return { port, child };
}

async function client(t, port, tls, { login = "", host = "localhost" } = {}) {
  const app = await start(t, {
    route: ROUTE,
    files: { "config/default.lua": `return { redis = { main = { url = "rediss://${login}${host}:${port}", tls = { ${tls} } } } }\n` },
  });
  app.run = async (lua) => (await app.post("/run", `local r = ...; ${lua}`)).json;
  return app;
}

test("commands, pipelines, large values and subscriptions over TLS", { skip }, async (t) => {
  const authority = new Authority(t);
  const server = await serve(t, authority, authority.issue(["localhost"]), ["--tls-auth-clients", "no", "--requirepass", "secret"]);
  const app = await client(t, server.port, `ca = "${authority.cert_file}"`, { login: ":secret@" });
  assert.deepEqual(await app.run('return r:set("k", "v")'), { value: "OK" });
  assert.deepEqual(await app.run('return r:get("k")'), { value: "v" });
  assert.deepEqual(await app.run(`
    local replies = r:pipeline(function(p) for i = 1, 2000 do p:set("k" .. i, i) end; p:get("k1234") end)
    return replies[2001]`), { value: "1234" });
  assert.deepEqual(await app.run(`
    local big = ("0123456789abcdef"):rep(500000)
    assert(r:set("big", big))
    return r:get("big") == big`), { value: true });
  assert.deepEqual(await app.run(`
    local task = require "perigee.task"
    local seen = {}
    local done = task.spawn(function()
      for m in r:subscribe("news") do
        seen[#seen + 1] = m.message
        if #seen == 3 then break end
      end
    end)
    for _ = 1, 500 do
      if r:publish("news", "n") > 0 and #seen == 3 then break end
      task.sleep(10)
    end
    done:join()
    return #seen`), { value: 3 });
  assert.deepEqual(await app.run(`
    local task = require "perigee.task"
    local wrong = 0
    task.map((function() local l = {} for i = 1, 2000 do l[i] = i end return l end)(), function(i)
      if r:echo("e" .. i) ~= "e" .. i then wrong = wrong + 1 end
    end, { concurrency = 200 })
    return wrong`), { value: 0 });
});

test("the server's certificate is checked, and what is wrong is said", { skip }, async (t) => {
  const authority = new Authority(t);
  const good = await serve(t, authority, authority.issue(["redis.test"]), ["--tls-auth-clients", "no"]);
  const ca = `ca = "${authority.cert_file}"`;
  const named = await client(t, good.port, `${ca}, server_name = "redis.test"`);
  assert.deepEqual(await named.run('return r:ping()'), { value: "PONG" });
  const wrong = await client(t, good.port, ca);
  const fault = await wrong.run("return r:ping()");
  assert.deepEqual([fault.kind, fault.code], ["unavailable", "tls_host_mismatch"]);
  assert.match(fault.message, /redis main \(localhost:\d+\): TLS: the certificate is for another host name/);
  const unknown = await client(t, good.port, "");
  assert.equal((await unknown.run("return r:ping()")).code, "tls_unknown_issuer");
  const any = await client(t, good.port, "verify = false");
  assert.deepEqual(await any.run("return r:ping()"), { value: "PONG" });
  const gone = await client(t, good.port, 'ca = "certs/none.pem"');
  assert.match((await gone.run("return r:ping()")).message, /tls\.ca: certs\/none\.pem: No such file/);
});

test("a server that asks who calls; one that does not speak TLS; one that returns", { skip }, async (t) => {
  const authority = new Authority(t);
  const identity = authority.issue(["localhost"]);
  const me = authority.issue(["me"]);
  const server = await serve(t, authority, identity); // asks clients by default
  const ca = `ca = "${authority.cert_file}"`;
  const known = await client(t, server.port, `${ca}, cert = "${me.cert_file}", key = "${me.key_file}"`);
  assert.deepEqual(await known.run("return r:ping()"), { value: "PONG" });
  const stranger = await client(t, server.port, ca);
  const fault = await stranger.run("return r:ping()");
  assert.equal(fault.kind, "unavailable");

  const plain = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", () => socket.write("-ERR Protocol error\r\n"));
  });
  plain.listen(0, "127.0.0.1");
  await once(plain, "listening");
  t.after(() => plain.close());
  const lost = await client(t, plain.address().port, ca);
  assert.equal((await lost.run("return r:ping()")).code, "tls_not_tls");

  // Cut while in use: commands fail, then it is there again.
  await known.run('return r:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")');
  await until(async () => (await known.run("return r:ping()")).value === "PONG", { what: "Redis" });
});
