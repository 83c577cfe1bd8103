// Connections of the HTTP client: which are used again, which never, how many
// there are, and how long anybody waits.
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import test from "node:test";

import { client_app, upstream } from "./client_helpers.mjs";
import { sleep, until } from "./helpers.mjs";

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

test("a connection is used again after a complete answer", async (t) => {
  const app = await client_app(t);
  const server = await upstream(t, (socket) => socket.write(OK));
  for (let i = 0; i < 5; i++) {
    assert.equal((await app.fetch(server.port)).body, "ok");
  }
  assert.equal(server.connections, 1);
});

test("one is never used again after close, an answer too many, or half an answer", async (t) => {
  const app = await client_app(t);
  for (const text of [
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\t\r\n\r\nok",
    "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    OK + OK,
    `${OK}garbage`,
  ]) {
    const server = await upstream(t, (socket) => socket.write(text));
    assert.equal((await app.fetch(server.port)).body, "ok");
    assert.equal((await app.fetch(server.port)).body, "ok");
    assert.equal(server.connections, 2, JSON.stringify(text));
  }
  let first;
  const late = await upstream(t, (socket, head, n) => {
    if (n === 1) {
      first = socket;
      return;
    }
    first.write(OK.replace("ok", "no"), () => socket.write(OK));
  });
  assert.equal((await app.fetch(late.port, "timeout = 100")).kind, "timeout");
  assert.equal((await app.fetch(late.port)).body, "ok");
  assert.equal(late.connections, 2);
});

test("an answer that comes while a connection rests ends the connection", async (t) => {
  const app = await client_app(t);
  const server = await upstream(t, (socket, head, n) => {
    socket.write(OK);
    setTimeout(() => n === 1 && socket.write("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad"), 50);
  });
  assert.equal((await app.fetch(server.port)).body, "ok");
  await until(() => server.sockets.size === 0, { what: "the connection's end" });
  assert.equal((await app.fetch(server.port)).body, "ok");
});

test("an answer too many that was not read yet is not taken for the next one's", async (t) => {
  const app = await client_app(t);
  const answer = (text) => `HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
  const server = await upstream(t, (socket, head, n) => {
    socket.write(answer(`answer ${n}`));
    if (n === 1) {
      setTimeout(() => socket.write(answer("too many")), 50);
    }
  });
  // The loop reads nothing between the two: it computes.
  const bodies = await app.run(`
    local url, now = "http://127.0.0.1:${server.port}/", function() return os.clock() * 1000 end
    local first = assert(http.get(url)).body
    local until_ms = now() + 400
    while now() < until_ms do end
    return { first, assert(http.get(url)).body }`);
  assert.deepEqual(bodies, ["answer 1", "answer 2"]);
  assert.equal(server.connections, 2);
});

test("a kept connection that turns out closed is replaced once, where that is safe", async (t) => {
  const app = await client_app(t);
  // The second request on a connection finds it closed.
  const seen = new WeakMap();
  const server = await upstream(t, (socket) => {
    seen.set(socket, (seen.get(socket) ?? 0) + 1);
    if (seen.get(socket) === 2) {
      socket.destroy();
    } else {
      socket.write(OK);
    }
  });
  assert.equal((await app.fetch(server.port)).body, "ok");
  assert.equal((await app.fetch(server.port)).body, "ok");
  assert.equal(server.connections, 2);
  const { code } = await app.fetch(server.port, `method = "POST", body = "x"`);
  assert.equal(code, "ECONNRESET");
  assert.equal(server.connections, 2);
});

test("a server that is silent: first_byte_timeout, timeout, and the task's deadline", async (t) => {
  const app = await client_app(t);
  const server = await upstream(t, () => {});
  const first = await app.fetch(server.port, `first_byte_timeout = "100ms"`);
  assert.deepEqual([first.kind, first.code], ["timeout", "first_byte_timeout"]);
  const total = await app.fetch(server.port, `timeout = "100ms"`);
  assert.deepEqual([total.kind, total.code], ["timeout", "timeout"]);
  const kind = await app.run(`
    local ok, err = task.with_deadline(100, function()
      return http.get("http://127.0.0.1:${server.port}/")
    end)
    return fail(err)
  `);
  assert.equal(kind.kind, "timeout");
  await until(() => server.sockets.size === 0, { what: "closing" });
});

test("a cancelled task closes its connection", async (t) => {
  const app = await client_app(t);
  const server = await upstream(t, () => {});
  const asked = app.run(`
    local child = task.spawn(http.get, "http://127.0.0.1:${server.port}/")
    repeat task.sleep(5) until io.open "var/go"
    child:cancel()
    return {}
  `);
  await until(() => server.requests === 1, { what: "the request" });
  app.write({ "var/go": "" });
  await asked;
  assert.equal(server.connections, 1);
  await until(() => server.sockets.size === 0, { what: "closing" });
});

test("at most 64 connections to an origin; the others wait their turn", async (t) => {
  const app = await client_app(t);
  let most = 0;
  const server = await upstream(t, (socket) => {
    most = Math.max(most, server.sockets.size);
    setTimeout(() => socket.write(OK), 5);
  });
  const { good } = await app.run(`
    local list = {}
    for i = 1, 500 do list[i] = i end
    local good = 0
    task.map(list, function()
      local res = http.get("http://127.0.0.1:${server.port}/")
      if res and res.body == "ok" then good = good + 1 end
      return true
    end, { concurrency = 500 })
    return { good = good }
  `);
  assert.equal(good, 500);
  assert.ok(most <= 64 && server.connections <= 64, `${most} ${server.connections}`);
  assert.equal((await app.run("return stats()")).waiting, 0);
});

test("a stream is read at the reader's pace; unread, it ends with the task", async (t) => {
  const app = await client_app(t);
  let sent = 0;
  const server = await upstream(t, (socket) => {
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    const more = () => {
      while (!socket.destroyed && socket.write("x".repeat(65536))) {
        sent += 65536;
      }
      sent += 65536;
    };
    socket.on("drain", more);
    more();
  });
  await app.run(`
    local res = assert(http.get("http://127.0.0.1:${server.port}/", { stream = true }))
    local chunk = res:chunks()()
    task.sleep(300)
    return { #chunk }
  `);
  assert.ok(sent < 32 * 1024 * 1024, `${sent} bytes were taken`);
  await until(() => server.sockets.size === 0, { what: "closing" });
});

test("a stream can be handed on as an answer", async (t) => {
  const app = await client_app(t);
  const server = await upstream(t, async (socket) => {
    socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    for (const part of ["one", "two", "three"]) {
      socket.write(`${part.length.toString(16)}\r\n${part}\r\n`);
      await sleep(20);
    }
    socket.write("0\r\n\r\n");
  });
  const answer = await app.post("/run", `
    local res = assert(http.get("http://127.0.0.1:${server.port}/", { stream = true }))
    return http.stream(function(out)
      for chunk in res:chunks() do out:write(chunk) end
    end)
  `);
  assert.equal(answer.text, "onetwothree");
});

test("a body that a function gives is sent in chunks; an early answer ends it", async (t) => {
  const app = await client_app(t);
  let got = "";
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (data) => {
      got += data;
      if (got.endsWith("0\r\n\r\n")) {
        socket.write(OK);
      } else if (got.includes("/early")) {
        socket.write("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const url = `http://127.0.0.1:${server.address().port}`;
  const send = (target, count) => app.run(`
    local n = 0
    local res, err = http.post("${url}${target}", { body = function()
      n = n + 1
      task.sleep(1)
      return n <= ${count} and "part" .. n or nil
    end })
    if not res then return fail(err) end
    return { status = res.status, n = n }
  `);
  assert.equal((await send("/all", 3)).status, 200);
  assert.match(got, /transfer-encoding: chunked\r\n\r\n5\r\npart1\r\n5\r\npart2\r\n5\r\npart3\r\n0\r\n\r\n$/);
  got = "";
  const early = await send("/early", 100_000);
  assert.equal(early.status, 413);
  assert.ok(early.n < 1000);
});

test("refused, unknown, private, TLS: told apart", async (t) => {
  const app = await client_app(t);
  const server = await upstream(t, (socket) => socket.write(OK));
  const codes = async (url, opts = "") => {
    const { kind, code } = await app.run(`return fail(select(2, http.request { url = "${url}", ${opts} }))`);
    return [kind, code];
  };
  assert.deepEqual(await codes("http://127.0.0.1:1/"), ["unavailable", "ECONNREFUSED"]);
  assert.deepEqual(await codes("http://no-such-host.invalid/"), ["unavailable", "ENOTFOUND"]);
  assert.deepEqual(await codes("https://127.0.0.1:1/"), ["unavailable", "ECONNREFUSED"]);
  assert.deepEqual(await codes("ftp://127.0.0.1/"), ["invalid", "bad_url"]);
  assert.deepEqual(await codes("http://a b/"), ["invalid", "bad_url"]);
  for (const host of ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]) {
    assert.deepEqual(await codes(`http://${host}:${server.port}/`, "deny_private = true"),
      ["forbidden", "private_address"], host);
  }
  assert.equal(server.connections, 0);
  assert.equal((await app.fetch(server.port)).body, "ok");
  assert.deepEqual(await codes(`http://127.0.0.1:${server.port}/`, "deny_private = true"),
    ["forbidden", "private_address"], "although a connection is kept");
});

test("localhost: the address that answers is taken", async (t) => {
  const app = await client_app(t);
  const server = await upstream(t, (socket) => socket.write(OK));
  assert.equal((await app.run(`return { assert(http.get("http://localhost:${server.port}/")).body }`))[0], "ok");
});

test("a UNIX socket", async (t) => {
  const app = await client_app(t);
  const file = path.join(app.dir, "var/upstream.sock");
  const server = net.createServer((socket) => socket.on("data", () => socket.write(OK)).on("error", () => {}));
  server.listen(file);
  await once(server, "listening");
  t.after(() => server.close());
  assert.equal((await app.run(`return { assert(http.get("http://x/", { unix = "${file}" })).body }`))[0], "ok");
});

test("connections outlive a reload", async (t) => {
  const app = await client_app(t);
  const server = await upstream(t, (socket) => socket.write(OK));
  await app.fetch(server.port);
  assert.equal((await app.command("reload")).code, 0);
  await app.fetch(server.port);
  assert.equal(server.connections, 1);
});
