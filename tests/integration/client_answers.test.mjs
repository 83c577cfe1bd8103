// What servers may answer to the HTTP client, and what they may not.
import assert from "node:assert/strict";
import test from "node:test";
import zlib from "node:zlib";

import { client_app, upstream } from "./client_helpers.mjs";

const sends = (t, text) => upstream(t, (socket) => socket.write(text, "latin1"));

test("answers that can be read in two ways are refused", async (t) => {
  const app = await client_app(t);
  const bad = {
    "no HTTP": "SSH-2.0-OpenSSH\r\n",
    "HTTP/2.0": "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "a status of two digits": "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
    "a status below 100": "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
    "NUL in the reason": "HTTP/1.1 200 O\0K\r\ncontent-length: 0\r\n\r\n",
    "bare line feeds": "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "folding": "HTTP/1.1 200 OK\r\ncontent-length:\r\n 5\r\n\r\nhello",
    "an empty name": "HTTP/1.1 200 OK\r\n: x\r\ncontent-length: 0\r\n\r\n",
    "a blank before the colon": "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
    "length and chunked": "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "a negative length": "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
    "another coding": "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    "chunked in HTTP/1.0": "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a malformed chunk": "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcXX",
    "an unwanted upgrade": "HTTP/1.1 101 Yes\r\nupgrade: x\r\n\r\n",
  };
  for (const [name, text] of Object.entries(bad)) {
    const server = await sends(t, text);
    const { kind, code } = await app.fetch(server.port, `timeout = "5s"`);
    assert.deepEqual({ kind, code }, { kind: "unavailable", code: "bad_response" }, name);
  }
});

test("sound answers of all framings are read", async (t) => {
  const app = await client_app(t);
  const good = {
    "a length": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n",
    "interim answers": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no reason": "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
  };
  for (const [name, text] of Object.entries(good)) {
    const server = await sends(t, text);
    const answer = await app.fetch(server.port);
    assert.equal(answer.status, 200, name);
    assert.equal(answer.body, "hello", name);
  }
  const to_end = await upstream(t, (socket) => socket.end("HTTP/1.0 200 OK\r\n\r\nhello"));
  assert.equal((await app.fetch(to_end.port)).body, "hello");
});

test("HEAD, 204 and 304 have no body, whatever they announce", async (t) => {
  const app = await client_app(t);
  const server = await upstream(t, (socket, head, n) => {
    const status = n === 1 ? "200 OK" : n === 2 ? "304 Not Modified" : "204 No Content";
    socket.write(`HTTP/1.1 ${status}\r\ncontent-length: 5\r\n\r\n`);
  });
  for (const [method, status] of [["HEAD", 200], ["GET", 304], ["GET", 204]]) {
    const answer = await app.fetch(server.port, `method = "${method}"`);
    assert.equal(answer.status, status);
    assert.equal(answer.body, "");
  }
  assert.equal(server.connections, 1);
});

test("repeated fields become a list, names are in lower case", async (t) => {
  const app = await client_app(t);
  const server = await sends(t, "HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:\t2 \r\nContent-Length: 0\r\nOther: \xe9\r\n\r\n".replace("\xe9", "e"));
  const { headers } = await app.fetch(server.port);
  assert.deepEqual(headers, { "x-a": ["1", "2"], "content-length": "0", other: "e" });
});

test("Retry-After is read as seconds and as any of HTTP's dates", async (t) => {
  const app = await client_app(t);
  const cases = {
    "120": 120_000, "0": 0, "Thu, 01 Jan 1970 00:00:01 GMT": 0, "Thursday, 01-Jan-70 00:00:01 GMT": 0,
    "Thu Jan  1 00:00:01 1970": 0, "-1": null, "1.5": null, "0x10": null, "soon": null, "": null,
  };
  for (const [text, ms] of Object.entries(cases)) {
    const server = await sends(t, `HTTP/1.1 503 Busy\r\nRetry-After: ${text}\r\nContent-Length: 0\r\n\r\n`);
    const told = await app.run(`
      local res = assert(http.get("http://127.0.0.1:${server.port}/", { retry = 1 }))
      return { ms = res:retry_after() }`);
    assert.equal(told.ms ?? null, ms, text);
  }
  const later = new Date(Date.now() + 3600_000).toUTCString();
  const server = await sends(t, `HTTP/1.1 429 Busy\r\nRetry-After: ${later}\r\nContent-Length: 0\r\n\r\n`);
  const { ms } = await app.run(`return { ms = assert(http.get "http://127.0.0.1:${server.port}/"):retry_after() }`);
  assert.ok(ms > 3000_000 && ms <= 3600_000, `${ms}`);
});

test("a body that is cut is an error, in chunks and with a length", async (t) => {
  const app = await client_app(t);
  for (const text of [
    "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "HTTP/1.1 200 OK\r\ncontent-le",
    "",
  ]) {
    const server = await upstream(t, (socket) => socket.end(text));
    const { kind, code } = await app.fetch(server.port);
    assert.deepEqual({ kind, code }, { kind: "unavailable", code: "ECONNRESET" }, text);
  }
});

test("endless headers end at 64 KB", async (t) => {
  const app = await client_app(t);
  let sent = 0;
  const server = await upstream(t, (socket) => {
    socket.write("HTTP/1.1 200 OK\r\n");
    const more = () => {
      while (!socket.destroyed && socket.write(`x-${sent++}: ${"y".repeat(1000)}\r\n`));
    };
    socket.on("drain", more);
    more();
  });
  const answer = await app.fetch(server.port);
  assert.equal(answer.code, "bad_response");
  assert.ok(sent < 20_000);
});

test("a body over body_max is too_large", async (t) => {
  const app = await client_app(t);
  const server = await sends(t, `HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n${"x".repeat(1001)}`);
  assert.equal((await app.fetch(server.port, "body_max = 1000")).kind, "too_large");
  assert.equal((await app.fetch(server.port, "body_max = 1001")).status, 200);
});

test("gzip, deflate and br are unpacked, a bomb is not", async (t) => {
  const app = await client_app(t);
  let packed;
  let coding;
  const server = await upstream(t, (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\ncontent-encoding: ${coding}\r\ncontent-length: ${packed.length}\r\n\r\n`);
    socket.write(packed);
  });
  const packers = [["gzip", zlib.gzipSync], ["deflate", zlib.deflateSync], ["deflate", zlib.deflateRawSync],
    ["br", zlib.brotliCompressSync]];
  for (const [name, pack] of packers) {
    coding = name;
    packed = pack("hello ".repeat(1000));
    const answer = await app.fetch(server.port);
    assert.equal(answer.body, "hello ".repeat(1000), name);
    assert.deepEqual(answer.headers, {}, name);
    const raw = await app.fetch(server.port, `decompress = false, method = "HEAD"`).catch(() => null);
    assert.equal(raw.headers["content-encoding"], name);
    packed = packed.subarray(0, packed.length - 4);
    assert.equal((await app.fetch(server.port)).code, "bad_response", `${name}, cut`);
    packed = pack(Buffer.alloc(32 * 1024 * 1024));
    assert.equal((await app.fetch(server.port)).kind, "too_large", `${name}, a bomb`);
  }
});

test("a body that unpacks to many megabytes holds up no other answer", async (t) => {
  const app = await client_app(t);
  const size = 64 * 1024 * 1024;
  const packed = zlib.gzipSync(Buffer.alloc(size));
  let sent;
  const all_sent = new Promise((resolve) => { sent = resolve; });
  const big = await upstream(t, (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: ${packed.length}\r\n\r\n`);
    socket.write(packed, sent);
  });
  const small = await upstream(t, async (socket) => {
    await all_sent;
    socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
  });
  assert.deepEqual(await app.run(`
    local order = {}
    local function get(port)
      return function()
        local res = assert(http.get("http://127.0.0.1:" .. port, { body_max = "64mb" }))
        order[#order + 1] = #res.body
        return true
      end
    end
    assert(task.all { get(${big.port}), get(${small.port}) })
    return order`), [2, size]);
});

test("a bomb in a stream takes no more memory than a window", async (t) => {
  const app = await client_app(t);
  const packed = zlib.gzipSync(Buffer.alloc(100 * 1024 * 1024));
  const server = await upstream(t, (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: ${packed.length}\r\n\r\n`);
    socket.write(packed);
  });
  const { total, largest } = await app.run(`
    local res = assert(http.get("http://127.0.0.1:${server.port}/", { stream = true }))
    local total, largest = 0, 0
    for chunk in res:chunks() do
      total, largest = total + #chunk, math.max(largest, #chunk)
    end
    return { total = total, largest = largest }
  `);
  assert.equal(total, 100 * 1024 * 1024);
  assert.ok(largest <= 256 * 1024);
});
