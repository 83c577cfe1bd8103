// Certificates, made by the openssl command in a folder that ends with the test,
// and connections that speak TLS.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import tls from "node:tls";
import { Connection, routes, start } from "./helpers.mjs";

function openssl(...args) {
  return execFileSync("openssl", args, { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
}

/** An authority, and what it issues. */
export class Authority {
  #serial = 1;

  constructor(t, name = "Test Authority") {
    this.dir = mkdtempSync(path.join(os.tmpdir(), "perigee-tls-"));
    t.after(() => rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 }));
    this.cert_file = path.join(this.dir, "ca.pem");
    this.key_file = path.join(this.dir, "ca.key");
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
      "-keyout", this.key_file, "-out", this.cert_file, "-days", "30", "-subj", `/CN=${name}`);
    this.cert = readFileSync(this.cert_file, "utf8");
  }

  /**
   * A certificate for names ("localhost", "127.0.0.1", "*.example.org"):
   * {cert, key, cert_file, key_file}. days: 0 is expired as soon as it is made (newer
   * openssl refuse less).
   */
  issue(names, { days = 20, cn = names[0] } = {}) {
    const base = path.join(this.dir, `c${this.#serial++}`);
    const san = names.map((name) => (/^[\d.]+$|:/.test(name) ? `IP:${name}` : `DNS:${name}`)).join(",");
    writeFileSync(`${base}.ext`, `subjectAltName=${san}\n`);
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
      "-keyout", `${base}.key`, "-out", `${base}.csr`, "-subj", `/CN=${cn}`);
    openssl("x509", "-req", "-in", `${base}.csr`, "-CA", this.cert_file, "-CAkey", this.key_file,
      "-set_serial", String(1000 + this.#serial), "-days", String(days), "-extfile", `${base}.ext`,
      "-out", `${base}.pem`);
    return {
      cert_file: `${base}.pem`,
      key_file: `${base}.key`,
      cert: readFileSync(`${base}.pem`, "utf8"),
      key: readFileSync(`${base}.key`, "utf8"),
    };
  }
}

/** A self-signed one for localhost. */
export function self_signed(t, days = 20) {
  const authority = new Authority(t, "localhost");
  return days > 0 ? { cert: authority.cert, cert_file: authority.cert_file,
    key: readFileSync(authority.key_file, "utf8"), key_file: authority.key_file } : null;
}

/** The files of an application that serves with these certificates. */
export function tls_files(identity, more = "", files = {}) {
  return {
    "certs/a.pem": identity.cert,
    "certs/a.key": identity.key,
    "config/default.lua": `return { http = { tls = { cert = "certs/a.pem", key = "certs/a.key", ${more} } } }\n`,
    ...files,
  };
}

/** A TLS connection that is through its handshake; see Connection. */
export async function connect(app, options = {}) {
  const socket = tls.connect({ host: "127.0.0.1", port: app.port, servername: "localhost",
    allowHalfOpen: true, ...options });
  await once(socket, "secureConnect");
  const connection = new Connection(socket);
  connection.tls = socket;
  return connection;
}

/** GET over a connection of its own. */
export async function get(app, target, options) {
  const connection = await connect(app, options);
  try {
    return await ask(connection, target);
  } finally {
    connection.end();
  }
}

export function ask(connection, target) {
  connection.write(`GET ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  return connection.answer();
}

/** Why a handshake fails: the error's code or text. */
export async function refusal(app, options = {}) {
  const socket = tls.connect({ host: "127.0.0.1", port: app.port, servername: "localhost", ...options });
  return new Promise((resolve) => {
    socket.on("error", (error) => resolve(`${error.code} ${error.message}`));
    // With TLS 1.3 the client is through before the server has looked at its certificate.
    socket.on("secureConnect", () => socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    socket.on("data", () => {
      socket.destroy();
      resolve(null);
    });
    socket.on("close", () => resolve("closed"));
  });
}

/** Runs openssl s_client to its end with input: what it printed. */
export async function s_client(app, args, { input = "", until = null } = {}) {
  const child = spawn("openssl", ["s_client", "-connect", `127.0.0.1:${app.port}`, ...args], {
    stdio: ["pipe", "pipe", "pipe"],
    timeout: 30_000,
    killSignal: "SIGKILL",
  });
  let text = "";
  let fed = false;
  const on_data = (chunk) => {
    text += chunk;
    if (until && until.test(text)) {
      child.stdin.end();
    }
    if (!fed && /Verify return code|Extended master secret/.test(text)) {
      fed = true;
      child.stdin.write(input);
      if (!until) {
        child.stdin.end();
      }
    }
  };
  child.stdin.on("error", () => {});
  child.stdout.setEncoding("utf8").on("data", on_data);
  child.stderr.setEncoding("utf8").on("data", on_data);
  await once(child, "close");
  return text;
}

const ROUTES = routes(`
  router:get("/", function(req) return { tls = req.is_tls } end)
  router:get("/tls", function(req) return req.tls or { none = true } end)
  router:get("/pid", function() return { pid = require("perigee.host").pid } end)
  router:get("/big", function() return ("x"):rep(3000000) end)
  router:post("/echo", function(req) return req:body() end, { body_max = "8mb" })
  router:get("/late", function(req)
    require("perigee.log").info "it has begun"
    require("perigee.task").sleep("30s")
    return "late"
  end)
  router:get("/stream", function()
    return require("perigee.http").stream(function(out)
      for i = 1, 200 do out:write(("%d "):format(i):rep(1000)) end
    end)
  end)`);

/** A host with those routes: {app, authority, identity, ca}. more: further keys of http.tls. */
export async function serve(t, more = "", options = {}) {
  const authority = new Authority(t);
  const identity = authority.issue(["localhost", "127.0.0.1"]);
  const app = await start(t, {
    ...options,
    files: tls_files(identity, more, { "scripts/routes/test.lua": ROUTES, ...options.files?.(authority) }),
  });
  return { app, authority, identity, ca: authority.cert };
}
