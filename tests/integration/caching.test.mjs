// What caches between a client and us go by: conditions, Cache-Control, Vary,
// tags; and nginx as such a cache.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { sleep, start } from "./helpers.mjs";

const ROUTE = `
  local http = require "perigee.http"
  local calls = 0
  local modified = 1767323045000
  router:get("/tagged", function() return 200, { n = 1 }, { ETag = '"v1"' } end)
  router:get("/dated", function() return 200, "text", http.cache { last_modified = modified } end)
  router:post("/tagged", function() return 200, { n = 1 }, { etag = '"v1"' } end)
  router:get("/missing", function() return 404, { n = 1 }, { etag = '"v1"' } end)
  router:get("/stream", function()
    return http.stream(function(out) out:write "streamed" end, { headers = { etag = 'W/"s"' } })
  end)
  router:get("/helper", function()
    return 200, "x", http.cache({ public = true, max_age = "5m", s_maxage = 3600000,
      stale_while_revalidate = "30s", stale_if_error = "1d", vary = { "Accept", "Accept-Language" },
      tags = { "order:7", "orders" }, etag = "7-3" }, { ["X-More"] = "1", Vary = "Accept" })
  end)
  router:get("/routed", function() return { n = 1 } end,
    { cache = { private = true, max_age = "1m", tags = "one", etag = true } })
  router:get("/own", function() return 200, "x", { ["Cache-Control"] = "no-store" } end,
    { cache = { public = true, max_age = "1m", vary = "accept" } })
  router:get("/file", function() return http.file("public/a.txt") end, { cache = { immutable = true, max_age = "1d" } })
  router:get("/moved", function() return http.redirect("/x", 301) end, { cache = { max_age = "1d" } })
  router:get("/fails", function() return nil, require("perigee.error").new("not_found", "none") end,
    { cache = { max_age = "1d" } })
  router:get("/counted", function(req)
    calls = calls + 1
    return { calls = calls, language = req:header "accept-language" }
  end, { cache = { max_age = "1s", stale_while_revalidate = "1h", stale_if_error = "1h", vary = "accept-language" } })
  router:get("/same", function() return { same = true } end, { cache = { max_age = "1s", etag = true } })
`;

test("conditions and fields of answers", async (t) => {
  const app = await start(t, { route: ROUTE, files: { "public/a.txt": "a" } });
  const ask = (target, headers) => app.get(target, { headers });

  await t.test("all four conditions on an answer with a tag or a time", async () => {
    const cases = [
      ["/tagged", { "if-none-match": '"v1"' }, 304], ["/tagged", { "if-none-match": 'W/"v1", "x"' }, 304],
      ["/tagged", { "if-none-match": "*" }, 304], ["/tagged", { "if-none-match": '"v2"' }, 200],
      ["/tagged", { "if-match": '"v1"' }, 200], ["/tagged", { "if-match": '"v2"' }, 412],
      ["/tagged", { "if-match": "*" }, 200], ["/tagged", { "if-match": 'W/"v1"' }, 412],
      ["/tagged", { "if-modified-since": "Fri, 02 Jan 2099 03:04:05 GMT" }, 200],
      ["/tagged", { "if-unmodified-since": "Fri, 02 Jan 1999 03:04:05 GMT" }, 200],
      ["/dated", { "if-modified-since": "Fri, 02 Jan 2026 03:04:05 GMT" }, 304],
      ["/dated", { "if-modified-since": "Fri, 02 Jan 2026 03:04:04 GMT" }, 200],
      ["/dated", { "if-unmodified-since": "Fri, 02 Jan 2026 03:04:04 GMT" }, 412],
      ["/dated", { "if-unmodified-since": "Fri, 02 Jan 2026 03:04:05 GMT" }, 200],
      ["/dated", { "if-none-match": '"x"', "if-modified-since": "Fri, 02 Jan 2026 03:04:05 GMT" }, 200],
      ["/dated", { "if-modified-since": "yesterday" }, 200],
      ["/missing", { "if-none-match": '"v1"' }, 404], ["/stream", { "if-none-match": '"s"' }, 304],
    ];
    for (const [target, headers, status] of cases) {
      assert.equal((await ask(target, headers)).status, status, target + JSON.stringify(headers));
    }
    const post = await app.post("/tagged", "x", { headers: { "if-none-match": '"v1"' } });
    assert.equal(post.status, 200);
    const bare = await ask("/tagged", { "if-none-match": '"v1"' });
    assert.equal(bare.headers.etag, '"v1"');
    assert.equal(bare.headers["content-type"], undefined);
    assert.equal((await app.request("HEAD", "/tagged", { headers: { "if-none-match": '"v1"' } })).status, 304);
  });

  await t.test("http.cache makes the fields", async () => {
    const { headers } = await ask("/helper");
    assert.equal(headers["cache-control"],
      "public, max-age=300, s-maxage=3600, stale-while-revalidate=30, stale-if-error=86400");
    assert.equal(headers.vary, "Accept");
    assert.equal(headers["x-more"], "1");
    assert.equal(headers["surrogate-key"], "order:7 orders");
    assert.equal(headers["cache-tag"], "order:7,orders");
    assert.equal(headers.etag, '"7-3"');
  });

  await t.test("a route's option fills in what the handler has not said", async () => {
    const routed = await ask("/routed");
    assert.equal(routed.headers["cache-control"], "private, max-age=60");
    assert.equal(routed.headers["surrogate-key"], "one");
    assert.deepEqual(routed.json, { n: 1 });
    assert.equal((await ask("/routed", { "if-none-match": routed.headers.etag })).status, 304);
    const own = await ask("/own");
    assert.equal(own.headers["cache-control"], "no-store");
    assert.equal(own.headers.vary, "accept");
    assert.equal((await ask("/file")).headers["cache-control"], "immutable, max-age=86400");
    assert.equal((await ask("/moved")).headers["cache-control"], "max-age=86400");
    const fails = await ask("/fails");
    assert.equal(fails.status, 404);
    assert.equal(fails.headers["cache-control"], undefined);
  });
});

// --- nginx in front ---------------------------------------------------------------

const NGINX = ["/usr/sbin/nginx", "nginx"].find((name) => spawnSync(name, ["-v"]).status === 0);

function conf(dir, port) {
  return `
    ${process.getuid() === 0 ? "user root;" : ""}
    worker_processes 1; daemon off; pid ${dir}/pid; error_log ${dir}/error.log;
    events { worker_connections 64; }
    http {
      access_log off;
      proxy_temp_path ${dir}/temp; client_body_temp_path ${dir}/body; fastcgi_temp_path ${dir}/f;
      uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
      proxy_cache_path ${dir}/cache keys_zone=front:1m;
      server {
        listen unix:${dir}/front.sock;
        location / {
          proxy_pass http://127.0.0.1:${port};
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_cache front;
          proxy_cache_revalidate on;
          proxy_cache_background_update on;
          proxy_cache_lock on;
          add_header X-Cache $upstream_cache_status always;
        }
      }
    }`;
}

async function front(t, port) {
  const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-nginx-"));
  for (const name of ["cache", "temp", "body", "f", "u", "s"]) {
    mkdirSync(path.join(dir, name));
  }
  writeFileSync(path.join(dir, "conf"), conf(dir, port));
  const child = spawn(NGINX, ["-p", dir, "-c", path.join(dir, "conf"), "-e", path.join(dir, "error.log")], { stdio: "ignore" });
  t.after(async () => {
    if (child.exitCode === null) {
      child.kill("SIGTERM");
      await once(child, "exit");
    }
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });
  return async (target, headers = {}) => {
    for (let tries = 0; ; tries++) {
      try {
        const request = http.get({ socketPath: path.join(dir, "front.sock"), path: target, headers, agent: false });
        const [answer] = await once(request, "response");
        const text = (await answer.toArray()).join("");
        return { status: answer.statusCode, headers: answer.headers, cache: answer.headers["x-cache"], text };
      } catch (error) {
        if (tries > 400) {
          throw error; // it has not come up
        }
        await sleep(50);
      }
    }
  };
}

/** Asks again until the cache says one of these. */
async function until(ask, target, states) {
  for (let tries = 0; tries < 400; tries++) {
    const answer = await ask(target);
    if (states.includes(answer.cache)) {
      return answer;
    }
    await sleep(50);
  }
  throw new Error(`never ${states}`);
}

test("nginx keeps what we say", { skip: NGINX === undefined && "no nginx" }, async (t) => {
  const app = await start(t, { route: ROUTE });
  const ask = await front(t, app.port);

  await t.test("one call for many, one for each language", async () => {
    const en = { "accept-language": "en" };
    const first = await ask("/counted?a", en);
    assert.equal(first.cache, "MISS");
    assert.match((await ask("/counted?a", { "accept-language": "de" })).text, /"de"/);
    assert.match((await ask("/counted?a", en)).text, /"en"/);
  });

  await t.test("a stale answer is served while a new one is fetched", async () => {
    const first = JSON.parse((await ask("/counted?b")).text).calls;
    const stale = await until(ask, "/counted?b", ["STALE", "UPDATING"]);
    assert.equal(JSON.parse(stale.text).calls, first);
    const fresh = await until(ask, "/counted?b", ["HIT"]);
    assert.ok(JSON.parse(fresh.text).calls > first);
  });

  await t.test("a tag that still holds is told by 304", async () => {
    const first = await ask("/same");
    const again = await until(ask, "/same", ["REVALIDATED"]);
    assert.equal(again.text, first.text);
  });

  await t.test("a stale answer is better than none", async () => {
    const first = await ask("/counted?c");
    assert.equal(first.status, 200);
    app.kill();
    await app.ended;
    for (let tries = 0; tries < 400; tries++) {
      const answer = await ask("/counted?c");
      assert.equal(answer.status, 200);
      if (answer.cache === "STALE") {
        return;
      }
      await sleep(50);
    }
    throw new Error("never STALE");
  });
});
