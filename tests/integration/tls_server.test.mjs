// The server over TLS: handshakes, names, clients' certificates, tickets.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import https from "node:https";
import { test } from "node:test";
import { promisify } from "node:util";
import { Connection, until } from "./helpers.mjs";
import { Authority, ask, connect, get, refusal, s_client, serve } from "./tls_helpers.mjs";

const run = promisify(execFile);

test("https is served to Node and to curl, and said in the log", async (t) => {
  const { app, authority, ca } = await serve(t);
  assert.match((await app.line((l) => l.msg === "listening" && !l.admin)).url, /^https:\/\/127\.0\.0\.1:\d+$/);

  const answer = await get(app, "/", { ca });
  assert.equal(answer.status, 200);
  assert.deepEqual(answer.json, { tls: true });

  const agent = new https.Agent({ keepAlive: true, ca });
  const texts = [];
  for (let i = 0; i < 3; i++) {
    texts.push(await new Promise((resolve, reject) => {
      https.get({ host: "127.0.0.1", port: app.port, servername: "localhost", agent, path: "/" }, (res) => {
        let text = "";
        res.setEncoding("utf8").on("data", (chunk) => (text += chunk));
        res.on("end", () => resolve(text));
      }).on("error", reject);
    }));
  }
  agent.destroy();
  assert.deepEqual(texts.map((text) => JSON.parse(text)), Array(3).fill({ tls: true }));

  const { stdout } = await run("curl", ["-sS", "--cacert", authority.cert_file,
    "-w", "\n%{http_code} %{http_version} %{ssl_verify_result}", `https://127.0.0.1:${app.port}/`]);
  assert.equal(stdout, '{"tls":true}\n200 1.1 0');
});

test("large bodies travel both ways, streams too", async (t) => {
  const { app, ca } = await serve(t);
  const connection = await connect(app, { ca });
  const body = Buffer.alloc(5_000_000, "0123456789abcdefg");
  connection.write(`POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n`);
  connection.write(body);
  assert.ok((await connection.answer()).body.equals(body));
  assert.equal((await ask(connection, "/big")).body.length, 3_000_000);
  const stream = await ask(connection, "/stream");
  assert.match(stream.text, /^1 1 1 .*200 200 $/);
  connection.end();
});

test("pipelined requests are answered in order", async (t) => {
  const { app, ca } = await serve(t);
  const connection = await connect(app, { ca });
  connection.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20) +
    "GET /none HTTP/1.1\r\nHost: a\r\n\r\n" + "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  for (let i = 0; i < 20; i++) {
    assert.equal((await connection.answer()).status, 200);
  }
  assert.equal((await connection.answer()).status, 404);
  assert.equal((await connection.answer()).status, 200);
  connection.end();
});

test("a client that reads slowly gets all of it", async (t) => {
  const { app, ca } = await serve(t);
  const connection = await connect(app, { ca });
  connection.tls.pause();
  connection.write("GET /big HTTP/1.1\r\nHost: a\r\n\r\n".repeat(4));
  await new Promise((resolve) => setTimeout(resolve, 200));
  connection.tls.resume();
  for (let i = 0; i < 4; i++) {
    assert.equal((await connection.answer()).body.length, 3_000_000);
  }
  connection.end();
});

test("an absolute target has the connection's scheme", async (t) => {
  const { app, ca } = await serve(t);
  const connection = await connect(app, { ca });
  connection.write("GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
  assert.equal((await connection.answer()).status, 200);
  connection.write("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
  assert.equal((await connection.answer()).status, 421);
  connection.end();
});

test("plain HTTP sent to the port gets a clear 400", async (t) => {
  const { app } = await serve(t);
  const answer = await app.get("/");
  assert.equal(answer.status, 400);
  assert.match(answer.json.detail, /plain HTTP was sent to a port that speaks TLS/);
});

test("older versions, other protocols and renegotiation are refused", async (t) => {
  const { app, ca } = await serve(t);
  assert.match(await s_client(app, ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]), /alert protocol version/);
  assert.match(await refusal(app, { ca, ALPNProtocols: ["h2"] }), /no application protocol/i);
  const connection = await connect(app, { ca, ALPNProtocols: ["h2", "http/1.1"] });
  assert.equal(connection.tls.alpnProtocol, "http/1.1");
  connection.end();
  const text = await s_client(app, ["-tls1_2"], { input: "R\n", until: /RENEGOTIATING[\s\S]*error/ });
  assert.match(text, /RENEGOTIATING/);
  assert.match(text, /no renegotiation/);
  assert.equal((await get(app, "/", { ca, maxVersion: "TLSv1.2" })).status, 200);
});

test("min_version keeps TLS 1.2 out", async (t) => {
  const { app, ca } = await serve(t, 'min_version = "1.3"');
  assert.match(await refusal(app, { ca, maxVersion: "TLSv1.2" }), /protocol version/i);
  assert.equal((await get(app, "/", { ca })).status, 200);
});

test("the name that is asked for chooses the certificate", async (t) => {
  const { app, ca } = await serve(t, `sni = {
      { cert = "certs/b.pem", key = "certs/b.key" },
      { names = { "c.test", "*.d.test" }, cert = "certs/c.pem", key = "certs/c.key" },
      { names = { "e.d.test" }, cert = "certs/b.pem", key = "certs/b.key" } }`, {
    files: (authority) => {
      const b = authority.issue(["b.test", "*.b.test"], { cn: "b" });
      const c = authority.issue(["c.test", "*.d.test"], { cn: "c" });
      return { "certs/b.pem": b.cert, "certs/b.key": b.key, "certs/c.pem": c.cert, "certs/c.key": c.key };
    },
  });
  const subject = async (servername) => {
    const connection = await connect(app, { ca, servername, checkServerIdentity: () => undefined });
    const { CN } = connection.tls.getPeerCertificate().subject;
    assert.equal((await ask(connection, "/")).status, 200);
    connection.end();
    return CN;
  };
  assert.equal(await subject("localhost"), "localhost");
  assert.equal(await subject("b.test"), "b");
  assert.equal(await subject("x.B.test"), "b");
  assert.equal(await subject("x.y.b.test"), "localhost");
  assert.equal(await subject("c.test"), "c");
  assert.equal(await subject("x.d.test"), "c");
  assert.equal(await subject("e.d.test"), "b"); // more exact than what stands before it
  assert.equal(await subject("e.d.test."), "b");
  assert.equal(await subject("d.test"), "localhost");
  assert.equal(await subject("unknown.test"), "localhost");
});

test("clients' certificates: required, requested", async (t) => {
  const trusted = new Authority(t, "Clients");
  const other = new Authority(t, "Others");
  const alice = trusted.issue(["alice"]);
  const mallory = other.issue(["mallory"]);
  const files = () => ({ "certs/clients.pem": trusted.cert });

  const strict = await serve(t, 'ca = "certs/clients.pem", verify_client = true', { files });
  assert.match(await refusal(strict.app, { ca: strict.ca }), /certificate required|handshake failure/i);
  assert.match(await refusal(strict.app, { ca: strict.ca, cert: mallory.cert, key: mallory.key }), /unknown ca/i);
  const answer = await get(strict.app, "/tls", { ca: strict.ca, cert: alice.cert, key: alice.key });
  assert.deepEqual(answer.json, {
    version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384", server_name: "localhost", resumed: false,
    client: { subject: "CN=alice", fingerprint: new X509Certificate(alice.cert).fingerprint256.replaceAll(":", "").toLowerCase() },
  });

  const mild = await serve(t, 'ca = "certs/clients.pem", verify_client = "request"', { files });
  assert.equal((await get(mild.app, "/tls", { ca: mild.ca })).json.client, undefined);
  assert.equal((await get(mild.app, "/tls", { ca: mild.ca, cert: mallory.cert, key: mallory.key })).json.client, undefined);
  const known = await session_of(mild.app, { ca: mild.ca, cert: alice.cert, key: alice.key, maxVersion: "TLSv1.3" });
  const again = await get(mild.app, "/tls", { ca: mild.ca, session: known.session });
  assert.equal(again.json.resumed, true);
  assert.equal(again.json.client.subject, "CN=alice"); // the session is hers
});

// A connection's ticket, once the server has sent it.
async function session_of(app, options) {
  const connection = await connect(app, options);
  let session = null;
  connection.tls.on("session", (ticket) => (session = ticket));
  const { pid } = (await ask(connection, "/pid")).json;
  if (options.maxVersion === "TLSv1.3") { // it comes behind the handshake
    await until(() => session, { what: "a ticket" });
  }
  session ??= connection.tls.getSession();
  connection.end();
  return { session, pid };
}

for (const maxVersion of ["TLSv1.2", "TLSv1.3"]) {
  test(`every worker takes up ${maxVersion} sessions, a new one too`, async (t) => {
    const { app, ca } = await serve(t, "", { workers: 2 });
    const { session } = await session_of(app, { ca, maxVersion });
    const seen = new Set();
    const resume = async () => {
      const connection = await connect(app, { ca, maxVersion, session });
      assert.equal(connection.tls.isSessionReused(), true);
      assert.equal((await ask(connection, "/tls")).json.server_name, "localhost");
      seen.add((await ask(connection, "/pid")).json.pid);
      connection.end();
    };
    await until(async () => {
      await resume();
      return seen.size === 2;
    }, { what: "both workers", timeout_ms: 30_000 });
    const before = [...seen];
    before.forEach((pid) => process.kill(pid, "SIGKILL"));
    seen.clear();
    await until(async () => {
      try {
        await resume();
      } catch (error) {
        if (error instanceof assert.AssertionError) {
          throw error;
        }
      }
      return [...seen].some((pid) => !before.includes(pid));
    }, { what: "a new worker", timeout_ms: 30_000 });
  });
}

test("tickets can be switched off", async (t) => {
  const { app, ca } = await serve(t, "tickets = false");
  const { session } = await session_of(app, { ca, maxVersion: "TLSv1.2" });
  const connection = await connect(app, { ca, maxVersion: "TLSv1.2", session });
  assert.equal(connection.tls.isSessionReused(), false);
  connection.end();
});

test("the metrics tell of https: scheme, handshakes, when the certificate ends", async (t) => {
  const { app, ca, identity } = await serve(t);
  await get(app, "/", { ca });
  const admin = await app.line((l) => l.msg === "listening" && l.admin);
  const text = await until(async () => {
    const connection = await Connection.open(admin.port);
    connection.write("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    const answer = await connection.answer();
    connection.end();
    return /url_scheme="https"/.test(answer.text) && /handshakes_total\{result="full"\} 1\n/.test(answer.text)
      && answer.text;
  }, { what: "the series" });
  assert.match(text, /http_server_request_duration_seconds_count\{[^}]*http_route="\/"[^}]*url_scheme="https"[^}]*\} 1\n/);
  const expiry = Number(/^perigee_tls_certificate_expiry_time_seconds (\S+)$/m.exec(text)[1]);
  assert.equal(expiry, Date.parse(new X509Certificate(identity.cert).validTo) / 1000);
});

test("a client that leaves while its answer is made is noticed", async (t) => {
  const { app, ca } = await serve(t);
  const connection = await connect(app, { ca });
  connection.write("GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
  await app.line("it has begun");
  connection.end();
  await app.line("request aborted");
});

test("a connection too many is told so", async (t) => {
  const { app, ca } = await serve(t, "", { settings: { "http.connections_max": 1 } });
  const first = await connect(app, { ca });
  assert.equal((await ask(first, "/")).status, 200);
  const second = await connect(app, { ca });
  assert.equal((await second.answer()).status, 503);
  second.end();
  assert.equal((await ask(first, "/")).status, 200);
  first.end();
});

test("idle connections end with the host, politely", async (t) => {
  const { app, ca } = await serve(t);
  const idle = await connect(app, { ca });
  await ask(idle, "/");
  let ended = false; // only close_notify makes it an end; a cut would be an error
  idle.tls.on("end", () => (ended = true));
  const silent = await app.connect();
  const { code } = await app.stop();
  assert.equal(code, 0);
  await until(() => idle.closed, { what: "the end" });
  assert.equal(idle.error, null);
  assert.equal(ended, true);
  silent.end();
});
