// Redirects of the HTTP client, and what goes with them; retries; requests as
// they look on the wire.
import assert from "node:assert/strict";
import test from "node:test";

import { client_app, upstream } from "./client_helpers.mjs";

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const to = (status, location) => `HTTP/1.1 ${status} x\r\nlocation: ${location}\r\ncontent-length: 0\r\n\r\n`;

test("five redirects are followed, no more; none when told so", async (t) => {
  const app = await client_app(t);
  let hops = 5;
  const server = await upstream(t, (socket, head) => {
    const n = Number(/^GET \/(\d*)/.exec(head)[1]);
    socket.write(n < hops ? to(302, `/${n + 1}`) : OK);
  });
  const get = (opts = "") => app.run(`
    local res, err = http.get("http://127.0.0.1:${server.port}/0", { ${opts} })
    if not res then return fail(err) end
    return { status = res.status, url = res.url }
  `);
  assert.deepEqual(await get(), { status: 200, url: `http://127.0.0.1:${server.port}/5` });
  assert.equal((await get("redirects = 0")).status, 302);
  hops = 6;
  assert.equal((await get()).code, "too_many_redirects");
  assert.equal((await get("redirects = 6")).status, 200);
  assert.equal(server.connections, 1);
});

test("methods change as in browsers", async (t) => {
  const app = await client_app(t);
  let seen;
  const server = await upstream(t, (socket, head) => {
    const status = /\w+ \/(\d+)/.exec(head)?.[1]; // behind the body of the one before
    if (status) {
      socket.write(to(status, "/end"));
    } else {
      seen = head;
      socket.write(OK);
    }
  });
  const send = async (method, status) => {
    await app.run(`http.request { method = "${method}", url = "http://127.0.0.1:${server.port}/${status}", json = {} } return {}`);
    return /\w+/.exec(seen)[0] + (/content-length: 2/.test(seen) ? " with a body" : "");
  };
  assert.equal(await send("POST", 301), "GET");
  assert.equal(await send("POST", 302), "GET");
  assert.equal(await send("PUT", 303), "GET");
  assert.doesNotMatch(seen, /content-type/);
  assert.equal(await send("HEAD", 303), "HEAD with a body");
  assert.equal(await send("PUT", 302), "PUT with a body");
  assert.equal(await send("POST", 307), "POST with a body");
  assert.equal(await send("POST", 308), "POST with a body");
});

test("credentials stay with their origin", async (t) => {
  const app = await client_app(t);
  const heads = [];
  const other = await upstream(t, (socket, head) => {
    heads.push(head);
    socket.write(OK);
  });
  const server = await upstream(t, (socket, head) => {
    heads.push(head);
    socket.write(/^GET \/1/.test(head) ? to(302, "/2") : to(302, `http://127.0.0.1:${other.port}/3`));
  });
  await app.run(`
    http.get("http://127.0.0.1:${server.port}/1", { headers = {
      Authorization = "Bearer secret", cookie = "a=b", ["X-Other"] = "1" } })
    return {}
  `);
  assert.equal(heads.length, 3);
  assert.match(heads[1], /Authorization: Bearer secret\r\n/);
  assert.match(heads[1], /cookie: a=b\r\n/);
  assert.doesNotMatch(heads[2], /secret|a=b/);
  assert.match(heads[2], /X-Other: 1\r\n/);
  assert.match(heads[2], new RegExp(`host: 127.0.0.1:${other.port}\r\n`));
});

test("a redirect to what is private is refused with deny_private, to no http URL always", async (t) => {
  const app = await client_app(t);
  for (const location of ["file:///etc/passwd", "javascript:1", "http://[::1", "http://a b/"]) {
    const server = await upstream(t, (socket) => socket.write(to(302, location)));
    assert.equal((await app.fetch(server.port)).code, "bad_redirect", location);
  }
});

test("a request on the wire: query, form, headers, user", async (t) => {
  const app = await client_app(t);
  let head;
  const server = await upstream(t, (socket, text) => {
    head = text;
    socket.write(OK);
  });
  await app.run(`
    http.post("http://me:p%40ss@127.0.0.1:${server.port}/a b/\\195\\169?x=1#y", {
      query = { q = "a&b", l = { 1, 2 } }, form = { f = "a b" },
      headers = { ["X-Two"] = { 1, "b" }, ["Content-Length"] = "99", Connection = "close" } })
    return {}
  `);
  assert.match(head, /^POST \/a%20b\/%C3%A9\?x=1&l=1&l=2&q=a%26b HTTP\/1\.1\r\n/);
  assert.match(head, /X-Two: 1\r\nX-Two: b\r\n/);
  assert.match(head, /content-length: 5\r\n/);
  assert.match(head, /content-type: application\/x-www-form-urlencoded\r\n/);
  assert.match(head, new RegExp(`authorization: Basic ${Buffer.from("me:p@ss").toString("base64")}\r\n`));
  assert.doesNotMatch(head, /content-length: 99|close/i);
  await app.run(`http.get "http://me@127.0.0.1:${server.port}/" return {}`);
  assert.match(head, new RegExp(`authorization: Basic ${Buffer.from("me:").toString("base64")}\r\n`));
  const bad = await app.run(`return fail(select(2, http.get("http://127.0.0.1:${server.port}/", {
    headers = { ["X-A"] = "b\\r\\nX-Evil: 1" } })))`);
  assert.equal(bad.kind, "invalid");
});

test("retry repeats what may be repeated", async (t) => {
  const app = await client_app(t);
  const server = await upstream(t, (socket, head, n) => {
    socket.write(n % 3 === 0 ? OK : "HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n");
  });
  assert.equal((await app.fetch(server.port, "retry = 3")).status, 200);
  assert.equal(server.requests, 3);
  assert.equal((await app.fetch(server.port, `retry = 3, method = "POST"`)).status, 503);
  assert.equal(server.requests, 4);
});
