// Malformed requests over real sockets: each gets the status it should, the
// connection ends, and the answers owed before it arrive first.
import assert from "node:assert/strict";
import { test } from "node:test";
import { in_time, sleep, start } from "./helpers.mjs";

const ROUTE = `
  local task = require "perigee.task"
  router:get("/", function() return "root" end)
  router:get("/slow", function() task.sleep(100) return "slow" end)
  router:post("/echo", function(req)
    local body, err = req:body()
    if not body then return nil, err end
    return body
  end, { body_max = 1000 })
`;

const ok = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const get = (line, fields = "Host: a\r\n") => `${line}\r\n${fields}\r\n`;
const post = (fields, body = "") => `POST /echo HTTP/1.1\r\nHost: a\r\n${fields}\r\n${body}`;
const chunked = (body) => post("Transfer-Encoding: chunked\r\n", body);

const CASES = [
  // framing
  [400, "a folded field", post("X: a\r\n b\r\n")],
  [400, "a folded Content-Length", post("Content-Length:\r\n 5\r\n", "hello")],
  [400, "a folded Transfer-Encoding", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n")],
  [400, "a folded first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"],
  [400, "a bare line feed after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n"],
  [400, "a bare line feed after a field", "GET / HTTP/1.1\r\nHost: a\n\r\n"],
  [400, "a bare line feed as the end of the head", "GET / HTTP/1.1\r\nHost: a\r\n\n"],
  [400, "a bare line feed after the last chunk", chunked("0\r\n\n")],
  [400, "a carriage return that hides a field", post("X: \rTransfer-Encoding: chunked\r\n")],
  [400, "two empty lines first", `\r\n\r\n${ok}`],
  [400, "a bare line feed first", `\n${ok}`],
  [400, "a bare carriage return first", `\r${ok}`],
  [400, "HTTP/0.9", "GET /\r\n"],
  [400, "HTTP/0.9 with fields", "GET /\r\nHost: a\r\n\r\n"],
  [400, "HTTP/0.9 with line feeds", "POST /echo\nHost: a\nContent-Length: 3\n\nabc"],
  [505, "version 0.9", get("GET / HTTP/0.9")],
  [505, "version 2.0", get("GET / HTTP/2.0")],
  [505, "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
  [400, "RTSP", get("GET / RTSP/1.0")],
  [400, "ICE", get("GET / ICE/1.0")],
  [501, "the method SOURCE", get("SOURCE / HTTP/1.1")],
  [501, "an unknown method", get("BREW / HTTP/1.1")],
  [400, "an empty Transfer-Encoding", post("Transfer-Encoding:\r\n")],
  [400, "an empty Transfer-Encoding after a length", post("Content-Length: 3\r\nTransfer-Encoding:\r\n", "abc")],
  [400, "an empty Transfer-Encoding before a length", post("Transfer-Encoding:\r\nContent-Length: 3\r\n", "abc")],
  [400, "chunked and a length", post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n")],
  [501, "gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")],
  [501, "x,chunked", post("Transfer-Encoding: x,chunked\r\n", "0\r\n\r\n")],
  [400, ",chunked", post("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n")],
  [400, "identity, then chunked", post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")],
  [400, "chunked in HTTP/1.0", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n"],
  [413, "a length of 2^64 - 1", post("Content-Length: 18446744073709551615\r\n")],
  [413, "a length over the route's limit", post("Content-Length: 1001\r\n")],
  [413, "a chunk of 2^64 - 1", chunked("ffffffffffffffff\r\n")],
  [400, "two lengths", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc")],
  [400, "the same length twice", post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc")],
  [400, "a signed length", post("Content-Length: +3\r\n", "abc")],
  [400, "a chunk size out of range", chunked("fffffffffffffffff\r\n")],
  [400, "leading zeros without end", chunked(`${"0".repeat(20000)}1\r\na\r\n0\r\n\r\n`)],
  [400, "an extension without end", chunked(`1;${"x".repeat(20000)}`)],
  [400, "bytes behind a chunk", chunked("3\r\nabcXX")],
  [400, "a folded trailer", chunked("0\r\nX: a\r\n b\r\n\r\n")],
  [400, "a trailer without a name", chunked("0\r\n: a\r\n\r\n")],
  // request line and Host
  [400, "two spaces before the target", get("GET  / HTTP/1.1")],
  [400, "two spaces behind the target", get("GET /  HTTP/1.1")],
  [400, "a fragment", get("GET /#a HTTP/1.1")],
  ...[..."\"<>\\^`{|}"].map((c) => [400, `${c} in the target`, get(`GET /${c} HTTP/1.1`)]),
  [400, "a bad escape", get("GET /%zz HTTP/1.1")],
  [400, "a cut escape", get("GET /%4 HTTP/1.1")],
  [400, "* on GET", get("GET * HTTP/1.1")],
  [400, "*x", get("OPTIONS *x HTTP/1.1")],
  [400, "user information", get("GET http://u@a/ HTTP/1.1")],
  [400, "an absolute target without a host", get("GET http:///x HTTP/1.1")],
  [400, "an absolute target of another host", get("GET http://b/ HTTP/1.1")],
  [400, "an absolute target of another port", get("GET http://a:443/ HTTP/1.1")],
  [400, "CONNECT with a path", get("CONNECT /path HTTP/1.1")],
  [501, "CONNECT", get("CONNECT a:80 HTTP/1.1", "Host: a:80\r\n")],
  [400, "no Host", get("GET / HTTP/1.1", "")],
  [400, "two Hosts", get("GET / HTTP/1.1", "Host: a\r\nHost: a\r\n")],
  [400, "a malformed Host", get("GET / HTTP/1.1", "Host: a/b\r\n")],
  [400, "an empty Host", get("GET / HTTP/1.1", "Host:\r\n")],
  [400, "a field without a name", get("GET / HTTP/1.1", "Host: a\r\n: x\r\n")],
  [400, "a space before the colon", get("GET / HTTP/1.1", "Host: a\r\nX : x\r\n")],
  [400, "a NUL", get("GET / HTTP/1.1", "Host: a\r\nX: a\0b\r\n")],
  [400, "a TLS greeting", "\x16\x03\x01\x02\x00\x01\x00"],
  [414, "a target without end", `GET /${"a".repeat(60000)}`],
  [431, "a field without end", `GET / HTTP/1.1\r\nHost: a\r\nX: ${"a".repeat(60000)}`],
  [431, "fields without end", `GET / HTTP/1.1\r\nHost: a\r\n${"x: y\r\n".repeat(200)}`],
  [417, "another expectation", get("GET / HTTP/1.1", "Host: a\r\nExpect: tea\r\n")],
];

test("a field that passes the limit in its second half is refused then", async (t) => {
  const app = await start(t, { route: ROUTE });
  const connection = await app.connect();
  // The answer shows that what came with its request has been looked at.
  connection.write(`${ok}GET / HTTP/1.1\r\nHost: a\r\nX: ${"a".repeat(20_000)}`);
  assert.equal((await connection.answer()).text, "root");
  connection.write("a".repeat(15_000));
  assert.equal((await connection.answer()).status, 431);
});

test("malformed requests are refused", async (t) => {
  const app = await start(t, { route: ROUTE });

  for (const [status, what, bytes] of CASES) {
    await t.test(`${what}: ${status}`, async () => {
      const [connection, answer] = await in_time(500, async () => {
        const asking = await app.connect();
        asking.write(Buffer.from(`${ok}${bytes}`, "latin1"));
        assert.equal((await asking.answer()).text, "root");
        return [asking, await asking.answer()];
      });
      assert.equal(answer.status, status);
      assert.equal(answer.headers["content-type"], "application/problem+json");
      assert.equal(answer.json.status, status);
      assert.equal(answer.json.request_id, answer.headers["x-request-id"]);
      assert.equal(answer.headers.connection, "close");
      assert.equal(await connection.rest(), "");
    });
  }

  await t.test("a byte at a time makes no difference", async () => {
    for (const [status, what, bytes] of CASES.filter(([, , b]) => b.length < 200)) {
      const connection = await app.connect();
      for (const byte of Buffer.from(bytes, "latin1")) {
        connection.write(Buffer.from([byte]));
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.equal((await connection.answer()).status, status, what);
      connection.end();
    }
  });

  await t.test("answers that are owed come first, in order", async () => {
    const slow = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
    const connection = await app.connect();
    connection.write(`${slow}${ok}${slow}GET / HTTP/1.1\nHost: a\r\n\r\n${ok}`);
    const texts = [];
    for (let i = 0; i < 3; i++) {
      texts.push((await connection.answer()).text);
    }
    assert.deepEqual(texts, ["slow", "root", "slow"]);
    assert.equal((await connection.answer()).status, 400);
    assert.equal(await connection.rest(), "");
  });

  await t.test("nothing follows a request that closes", async () => {
    const text = await app.raw(`${get("GET / HTTP/1.1", "Host: a\r\nConnection: close\t\r\n")}${ok}`);
    assert.equal(text.split("HTTP/1.1 ").length, 2);
  });

  await t.test("an upgrade is overlooked, and what is pipelined behind it served", async () => {
    const connection = await app.connect();
    const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    connection.write(`${get("GET / HTTP/1.1", `Host: a\r\n${upgrade}`)}${post(`${upgrade}Content-Length: 3\r\n`, "abc")}${ok}`);
    assert.equal((await connection.answer()).text, "root");
    assert.equal((await connection.answer()).text, "abc");
    assert.equal((await connection.answer()).text, "root");
    connection.end();
  });

  await t.test("a refusal survives a client that goes on sending", async () => {
    const connection = await app.connect();
    connection.write("GET / HTTP/1.1\nHost: a\r\n\r\n");
    for (let i = 0; i < 20; i++) {
      connection.write("x".repeat(1000));
      await sleep(1);
    }
    assert.equal((await connection.answer()).status, 400);
    assert.equal(await connection.rest(), "");
  });

  // As most HTTP clients do: first all of the body, then a look at the answer.
  for (const [target, status] of [["/echo", 413], ["/nowhere", 404], ["/", 405]]) {
    await t.test(`a client that sends all of a large body reads its ${status}`, async () => {
      const connection = await app.connect();
      const body = Buffer.alloc(8_000_000, "x");
      connection.socket.pause();
      connection.write(`POST ${target} HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n`);
      await new Promise((resolve) => connection.socket.write(body, resolve));
      assert.equal(connection.error, null);
      connection.socket.resume();
      assert.equal((await connection.answer()).status, status);
      connection.end();
    });
  }

  await t.test("trailers change nothing of the request", async () => {
    const connection = await app.connect();
    connection.write(`${chunked("3\r\nabc\r\n0\r\nConnection: close\r\nContent-Length: 9\r\n\r\n")}${ok}`);
    assert.equal((await connection.answer()).text, "abc");
    assert.equal((await connection.answer()).text, "root");
    connection.end();
  });
});
