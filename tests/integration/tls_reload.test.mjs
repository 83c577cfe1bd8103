// Certificates that are replaced while the host serves.
import assert from "node:assert/strict";
import { renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { routes, start, until } from "./helpers.mjs";
import { Authority, ask, connect, tls_files } from "./tls_helpers.mjs";

async function serve(t, options = {}) {
  const authority = new Authority(t);
  const identity = authority.issue(["localhost"], { cn: "first" });
  const app = await start(t, {
    ...options,
    files: tls_files(identity, "", {
      "scripts/routes/test.lua": routes('router:get("/", function() return "ok" end)'),
    }),
  });
  const names = () => connect(app, { ca: authority.cert, checkServerIdentity: () => undefined })
    .then((connection) => {
      const { CN } = connection.tls.getPeerCertificate().subject;
      connection.end();
      return CN;
    });
  const put = (id) => app.write({ "certs/a.pem": id.cert, "certs/a.key": id.key });
  return { app, authority, names, put };
}

test("perigee reload takes new certificates; connections stay", async (t) => {
  const { app, authority, names, put } = await serve(t, { workers: 2 });
  const old = await connect(app, { ca: authority.cert });
  assert.equal((await ask(old, "/")).text, "ok");
  assert.equal(await names(), "first");
  put(authority.issue(["localhost"], { cn: "second" }));
  assert.equal((await app.command("reload")).code, 0);
  await until(async () => (await names()) === "second", { what: "the new certificate" });
  for (let i = 0; i < 6; i++) {
    assert.equal(await names(), "second"); // of both workers
  }
  assert.equal((await ask(old, "/")).text, "ok");
  old.end();
});

test("HUP does so too", async (t) => {
  const { app, authority, names, put } = await serve(t);
  put(authority.issue(["localhost"], { cn: "hung up" }));
  app.signal("SIGHUP");
  await until(async () => (await names()) === "hung up", { what: "the new certificate", timeout_ms: 30_000 });
});

test("files that are replaced are noticed, without a reload; a new worker has them too", async (t) => {
  const { app, authority, names } = await serve(t);
  const old = await connect(app, { ca: authority.cert });
  const next = authority.issue(["localhost"], { cn: "renewed" });
  for (const [name, text] of [["a.pem", next.cert], ["a.key", next.key]]) {
    const file = path.join(app.dir, "certs", name);
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  }
  await app.line("certificates replaced", { timeout_ms: 30_000 });
  await until(async () => (await names()) === "renewed", { what: "the new certificate" });
  assert.equal((await ask(old, "/")).text, "ok");
  assert.equal(app.lines.filter((l) => l.msg === "reload committed").length, 0);
  old.end();
  const [worker] = app.workers();
  process.kill(worker, "SIGKILL");
  await until(() => app.workers().some((pid) => pid !== worker), { what: "a new worker", timeout_ms: 30_000 });
  await until(() => names().then((cn) => cn === "renewed", () => false), { what: "its certificate", timeout_ms: 30_000 });
});

test("TLS itself is switched by a new start only, and workers that are replaced know", async (t) => {
  const { app, names } = await serve(t);
  app.write({ "config/default.lua": "return {}\n" });
  assert.equal((await app.command("reload")).code, 0);
  await app.line((l) => /http\.tls was switched off: it takes effect/.test(l.msg));
  const [worker] = app.workers();
  process.kill(worker, "SIGKILL");
  await until(() => app.workers().some((pid) => pid !== worker), { what: "a new worker", timeout_ms: 30_000 });
  await until(() => names().then((cn) => cn === "first", () => false), { what: "TLS", timeout_ms: 30_000 });

  const plain = await start(t, { route: 'router:get("/", function() return "ok" end)' });
  const other = new Authority(t).issue(["localhost"]);
  plain.write(tls_files(other));
  assert.equal((await plain.command("reload")).code, 0);
  const [first] = plain.workers();
  process.kill(first, "SIGKILL");
  await until(() => plain.workers().some((pid) => pid !== first), { what: "a new worker", timeout_ms: 30_000 });
  await until(() => plain.get("/").then((answer) => answer.text === "ok", () => false), { what: "an answer", timeout_ms: 30_000 });
});

test("what does not fit is refused and changes nothing", async (t) => {
  const { app, authority, names } = await serve(t);
  const other = authority.issue(["localhost"], { cn: "other" });
  app.write({ "certs/a.pem": other.cert }); // and the old key
  const { code, stderr, stdout } = await app.command("reload");
  assert.equal(code, 3);
  assert.match(stderr + stdout, /it is not the key of the certificate/);
  await app.line((l) => /the certificate in use stays/.test(l.msg), { timeout_ms: 30_000 });
  assert.equal(await names(), "first");
  app.write({ "certs/a.key": other.key });
  await until(async () => (await names()) === "other", { what: "the whole pair", timeout_ms: 30_000 });
});
