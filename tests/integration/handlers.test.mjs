// Handlers: what they read, how long they may take, and how they may misbehave
// without harm to anybody else.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { perigee, sleep, start, until } from "./helpers.mjs";

const ROUTES = `
local errors = require "perigee.error"
local http = require "perigee.http"
local task = require "perigee.task"
local kept

router:get("/read/:id/*rest", function(req)
  return {
    id = req.params.id, rest = req.params.rest, path = req.path,
    q = req.query.q, bare = req.query.bare, all = req:query_all "q", none = req:query_all "none",
    header = req:header "x-one", joined = req.headers["x-two"],
    cookie = req:cookie "b", route = req.route, method = req.method,
    addr = req.remote_addr, has_id = #req.id > 0, left = req.deadline_ms > 0,
  }
end)
router:post("/form", function(req) return req:form() end)
router:post("/json", function(req) return { got = req.body_json } end)
router:post("/chunks", function(req)
  local size = 0
  for chunk in req:chunks() do size = size + #chunk end
  return { size = size }
end)
router:post("/parts", function(req)
  local list = {}
  for part in req:multipart() do
    list[#list + 1] = { name = part.name, filename = part.filename,
      type = part.content_type, text = part:read() }
  end
  return { parts = list }
end)
router:post("/save", function(req)
  for part in req:multipart() do
    local size, err = part:save("var/" .. part.filename)
    if not size then return nil, err end
    return { size = size }
  end
end)
router:get("/keep", function(req) kept = req return "kept" end)
router:get("/late", function() return kept.path end)
router:get("/told/:id", function(req)
  return nil, errors.new("not_found", "no order %s", req.params.id)
end)
router:get("/raised/:id", function(req) error("order " .. req.params.id) end)
router:get("/strict", function(req) return req.query end,
  { query = { additionalProperties = false } })
router:get("/slow", function() task.sleep "1h" return "never" end,
  { timeout = "50ms" })
router:get("/caught", function()
  pcall(task.sleep, "1h")
  return "whatever"
end, { timeout = "50ms" })
router:get("/print", function() print("printed", 1) io.write "written\\n" return 204 end)
router:get("/yield", function() coroutine.yield() end)
router:get("/global", function() oops = 1 return "no" end)
router:get("/legacy", function() return require("services.legacy").hello() end)
router:get("/state", function(req) return { user = req.state.user } end,
  { before = { function(req, next) req.state.user = "ann" return next(req) end } })
router:get("/gone", function()
  local ok, err = pcall(task.sleep, "1h")
  local file = io.open("var/gone", "w")
  file:write(err.kind)
  file:close()
end)
router:get("/file", function(req) return http.file(req.query.path) end)
router:get("/cookie", function()
  return 200, "ok", { ["set-cookie"] = { http.cookie("a", "1"),
    http.cookie("b", "2", { max_age = 5, path = "/x", same_site = "Strict" }) } }
end)
router:get("/smuggle", function()
  return 200, "ok", { ["x-evil"] = "a\\r\\nx-injected: 1" }
end)
router:get("/limited", function()
  local err = errors.new("limited", "slow down")
  err.retry_after_ms = 2500
  return nil, err
end)
router:get("/who", function(req)
  local err = errors.new("unauthorized", "who are you?")
  if req.query.realm then
    err.headers = { ["WWW-Authenticate"] = 'Basic realm="x"' }
  end
  return nil, errors.wrap(err, "door")
end)
router:get("/ok", function() return "ok" end)
router:post("/small", function(req) return req:body() end, { body_max = "1kb" })
router:post("/checked/:n", function(req)
  return { n = req.params.n, page = req.query.page, body = req.body_json }
end, {
  params = { type = "object", properties = { n = { type = "integer" } } },
  query = { type = "object",
    properties = { page = { type = "integer", minimum = 1, default = 1 } } },
  body = { type = "object", required = { "name" },
    properties = { name = { type = "string" }, size = { type = "number", default = 3 } } },
})
`;

const files = {
  "public/hello.txt": "from public\n",
  "public/sub/index.html": "<p>index",
  "secret.txt": "secret",
  "scripts/services/legacy.lua": 'module("legacy", package.seeall)\nfunction hello() return "hello" end\npackage.loaded["services.legacy"] = _M\n',
};

test("handlers", async (t) => {
  const app = await start(t, { route: ROUTES, files });

  await t.test("read every part of a request", async () => {
    const { json } = await app.get("/read/a%2Fb/c/d?q=1&q=two+words&bare", {
      headers: { "x-one": "1", "x-two": ["a", "b"], cookie: "a=1; b=two" },
    });
    assert.deepEqual(json, {
      id: "a/b", rest: "c/d", path: "/read/a%2Fb/c/d", q: "two words", bare: "",
      all: ["1", "two words"], none: [], header: "1", joined: "a, b", cookie: "two",
      route: "/read/:id/*rest", method: "GET", addr: "127.0.0.1", has_id: true, left: true,
    });
  });

  await t.test("may tell what was sent, UTF-8 or not", async () => {
    const told = await app.get("/told/%ff");
    assert.deepEqual([told.status, told.json.detail], [404, "no order \ufffd"]);
    const query = await app.get("/strict?%ff=1");
    assert.deepEqual([query.status, query.json.errors[0].pointer], [400, "/query/\ufffd"]);
    assert.equal((await app.get("/raised/%ff")).status, 500);
    const line = await app.line((l) => l.msg === "request failed" && l.url === "/raised/%ff");
    assert.match(line.err.message, /order \ufffd$/);
  });

  await t.test("read forms", async () => {
    const { json } = await app.post("/form", "a=1&b=x%20y&a=2", {
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
    assert.deepEqual(json, { a: "2", b: "x y" });
  });

  await t.test("refuse a form with over 1000 arguments", async () => {
    const answer = await app.post("/form", "a=1&".repeat(1001), {
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
    assert.equal(answer.status, 400);
  });

  await t.test("refuse a query with over 1000 arguments", async () => {
    assert.equal((await app.get(`/ok?${"a=1&".repeat(1000)}`)).status, 200);
    assert.equal((await app.get(`/ok?${"a=1&".repeat(1001)}`)).status, 400);
  });

  await t.test("body_json decodes, and refuses with 400", async () => {
    assert.deepEqual((await app.post("/json", { a: [1] })).json, { got: { a: [1] } });
    const bad = await app.post("/json", "{", { headers: { "content-type": "application/json" } });
    assert.equal(bad.status, 400);
  });

  await t.test("read a body by chunks", async () => {
    const size = 3_000_00;
    assert.deepEqual((await app.post("/chunks", "x".repeat(size))).json, { size });
  });

  const boundary = "XbX";
  const multipart = { "content-type": `multipart/form-data; boundary=${boundary}` };
  const body = [
    `--${boundary}\r\ncontent-disposition: form-data; name="a;b"\r\n\r\none`,
    `--${boundary}\r\nContent-Disposition: form-data; name="f"; filename="x.txt"\r\nContent-Type: text/plain\r\n\r\nline\r\n--Xb not\r\n`,
    `--${boundary}--\r\n`,
  ].join("\r\n");

  await t.test("read the parts of a multipart body", async () => {
    const { json } = await app.post("/parts", body, { headers: multipart });
    assert.deepEqual(json.parts, [
      { name: "a;b", text: "one" },
      { name: "f", filename: "x.txt", type: "text/plain", text: "line\r\n--Xb not\r\n" },
    ]);
  });

  await t.test("read a part without a head, wherever the body is cut", async () => {
    const bare = `--${boundary}\r\n\r\nbare\r\n\r\ntext\r\n--${boundary}--`;
    const connection = await app.connect();
    connection.write(`POST /parts HTTP/1.1\r\nHost: x\r\nContent-Type: ${multipart["content-type"]}\r\n`
      + `Content-Length: ${bare.length}\r\n\r\n`);
    for (const byte of bare) {
      connection.write(byte);
      await sleep(2);
    }
    assert.deepEqual((await connection.answer()).json.parts, [{ text: "bare\r\n\r\ntext" }]);
    connection.end();
  });

  await t.test("refuse a multipart body that ends too early", async () => {
    const answer = await app.post("/parts", body.slice(0, -6 - boundary.length), { headers: multipart });
    assert.equal(answer.status, 400);
  });

  await t.test("save a part", async () => {
    const one = `--${boundary}\r\ncontent-disposition: form-data; name="f"; filename="saved"\r\n\r\n${"y".repeat(100000)}\r\n--${boundary}--`;
    const answer = await app.post("/save", one, { headers: multipart });
    assert.deepEqual(answer.json, { size: 100000 });
    assert.equal(readFileSync(path.join(app.dir, "var/saved"), "utf8").length, 100000);
    const again = await app.post("/save", one, { headers: multipart });
    assert.equal(again.status, 409); // it exists already
  });

  await t.test("a part that is cut off leaves no file, so that it can be sent again", async () => {
    const head = `--${boundary}\r\ncontent-disposition: form-data; name="f"; filename="cut"\r\n\r\n`;
    const file = path.join(app.dir, "var/cut");
    const connection = await app.connect();
    connection.write(`POST /save HTTP/1.1\r\nHost: x\r\nContent-Type: ${multipart["content-type"]}\r\n` +
      `Content-Length: 300000\r\n\r\n${head}${"y".repeat(100000)}`);
    await until(() => existsSync(file) && statSync(file).size > 0, { what: "the beginning of the file" });
    connection.end();
    await until(() => !existsSync(file), { what: "its removal" });
    const malformed = await app.post("/save", `${head}y`, { headers: multipart });
    assert.equal(malformed.status, 400);
    assert.equal(existsSync(file), false);
    const whole = await app.post("/save", `${head}yy\r\n--${boundary}--`, { headers: multipart });
    assert.deepEqual(whole.json, { size: 2 });
  });

  await t.test("a late use of a finished request is an error", async () => {
    await app.get("/keep");
    const answer = await app.get("/late");
    assert.equal(answer.status, 500);
    await app.line((l) => /the request has ended/.test(l.err?.message ?? ""));
  });

  await t.test("an overdue handler is a 504, whatever it catches", async () => {
    for (const target of ["/slow", "/caught"]) {
      const answer = await app.get(target);
      assert.equal(answer.status, 504);
      assert.equal(answer.json.request_id, answer.headers["x-request-id"]);
    }
  });

  await t.test("a bare yield is a 500 with a log line", async () => {
    assert.equal((await app.get("/yield")).status, 500);
    await app.line((l) => /coroutine.yield outside/.test(l.err?.message ?? ""));
  });

  await t.test("what is printed is seen at once", async () => {
    await app.get("/print");
    await app.line((l) => l.raw === "printed\t1");
    await app.line((l) => l.raw === "written");
  });

  await t.test("a module of the old kind may be required late", async () => {
    const answer = await app.get("/legacy");
    assert.equal(answer.text, "hello");
  });

  await t.test("an accidental global is an error that names it", async () => {
    assert.equal((await app.get("/global")).status, 500);
    await app.line((l) => /global "oops"/.test(l.err?.message ?? "") && /test.lua:\d+/.test(l.err.message));
  });

  await t.test("middleware and handler share req.state", async () => {
    assert.deepEqual((await app.get("/state")).json, { user: "ann" });
  });

  await t.test("a handler is cancelled when its client goes away", async () => {
    const connection = await app.connect();
    connection.write("GET /gone HTTP/1.1\r\nhost: x\r\n\r\n");
    await app.get("/ok");
    connection.end();
    const file = path.join(app.dir, "var/gone");
    await until(() => existsSync(file), { what: "the clean-up" });
    assert.equal(readFileSync(file, "utf8"), "cancelled");
  });

  await t.test("files come from public/ and from nowhere else", async () => {
    assert.equal((await app.get("/hello.txt")).text, "from public\n");
    assert.equal((await app.get("/file?path=public/hello.txt")).text, "from public\n");
    assert.equal((await app.get("/sub/")).text, "<p>index");
    mkdirSync(path.join(app.dir, "public/links"));
    symlinkSync("../../secret.txt", path.join(app.dir, "public/links/out"));
    symlinkSync("../hello.txt", path.join(app.dir, "public/links/in"));
    assert.equal((await app.get("/links/in")).text, "from public\n");
    for (const target of ["/links/out", "/../secret.txt", "/%2e%2e/secret.txt", "/sub/..%2f..%2fsecret.txt",
      "/file?path=secret.txt", "/file?path=public/../secret.txt", "/file?path=public/links/out", "/file?path=/etc/passwd"]) {
      const answer = await app.get(target);
      assert.ok([400, 404].includes(answer.status), `${target}: ${answer.status}`);
      assert.doesNotMatch(answer.text, /secret\n?$|root:/);
    }
  });

  await t.test("header values may be lists", async () => {
    const { headers } = await app.get("/cookie");
    assert.deepEqual(headers["set-cookie"], [
      "a=1; Path=/; HttpOnly; SameSite=Lax",
      "b=2; Path=/x; Max-Age=5; HttpOnly; SameSite=Strict",
    ]);
  });

  await t.test("a line break in a header value goes nowhere", async () => {
    const answer = await app.get("/smuggle");
    assert.equal(answer.headers["x-injected"], undefined);
  });

  await t.test("Retry-After comes from the error", async () => {
    const answer = await app.get("/limited");
    assert.equal(answer.status, 429);
    assert.equal(answer.headers["retry-after"], "3");
  });

  await t.test("an error may bring header fields", async () => {
    assert.equal((await app.get("/who")).headers["www-authenticate"], "Bearer");
    assert.equal((await app.get("/who?realm")).headers["www-authenticate"], 'Basic realm="x"');
  });

  await t.test("a route's own body limit holds, announced or not", async () => {
    assert.equal((await app.post("/small", "x".repeat(1024))).status, 200);
    assert.equal((await app.post("/small", "x".repeat(1025))).status, 413);
    const chunked = await app.raw("POST /small HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
      + `401\r\n${"x".repeat(1025)}\r\n0\r\n\r\n`);
    assert.match(chunked, /^HTTP\/1.1 413 /);
  });

  await t.test("validation coerces, fills defaults, and lists all faults", async () => {
    const good = await app.post("/checked/7?page=2", { name: "x" });
    assert.deepEqual(good.json, { n: 7, page: 2, body: { name: "x", size: 3 } });
    const bad = await app.post("/checked/x?page=0", { size: "big" });
    assert.equal(bad.status, 400);
    assert.deepEqual(bad.json.errors.map((e) => e.pointer).sort(), ["/name", "/params/n", "/query/page", "/size"]
      .filter((p) => p !== "/name").concat(bad.json.errors.some((e) => e.pointer === "/name") ? ["/name"] : [""]).sort());
  });

  await t.test("a body of another type is a 415", async () => {
    const answer = await app.post("/checked/1", "<x/>", { headers: { "content-type": "text/xml" } });
    assert.equal(answer.status, 415);
    for (const type of ["application/jsonp", "+json", "text/json", "", ";application/json"]) {
      const other = await app.post("/checked/1", '{"name":"x"}', { headers: { "content-type": type } });
      assert.equal(other.status, 415, type);
      assert.equal(other.json.detail, "the body must be application/json");
    }
    const twice = await app.raw("POST /checked/1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
      + 'content-type: application/json\r\ncontent-length: 12\r\n\r\n{"name":"x"}');
    assert.match(twice, /^HTTP\/1.1 415 /);
    for (const type of ["application/json", "Application/JSON; charset=utf-8", "application/json ;x", "application/ld+JSON"]) {
      const good = await app.post("/checked/1", '{"name":"x"}', { headers: { "content-type": type } });
      assert.equal(good.status, 200, type);
    }
    const coded = await app.post("/json", "x", { headers: { "content-encoding": "zstd" } });
    assert.equal(coded.status, 415);
  });

  await t.test("the worker has survived all of it", async () => {
    assert.equal((await app.get("/ok")).text, "ok");
    assert.equal(app.workers().length, 1);
  });
});

test("a handler that takes all memory fails alone", async (t) => {
  const app = await start(t, {
    route: `
      router:get("/eat", function()
        local list = {}
        while true do list[#list + 1] = ("x"):rep(1000) .. #list end
      end)
      router:get("/ok", function() return "ok" end)`,
    settings: { "limits.memory_per_vm": "32mb" },
  });
  const [worker] = app.workers();
  for (let i = 0; i < 3; i++) {
    assert.equal((await app.get("/eat")).status, 500);
    assert.equal((await app.get("/ok")).text, "ok");
  }
  assert.deepEqual(app.workers(), [worker]);
  await app.line((l) => /not enough memory/.test(l.err?.message ?? ""));
});

test("a handler that computes for ever is stopped by its CPU budget", async (t) => {
  const app = await start(t, {
    route: `
      router:get("/one-line", function() while true do end end)
      router:get("/lines", function()
        local x = 0
        while true do
          x = x + 1
          x = x - 1
        end
      end)
      router:get("/pcall", function() while true do pcall(error, "x") end end)
      router:get("/recursion", function() local function f(n) return f(n + 1) end return f(1) end)
      router:get("/generator", function()
        for _ in coroutine.wrap(function() while true do coroutine.yield(1) end end) do end
      end)
      router:get("/ok", function() return "ok" end)`,
    settings: { "limits.cpu_per_request": "50ms" },
  });
  const [worker] = app.workers();
  for (const target of ["/one-line", "/lines", "/pcall", "/recursion", "/generator"]) {
    assert.equal((await app.get(target)).status, 504, target);
    assert.equal((await app.get("/ok")).text, "ok");
  }
  await app.command("reload"); // the next generation is watched as well
  assert.equal((await app.get("/lines")).status, 504);
  assert.deepEqual(app.workers(), [worker]);
  const line = await app.line((l) => l.err && l.route === "/lines");
  assert.match(line.err.stack, /scripts\/routes\/test\.lua:\d+/);
});

test("a script that loads for ever is refused, with its place", async (t) => {
  const app = await start(t, {
    route: 'router:get("/ok", function() return "ok" end)',
    // Two seconds of CPU may take a busy machine many more.
    settings: { "reload.selfcheck_timeout": "100s" },
  });
  const [worker] = app.workers();
  app.write({ "scripts/routes/more.lua": "return function()\n  while true do end\nend\n" });
  const { code, stdout, stderr } = await perigee(["reload"], { cwd: app.dir, timeout_ms: 120_000 });
  assert.equal(code, 3);
  assert.match(stdout + stderr, /scripts\/routes\/more\.lua:2: loading takes over/);
  assert.equal((await app.get("/ok")).text, "ok");
  assert.deepEqual(app.workers(), [worker]);
});
