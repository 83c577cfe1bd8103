// TLS: what is no handshake, what was tampered with, certificates of no use.
import assert from "node:assert/strict";
import net from "node:net";
import { Duplex } from "node:stream";
import { test } from "node:test";
import tls from "node:tls";
import { app_dir, perigee } from "./helpers.mjs";
import { Authority, get, serve, tls_files } from "./tls_helpers.mjs";

test("whatever is no handshake ends the connection, and nothing else", async (t) => {
  const { app, ca } = await serve(t, "", { settings: { "http.header_timeout": "1s" } });
  const hello = await client_hello();
  const inputs = {
    garbage: Buffer.from("\x00\x01\x02\x03garbage garbage garbage", "latin1"),
    "a record too long": Buffer.from([22, 3, 1, 255, 255, 1, 2, 3, 4, 5]),
    "an empty handshake": Buffer.from([22, 3, 1, 0, 0]),
    "an alert": Buffer.from([21, 3, 1, 0, 2, 2, 40]),
    "application data": Buffer.from([23, 3, 3, 0, 5, 1, 2, 3, 4, 5]),
    "a broken hello": (() => {
      const bytes = Buffer.from(hello);
      bytes.fill(0xff, 40, 80);
      return bytes;
    })(),
  };
  for (const [name, bytes] of Object.entries(inputs)) {
    const connection = await app.connect();
    connection.write(bytes);
    await connection.rest();
    assert.ok(connection.closed, name);
  }
  // What stops half-way has header_timeout; who vanishes leaves nothing.
  await Promise.all([1, 5, 6, 60, hello.length - 1].map(async (length) => {
    const slow = await app.connect();
    slow.write(hello.subarray(0, length));
    const gone = await app.connect();
    gone.write(hello.subarray(0, length));
    gone.socket.resetAndDestroy();
    await slow.rest({ timeout_ms: 20_000 });
    assert.ok(slow.closed, `${length} bytes`);
  }));
  // Said hello, and never went on.
  const silent = await app.connect();
  silent.write(hello);
  await silent.rest({ timeout_ms: 20_000 });
  assert.equal((await get(app, "/", { ca })).status, 200);
});

// The first bytes that Node's client sends.
function client_hello() {
  return new Promise((resolve) => {
    const server = net.createServer((socket) => {
      socket.once("data", (bytes) => {
        socket.destroy();
        server.close();
        resolve(bytes);
      });
    });
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      tls.connect({ port, host: "127.0.0.1" }).on("error", () => {});
    });
  });
}

test("a record that was tampered with ends the connection", async (t) => {
  const { app, ca } = await serve(t);
  const raw = net.connect(app.port, "127.0.0.1");
  const closed = new Promise((resolve) => raw.on("close", resolve));
  raw.on("error", () => {});
  let tamper = false;
  const between = new Duplex({
    read() {},
    write(chunk, _, done) {
      const bytes = Buffer.from(chunk);
      if (tamper) {
        bytes[bytes.length - 1] ^= 1;
      }
      raw.write(bytes, done);
    },
  });
  raw.on("data", (chunk) => between.push(chunk));
  raw.on("end", () => between.push(null));
  const socket = tls.connect({ socket: between, ca, servername: "localhost" });
  socket.on("error", () => {});
  await new Promise((resolve) => socket.on("secureConnect", resolve));
  tamper = true;
  socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await closed;
  assert.equal((await get(app, "/", { ca })).status, 200);
});

test("certificates that cannot be used are named, and the host does not start", async (t) => {
  const authority = new Authority(t);
  const a = authority.issue(["localhost"]);
  const b = authority.issue(["localhost"]);
  const fails = async (files, expected) => {
    const dir = app_dir(t, { files: { ...tls_files(a), ...files } });
    for (const command of ["run", "check"]) {
      const { code, stderr } = await perigee([command, dir, "-e", "production", ...(command === "run" ? ["-p", "0"] : [])]);
      assert.equal(code, 78, stderr);
      assert.match(stderr, expected);
    }
  };
  await fails({ "certs/a.key": b.key }, /http\.tls: key: it is not the key of the certificate/);
  await fails({ "certs/a.pem": "nonsense\n" }, /http\.tls: cert: no certificate in PEM form/);
  await fails({ "certs/a.key": "" }, /http\.tls: key: no private key in PEM form/);
  await fails({ "config/default.lua": 'return { http = { tls = { cert = "certs/none.pem", key = "certs/a.key" } } }\n' },
    /http\.tls\.cert: certs\/none\.pem: No such file/);
  await fails({ "config/default.lua": 'return { http = { tls = { cert = "certs/a.pem", key = "certs/a.key", verify_client = true } } }\n' },
    /http\.tls\.verify_client: needs http\.tls\.ca/);
  // PEM itself in its place must never end in a host without TLS.
  await fails({ "config/default.lua": `return { http = { tls = { cert = [[${a.cert}]], key = [[${a.key}]] } } }\n` },
    /http\.tls\.cert: must be the path of a PEM file/);
});
