// Files of public/: ranges, conditions, and files that lie there packed.
import assert from "node:assert/strict";
import { renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import zlib from "node:zlib";
import { sleep, start } from "./helpers.mjs";

const DIGITS = "0123456789";
const LONG = Buffer.from(Array.from({ length: 40000 }, (_, i) => `line ${i}\n`).join(""));
const TEXT = "body { color: black }\n".repeat(200);
const OLD = new Date("2026-01-02T03:04:05Z");

const ROUTE = `
  local http = require "perigee.http"
  router:get("/report", function()
    return http.file("public/digits.txt", { headers = { etag = '"mine"', ["cache-control"] = "max-age=60" } })
  end)
`;

async function host(t, settings = {}) {
  const app = await start(t, {
    route: ROUTE,
    settings,
    files: {
      "public/digits.txt": DIGITS,
      "public/empty.txt": "",
      "public/plain.css": TEXT,
      "public/packed.css": TEXT,
      "public/stale.css": TEXT,
      "public/long.txt": LONG.toString(),
    },
  });
  const at = (name) => path.join(app.dir, "public", name);
  writeFileSync(at("packed.css.gz"), zlib.gzipSync(TEXT));
  writeFileSync(at("packed.css.br"), zlib.brotliCompressSync(TEXT));
  writeFileSync(at("stale.css.br"), zlib.brotliCompressSync("an older version"));
  for (const name of ["digits.txt", "long.txt", "plain.css", "packed.css", "stale.css.br"]) {
    utimesSync(at(name), OLD, OLD);
  }
  return app;
}

test("ranges", async (t) => {
  const app = await host(t);
  const ask = (range, more = {}, target = "/digits.txt") => app.get(target, { headers: { range, ...more } });

  await t.test("one part", async () => {
    const cases = {
      "bytes=0-0": ["0", "0-0"], "bytes=2-4": ["234", "2-4"], "bytes=7-": ["789", "7-9"], "bytes=-3": ["789", "7-9"],
      "bytes=-100": [DIGITS, "0-9"], "bytes=5-1000": ["56789", "5-9"], "BYTES=1-1": ["1", "1-1"],
      "bytes= 1-1 ,": ["1", "1-1"], "bytes=8-99999999999999999999": ["89", "8-9"], "bytes=3-3,50-60": ["3", "3-3"],
    };
    for (const [range, [text, place]] of Object.entries(cases)) {
      const answer = await ask(range);
      assert.equal(answer.status, 206, range);
      assert.equal(answer.text, text, range);
      assert.equal(answer.headers["content-range"], `bytes ${place}/10`, range);
      assert.equal(answer.headers["content-length"], String(text.length));
      assert.equal(answer.headers["content-type"], "text/plain; charset=utf-8");
      assert.ok(answer.headers.etag && answer.headers["last-modified"]);
    }
  });

  await t.test("no such part is 416; what cannot be read is overlooked", async () => {
    for (const range of ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"]) {
      const answer = await ask(range);
      assert.equal(answer.status, 416, range);
      assert.equal(answer.headers["content-range"], "bytes */10");
      assert.equal(answer.json.status, 416);
    }
    const many = Array.from({ length: 17 }, () => "1-1").join();
    for (const range of ["bytes=", "bytes=a-b", "bytes=5-2", "lines=1-2", "bytes=1-2-3", "bytes", "bytes=--1", "bytes=-",
      "bytes=1-2;3-4", `bytes=${many}`, "bytes=0-9,0-9"]) {
      const answer = await ask(range);
      assert.equal(answer.status, 200, range);
      assert.equal(answer.text, DIGITS);
      assert.equal(answer.headers["accept-ranges"], "bytes");
    }
    assert.equal((await ask("bytes=0-5", {}, "/empty.txt")).status, 200);
    assert.equal((await app.request("HEAD", "/digits.txt", { headers: { range: "bytes=0-1" } })).status, 200);
  });

  await t.test("several parts", async () => {
    const answer = await ask("bytes=0-1, 4-5 ,-1");
    assert.equal(answer.status, 206);
    const [, boundary] = /^multipart\/byteranges; boundary=(\w+)$/.exec(answer.headers["content-type"]);
    const part = (place, text) => `--${boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
      `Content-Range: bytes ${place}/10\r\n\r\n${text}\r\n`;
    assert.equal(answer.text, `${part("0-1", "01")}${part("4-5", "45")}${part("9-9", "9")}--${boundary}--\r\n`);
    assert.equal(answer.headers["content-range"], undefined);
  });

  await t.test("parts of a long file", async () => {
    for (const [first, last] of [[0, 199999], [65530, 65540], [LONG.length - 70000, LONG.length - 1]]) {
      const answer = await ask(`bytes=${first}-${last}`, {}, "/long.txt");
      assert.deepEqual(answer.body, LONG.subarray(first, last + 1));
    }
    const two = await ask("bytes=0-99999,200000-299999", {}, "/long.txt");
    assert.ok(two.body.includes(LONG.subarray(0, 100000)) && two.body.includes(LONG.subarray(200000, 300000)));
  });

  await t.test("If-Range", async () => {
    const { etag, "last-modified": modified } = (await app.get("/digits.txt")).headers;
    for (const [version, status] of [[etag, 206], [modified, 206], ['"other"', 200], [`W/${etag}`, 200],
      ["Fri, 02 Jan 2026 03:04:06 GMT", 200], ["Fri, 02 Jan 2026 03:04:04 GMT", 200], ["nonsense", 200]]) {
      assert.equal((await ask("bytes=1-2", { "if-range": version })).status, status, version);
    }
  });

  await t.test("the other conditions come first", async () => {
    const { etag } = (await app.get("/digits.txt")).headers;
    assert.equal((await ask("bytes=1-2", { "if-none-match": etag })).status, 304);
    assert.equal((await ask("bytes=1-2", { "if-match": '"other"' })).status, 412);
    assert.equal((await ask("bytes=50-", { "if-none-match": etag })).status, 304);
    assert.equal((await ask("bytes=1-2", { "if-match": etag })).status, 206);
  });

  await t.test("http.file: fields of the application's own", async () => {
    const answer = await ask("bytes=1-2", { "if-range": '"mine"' }, "/report");
    assert.equal(answer.status, 206);
    assert.equal(answer.headers.etag, '"mine"');
    assert.equal(answer.headers["cache-control"], "max-age=60");
    assert.equal((await app.get("/report", { headers: { "if-none-match": '"mine"' } })).status, 304);
  });
});

test("packed files", async (t) => {
  const app = await host(t);
  const ask = (name, accept, more = {}) => app.get(`/${name}`, { headers: { "accept-encoding": accept, ...more } });

  await t.test("a packed file beside is sent as it lies there", async () => {
    const br = await ask("packed.css", "gzip, br");
    assert.equal(br.headers["content-encoding"], "br");
    assert.equal(br.headers["content-type"], "text/css; charset=utf-8");
    assert.equal(br.headers.vary, "Accept-Encoding");
    assert.equal(zlib.brotliDecompressSync(br.body).toString(), TEXT);
    const gzip = await ask("packed.css", "gzip, br;q=0.5");
    assert.equal(gzip.headers["content-encoding"], "gzip");
    assert.equal(zlib.gunzipSync(gzip.body).toString(), TEXT);
    const plain = await ask("packed.css", "identity");
    assert.equal(plain.text, TEXT);
    assert.equal(plain.headers.vary, "Accept-Encoding");
    assert.equal(new Set([br, gzip, plain].map((answer) => answer.headers.etag)).size, 3);
    assert.equal((await ask("packed.css", "br", { "if-none-match": br.headers.etag })).status, 304);
    assert.equal((await ask("packed.css", "br", { "if-none-match": gzip.headers.etag })).status, 200);
    const head = await app.request("HEAD", "/packed.css", { headers: { "accept-encoding": "br" } });
    assert.equal(head.headers["content-length"], String(br.body.length));
    assert.equal((await app.get("/packed.css.gz")).headers["content-type"], "application/gzip");
  });

  await t.test("others are packed on the way, short and long", async () => {
    for (const [name, text] of [["plain.css", TEXT], ["long.txt", LONG.toString()]]) {
      const plain = await ask(name, "");
      for (const [coding, decode] of [["gzip", zlib.gunzipSync], ["br", zlib.brotliDecompressSync]]) {
        const answer = await ask(name, coding);
        assert.equal(answer.headers["content-encoding"], coding);
        assert.equal(decode(answer.body).toString(), text);
        assert.equal(answer.headers.etag, `W/${plain.headers.etag}`);
        assert.equal((await ask(name, coding, { "if-none-match": plain.headers.etag })).status, 304);
        const head = await app.request("HEAD", `/${name}`, { headers: { "accept-encoding": coding } });
        assert.equal(head.headers["content-encoding"], coding);
      }
    }
  });

  await t.test("one of an older version is overlooked; a part is a part of the file itself", async () => {
    const answer = await ask("stale.css", "br");
    assert.equal(zlib.brotliDecompressSync(answer.body).toString(), TEXT);
    const part = await ask("packed.css", "br", { range: "bytes=0-3" });
    assert.equal(part.status, 206);
    assert.equal(part.text, "body");
    assert.equal(part.headers["content-encoding"], undefined);
    assert.equal((await ask("digits.txt", "br")).headers["content-encoding"], undefined);
  });
});

test("a file that was sent a moment ago is sent as it is now", async (t) => {
  const app = await host(t);
  const at = (name) => path.join(app.dir, "public", name);
  const connection = await app.connect();
  const ask = (name, accept = "") => connection.write(
    `GET /${name} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: ${accept}\r\n\r\n`).answer();
  writeFileSync(at("new.txt"), "0");
  for (let i = 1; i <= 20; i++) {
    assert.equal((await ask("new.txt")).text, String(i - 1));
    await sleep(i % 5 * 10); // old enough to be kept, or not
    assert.equal((await ask("new.txt")).text, String(i - 1));
    if (i % 2 === 0) {
      writeFileSync(at("new.txt"), String(i));
    } else {
      writeFileSync(at("other.txt"), String(i));
      renameSync(at("other.txt"), at("new.txt"));
    }
  }
  assert.equal((await ask("plain.css", "br")).headers["content-encoding"], "br");
  assert.equal((await ask("plain.css")).text, TEXT);
  assert.equal((await ask("plain.css", "gzip")).headers["content-encoding"], "gzip");
  assert.equal((await ask("plain.css")).text, TEXT);
  rmSync(at("plain.css"));
  assert.equal((await ask("plain.css", "br")).status, 404);
  connection.end();
});

test("names that begin with a dot are hidden, but for /.well-known/ of the root", async (t) => {
  const app = await start(t, { files: {
    "public/.well-known/acme-challenge/token": "it is us\n", "public/.well-known/.hidden": "x",
    "public/.hidden": "x", "public/sub/.well-known/file": "x",
  } });
  assert.equal((await app.get("/.well-known/acme-challenge/token")).text, "it is us\n");
  for (const target of ["/.hidden", "/.well-known/.hidden", "/.well-known/%2ehidden", "/sub/.well-known/file", "/.well-knownx/f"]) {
    assert.equal((await app.get(target)).status, 404, target);
  }
});

test("a route is found by any form of its path", async (t) => {
  const app = await start(t, { route: `
    router:get("/plain", function() return "plain" end)
    router:get("/café/:name", function(req) return req.params.name end)` });
  assert.equal((await app.get("/pl%61in")).text, "plain");
  assert.equal((await app.get("/caf%c3%a9/a%2fb%2E")).text, "a/b.");
  assert.equal((await app.get("/plain%2f")).status, 404);
});
