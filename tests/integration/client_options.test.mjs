// The HTTP client's choices: proxies, cookies, retries, deadlines that are sent
// on, and the pool's configuration.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { client_app, upstream } from "./client_helpers.mjs";
import { until } from "./helpers.mjs";

function answer(socket, body, { status = "200 OK", headers = "" } = {}) {
  socket.write(`HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\n${headers}\r\n${body}`);
}

const line = (head) => head.slice(0, head.indexOf("\r\n"));
const field = (head, name) => new RegExp(`^${name}: (.*)\r$`, "im").exec(head)?.[1];

test("a proxy gets the whole URL and its own credentials", async (t) => {
  const heads = [];
  const proxy = await upstream(t, (socket, head) => {
    heads.push(head);
    answer(socket, "by proxy");
  });
  const app = await client_app(t);
  const at = `proxy = "http://user:secret@127.0.0.1:${proxy.port}"`;
  const got = await app.run(`return { (http.get("http://shop.example:8080/a?b=1", { ${at} })).body }`);
  assert.deepEqual(got, ["by proxy"]);
  assert.equal(line(heads[0]), "GET http://shop.example:8080/a?b=1 HTTP/1.1");
  assert.equal(field(heads[0], "host"), "shop.example:8080");
  assert.equal(field(heads[0], "proxy-authorization"), `Basic ${Buffer.from("user:secret").toString("base64")}`);

  const refused = await app.run(`local _, err = http.get("http://shop.example/", { ${at}, deny_private = true }) return fail(err)`);
  assert.equal(refused.code, "bad_proxy");
});

test("the environment's proxy is used where the configuration asks for it", async (t) => {
  const seen = [];
  const proxy = await upstream(t, (socket, head) => {
    seen.push(line(head));
    answer(socket, "proxy");
  });
  const direct = await upstream(t, (socket) => answer(socket, "direct"));
  const app = await client_app(t, {
    files: { "config/default.lua": `return { client = { proxy = "env" } }` },
    vars: { http_proxy: `http://127.0.0.1:${proxy.port}`, no_proxy: "127.0.0.1" },
  });
  assert.equal((await app.fetch(direct.port)).body, "direct");
  assert.deepEqual(await app.run(`return { (http.get "http://elsewhere.example/").body }`), ["proxy"]);
  assert.equal((await app.fetch(direct.port, `proxy = false`)).body, "direct");
  assert.deepEqual(seen, ["GET http://elsewhere.example/ HTTP/1.1"]);
});

test("a cookie jar keeps what answers set, redirects' too", async (t) => {
  const cookies = [];
  const site = await upstream(t, (socket, head, n) => {
    cookies.push(field(head, "cookie"));
    if (n === 1) {
      answer(socket, "", { status: "302 Found", headers: "Location: /next\r\nSet-Cookie: id=1; Path=/\r\nSet-Cookie: x=y\r\n" });
    } else {
      answer(socket, "ok");
    }
  });
  const app = await client_app(t);
  await app.run(`
    local jar = http.cookie_jar()
    http.get("http://127.0.0.1:${site.port}/login/form", { cookies = jar })
    http.get("http://127.0.0.1:${site.port}/login/x", { cookies = jar })
    http.get("http://127.0.0.1:${site.port}/", { cookies = { a = 1 } })
    return { jar:get "id" }
  `);
  assert.deepEqual(cookies, [undefined, "id=1", "x=y; id=1", "a=1"]);
});

test("retries are for trouble, and give the last answer", async (t) => {
  const site = await upstream(t, (socket, head, n) => {
    if (n <= 2) {
      answer(socket, "no", { status: "503 Service Unavailable" });
    } else if (n === 3) {
      answer(socket, "yes");
    } else {
      answer(socket, `down ${n}`, { status: "502 Bad Gateway" });
    }
  });
  const app = await client_app(t);
  const opts = `retry = { attempts = 3, base = "1ms" }`;
  assert.equal((await app.fetch(site.port, opts)).body, "yes");
  const last = await app.fetch(site.port, opts);
  assert.equal(last.status, 502);
  assert.equal(last.body, "down 6");
  assert.equal((await app.fetch(site.port, `${opts}, method = "POST"`)).body, "down 7");
  assert.equal((await app.fetch(site.port, `${opts}, stream = true`)).status, 502);
});

test("retries stay a share of the calls when all is down", async (t) => {
  const site = await upstream(t, (socket) => answer(socket, "", { status: "503 Service Unavailable" }));
  const app = await client_app(t);
  await app.run(`
    task.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, function()
      for _ = 1, 40 do
        http.get("http://127.0.0.1:${site.port}/", { retry = { attempts = 5, base = "1ms", max = "1ms" } })
      end
      return true
    end)
    return {}
  `);
  // 400 calls; without a budget 2000 requests.
  assert.ok(site.requests < 1000, `${site.requests} requests`);
});

test("what is left of the time is sent on, and heeded", async (t) => {
  const left = [];
  const site = await upstream(t, (socket, head) => {
    left.push(field(head, "x-request-timeout-ms"));
    answer(socket, "ok");
  });
  const app = await client_app(t, {
    files: {
      "scripts/routes/slow.lua": `
        local task = require "perigee.task"
        return function(router)
          router:get("/slow", function() task.sleep "10s" return "late" end, { before = { require "perigee.deadline" } })
        end`,
    },
  });
  await app.fetch(site.port);
  await app.fetch(site.port, `timeout = "2s"`);
  await app.fetch(site.port, `send_deadline = false`);
  assert.ok(Number(left[0]) > 2000 && Number(left[0]) <= 20000, left[0]);
  assert.ok(Number(left[1]) > 0 && Number(left[1]) <= 2000, left[1]);
  assert.equal(left[2], undefined);
  const slow = await app.get("/slow", { headers: { "X-Request-Timeout-Ms": "50" } });
  assert.equal(slow.status, 504);
});

test("the pool is as large as configured, and its queue", async (t) => {
  const waiting = [];
  const site = await upstream(t, (socket) => waiting.push(socket));
  const app = await client_app(t, {
    files: { "config/default.lua": `return { cluster = { workers = 1 }, client = { connections = 2, waiting = 1, idle_timeout = "50ms" } }` },
  });
  const calls = [1, 2, 3].map(() => app.fetch(site.port));
  await until(() => waiting.length === 2, { what: "two connections" });
  await until(async () => (await app.run("return stats()")).waiting === 1, { what: "one that waits" });
  assert.equal((await app.fetch(site.port)).code, "queue_full");
  answer(waiting[0], "a");
  answer(waiting[1], "b");
  await until(() => waiting.length === 3, { what: "the third request" });
  answer(waiting[2], "c");
  const bodies = (await Promise.all(calls)).map((res) => res.body);
  assert.deepEqual(bodies.sort(), ["a", "b", "c"]);
  assert.equal(site.connections, 2);
  await until(() => site.sockets.size === 0, { what: "idle connections closed" });
});

test("a GET without options gives what one with options does", async (t) => {
  const site = await upstream(t, (socket, head) => {
    const path = head.split(" ")[1];
    if (path === "/moved") {
      answer(socket, "", { status: "302 Found", headers: "Location: /there\r\n" });
    } else if (path === "/zip") {
      const zip = gzipSync("unpacked");
      socket.write(`HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${zip.length}\r\nX-A: 1\r\nx-a: 2\r\n\r\n`);
      socket.write(zip);
    } else if (path === "/silent") {
      socket.write("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n");
    } else if (path === "/early") {
      socket.write("HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n");
      answer(socket, "late", { headers: "X-Late: 1\r\n" });
    } else if (path === "/bad") {
      socket.end("nonsense\r\n\r\n");
    } else {
      answer(socket, path);
    }
  });
  const app = await client_app(t);
  const seen = await app.run(`
    local base = "http://127.0.0.1:${site.port}"
    local out = {}
    for _, opts in ipairs { "quick", { timeout = "1s" }, { timeout = "1s", headers = { ["X-Own"] = "1" } } } do
      if opts == "quick" then opts = nil end
      local list = {}
      for _, path in ipairs { "/a", "/a", "/moved", "/zip", "/early", "/bad", "/silent" } do
        if path ~= "/silent" or opts then
          local res, err = http.get(base .. path, opts)
          list[#list + 1] = res and { status = res.status, body = res.body, headers = res.headers,
            url = res.url:gsub("^http://[^/]*", ""), same = res.headers == res.headers } or fail(err)
        end
      end
      out[#out + 1] = list
    end
    local handle = task.spawn(function() return http.get(base .. "/silent") end)
    task.sleep(20)
    handle:cancel()
    local _, err = handle:join()
    out.cancelled = err.kind
    out.cancelled = nil
    return { lists = out, cancelled = err.kind, open = stats().open }
  `);
  assert.equal(seen.cancelled, "cancelled");
  const [first, second, long] = seen.lists;
  assert.deepEqual(second, long);
  assert.deepEqual(first, long.slice(0, 6));
  assert.deepEqual(long.map((one) => one.body ?? one.code), ["/a", "/a", "/there", "unpacked", "late", "bad_response", "timeout"]);
  assert.deepEqual(long[3].headers, { "x-a": ["1", "2"] });
  assert.deepEqual(long[4].headers, { "content-length": "4", "x-late": "1" });
  assert.equal(long[2].url, "/there");
});

test("requests that find the queue full leave no memory behind", async (t) => {
  const waiting = [];
  const site = await upstream(t, (socket) => waiting.push(socket));
  const app = await client_app(t, {
    files: { "config/default.lua": `return { cluster = { workers = 1 }, client = { connections = 1, waiting = 0 } }` },
  });
  const first = app.fetch(site.port);
  await until(() => waiting.length === 1, { what: "the one connection" });
  const grown_kb = await app.run(`
    local function resident_kb()
      return tonumber(io.open("/proc/self/status"):read "*a":match "VmRSS:%s+(%d+)")
    end
    local function refused(count)
      for _ = 1, count do
        local _, err = http.get "http://127.0.0.1:${site.port}/x"
        assert(err.code == "queue_full")
      end
      collectgarbage()
    end
    refused(2000)
    local before = resident_kb()
    refused(20000)
    return { resident_kb() - before }
  `);
  assert.ok(grown_kb[0] < 5000, `${grown_kb} kB`);
  answer(waiting[0], "ok");
  assert.equal((await first).body, "ok");
});
