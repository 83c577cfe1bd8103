// The HTTP client over TLS: whom it trusts, what it says when it does not.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import tls from "node:tls";
import { client_app, upstream } from "./client_helpers.mjs";
import { start, until } from "./helpers.mjs";
import { Authority, self_signed, tls_files } from "./tls_helpers.mjs";

/** A server of Node's: {port, connections, resumed, requests}. */
async function serve(t, identity, options = {}, on_request) {
  const state = { connections: 0, resumed: 0, requests: 0 };
  const server = https.createServer({ cert: identity.cert, key: identity.key, ...options },
    on_request ?? ((req, res) => {
      let length = 0;
      state.requests += 1;
      req.on("data", (chunk) => (length += chunk.length));
      req.on("end", () => {
        const peer = req.socket.getPeerCertificate();
        res.setHeader("content-type", "application/json");
        res.end(JSON.stringify({ url: req.url, length, client: peer?.subject?.CN,
          name: req.socket.servername, alpn: req.socket.alpnProtocol }));
      });
    }));
  server.on("secureConnection", (socket) => {
    state.connections += 1;
    state.resumed += socket.isSessionReused() ? 1 : 0;
  });
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections?.();
    server.close();
  });
  state.port = server.address().port;
  return state;
}

const text = (value) => JSON.stringify(value).replace(/\\n/g, "\\n");

async function client(t, more = {}) {
  const app = await client_app(t, more);
  app.get_json = (url, options) => app.run(`
    local res, err = http.get(${text(url)}, { ${options} })
    return res and { status = res.status, body = res:json() } or fail(err)`);
  return app;
}

test("a certificate is checked: against an authority, the system's store, the name", async (t) => {
  const authority = new Authority(t);
  const server = await serve(t, authority.issue(["localhost", "127.0.0.1"]));
  const app = await client(t);
  const ca = `tls = { ca = ${text(authority.cert)} }`;

  const answer = await app.get_json(`https://localhost:${server.port}/a?b=1`, ca);
  assert.deepEqual(answer, { status: 200, body: { url: "/a?b=1", length: 0, name: "localhost", alpn: "http/1.1" } });
  const by_path = await app.get_json(`https://127.0.0.1:${server.port}/`, `tls = { ca = ${text(authority.cert_file)} }`);
  assert.equal(by_path.status, 200);
  assert.notEqual(by_path.body.name, "127.0.0.1"); // addresses are no names to ask for

  const unknown = await app.get_json(`https://localhost:${server.port}/`, "");
  assert.equal(unknown.kind, "unavailable");
  assert.equal(unknown.code, "tls_unknown_issuer");
  assert.match(unknown.message, /GET https:\/\/localhost:\d+\/: the certificate's issuer is not trusted/);

  const named = await serve(t, authority.issue(["right.test"]));
  const wrong = await app.get_json(`https://localhost:${named.port}/`, ca);
  assert.equal(wrong.code, "tls_host_mismatch");
  const right = await app.get_json(`https://localhost:${named.port}/`,
    `tls = { ca = ${text(authority.cert)}, server_name = "right.test" }`);
  assert.equal(right.body.name, "right.test");
  assert.equal((await app.get_json(`https://127.0.0.1:${named.port}/`, ca)).code, "tls_host_mismatch");

  const expired = await serve(t, authority.issue(["localhost"], { days: 0 }));
  assert.equal((await app.get_json(`https://localhost:${expired.port}/`, ca)).code, "tls_expired");
  const alone = await serve(t, self_signed(t));
  assert.equal((await app.get_json(`https://localhost:${alone.port}/`, ca)).code, "tls_self_signed");
  assert.equal((await app.get_json(`https://localhost:${alone.port}/`, "tls = { verify = false }")).status, 200);
  // What one identity accepts is not the other's.
  assert.equal((await app.get_json(`https://localhost:${alone.port}/`, ca)).code, "tls_self_signed");
});

test("the system's store may be told by SSL_CERT_FILE", async (t) => {
  const authority = new Authority(t);
  const server = await serve(t, authority.issue(["localhost"]));
  const app = await client(t, { vars: { SSL_CERT_FILE: authority.cert_file } });
  assert.equal((await app.get_json(`https://localhost:${server.port}/`, "")).status, 200);
});

test("connections and sessions are used again, by identity", async (t) => {
  const authority = new Authority(t);
  const server = await serve(t, authority.issue(["localhost"]));
  const app = await client(t);
  const ca = `tls = { ca = ${text(authority.cert)} }`;
  for (let i = 0; i < 5; i++) {
    assert.equal((await app.get_json(`https://localhost:${server.port}/`, ca)).status, 200);
  }
  assert.equal(server.connections, 1);
  const insecure = `tls = { ca = ${text(authority.cert)}, verify = false }`;
  assert.equal((await app.get_json(`https://localhost:${server.port}/`, insecure)).status, 200);
  assert.equal(server.connections, 2);
  assert.equal(server.resumed, 0);
  // A connection that is not kept; the next one takes the session up.
  assert.equal((await app.get_json(`https://localhost:${server.port}/`,
    `${ca}, headers = { ["x-close"] = "1" }`)).status, 200);
  const closing = await serve(t, authority.issue(["localhost"]), {}, (_, res) => {
    res.setHeader("connection", "close");
    res.end("{}");
  });
  for (let i = 0; i < 4; i++) {
    assert.equal((await app.get_json(`https://localhost:${closing.port}/`, ca)).status, 200);
  }
  assert.equal(closing.connections, 4);
  assert.equal(closing.resumed, 3);
});

test("a client's certificate is shown; its absence and refusal are told", async (t) => {
  const authority = new Authority(t);
  const others = new Authority(t, "Others");
  const alice = authority.issue(["alice"]);
  const mallory = others.issue(["mallory"]);
  const server = await serve(t, authority.issue(["localhost"]),
    { requestCert: true, rejectUnauthorized: true, ca: authority.cert });
  const app = await client(t);
  const as = (who) => `tls = { ca = ${text(authority.cert)}, cert = ${text(who.cert_file)}, key = ${text(who.key)} }`;
  const url = `https://localhost:${server.port}/`;
  assert.equal((await app.get_json(url, as(alice))).body.client, "alice");
  const refused = await app.get_json(url, `tls = { ca = ${text(authority.cert)} }`);
  assert.equal(refused.kind, "unavailable");
  assert.match(refused.code, /^(tls_client_certificate|ECONNRESET)$/);
  assert.match((await app.get_json(url, as(mallory))).code, /^(tls_client_certificate|ECONNRESET)$/);
  // Files are read again when they are others.
  const file = path.join(authority.dir, "shown.pem");
  writeFileSync(file, alice.cert + alice.key);
  const shown = `tls = { ca = ${text(authority.cert)}, cert = ${text(file)}, key = ${text(file)} }`;
  assert.equal((await app.get_json(url, shown)).body.client, "alice");
  const bob = authority.issue(["bob"]);
  writeFileSync(file, bob.cert + bob.key);
  await until(async () => (await app.get_json(url, shown)).body?.client === "bob", { what: "the new certificate" });
});

test("bodies travel both ways; a cut one is not taken for a whole one", async (t) => {
  const authority = new Authority(t);
  const server = await serve(t, authority.issue(["localhost"]), {}, (req, res) => {
    if (req.url === "/echo") {
      req.pipe(res);
    } else { // no length, no close_notify
      req.socket.write("HTTP/1.1 200 OK\r\n\r\nhalf of it");
      setTimeout(() => req.socket._handle && req.socket.destroy(), 50);
    }
  });
  const app = await client(t);
  const ca = `tls = { ca = ${text(authority.cert)} }`;
  const same = await app.run(`
    local body = ("0123456789abcdef"):rep(200000)
    local res, err = http.post("https://localhost:${server.port}/echo", { ${ca}, body = body })
    return res and { same = res.body == body } or fail(err)`);
  assert.deepEqual(same, { same: true });
  const streamed = await app.run(`
    local n = 0
    local res, err = http.post("https://localhost:${server.port}/echo", { ${ca}, stream = true, body = function()
      n = n + 1
      return n <= 100 and ("x"):rep(10000) or nil
    end })
    if not res then return fail(err) end
    local size = 0
    for chunk in res:chunks() do size = size + #chunk end
    return { size = size }`);
  assert.deepEqual(streamed, { size: 1_000_000 });

  const cut = await raw_tls(t, authority.issue(["localhost"]), (socket, raw) => {
    socket.write("HTTP/1.1 200 OK\r\n\r\nhalf of it", () => setTimeout(() => raw.destroy(), 50));
  });
  const answer = await app.run(`
    local res, err = http.get("https://localhost:${cut.port}/", { ${ca} })
    return res and { body = res.body } or fail(err)`);
  assert.equal(answer.kind, "unavailable");
  assert.equal(answer.code, "ECONNRESET");
});

/** A TLS server over sockets that the test can cut. */
async function raw_tls(t, identity, on_request) {
  const server = net.createServer((raw) => {
    const socket = new tls.TLSSocket(raw, { isServer: true, cert: identity.cert, key: identity.key });
    socket.on("error", () => {});
    raw.on("error", () => {});
    socket.once("data", () => on_request(socket, raw));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return { port: server.address().port };
}

test("who does not speak TLS, or stops in the handshake, is told apart", async (t) => {
  const authority = new Authority(t);
  const app = await client(t);
  const plain = await upstream(t, (socket) => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"));
  // It answers what is no request to it.
  const talker = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.end("HTTP/1.1 400 Bad Request\r\n\r\n");
  });
  talker.listen(0, "127.0.0.1");
  await once(talker, "listening");
  t.after(() => talker.close());
  assert.equal((await app.get_json(`https://localhost:${talker.address().port}/`, "")).code, "tls_not_tls");

  const silent = await app.get_json(`https://127.0.0.1:${plain.port}/`, 'connect_timeout = "300ms"');
  assert.deepEqual([silent.kind, silent.code], ["timeout", "connect_timeout"]);

  const vanishing = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.destroy());
  });
  vanishing.listen(0, "127.0.0.1");
  await once(vanishing, "listening");
  t.after(() => vanishing.close());
  const gone = await app.get_json(`https://127.0.0.1:${vanishing.address().port}/`, "");
  assert.deepEqual([gone.kind, gone.code], ["unavailable", "ECONNRESET"]);

  const old = await serve(t, authority.issue(["localhost"]),
    { maxVersion: "TLSv1.1", minVersion: "TLSv1", ciphers: "ALL:@SECLEVEL=0" });
  assert.equal((await app.get_json(`https://localhost:${old.port}/`, `tls = { ca = ${text(authority.cert)} }`)).code,
    "tls_protocol_version");
  const modern = await serve(t, authority.issue(["localhost"]), { maxVersion: "TLSv1.2" });
  assert.equal((await app.get_json(`https://localhost:${modern.port}/`,
    `tls = { ca = ${text(authority.cert)}, min_version = "1.3" }`)).code, "tls_protocol_version");

  const missing = await app.get_json(`https://localhost:${old.port}/`, 'tls = { ca = "certs/none.pem" }');
  assert.deepEqual([missing.kind, missing.code], ["invalid", "bad_tls"]);
  assert.match(missing.message, /tls\.ca: certs\/none\.pem: No such file/);
});

test("a redirect to another host takes neither the certificate nor the name along", async (t) => {
  const authority = new Authority(t);
  const alice = authority.issue(["alice"]);
  const target = await serve(t, authority.issue(["localhost"]),
    { requestCert: true, rejectUnauthorized: false, ca: authority.cert });
  const first = await serve(t, authority.issue(["first.test"]),
    { requestCert: true, rejectUnauthorized: true, ca: authority.cert },
    (_, res) => res.writeHead(302, { location: `https://localhost:${target.port}/there` }).end());
  const app = await client(t);
  const answer = await app.get_json(`https://127.0.0.1:${first.port}/`,
    `tls = { ca = ${text(authority.cert)}, cert = ${text(alice.cert)}, key = ${text(alice.key)}, server_name = "first.test" }`);
  assert.equal(answer.status, 200);
  assert.equal(answer.body.url, "/there");
  assert.equal(answer.body.client, undefined);
});

test("through a proxy by CONNECT, which sees only whom it is for", async (t) => {
  const authority = new Authority(t);
  const server = await serve(t, authority.issue(["localhost"]));
  const asked = [];
  let refuse = null;
  const proxy = net.createServer((socket) => {
    let head = "";
    socket.on("error", () => {});
    socket.on("data", function on_data(chunk) {
      head += chunk.toString("latin1");
      if (!head.includes("\r\n\r\n")) {
        return;
      }
      socket.off("data", on_data);
      asked.push(head);
      if (refuse) {
        socket.end(refuse);
        return;
      }
      const on = net.connect(server.port, "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        socket.pipe(on).pipe(socket);
      });
      on.on("error", () => {});
    });
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  t.after(() => proxy.close());
  const app = await client(t);
  const options = `tls = { ca = ${text(authority.cert)} }, proxy = "http://me:secret@127.0.0.1:${proxy.address().port}"`;
  for (let i = 0; i < 3; i++) {
    const answer = await app.get_json(`https://localhost:${server.port}/through`, options);
    assert.equal(answer.body?.url, "/through");
  }
  assert.equal(asked.length, 1); // and the connection is kept
  assert.equal(asked[0], `CONNECT localhost:${server.port} HTTP/1.1\r\nHost: localhost:${server.port}\r\n` +
    `Proxy-Authorization: Basic ${Buffer.from("me:secret").toString("base64")}\r\n\r\n`);
  for (const answer of ["HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nsurplus",
    "nonsense\r\n\r\n", "HTTP/1.1 200", `HTTP/1.1 200 OK\r\nx: ${"y".repeat(9000)}`]) {
    refuse = answer;
    const fault = await app.get_json(`https://other.test:${server.port}/`, options);
    assert.deepEqual([fault.kind, fault.code], ["unavailable", "proxy_refused"], answer.slice(0, 40));
  }
});

test("Perigee talks to Perigee", async (t) => {
  const authority = new Authority(t);
  const server = await start(t, { files: tls_files(authority.issue(["localhost"])),
    route: 'router:get("/", function(req) return { tls = req.is_tls } end)' });
  const app = await client(t);
  for (let i = 0; i < 3; i++) {
    const answer = await app.get_json(`https://localhost:${server.port}/`, `tls = { ca = ${text(authority.cert)} }`);
    assert.deepEqual(answer.body, { tls: true });
  }
});

test("nginx is a peer", { skip: !existsSync("/usr/sbin/nginx") }, async (t) => {
  const authority = new Authority(t);
  const identity = authority.issue(["localhost"]);
  const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-nginx-"));
  mkdirSync(path.join(dir, "logs"));
  const port = await new Promise((resolve) => {
    const probe = net.createServer().listen(0, "127.0.0.1", () => {
      const found = probe.address().port;
      probe.close(() => resolve(found));
    });
  });
  writeFileSync(path.join(dir, "nginx.conf"), `
${process.getuid() === 0 ? "user root;" : ""}
worker_processes 1; daemon off; pid ${dir}/nginx.pid; error_log ${dir}/error.log;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f;
  uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate ${identity.cert_file}; ssl_certificate_key ${identity.key_file};
    location / { return 200 "$ssl_protocol $ssl_session_reused"; }
    location /close { keepalive_timeout 0; return 200 "$ssl_session_reused"; }
  }
}`);
  const nginx = spawn("/usr/sbin/nginx", ["-p", dir, "-c", path.join(dir, "nginx.conf")], { stdio: "ignore" });
  const ended = once(nginx, "exit");
  t.after(async () => {
    nginx.kill("SIGTERM");
    await ended;
    rmSync(dir, { recursive: true, force: true });
  });
  const app = await client(t);
  const get = (target) => app.run(`
    local res, err = http.get("https://localhost:${port}${target}", { tls = { ca = ${text(authority.cert)} } })
    return res and { body = res.body } or fail(err)`);
  await until(async () => (await get("/")).body, { what: "nginx" });
  assert.equal((await get("/")).body, "TLSv1.3 .");
  await get("/close");
  assert.equal((await get("/close")).body, "r");
});
