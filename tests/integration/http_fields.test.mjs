// Fields that change what the host thinks of a request, or that it adds.
import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep, start } from "./helpers.mjs";

const ROUTE = `
  local http = require "perigee.http"
  local task = require "perigee.task"
  router:get("/who", function(req)
    return { addr = req.remote_addr, tls = req.is_tls, cookie = http.cookie("a", "b"),
      open = http.cookie("a", "b", { secure = false }) }
  end)
  router:get("/upgrade", function() return 426, { need = "more" }, { upgrade = "websocket" } end)
  router:get("/plain", function() return 200, "x", { upgrade = "h2c" } end)
  router:post("/form", function(req)
    local form, err = req:form()
    if not form then return nil, err end
    return form
  end)
  router:post("/parts", function(req)
    local names = {}
    for part in req:multipart() do names[#names + 1] = part.name end
    return names
  end)
  router:post("/body", function(req)
    local body, err = req:body()
    if not body then return nil, err end
    return body
  end)
  router:post("/hasty", function(req) return req:body() end, { timeout = "300ms" })
  router:get("/hasty", function(req) task.sleep(60000) end, { timeout = "300ms" })
`;

test("proxies that are trusted speak for their clients", async (t) => {
  const app = await start(t, { route: ROUTE, settings: { "http.trust_proxies": '["127.0.0.0/8","10.0.0.0/8"]' } });
  const cases = [
    [{}, "127.0.0.1", false],
    [{ "x-forwarded-for": "9.9.9.9, 1.2.3.4, 10.1.1.1" }, "1.2.3.4", false],
    [{ "x-forwarded-for": "1.2.3.4:567", "x-forwarded-proto": "https" }, "1.2.3.4", true],
    [{ "x-forwarded-proto": "HTTPS, http" }, "127.0.0.1", true],
    [{ forwarded: "for=192.0.2.60;proto=https;by=203.0.113.43" }, "192.0.2.60", true],
    [{ forwarded: 'for=9.9.9.9, For="[2001:db8:cafe::17]:4711"' }, "2001:db8:cafe::17", false],
    [{ forwarded: "for=unknown, for=10.0.0.1" }, "10.0.0.1", false],
    [{ forwarded: "for=_hidden;proto=http" }, "127.0.0.1", false],
    [{ forwarded: "for=5.5.5.5", "x-forwarded-for": "6.6.6.6" }, "6.6.6.6", false],
    [{ forwarded: ";;=,for=" }, "127.0.0.1", false],
  ];
  for (const [headers, addr, tls] of cases) {
    const { json } = await app.get("/who", { headers });
    assert.equal(json.addr, addr, JSON.stringify(headers));
    assert.equal(json.tls, tls, JSON.stringify(headers));
    assert.equal(json.cookie.includes("Secure"), tls);
    assert.ok(!json.open.includes("Secure"), "unless told");
  }
  const alone = await start(t, { route: ROUTE });
  const { json } = await alone.get("/who", { headers: { "x-forwarded-for": "1.2.3.4", "x-forwarded-proto": "https" } });
  assert.deepEqual([json.addr, json.tls], ["127.0.0.1", false]);
});

test("fields of answers", async (t) => {
  const app = await start(t, { route: ROUTE });
  const upgrade = await app.get("/upgrade");
  assert.equal(upgrade.status, 426);
  assert.equal(upgrade.headers.upgrade, "websocket");
  assert.match([upgrade.headers.connection].flat().join(), /\bupgrade\b/);
  assert.equal((await app.get("/plain")).headers.upgrade, undefined);
  assert.equal((await app.get("/plain")).headers["server-timing"], undefined);
  const dev = await start(t, { route: ROUTE, env: "development", settings: { "log.format": "json" } });
  assert.match((await dev.get("/plain")).headers["server-timing"], /^total;dur=\d+\.\d{3}$/);
});

test("bodies that are not what is asked for", async (t) => {
  const app = await start(t, {
    route: ROUTE,
    settings: { "http.body_timeout": "2s", "http.body_rate_min": "1kb" },
  });

  await t.test("a form or parts of another type are 415", async () => {
    for (const target of ["/form", "/parts"]) {
      const answer = await app.post(target, "a=b");
      assert.equal(answer.status, 415, target);
      assert.equal(answer.headers["content-type"], "application/problem+json");
    }
    const typed = (type) => app.post("/form", "a=b", { headers: { "content-type": type } });
    assert.deepEqual((await typed("application/x-www-form-urlencoded")).json, { a: "b" });
    assert.deepEqual((await typed("Application/X-WWW-Form-URLencoded; charset=utf-8")).json, { a: "b" });
    assert.equal((await typed("multipart/form-data; boundary=x")).status, 415);
    const none = await app.raw("POST /form HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\na=b");
    assert.match(none, /^HTTP\/1.1 200/);
    const boundless = await app.post("/parts", "x", { headers: { "content-type": "multipart/form-data" } });
    assert.equal(boundless.status, 400);
  });

  await t.test("a body that trickles is 408, for all its bytes", async () => {
    const connection = await app.connect();
    connection.write("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    const trickle = setInterval(() => connection.write("x"), 50);
    const answer = await connection.answer();
    clearInterval(trickle);
    assert.equal(answer.status, 408);
    connection.end();
  });

  await t.test("one that is fast enough may take its time", async () => {
    const connection = await app.connect();
    connection.write("POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (let i = 0; i < 8; i++) {
      connection.write(`1000\r\n${"x".repeat(4096)}\r\n`);
      await sleep(300);
    }
    connection.write("0\r\n\r\n");
    assert.equal((await connection.answer()).body.length, 8 * 4096);
    connection.end();
  });

  await t.test("over the route's time: 408 where the body was waited for, else 504", async () => {
    const connection = await app.connect();
    connection.write("POST /hasty HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    assert.equal((await connection.answer()).status, 408);
    connection.end();
    assert.equal((await app.get("/hasty")).status, 504);
  });
});
