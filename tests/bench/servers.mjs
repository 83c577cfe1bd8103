// Servers under measurement: process trees pinned to one CPU.
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import tls from "node:tls";
import { ROOT } from "../tools/proc.mjs";

export const SERVER_CPU = "0";
export const CLIENT_CPU = os.cpus().length > 1 ? "1" : "0";
const TICKS = 100; // of the kernel's accounting, a second
const START_MS = 15_000;

process.setMaxListeners(0); // each server cleans up after itself at the exit

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const read = (file) => {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
};

// The fields of /proc/PID/stat from the third on: names may hold blanks.
const stat_of = (pid) => read(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ");

export function tree(root) {
  const children = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const parent = Number(stat_of(pid)[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(pid)]);
  }
  const all = [root];
  for (let i = 0; i < all.length; i++) {
    all.push(...(children.get(all[i]) ?? []));
  }
  return all;
}

/** CPU seconds so far of some processes: {user, all}. */
export function cpu(pids) {
  let user = 0;
  let system = 0;
  for (const pid of pids) {
    const fields = stat_of(pid);
    user += Number(fields[11] ?? 0);
    system += Number(fields[12] ?? 0);
  }
  return { user: user / TICKS, all: (user + system) / TICKS };
}

/** Memory of a process in KB, shared pages by their part. */
export function pss_kb(pid) {
  return Number(/^Pss:\s+(\d+)/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0);
}

export function free_port() {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A connection to a server of ours; secure: over TLS. */
export function dial(port, secure = false) {
  return secure ? tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false })
    : net.connect(port, "127.0.0.1");
}

/** One GET on a new connection; resolves to its status, or 0. */
export function probe(port, target = "/plaintext", secure = false) {
  return new Promise((resolve) => {
    const socket = dial(port, secure);
    let text = "";
    socket.on(secure ? "secureConnect" : "connect", () => {
      socket.write(`GET ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n`);
    });
    socket.on("data", (chunk) => {
      text += chunk;
      if (text.length > 12) {
        socket.destroy();
      }
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0)));
  });
}

export class Server {
  constructor(name, command, { secure = false, target = "/plaintext" } = {}) {
    this.name = name;
    this.command = command;
    this.secure = secure;
    this.target = target; // what is 200 when it serves
  }

  async start({ pause_ms = 20 } = {}) {
    this.port = await free_port();
    const argv = this.command(this.port);
    const began = process.hrtime.bigint();
    this.process = spawn("taskset", ["-c", SERVER_CPU, ...argv], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    this.printed = "";
    this.process.stdout.on("data", (chunk) => (this.printed += chunk));
    this.process.stderr.on("data", (chunk) => (this.printed += chunk));
    const deadline = Date.now() + START_MS;
    while ((await probe(this.port, this.target, this.secure)) !== 200) {
      if (this.process.exitCode !== null || Date.now() > deadline) {
        this.stop();
        throw new Error(`${this.name} does not serve: ${this.printed.slice(-1000)}`);
      }
      await sleep(pause_ms);
    }
    this.started_ms = Number(process.hrtime.bigint() - began) / 1e6;
    this.pids = tree(this.process.pid);
    return this;
  }

  async stop() {
    const ended = this.process.exitCode === null
      ? new Promise((resolve) => this.process.on("exit", resolve)) : null;
    this.process.kill("SIGTERM");
    await Promise.race([ended, sleep(3000)]);
    try {
      process.kill(-this.process.pid, "SIGKILL");
    } catch {
      // it has ended
    }
  }
}

/**
 * A certificate for both, in a folder that ends with this process: {cert, key}.
 * kind: "ec", or the bits of an RSA key.
 */
export function certificate(kind) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "perigee-bench-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const files = { cert: path.join(folder, "cert.pem"), key: path.join(folder, "key.pem") };
  execFileSync("openssl", ["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost",
    "-newkey", ...(kind === "ec" ? ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] : [`rsa:${kind}`]),
    "-keyout", files.key, "-out", files.cert], { stdio: "ignore" });
  return files;
}

/** Perigee and nginx with that certificate, without session tickets. */
export function tls_servers({ cert, key }) {
  const settings = { "http.tls.cert": cert, "http.tls.key": key, "http.tls.tickets": false };
  return [() => perigee("perigee", { settings, secure: true }), () => nginx({ cert, key })];
}

/** A folder that ends with this process, with parts of another one. */
function copy_of(folder, parts) {
  const copy = mkdtempSync(path.join(os.tmpdir(), "perigee-bench-"));
  process.on("exit", () => rmSync(copy, { recursive: true, force: true }));
  parts.forEach((part) => cpSync(path.join(folder, part), path.join(copy, part), { recursive: true }));
  return copy;
}

function host(name, folder, { workers = 1, settings = {}, ...options } = {}) {
  return new Server(name, (port) => [
    path.join(ROOT, "build/release/perigee"), "run", folder, "-e", "production",
    "-p", String(port), "-w", String(workers), "--set", "admin.port=0",
    ...Object.entries(settings).flatMap(([key, value]) => ["--set", `${key}=${value}`]),
  ], options);
}

/** copies: beside others, in a folder of its own: a folder has one host. */
export function perigee(name = "perigee", { copies = false, ...options } = {}) {
  const folder = path.join(ROOT, "tests/bench/app");
  return host(name, copies ? copy_of(folder, ["config", "scripts"]) : folder, options);
}

/** The reference application. */
export function relay() {
  return host("perigee, the relay", copy_of(ROOT, ["config", "scripts", "public"]), { target: "/events" });
}

const MODULES = "/usr/lib/nginx/modules";

function nginx_config(folder, port, identity) {
  const secure = identity ? `
    ssl_certificate ${identity.cert}; ssl_certificate_key ${identity.key};
    ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off; ssl_session_tickets off;` : "";
  const others = Array.from({ length: 25 }, (_, i) => `
    location = /r${i}/list { content_by_lua_block { app.other() } }
    location /r${i}/item/ { content_by_lua_block { app.other() } }`).join("");
  return `
load_module ${MODULES}/ndk_http_module.so;
load_module ${MODULES}/ngx_http_lua_module.so;
worker_processes 1;
worker_rlimit_nofile 20000;
env REDIS_PORT;
daemon off;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log error;
pcre_jit on;
events { worker_connections 16384; }
http {
  access_log off;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  client_body_buffer_size 16k;
  lua_package_path "${path.join(ROOT, "tests/bench/nginx")}/?.lua;/usr/share/lua/5.1/?.lua;;";
  lua_shared_dict bench 10m;
  init_by_lua_block {
    require "resty.core"; app = require "app"
    ngx.shared.bench:set("value", "cached value")
  }
  server {
    listen 127.0.0.1:${port} reuseport backlog=4096${identity ? " ssl" : ""};${secure}
    location = /plaintext { content_by_lua_block { app.plaintext() } }
    location = /json { content_by_lua_block { app.json() } }
    location /users/ { content_by_lua_block { app.user() } }
    location = /local { content_by_lua_block { app.near() } }
    location = /micro { content_by_lua_block { require("micro")() } }
    location = /cache { content_by_lua_block { app.cache() } }
    location = /echo { content_by_lua_block { app.echo() } }${others}
  }
}
`;
}

/**
 * nginx with its Lua module, or null where it is not installed. identity: the
 * files for TLS.
 */
export function nginx(identity) {
  if (!existsSync(`${MODULES}/ngx_http_lua_module.so`) || !existsSync("/usr/sbin/nginx")) {
    return null;
  }
  const folder = mkdtempSync(path.join(os.tmpdir(), "perigee-bench-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(path.join(folder, "logs"));
  return new Server("nginx+Lua", (port) => {
    const file = path.join(folder, "nginx.conf");
    writeFileSync(file, nginx_config(folder, port, identity).replace(
      "worker_processes 1;", process.getuid() === 0 ? "user root; worker_processes 1;" : "worker_processes 1;"));
    return ["/usr/sbin/nginx", "-p", folder, "-c", file];
  }, { secure: Boolean(identity) });
}

/**
 * A redis-server with the key that /cache answers, pinned to the load's CPU; its
 * process, or null where it is not installed. Servers find it by REDIS_PORT.
 */
export async function redis() {
  const port = await free_port();
  const child = spawn("taskset", ["-c", CLIENT_CPU, "redis-server", "--port", String(port),
    "--bind", "127.0.0.1", "--save", ""], { stdio: "ignore" });
  process.on("exit", () => child.kill("SIGKILL"));
  const set = () => new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.on("connect", () => socket.write("SET bench:cache cached-in-redis\r\n"));
    socket.on("data", () => resolve(socket.destroy() !== undefined));
    socket.on("error", () => resolve(false));
  });
  const deadline = Date.now() + START_MS;
  while (!(await set())) {
    if (child.exitCode !== null || Date.now() > deadline) {
      return null;
    }
    await sleep(50);
  }
  process.env.REDIS_PORT = String(port);
  return child;
}

/** Any other: a command line in which PORT is substituted. */
export function other(spec) {
  const at = spec.indexOf("=");
  return new Server(spec.slice(0, at), (port) =>
    ["sh", "-c", `exec ${spec.slice(at + 1).replaceAll("PORT", String(port))}`]);
}
