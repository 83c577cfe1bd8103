// Edges of the contract that lie between the other files' subjects.
import assert from "node:assert/strict";
import { test } from "node:test";
import { app_dir, perigee, routes, start, until } from "./helpers.mjs";

const HEAD = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
const CHUNKED = `POST /length ${HEAD}Transfer-Encoding: chunked\r\n\r\n`;

test("a handler cannot accept a body that is malformed or too large", async (t) => {
  const app = await start(t, {
    route: `
      router:post("/length", function(req) return { n = #req:body() } end, { body_max = "1kb" })
      router:post("/deaf", function(req) req:body() return "fine" end, { body_max = "1kb" })
      router:post("/kind", function(req)
        local _, err = req:body()
        return 422, err.kind
      end, { body_max = "1kb" })`,
  });
  const status = async (bytes) => (await app.raw(bytes)).toString().match(/^HTTP\/1\.1 (\d+)/)?.[1];

  assert.equal(await status(`${CHUNKED}zz\r\nabc\r\n0\r\n\r\n`), "400");
  assert.equal(await status(`${CHUNKED}3\r\nabcXX0\r\n\r\n`), "400");
  assert.equal(await status(`${CHUNKED}401\r\n${"a".repeat(1025)}\r\n0\r\n\r\n`), "413");
  assert.equal(await status(`${CHUNKED}400\r\n${"a".repeat(1024)}\r\n0\r\n\r\n`), "200");
  assert.equal(await status(`${CHUNKED.replace("/length", "/deaf")}zz\r\n`), "400");
  assert.equal(await status(`${CHUNKED.replace("/length", "/kind")}zz\r\n`), "422", "4xx are the handler's");
});

test("a status and headers beside an answer object hold", async (t) => {
  const app = await start(t, {
    files: { "public/404.html": "<p>none</p>" },
    route: `
      local http = require "perigee.http"
      router:get("/see", function() return 303, http.redirect("/x"), { ["set-cookie"] = http.cookie("a", "b") } end)
      router:get("/found", function() return http.redirect("/x"), { ["x-more"] = "1" } end)
      router:get("/none", function() return 404, http.file("public/404.html"), { ["x-more"] = "1" } end)`,
  });

  const see = await app.get("/see");
  assert.equal(see.status, 303);
  assert.equal(see.headers.location, "/x");
  assert.match(String(see.headers["set-cookie"]), /^a=b;/);
  const found = await app.get("/found");
  assert.equal(found.status, 302);
  assert.equal(found.headers["x-more"], "1");
  const none = await app.get("/none", { headers: { "if-none-match": "*" } });
  assert.equal(none.status, 404);
  assert.equal(none.text, "<p>none</p>");
  assert.equal(none.headers["x-more"], "1");
});

test("a stream that fails before its first byte is answered like any handler", async (t) => {
  const app = await start(t, {
    route: `
      local errors = require "perigee.error"
      local http = require "perigee.http"
      local task = require "perigee.task"
      router:get("/early", function() return http.stream(function() error("early bug") end) end)
      router:get("/kind", function() return http.stream(function()
        error(errors.new("conflict", "taken"))
      end) end)
      router:get("/given", function() return http.stream(function()
        return nil, errors.new("conflict", "taken")
      end) end)
      router:get("/given-late", function() return http.stream(function(out)
        out:write("some")
        return nil, errors.new("conflict", "gone stale")
      end) end)
      router:get("/sse", function() return http.sse(function() error("x") end) end)
      router:get("/waited", function() task.sleep(1) return http.stream(function() error("x") end) end)
      router:get("/late", function() return http.stream(function(out) out:write("some") task.sleep(1) error("x") end) end)
      router:get("/open", function() return http.sse(function(out) task.sleep("1h") end) end)
      router:get("/ok", function() return "ok" end)`,
  });
  const early = await app.get("/early");
  assert.equal(early.status, 500);
  assert.equal(early.headers["content-type"], "application/problem+json");
  assert.equal(early.json.request_id, early.headers["x-request-id"]);
  await app.line((l) => /early bug/.test(l.err?.message ?? "") && l.msg === "request failed");
  assert.equal((await app.get("/kind")).status, 409);
  assert.equal((await app.get("/given")).status, 409, "nil, err as well");
  assert.equal((await app.get("/sse", { headers: { "accept-encoding": "gzip" } })).status, 500);
  assert.equal((await app.get("/waited")).status, 500);
  // The connection goes on, and what was owed before comes first.
  const piped = await app.raw("GET /ok HTTP/1.1\r\nhost: x\r\n\r\nGET /early HTTP/1.1\r\nhost: x\r\n\r\n"
    + "GET /ok HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  assert.deepEqual(piped.match(/HTTP\/1.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 500", "HTTP/1.1 200"]);
  const late = await app.raw("GET /late HTTP/1.1\r\nhost: x\r\n\r\n");
  assert.match(late, /^HTTP\/1.1 200 [^]*some\r\n$/, "what has left cannot be taken back");
  const given_late = await app.raw("GET /given-late HTTP/1.1\r\nhost: x\r\n\r\n");
  assert.match(given_late, /some\r\n$/, "cut off: it is not whole");
  await app.line((l) => l.msg === "a streamed answer failed" && l.err.message === "gone stale");
  const open = await app.connect();
  open.write("GET /open HTTP/1.1\r\nhost: x\r\n\r\n");
  assert.match(await open.upto("\r\n\r\n"), /^HTTP\/1.1 200 /, "a head does not wait for the first event");
  open.end();
});

test("several tasks may write to one stream, however slow its client", async (t) => {
  const app = await start(t, {
    route: `
      local http = require "perigee.http"
      local task = require "perigee.task"
      local wrote = { a = 0, b = 0 }
      router:get("/both", function() return http.stream(function(out)
        local function write(name)
          return function()
            for _ = 1, 200 do
              local ok, err = out:write((name):rep(50000))
              if not ok then return nil, err end
              wrote[name] = wrote[name] + 1
            end
            return true
          end
        end
        assert(task.all { write "a", write "b" })
      end) end)
      router:get("/wrote", function() return wrote end)
      router:get("/left", function() return http.stream(function(out)
        task.spawn_detached(function()
          repeat local ok, err = out:write(("x"):rep(100000)) until not ok
        end)
        out:write "x"
      end) end)`,
  });
  const slow = await app.connect();
  slow.socket.pause();
  slow.write("GET /both HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  let last = "";
  await until(async () => {
    const now = (await app.get("/wrote")).text;
    const same = now === last && JSON.parse(now).a > 0;
    last = now;
    return same;
  }, { what: "both writers waiting" });
  assert.notEqual(last, "{\"a\":200,\"b\":200}");
  slow.socket.resume();
  const { body } = await slow.answer({ timeout_ms: 30_000 });
  assert.equal(body.length, 400 * 50000);
  assert.deepEqual((await app.get("/wrote")).json, { a: 200, b: 200 });
  await app.get("/left");
  assert.equal((await app.stop()).code, 0, "nobody is left waiting");
});

test("modules that two tasks load and that need each other are a loop, not a wait", async (t) => {
  const module = (other) => `require("perigee.task").sleep(5)\nreturn { other = require "${other}" }`;
  const app = await start(t, {
    files: { "scripts/one.lua": module("two"), "scripts/two.lua": module("one") },
    route: `
      local task = require "perigee.task"
      router:get("/", function()
        local _, err = task.all { function() return require "one" end, function() return require "two" end }
        return tostring(err)
      end)`,
  });
  assert.match((await app.get("/")).text, /scripts\/(one|two)\.lua:2: loop in require: '(one|two)' is loading already/);
});

test("a task that gave up waiting for a module is not in a loop later", async (t) => {
  const app = await start(t, {
    files: {
      "scripts/gate.lua": `local gate = require("perigee.task").semaphore(1)\ngate:acquire()\nreturn gate`,
      "scripts/slow.lua": `require("gate"):acquire()\nreturn { other = require "other" }`,
      "scripts/other.lua": `require("gate"):acquire()\nreturn {}`,
    },
    route: `
      local task = require "perigee.task"
      local gate = require "gate"
      router:get("/", function()
        local slow = task.spawn(function() return require "slow" end)
        task.yield()
        task.with_deadline(1, function() return require "slow" end)
        collectgarbage()
        local other = task.spawn(function() return require "other" end)
        task.yield()
        gate:release()
        task.yield()
        gate:release()
        local loaded, err = slow:join()
        return tostring(err or loaded.other == other:join())
      end)`,
  });
  assert.equal((await app.get("/")).text, "true");
});

test("HEAD of an endless stream ends with its head", async (t) => {
  const app = await start(t, {
    route: `
      local http = require "perigee.http"
      local task = require "perigee.task"
      router:get("/ticks", function() return http.sse(function(out)
        while out:send "tick" do task.sleep(5) end
      end) end)
      router:get("/ok", function() return "ok" end)`,
  });
  const connection = await app.connect();
  connection.write("HEAD /ticks HTTP/1.1\r\nhost: x\r\n\r\nGET /ok HTTP/1.1\r\nhost: x\r\n\r\n");
  assert.equal((await connection.answer({ head: true })).headers["content-type"], "text/event-stream");
  assert.equal((await connection.answer()).text, "ok");
  connection.end();
});

test("middleware of the application sees OPTIONS, so it can answer preflights", async (t) => {
  const app = await start(t, {
    files: {
      "scripts/main.lua": `return { before = { function(req, next)
        if req.method == "OPTIONS" and req:header("access-control-request-method") then
          return 204, nil, { ["access-control-allow-origin"] = "*" }
        end
        return next(req)
      end } }`,
    },
    route: 'router:get("/thing", function() return "thing" end)',
  });
  const preflight = await app.request("OPTIONS", "/thing", { headers: { "access-control-request-method": "GET" } });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers["access-control-allow-origin"], "*");
  const plain = await app.request("OPTIONS", "/thing");
  assert.equal(plain.status, 204);
  assert.equal(plain.headers.allow, "GET, HEAD, OPTIONS");
  assert.equal((await app.request("OPTIONS", "/none")).status, 404);
});

test("a file and a health path have GET, HEAD and OPTIONS, and tell of it", async (t) => {
  const files = {
    "public/page.html": "<p>", "public/docs/index.html": "<h1>", "public/.hidden": "h", "public/bare/.keep": "",
  };
  const seen = "return { before = { function(req, next) return next(req) end } }";
  const plain = await start(t, { files });
  const wrapped = await start(t, { files: { ...files, "scripts/main.lua": seen } });
  for (const app of [plain, wrapped]) {
    for (const path of ["/page.html", "/docs/", "/docs", "/livez", "/readyz"]) {
      for (const method of ["POST", "PUT", "PATCH", "DELETE", "TRACE"]) {
        const refused = await app.request(method, path);
        assert.equal(refused.status, 405, `${method} ${path}`);
        assert.equal(refused.headers.allow, "GET, HEAD, OPTIONS");
        assert.match(refused.headers["content-type"], /^application\/problem\+json/);
      }
      const options = await app.request("OPTIONS", path);
      assert.equal(options.status, 204);
      assert.equal(options.headers.allow, "GET, HEAD, OPTIONS");
    }
    for (const path of ["/none.html", "/.hidden", "/bare/", "/../config/default.lua", "/page.html/", "/livez/x"]) {
      assert.equal((await app.request("POST", path)).status, 404, path);
      assert.equal((await app.request("OPTIONS", path)).status, 404, path);
    }
    const connection = await app.connect();
    connection.write("PUT /page.html HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /page.html HTTP/1.1\r\nHost: a\r\n\r\n");
    assert.equal((await connection.answer()).status, 405);
    assert.equal((await connection.answer()).text, "<p>");
    connection.end();
  }
  const without = await start(t, { files, settings: { "http.static": false, "http.health": false } });
  for (const path of ["/page.html", "/livez"]) {
    assert.equal((await without.request("POST", path)).status, 404);
    assert.equal((await without.request("OPTIONS", path)).status, 404);
  }
});

test("a body has one reader at a time", async (t) => {
  const app = await start(t, {
    route: `
      local task = require "perigee.task"
      router:post("/two", function(req)
        local results, err = task.all {
          function() return req:body() end,
          function() return req:body() end,
        }
        return 200, { one = results and results[1], err = tostring(err) }
      end)`,
  });
  const connection = await app.connect();
  connection.write("POST /two HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab");
  const answer = await connection.answer();
  assert.match(answer.text, /another task is reading the body/);
  connection.end();
});

test("a traceback has the line of every frame, the failed one's too", async (t) => {
  const app = await start(t, {
    route: `
      local function inner(x)
        return x.field
      end
      router:get("/", function()
        local value = inner(nil)
        return value
      end)`,
  });
  assert.equal((await app.get("/")).status, 500);
  const { err } = await app.line("request failed");
  const frames = err.stack.split("\n").filter((line) => line.startsWith("\t"));
  assert.match(frames[0], /^\tscripts\/routes\/test\.lua:\d+: in /);
});

test("odds and ends of routes and answers", async (t) => {
  const app = await start(t, {
    files: { "public/hello.txt": "hello" },
    route: `
      local http = require "perigee.http"
      router:group("/", function(top) top:get("/in-root", function() return "root" end) end)
      router:group("/g/", function(group)
        group:get("/", function() return "group" end)
        group:get("/in", function() return "inside" end)
      end)
      router:get("/nul", function() return http.file("public/hello.txt\\0.png") end)
      router:get("/sse", function() return http.sse(function(out) out:send("x") end,
        { headers = { ["Cache-Control"] = "no-store" } }) end)
      router:get("/fields", function() return 200, "x", { ["x-a"] = true } end)`,
  });
  assert.equal((await app.get("/in-root")).text, "root");
  assert.equal((await app.get("/g/")).text, "group");
  assert.equal((await app.get("/g/in")).text, "inside");
  assert.equal((await app.get("/nul")).status, 404);
  assert.equal((await app.get("/sse")).headers["cache-control"], "no-store");
  assert.equal((await app.get("/fields")).status, 500);
  await app.line((l) => /returned headers with odd names or values/.test(l.err?.message ?? ""));
});

test("no answer in production tells of servers, files or tables", async (t) => {
  const app = await start(t, {
    files: { "scripts/data/migrations/001_a.sql": "CREATE TABLE secret_table(name UNIQUE);" },
    route: `
      local errors = require "perigee.error"
      local http = require "perigee.http"
      local db = require("perigee.sqlite").get "main"
      router:get("/call", function()
        local res, err = http.get("http://127.0.0.1:1/inside")
        return nil, errors.wrap(err, "asking")
      end)
      router:get("/row", function()
        db:exec "INSERT INTO secret_table VALUES (1)"
        local done, err = db:exec "INSERT INTO secret_table VALUES (1)"
        return nil, err
      end)
      router:get("/said", function() return nil, errors.new("unavailable", "closed until noon") end)`,
  });
  const call = await app.get("/call");
  assert.equal(call.status, 503);
  assert.doesNotMatch(call.text, /127\.0\.0\.1|inside|refused/);
  await app.line((l) => /asking: .*127\.0\.0\.1:1\/inside/.test(l.err?.message ?? ""));
  const row = await app.get("/row");
  assert.equal(row.status, 409);
  assert.doesNotMatch(row.text, /secret_table|sqlite|UNIQUE/);
  assert.equal((await app.get("/said")).json.detail, "closed until noon");
});

test("a time-out of 0 is none", async (t) => {
  const route = (options) => `
    local task = require "perigee.task"
    router:get("/wait", function(req)
      task.sleep(30)
      return { left = req.deadline_ms == nil and "none" or "some" }
    end, ${options})`;
  const whole = await start(t, { route: route("{}"), settings: { "http.request_timeout": 0 } });
  assert.deepEqual((await whole.get("/wait")).json, { left: "none" });
  const one = await start(t, { route: route("{ timeout = 0 }"), settings: { "http.request_timeout": "10ms" } });
  assert.deepEqual((await one.get("/wait")).json, { left: "none" });
});

test("on_start refuses by nil and an error of any kind", async (t) => {
  const app = await start(t, { route: 'router:get("/", function() return "old" end)' });
  app.write({ "scripts/main.lua": 'return { on_start = function() return nil, "no such table" end }' });
  const { code, stdout, stderr } = await app.command("reload");
  assert.equal(code, 3);
  assert.match(stdout + stderr, /on_start: no such table/);
  assert.equal((await app.get("/")).text, "old");
});

test("a handler that waits too long leaves a line with its place", async (t) => {
  const app = await start(t, {
    route: `
      router:get("/wait", function()
        require("perigee.task").sleep("1h")
      end, { timeout = "50ms" })`,
  });

  assert.equal((await app.get("/wait")).status, 504);
  const line = await app.line("request timed out");
  assert.equal(line.route, "/wait");
  assert.match(line.err.stack, /scripts\/routes\/test\.lua:\d+/);
});

test("the error of a child that nobody joins is logged when its parent ends", async (t) => {
  const app = await start(t, {
    route: `
      local task = require "perigee.task"
      router:get("/child", function()
        task.spawn(function() error("lost child") end)
        task.sleep(5)
        return 204
      end)
      router:get("/detached", function()
        task.spawn_detached(function() task.sleep(5) error("lost detached") end)
        return 204
      end)
      router:get("/joined", function()
        local child = task.spawn(function() error("found child") end)
        task.sleep(5)
        child:join()
        return 204
      end)`,
  });

  for (const path of ["/joined", "/child", "/detached"]) {
    assert.equal((await app.get(path)).status, 204);
  }
  const { err } = await app.line((l) => /lost child/.test(l.err?.message));
  assert.equal(err.type, "internal");
  assert.match(err.stack, /lost child\nstack traceback:\n.*scripts\/routes\/test\.lua:\d+/s);
  await app.line((l) => /lost detached/.test(l.err?.message));
  // Its parent ended before the others': a line of it would be there by now.
  assert.equal(app.lines.filter((l) => /found child/.test(l.err?.message)).length, 0);
});

test("children that fail by the hundred, among much garbage, do their worker no harm", async (t) => {
  const app = await start(t, {
    settings: { "log.requests": false },
    route: `
      local task = require "perigee.task"
      router:get("/many", function()
        for i = 1, 200 do
          task.spawn(function()
            local waste = {}
            for j = 1, 20 do waste[j] = { ("x"):rep(j) .. i } end
            error("lost " .. i)
          end)
        end
        task.sleep(1)
        return 204
      end)`,
  });
  for (let i = 0; i < 100; i++) {
    assert.equal((await app.get("/many")).status, 204);
  }
  assert.ok(!app.lines.some((l) => l.msg === "worker ended"));
});

test("hot.data: what loading sets and what handlers set both carry over", async (t) => {
  const version = (n) => `
    local hot = require "perigee.hot"
    hot.data.loads = (hot.data.loads or 0) + 1
    hot.data.hits = hot.data.hits or 0
    return function(router)
      router:get("/", function()
        hot.data.hits = hot.data.hits + 1
        return { loads = hot.data.loads, hits = hot.data.hits, version = ${n} }
      end)
    end`;
  const app = await start(t, { files: { "scripts/routes/test.lua": version(1) } });

  await app.get("/");
  assert.deepEqual((await app.get("/")).json, { loads: 1, hits: 2, version: 1 });
  for (const n of [2, 3]) {
    app.write({ "scripts/routes/test.lua": version(n) });
    assert.equal((await app.command("reload")).code, 0);
    assert.deepEqual((await app.get("/")).json, { loads: n, hits: n + 1, version: n });
  }
  // What JSON has goes over, and stays what it was; a cycle is told of.
  const json = `local json = require "perigee.json"
    local hot = require "perigee.hot"
    hot.data.json = hot.data.json or json.decode '{"none":[],"null":null,"rows":[{"a":[1]}],"empty":{}}'
    return function(router)
      router:get("/", function() return hot.data.json end)
      router:post("/cycle", function() hot.data.loop = {} hot.data.loop.again = hot.data.loop return 204 end)
      router:delete("/cycle", function() hot.data.loop = nil return 204 end)
    end`;
  app.write({ "scripts/routes/test.lua": json });
  assert.equal((await app.command("reload")).code, 0);
  assert.equal((await app.command("reload")).code, 0);
  assert.deepEqual((await app.get("/")).json, { none: [], null: null, rows: [{ a: [1] }], empty: {} });
  await app.post("/cycle");
  assert.match((await app.command("reload")).stderr, /hot\.data\.loop\.again.*: nested too deep, or a cycle/);
  await app.request("DELETE", "/cycle");
  app.write({ "scripts/routes/test.lua": "\nrequire('perigee.hot').on_load(5)\nreturn function() end" });
  const no_function = await app.command("reload");
  assert.equal(no_function.code, 3);
  assert.match(no_function.stderr, /test\.lua:2: a function expected/);
  app.write({ "scripts/routes/test.lua": "require('perigee.hot').data = 5\nreturn function() end" });
  assert.equal((await app.command("reload")).code, 0);
  const refused = await app.command("reload");
  assert.equal(refused.code, 3);
  assert.match(refused.stderr, /hot\.data: a number cannot be handed over/);
});

test("an on_load or on_unload that raises holds up no other, nor jobs, nor on_stop", async (t) => {
  const app = await start(t, { files: {
    "scripts/main.lua": `
      local hot, log, errors = require "perigee.hot", require "perigee.log", require "perigee.error"
      hot.on_load(function() error(errors.new("conflict", "no load")) end)
      hot.on_load(function() log.info "second load" end)
      hot.on_unload(function() error "no unload" end)
      hot.on_unload(function() log.info "second unload" end)
      return { on_stop = function() log.info "stopped well" end }`,
    "scripts/jobs/work.lua": `return { run = function() require("perigee.log").info "worked" end }`,
    "scripts/routes/test.lua": routes(`
      router:post("/", function() require("perigee.queue").get("work"):add("x", {}) return 204 end)`),
  } });
  assert.equal((await app.line("on_load failed")).err.message, "no load");
  await app.line("second load");
  await app.post("/", "");
  await app.line("worked");
  assert.equal((await app.command("reload")).code, 0);
  assert.match((await app.line("on_unload failed")).err.message, /main\.lua:5: no unload/);
  await app.line("second unload");
  await app.line("stopped well");
  assert.ok(!app.lines.some((l) => /jobs do not begin/.test(l.msg)));
});

test("a query parameter whose schema is an array takes all its values", async (t) => {
  const app = await start(t, {
    route: `
      router:get("/", function(req) return req.query end, {
        query = { type = "object", properties = {
          id = { type = "array", items = { type = "integer" } }, one = { type = "string" } } },
      })`,
  });

  assert.deepEqual((await app.get("/?id=1&id=2&one=a&one=b")).json, { id: [1, 2], one: "b" });
  assert.deepEqual((await app.get("/?id=1")).json, { id: [1] });
  assert.deepEqual((await app.get("/?id=1&id=x")).json.errors.map((e) => e.pointer), ["/query/id/1"]);
});

test("perigee test ends well after a spec that failed in the middle of a request", async (t) => {
  const dir = app_dir(t, {
    route: `router:get("/", function() return "hi" end)`,
    files: {
      "spec/a_spec.lua": `
        local test = require "perigee.test"
        describe("forms", function()
          it("takes a method and a path", function()
            assert.equal("hi", test.request("GET", "/").body)
          end)
          it("takes a table", function()
            assert.equal(404, test.request({ url = "/none" }).status)
          end)
          it("raises", function() test.request("BAD METHOD", "/") end)
        end)`,
    },
  });

  const { code, signal, stdout } = await perigee(["test"], { cwd: dir });
  assert.equal(signal, null);
  assert.equal(code, 1);
  assert.match(stdout, /2 successes \/ 0 failures \/ 1 error/);
});

test("a stream whose client has gone is told by write, and is cancelled when it does not write", async (t) => {
  const app = await start(t, {
    route: `
      local http = require "perigee.http"
      local log = require "perigee.log"
      local task = require "perigee.task"
      router:get("/ticks", function()
        return http.sse(function(out)
          while true do
            local ok, err = out:send { data = "tick" }
            if not ok then
              log.info("left", { kind = err.kind })
              return
            end
            task.sleep(20)
          end
        end)
      end)
      router:get("/quiet", function()
        return http.stream(function(out)
          out:write("x")
          local ok, err = pcall(task.sleep, "1h")
          log.info("woken", { ok = ok, kind = err.kind })
        end)
      end)`,
  });

  for (const path of ["/ticks", "/quiet"]) {
    const connection = await app.connect();
    connection.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await connection.upto("\r\n\r\n"); // it has begun
    connection.end();
  }
  assert.equal((await app.line("left")).kind, "cancelled");
  assert.equal((await app.line("woken")).kind, "cancelled");
});

test("/readyz?verbose lists its checks", async (t) => {
  const app = await start(t, { route: `router:get("/", function() return 204 end)` });

  assert.match((await app.get("/readyz?verbose")).text, /^\[\+\] .*\n\[\+\] .*\nreadyz passed\n$/);
  assert.deepEqual((await app.get("/readyz")).json, { status: "pass" });
});

test("a handler that catches its deadline for ever is given up", async (t) => {
  const app = await start(t, {
    route: `
      local task = require "perigee.task"
      router:get("/stubborn", function()
        while true do pcall(task.sleep, 10) end
      end, { timeout = "200ms" })
      router:get("/inside", function()
        local co = coroutine.wrap(function() while true do pcall(task.yield) end end)
        while true do pcall(co) end
      end, { timeout = "200ms" })
      router:get("/tidy", function()
        local ok = pcall(task.sleep, 60000)
        local again = pcall(task.sleep, 1)
        return tostring(ok) .. tostring(again)
      end, { timeout = "200ms" })
      router:get("/", function() return "serves" end)`,
  });
  for (const target of ["/stubborn", "/inside", "/tidy"]) {
    const answer = await app.get(target);
    assert.equal(answer.status, 504, target);
    assert.equal(answer.json.detail, "the deadline has passed");
  }
  assert.equal((await app.get("/")).text, "serves");
});
