// Answers that leave shorter than they were made: gzip and br.
import assert from "node:assert/strict";
import { test } from "node:test";
import zlib from "node:zlib";
import { start } from "./helpers.mjs";

const ROUTE = `
  local http = require "perigee.http"
  local task = require "perigee.task"
  local function rows(count)
    local list = {}
    for i = 1, count do list[i] = { id = i, name = "row " .. i } end
    return list
  end
  router:get("/rows/:count", function(req)
    return 200, rows(tonumber(req.params.count)), { etag = '"v1"' }
  end)
  router:get("/short", function() return ("x"):rep(1000) end)
  router:get("/edge", function() return ("x"):rep(1024) end)
  router:get("/typed", function(req)
    return 200, ("x"):rep(4000), { ["content-type"] = req.query.type }
  end)
  router:get("/noise", function()
    return 200, require("perigee.crypto").random(4000), { ["content-type"] = "text/plain" }
  end)
  router:get("/fixed", function()
    return 200, ("x"):rep(4000), { ["cache-control"] = "public, no-transform" }
  end)
  router:get("/varies", function()
    return 200, ("x"):rep(4000), { vary = "accept-encoding, cookie" }
  end)
  router:get("/stream", function(req)
    return http.stream(function(out)
      out:write("first ")
      task.sleep(300)
      out:write("second")
    end, { headers = { ["content-type"] = "text/plain" }, length = tonumber(req.query.length) })
  end)
  router:get("/events", function()
    return http.sse(function(out)
      out:send { data = "first" }
      out:comment()
      task.sleep(60000)
    end)
  end)
  router:get("/broken", function()
    return http.stream(function(out)
      out:write("first")
      error("no more of it")
    end, { headers = { ["content-type"] = "text/plain" } })
  end)
`;

const decode = { gzip: zlib.gunzipSync, br: zlib.brotliDecompressSync };
const accepting = (codings) => ({ headers: { "accept-encoding": codings } });

test("compression", async (t) => {
  const app = await start(t, { route: ROUTE });

  await t.test("the client's weights decide, then what packs best", async () => {
    const cases = [
      ["gzip", "gzip"], ["br", "br"], ["gzip, deflate, br, zstd", "br"], ["*", "br"], ["GZIP;Q=1", "gzip"],
      ["gzip;q=0.8, br;q=0.7", "gzip"], ["gzip ; q=0.001", "gzip"], ["*;q=0.5, br;q=0", "gzip"],
      ["br;q=0.5, identity", undefined], ["gzip;q=0, br;q=0", undefined], ["gzip;q=0.000", undefined],
      ["identity;q=0", undefined], ["*;q=0", undefined], ["deflate, zstd", undefined], ["", undefined],
      ["x-gzip", "gzip"], [",, ,gzip;q=, ;", "gzip"],
    ];
    for (const [accept, coding] of cases) {
      const answer = await app.get("/rows/100", accepting(accept));
      assert.equal(answer.status, 200, accept);
      assert.equal(answer.headers["content-encoding"], coding, accept);
      assert.equal(answer.headers.vary, "Accept-Encoding");
      const body = coding ? decode[coding](answer.body) : answer.body;
      assert.equal(JSON.parse(body).length, 100);
      assert.equal(answer.headers.etag, coding ? 'W/"v1"' : '"v1"');
    }
  });

  await t.test("long answers come out equal; HEAD tells the same", async () => {
    const plain = await app.get("/rows/30000");
    assert.equal(plain.headers["content-encoding"], undefined);
    for (const coding of ["gzip", "br"]) {
      const answer = await app.get("/rows/30000", accepting(coding));
      assert.equal(answer.headers["content-encoding"], coding);
      assert.ok(answer.body.length * 4 < plain.body.length);
      assert.deepEqual(decode[coding](answer.body), plain.body);
      const head = await app.request("HEAD", "/rows/30000", accepting(coding));
      assert.equal(head.headers["content-encoding"], coding);
      assert.equal(head.headers["content-length"], answer.headers["content-length"]);
    }
  });

  await t.test("pipelined ones keep their order while a thread packs", async () => {
    const connection = await app.connect();
    const get = (path) => `GET ${path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n`;
    connection.write(get("/rows/20000") + get("/short") + get("/rows/100") + get("/rows/20000"));
    const sizes = [];
    for (let i = 0; i < 4; i++) {
      const answer = await connection.answer();
      sizes.push(answer.headers["content-encoding"] ? zlib.gunzipSync(answer.body).length : answer.body.length);
    }
    assert.equal(sizes[1], 1000);
    assert.equal(sizes[0], sizes[3]);
    connection.end();
  });

  await t.test("short, incompressible, packed and fixed answers stay as they are", async () => {
    const bare = async (path) => {
      const answer = await app.get(path, accepting("gzip, br"));
      assert.equal(answer.headers["content-encoding"], undefined, path);
      return answer;
    };
    assert.equal((await bare("/short")).headers.vary, undefined);
    assert.equal((await bare("/typed?type=image/png")).headers.vary, undefined);
    assert.equal((await bare("/noise")).body.length, 4000);
    assert.equal((await bare("/fixed")).body.length, 4000);
    assert.equal((await app.get("/edge", accepting("gzip"))).headers["content-encoding"], "gzip");
    for (const type of ["application/problem%2Bjson", "image/svg%2Bxml;x=y", "Text/HTML"]) {
      const answer = await app.get(`/typed?type=${type}`, accepting("gzip"));
      assert.equal(answer.headers["content-encoding"], "gzip", type);
    }
    assert.equal((await app.get("/varies", accepting("gzip"))).headers.vary, "accept-encoding, cookie");
  });

  await t.test("each write of a stream can be read at once", async () => {
    for (const [coding, stream] of [["gzip", zlib.createGunzip()], ["br", zlib.createBrotliDecompress()]]) {
      const connection = await app.connect();
      connection.write(`GET /events HTTP/1.1\r\nHost: a\r\nAccept-Encoding: ${coding}\r\n\r\n`);
      await connection.upto("\r\n\r\n");
      let text = "";
      stream.on("data", (chunk) => {
        text += chunk;
      });
      while (!text.includes(":")) {
        const size = Number.parseInt(await connection.upto("\r\n"), 16);
        stream.write(await connection.bytes(size));
        await connection.upto("\r\n");
        await new Promise((resolve) => {
          setImmediate(resolve);
        });
        await new Promise((resolve) => {
          stream.flush(resolve);
        });
      }
      assert.match(text, /^data: first\n\n/);
      stream.destroy();
      connection.end();
    }
  });

  await t.test("streams: whole, in HTTP/1.0, of a known length, cut", async () => {
    const whole = await app.get("/stream", accepting("br"));
    assert.equal(decode.br(whole.body).toString(), "first second");
    const old = await app.raw("GET /stream HTTP/1.0\r\nAccept-Encoding: br\r\n\r\n");
    assert.match(old, /\r\n\r\nfirst second$/);
    const known = await app.get("/stream?length=12", accepting("gzip"));
    assert.equal(known.text, "first second"); // under min_bytes
    const head = await app.request("HEAD", "/stream", accepting("gzip"));
    assert.equal(head.headers["content-encoding"], "gzip");
    const connection = await app.connect();
    connection.write("GET /broken HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    assert.doesNotMatch(await connection.rest({ encoding: "latin1" }), /\r\n0\r\n\r\n$/);
    const long = await app.get("/stream?length=5000", accepting("gzip")).catch((error) => error);
    assert.ok(long instanceof Error); // shorter than was promised
  });
});

test("compression as configured", async (t) => {
  const off = await start(t, { route: ROUTE, settings: { "http.compression": false } });
  const plain = await off.get("/rows/100", accepting("gzip, br"));
  assert.equal(plain.headers["content-encoding"], undefined);
  assert.equal(plain.headers.vary, undefined);
  const files = {
    "config/default.lua": `return { http = { compression = {
      min_bytes = 900, level = 9, encodings = { "gzip" } } } }`,
  };
  const own = await start(t, { route: ROUTE, files });
  assert.equal((await own.get("/short", accepting("br, gzip"))).headers["content-encoding"], "gzip");
  assert.equal((await own.get("/rows/100", accepting("br"))).headers["content-encoding"], undefined);
});
