// What we log beside what real pino and pino-http log of the same.
import assert from "node:assert/strict";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { ROOT, perigee, start, until } from "./helpers.mjs";

const require = createRequire(path.join(ROOT, "tests/package.json"));
const pino = require("pino");
const pino_http = require("pino-http");

// Lines of pino, as objects.
function sink() {
  const lines = [];
  return { lines, write: (text) => lines.push(JSON.parse(text)) };
}

const CASES = [
  [["a.b.c"], { a: { b: { c: 1, d: 2 }, c: 3 }, b: { c: 4 } }],
  [["a[*].b"], { a: [{ b: 1, c: 2 }, { b: { x: 1 } }, { d: 3 }], b: 4 }],
  [["a.*.b"], { a: { x: { b: 1 }, y: { b: 2, c: 3 } }, b: 3 }],
  [["*.x"], { a: { x: 1, y: 2 }, x: 3, b: { c: { x: 4 } } }],
  [["a.*"], { a: { b: 1, c: { d: 2 } }, b: 3 }],
  [['["x-y"]', 'h["set-cookie"]'], { "x-y": "s", h: { "set-cookie": ["a", "b"], other: 1 }, x: { y: 1 } }],
  [["req.headers.*"], { req: { headers: { authorization: "b", cookie: "c" }, url: "/" }, headers: { authorization: "k" } }],
  [["req.headers.authorization", "req.headers.cookie"], { req: { headers: { authorization: "b", host: "h" } } }],
  [["a[0].b"], { a: [{ b: 1 }, { b: 2 }] }],
  [["password", "user.password"], { password: "p", user: { password: "q", name: "n" }, deep: { user: { password: "kept" } } }],
  [["a.b"], { a: { b: null } }],
  [["a.b"], { a: "text" }],
  [["list[*]"], { list: [1, { x: 2 }, "three"] }],
];

test("redaction is pino's", async (t) => {
  for (const [paths, fields] of CASES) {
    await t.test(JSON.stringify(paths), async () => {
      const out = sink();
      pino({ redact: paths }, out).info(fields, "m");
      pino({ redact: paths }, out).child(fields).info("m");
      const lua = `
        local json = require "perigee.json"
        local core = require("perigee.core.log").new(10, json.decode(${lua_text(JSON.stringify(paths))}))
        local fields = json.decode(${lua_text(JSON.stringify(fields))})
        io.write(core.format(30, nil, "m", fields))
        io.write(core.format(30, core.encode(nil, fields), "m"))`;
      const { stdout, stderr, code } = await perigee(["exec", lua], { cwd: ROOT });
      assert.equal(code, 0, stderr);
      const ours = stdout.trim().split("\n").map((line) => JSON.parse(line));
      const bare = ({ level, time, pid, hostname, msg, ...rest }) => rest;
      assert.deepEqual(ours.map(bare), out.lines.map(bare));
    });
  }
});

const lua_text = (text) => `[==[${text}]==]`;

// What a member is, rather than its value.
const shape = (value) => (value && typeof value === "object" && !Array.isArray(value)
  ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shape(inner)])) : typeof value);

test("the access log has pino-http's shape", async (t) => {
  const out = sink();
  const logged = pino_http({ logger: pino({}, out), serializers: {
    req: ({ id, method, url, remoteAddress }) => ({ id: String(id), method, url, remoteAddress }),
    res: ({ statusCode }) => ({ statusCode }),
  } });
  const server = http.createServer((req, res) => {
    logged(req, res);
    res.statusCode = req.url.startsWith("/bad") ? 503 : req.url.startsWith("/none") ? 404 : 200;
    res.end("ok");
  }).listen(0, "127.0.0.1");
  t.after(() => server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  const app = await start(t, { route: `
    router:get("/", function() return "ok" end)
    router:get("/bad", function() return 503 end)` });
  for (const target of ["/?a=1", "/none", "/bad"]) {
    await fetch(`http://127.0.0.1:${server.address().port}${target}`).then((r) => r.text());
    await app.get(target);
  }
  const ours = () => app.lines.filter((line) => line.req);
  await until(() => ours().length === 3 && out.lines.length === 3);
  ours().forEach((line, i) => {
    const theirs = out.lines[i];
    assert.deepEqual(Object.keys(line), Object.keys(theirs));
    assert.deepEqual(shape(line), { ...shape(theirs) });
    assert.deepEqual({ ...line.req, id: "" }, { ...theirs.req, id: "" });
    assert.deepEqual(line.res, theirs.res);
    assert.equal(line.err?.message, theirs.err?.message);
    assert.equal(line.err?.type, theirs.err?.type);
    // Ours to say: pino-http's are info throughout, and "request errored" at the end.
    assert.equal(line.level, line.res.statusCode >= 500 ? 50 : 30);
    assert.equal(line.msg, "request completed");
  });
});
