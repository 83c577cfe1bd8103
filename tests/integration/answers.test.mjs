// What a handler returns, seen from outside: every form.
import assert from "node:assert/strict";
import { test } from "node:test";
import { start } from "./helpers.mjs";

const ROUTES = `
  local errors = require "perigee.error"
  local http = require "perigee.http"
  local json = require "perigee.json"

  router:get("/table", function() return { message = "hello", list = json.array {} } end)
  router:get("/string", function() return "hello" end)
  router:get("/status", function() return 204 end)
  router:get("/created", function()
    return 201, { id = 7 }, { location = "/things/7", ["x-list"] = { "a", "b" } }
  end)
  router:get("/text", function() return 202, "later" end)
  router:get("/redirect", function() return http.redirect("/string") end)
  router:get("/moved", function() return http.redirect("/string", 301) end)
  router:get("/problem", function()
    return http.problem { status = 418, title = "Teapot", detail = "short and stout" }
  end)
  router:get("/problem/:status", function(req)
    return http.problem { status = tonumber(req.params.status) }
  end)
  router:get("/fail/:kind", function(req)
    return nil, errors.new(req.params.kind, "no luck with %s", req.params.kind)
  end)
  router:get("/raise/:kind", function(req)
    error(errors.new(req.params.kind, "raised"))
  end)
  router:get("/plain/:kind", function(req)
    return nil, { kind = req.params.kind, message = "a plain table", retry_after_ms = 5000 }
  end)
  router:get("/tail", function() return http.file() end)
  router:get("/begin-anew", function() return 205, "no content" end)
  router:get("/bug", function() local nothing; return nothing.field end)
  router:get("/lone-nil", function() return nil end)
  router:get("/true", function() return true end)
  router:get("/function", function() return function() end end)
  router:get("/stream", function()
    return http.stream(function(out)
      out:write("one ")
      out:write("two")
    end)
  end)
  router:get("/sse", function()
    return http.sse(function(out)
      out:send { event = "tick", id = "1", data = "a\\nb" }
    end)
  end)
  router:get("/users/:id", function(req) return { id = req.params.id, q = req.query.q } end)
  router:post("/echo", function(req)
    local body, err = req:json()
    if not body then return nil, err end
    return body
  end)
`;

const KINDS = {
  invalid: 400, unauthorized: 401, forbidden: 403, not_found: 404, conflict: 409,
  too_large: 413, unprocessable: 422, limited: 429, unavailable: 503, timeout: 504,
  cancelled: 500, internal: 500, unrecoverable: 500,
};

test("what handlers return", async (t) => {
  const app = await start(t, { route: ROUTES });

  await t.test("a table is JSON with 200", async () => {
    const answer = await app.get("/table");
    assert.equal(answer.status, 200);
    assert.match(answer.headers["content-type"], /^application\/json/);
    assert.deepEqual(answer.json, { message: "hello", list: [] });
    assert.ok(answer.headers.date);
    assert.ok(answer.headers["x-request-id"]);
  });

  await t.test("a string is text with 200", async () => {
    const answer = await app.get("/string");
    assert.equal(answer.status, 200);
    assert.match(answer.headers["content-type"], /^text\/plain/);
    assert.equal(answer.text, "hello");
    assert.equal(answer.headers["content-length"], "5");
  });

  await t.test("a status alone says nothing", async () => {
    const answer = await app.get("/status");
    assert.equal(answer.status, 204);
    assert.equal(answer.text, "");
    assert.equal(answer.headers["content-length"], undefined);
  });

  await t.test("status, table and headers", async () => {
    const answer = await app.get("/created");
    assert.equal(answer.status, 201);
    assert.deepEqual(answer.json, { id: 7 });
    assert.equal(answer.headers.location, "/things/7");
    assert.deepEqual(answer.headers["x-list"], ["a", "b"]);
  });

  await t.test("status and string", async () => {
    const answer = await app.get("/text");
    assert.equal(answer.status, 202);
    assert.equal(answer.text, "later");
  });

  await t.test("redirects are 302 unless told", async () => {
    const found = await app.get("/redirect");
    assert.equal(found.status, 302);
    assert.equal(found.headers.location, "/string");
    assert.equal((await app.get("/moved")).status, 301);
  });

  await t.test("a problem is problem+json", async () => {
    const answer = await app.get("/problem");
    assert.equal(answer.status, 418);
    assert.match(answer.headers["content-type"], /^application\/problem\+json/);
    assert.equal(answer.json.title, "Teapot");
    assert.equal(answer.json.detail, "short and stout");
    assert.equal(answer.json.request_id, answer.headers["x-request-id"]);
    for (const status of [402, 418, 423, 451]) {
      const bare = await app.get(`/problem/${status}`);
      assert.equal(bare.json.title, bare.reason, "titled as its status is");
    }
  });

  for (const [kind, status] of Object.entries(KINDS)) {
    await t.test(`nil, err of kind ${kind} is ${status}, raised or returned`, async () => {
      const returned = await app.get(`/fail/${kind}`);
      assert.equal(returned.status, status);
      assert.match(returned.headers["content-type"], /^application\/problem\+json/);
      assert.equal(returned.json.status, status);
      assert.equal((await app.get(`/raise/${kind}`)).status, status);
      if (kind === "limited") {
        assert.ok(Number(returned.headers["retry-after"]) >= 1);
      }
    });
  }

  await t.test("a plain table that says its kind is an error as well; others are internal", async () => {
    const answer = await app.get("/plain/limited");
    assert.equal(answer.status, 429);
    assert.equal(answer.json.detail, "a plain table");
    assert.equal(answer.headers["retry-after"], "5");
    const other = await app.get("/plain/odd");
    assert.equal(other.status, 500);
    assert.doesNotMatch(other.text, /table/);
  });

  await t.test("a wrong call in a tail call names the handler in the log", async () => {
    assert.equal((await app.get("/tail")).status, 500);
    const line = await app.line((l) => l.msg === "request failed" && l.url === "/tail");
    assert.match(line.err.stack, /\n\tscripts\/routes\/test\.lua:\d+: in the handler$/);
  });

  await t.test("205 has no content", async () => {
    const connection = await app.connect();
    const request = "GET /begin-anew HTTP/1.1\r\nHost: x\r\n\r\n";
    connection.write(request + request.replace("begin-anew", "string"));
    const answer = await connection.answer();
    assert.equal(answer.status, 205);
    assert.equal(answer.headers["content-length"], "0");
    assert.equal((await connection.answer()).text, "hello");
    connection.end();
  });

  await t.test("a bug is a 500 that tells nothing outside, and all in the log", async () => {
    const from = app.lines.length;
    const answer = await app.get("/bug", { headers: { "x-request-id": "bug-1" } });
    assert.equal(answer.status, 500);
    assert.equal(answer.json.request_id, "bug-1");
    assert.doesNotMatch(answer.text, /nothing|test\.lua|stack/);
    const line = await app.line((l) => l.err && JSON.stringify(l).includes("bug-1"), { from });
    assert.match(line.err.stack, /scripts\/routes\/test\.lua:\d+/);
  });

  for (const target of ["/lone-nil", "/true", "/function"]) {
    await t.test(`returning nonsense is a 500 whose log names the handler: ${target}`, async () => {
      const from = app.lines.length;
      assert.equal((await app.get(target)).status, 500);
      const line = await app.line((l) => l.msg === "request failed" && l.url === target, { from });
      assert.match(JSON.stringify(line), /scripts\/routes\/test\.lua:\d+/);
    });
  }

  await t.test("a stream is chunked", async () => {
    const answer = await app.get("/stream");
    assert.equal(answer.headers["transfer-encoding"], "chunked");
    assert.equal(answer.text, "one two");
  });

  await t.test("server-sent events", async () => {
    const answer = await app.get("/sse");
    assert.match(answer.headers["content-type"], /^text\/event-stream/);
    assert.match(answer.text, /^event: ?tick$/m);
    assert.match(answer.text, /^data: ?a\ndata: ?b$/m);
    assert.match(answer.text, /\n\n$/);
  });

  await t.test("parameters and queries are decoded", async () => {
    const answer = await app.get("/users/a%2Fb?q=1&q=x+y");
    assert.deepEqual(answer.json, { id: "a/b", q: "x y" });
  });

  await t.test("a body comes back as it went in", async () => {
    const body = { a: [], b: {}, c: null, d: 1e21, e: "\u00e9\u{1f600}" };
    assert.deepEqual((await app.post("/echo", body)).json, body);
    const bad = await app.post("/echo", '{"a":', { headers: { "content-type": "application/json" } });
    assert.equal(bad.status, 400);
  });

  await t.test("404, 405 with Allow, HEAD and OPTIONS are the host's", async () => {
    const missing = await app.get("/nowhere");
    assert.equal(missing.status, 404);
    assert.match(missing.headers["content-type"], /^application\/problem\+json/);
    const refused = await app.request("DELETE", "/table");
    assert.equal(refused.status, 405);
    assert.match(refused.headers.allow, /\bGET\b/);
    const head = await app.request("HEAD", "/string");
    assert.equal(head.status, 200);
    assert.equal(head.headers["content-length"], "5");
    assert.equal(head.text, "");
    const options = await app.request("OPTIONS", "/echo");
    assert.equal(options.status, 204);
    assert.match(options.headers.allow, /\bPOST\b/);
  });

  await t.test("answers to pipelined requests come in order", async () => {
    const connection = await app.connect();
    const get = (target) => `GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`;
    connection.write(get("/users/1") + get("/string") + get("/users/3"));
    assert.equal((await connection.answer()).json.id, "1");
    assert.equal((await connection.answer()).text, "hello");
    assert.equal((await connection.answer()).json.id, "3");
    connection.end();
  });

  await t.test("it ends with 0 when told to stop", async () => {
    assert.deepEqual(await app.stop(), { code: 0, signal: null });
  });
});
