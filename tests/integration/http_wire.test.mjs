// HTTP as it goes over the wire: keep-alive, pipelining, bodies both ways,
// limits and time-outs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep, start, until } from "./helpers.mjs";

const ROUTE = `
  local http = require "perigee.http"
  local task = require "perigee.task"
  router:get("/", function() return "root" end)
  router:get("/slow", function() task.sleep(150) return "slow" end)
  router:get("/slower", function() task.sleep(1600) return "slower" end)
  router:get("/lull", function()
    return http.stream(function(out)
      out:write("one")
      task.sleep(1200)
      out:write("two")
    end)
  end)
  router:post("/echo", function(req)
    local body, err = req:body()
    if not body then return nil, err end
    return body
  end)
  router:post("/small", function(req)
    local body, err = req:body()
    if not body then return nil, err end
    return body
  end, { body_max = 10 })
  router:post("/ignore", function() return "ignored" end)
  router:get("/stream", function()
    return http.stream(function(out)
      for i = 1, 3 do
        out:write("part " .. i .. "\\n")
        task.sleep(10)
      end
    end)
  end)
`;

const head = (first, fields = "") => `${first} HTTP/1.1\r\nHost: a\r\n${fields}\r\n`;
const root = head("GET /");

test("requests and answers over the wire", async (t) => {
  const app = await start(t, { route: ROUTE });

  await t.test("a connection is used again and again", async () => {
    const connection = await app.connect();
    for (let i = 0; i < 100; i++) {
      const answer = await connection.write(root).answer();
      assert.equal(answer.status, 200);
      assert.ok(answer.headers.date);
      assert.ok(answer.headers["x-request-id"]);
    }
    connection.end();
  });

  await t.test("pipelined requests are answered in order, slow ones too", async () => {
    const connection = await app.connect();
    connection.write(root + head("GET /slow") + head("POST /echo", "Content-Length: 3\r\n") + "abc" + root);
    const texts = [];
    for (let i = 0; i < 4; i++) {
      texts.push((await connection.answer()).text);
    }
    assert.deepEqual(texts, ["root", "slow", "abc", "root"]);
    connection.end();
  });

  await t.test("a thousand pipelined requests", async () => {
    const connection = await app.connect();
    connection.write(root.repeat(1000));
    for (let i = 0; i < 1000; i++) {
      assert.equal((await connection.answer()).status, 200);
    }
    connection.end();
  });

  await t.test("HTTP/1.0 closes unless it asks to go on", async () => {
    const connection = await app.connect();
    let answer = await connection.write("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer();
    assert.equal(answer.headers.connection, "keep-alive");
    answer = await connection.write("GET / HTTP/1.0\r\n\r\n").answer();
    assert.equal(answer.headers.connection, "close");
    assert.ok(await connection.is_closed());
    connection.end();
  });

  await t.test("HEAD has the length and no body; OPTIONS and 405 say what is allowed", async () => {
    const connection = await app.connect();
    let answer = await connection.write(head("HEAD /")).answer({ head: true });
    assert.equal(answer.headers["content-length"], "4");
    answer = await connection.write(head("OPTIONS /")).answer();
    assert.match(answer.headers.allow, /GET, HEAD.*OPTIONS/);
    answer = await connection.write(head("DELETE /")).answer();
    assert.equal(answer.status, 405);
    assert.match(answer.headers.allow, /GET, HEAD/);
    answer = await connection.write(head("OPTIONS *")).answer();
    assert.ok(answer.status < 300);
    connection.end();
  });

  await t.test("bodies come whole, in pieces and in chunks", async () => {
    const connection = await app.connect();
    const big = "0123456789".repeat(50_000);
    connection.write(head("POST /echo", `Content-Length: ${big.length}\r\n`));
    for (let at = 0; at < big.length; at += 30_000) {
      connection.write(big.slice(at, at + 30_000));
      await sleep(1);
    }
    assert.equal((await connection.answer()).text, big);
    connection.write(head("POST /echo", "Transfer-Encoding: chunked\r\n"));
    for (const part of ["hello ", "chunked ", "world"]) {
      connection.write(`${part.length.toString(16)};ext=1\r\n${part}\r\n`);
      await sleep(2);
    }
    connection.write("0\r\nX-Trailer: yes\r\n\r\n");
    assert.equal((await connection.answer()).text, "hello chunked world");
    connection.end();
  });

  await t.test("100 Continue is sent only when the body is read", async () => {
    let connection = await app.connect();
    connection.write(head("POST /echo", "Content-Length: 3\r\nExpect: 100-continue\r\n"));
    assert.equal((await connection.answer()).status, 100);
    connection.write("abc");
    assert.equal((await connection.answer()).text, "abc");
    connection.end();
    connection = await app.connect();
    connection.write(head("POST /small", "Content-Length: 11\r\nExpect: 100-continue\r\n"));
    const answer = await connection.answer();
    assert.equal(answer.status, 413);
    assert.equal(answer.headers.connection, "close");
    connection.end();
  });

  await t.test("a body may be as long as the route allows, and no longer", async () => {
    assert.equal((await app.post("/small", "0123456789")).status, 200);
    assert.equal((await app.post("/small", "0123456789a")).status, 413);
    const answer = await app.raw(head("POST /small", "Transfer-Encoding: chunked\r\n") + "b\r\n");
    assert.match(answer, /^HTTP\/1.1 413 /);
  });

  await t.test("a body that nobody reads is skipped", async () => {
    const connection = await app.connect();
    connection.write(head("POST /ignore", "Content-Length: 100000\r\n") + "x".repeat(100_000) + root);
    assert.equal((await connection.answer()).text, "ignored");
    assert.equal((await connection.answer()).text, "root");
    connection.end();
  });

  await t.test("a stream is chunked for 1.1 and ends with the connection for 1.0", async () => {
    const connection = await app.connect();
    const answer = await connection.write(head("GET /stream")).answer();
    assert.equal(answer.headers["transfer-encoding"], "chunked");
    assert.equal(answer.text, "part 1\npart 2\npart 3\n");
    assert.equal((await connection.write(root).answer()).text, "root");
    connection.end();
    const old = await app.raw("GET /stream HTTP/1.0\r\n\r\n");
    assert.match(old, /\r\n\r\npart 1\npart 2\npart 3\n$/);
    assert.doesNotMatch(old, /chunked/);
  });

  await t.test("a client that has shut its side still gets its answers", async () => {
    const connection = await app.connect();
    connection.write(root + head("GET /slow")).finish();
    assert.equal((await connection.answer()).text, "root");
    assert.equal((await connection.answer()).text, "slow");
    assert.equal(await connection.rest(), "");
  });

  await t.test("it gets them however long they take, byte for byte", async () => {
    const plain = await app.connect();
    const streamed = await app.connect();
    plain.write(head("GET /slower") + root).finish();
    streamed.write(head("GET /lull")).finish();
    assert.equal((await plain.answer()).text, "slower");
    assert.equal((await plain.answer()).text, "root");
    assert.equal(await plain.rest(), "");
    assert.equal((await streamed.answer()).text, "onetwo");
    assert.equal(await streamed.rest(), "");
  });
});

test("time-outs", async (t) => {
  const app = await start(t, {
    route: ROUTE,
    settings: {
      "http.keepalive_timeout": "300ms",
      "http.header_timeout": "300ms",
      "http.body_timeout": "300ms",
    },
  });

  await t.test("a silent connection is closed without a word", async () => {
    const before = Date.now();
    const connection = await app.connect();
    assert.equal(await connection.rest(), "");
    assert.ok(Date.now() - before >= 290);
  });

  await t.test("a head that drips is a 408", async () => {
    const connection = await app.connect();
    connection.write("GET / HTTP/1.1\r\nHost: a\r\n");
    const drip = setInterval(() => connection.write("x"), 50);
    try {
      assert.equal((await connection.answer()).status, 408);
    } finally {
      clearInterval(drip);
      connection.end();
    }
  });

  await t.test("a body that stalls is a 408", async () => {
    const connection = await app.connect();
    connection.write(head("POST /echo", "Content-Length: 10\r\n") + "abc");
    assert.equal((await connection.answer()).status, 408);
    assert.equal(await connection.rest(), "");
  });

  await t.test("a handler that waits is none of it", async () => {
    const connection = await app.connect();
    assert.equal((await connection.write(head("GET /slow")).answer()).text, "slow");
    connection.end();
  });
});

test("connections over the limit are told", async (t) => {
  const app = await start(t, { route: ROUTE, settings: { "http.connections_max": 2 } });
  const first = await app.connect();
  const second = await app.connect();
  await first.write(root).answer();
  await second.write(root).answer();
  const third = await app.connect();
  assert.equal((await third.answer()).status, 503);
  assert.equal(await third.rest(), "");
  first.end();
  second.end();
  await until(async () => (await app.get("/")).status === 200, { what: "a place" });
});
