// Live processes for Node's test runner: applications written from an object,
// a host that serves them on a port of the kernel's choice, and a client that
// sends any bytes and shows any answer.
//
//   test("a table is JSON", async (t) => {
//     const app = await start(t, {
//       route: `router:get("/", function() return { ok = true } end)`,
//     });
//     const answer = await app.get("/");
//     assert.deepEqual(answer.json, { ok: true });
//   });
//
// What start() makes ends with the test t: the processes by their ids, then the
// directory.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));
export const PROGRAM = process.env.PERIGEE_PROGRAM || path.join(ROOT, "build/release/perigee");

const START_MS = 20_000;
const STOP_MS = 15_000;
const WAIT_MS = 10_000;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks again until the answer is true, and gives it; throws when it stays false. */
export async function until(ask, { timeout_ms = WAIT_MS, what = "it" } = {}) {
  const deadline = Date.now() + timeout_ms;
  for (;;) {
    const answer = await ask();
    if (answer) {
      return answer;
    }
    if (Date.now() > deadline) {
      throw new Error(`${what} did not come within ${timeout_ms} ms`);
    }
    await sleep(20);
  }
}

/** A promise that fails with a sentence when it takes too long. */
export function within(promise, what, timeout_ms = WAIT_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took over ${timeout_ms} ms`)), timeout_ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Does it until it takes less than ms for once, and gives what it gave: a busy machine is late, but not each time. */
export async function in_time(ms, act, tries = 5) {
  const took = [];
  while (took.length < tries) {
    const begun = performance.now();
    const result = await act();
    took.push(performance.now() - begun);
    if (took.at(-1) < ms) {
      return result;
    }
  }
  throw new Error(`took ${took.map(Math.round).join(", ")} ms, never less than ${ms}`);
}

// The environment without what would configure a host by accident.
function clean_env(extra) {
  const env = { ...process.env };
  for (const name of Object.keys(env)) {
    if (/^(PERIGEE_|OTEL_|STATSD_)/.test(name) || /^(PORT|HOST|LOG_LEVEL|APP_ENV|NODE_ENV|NODE_TEST_CONTEXT|WEB_CONCURRENCY|\w+_URL)$/.test(name)) {
      delete env[name];
    }
  }
  return { ...env, NO_COLOR: "1", ...extra };
}

// --- applications -------------------------------------------------------------

/**
 * A port for a server that cannot be given 0. Below those that the kernel gives to
 * connections, which would have taken it by the time it is used.
 */
export async function free_port() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const server = net.createServer();
    const free = await new Promise((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (free) {
      return port;
    }
  }
}

export function write_files(dir, files) {
  for (const [name, text] of Object.entries(files)) {
    const full = path.join(dir, name);
    mkdirSync(path.dirname(full), { recursive: true });
    writeFileSync(full, text);
  }
}

/** A routes file with these lines in its function. */
export function routes(body) {
  return `return function(router)\n${body}\nend\n`;
}

const ends = new WeakMap(); // of a test: what is to be done at its end

/** What was made last ends first: a process before the directory that it is in. */
function at_end(t, end) {
  if (!ends.has(t)) {
    ends.set(t, []);
    t.after(async () => {
      const failed = [];
      for (const each of ends.get(t).reverse()) {
        try {
          await each();
        } catch (error) { // the others end all the same: a host that stays holds up the run
          failed.push(error);
        }
      }
      if (failed.length > 0) {
        throw failed[0];
      }
    });
  }
  ends.get(t).push(end);
}

/**
 * A directory that ends with the test. files: {"scripts/main.lua": text, ...};
 * route: the body of a routes file.
 */
export function app_dir(t, { files = {}, route } = {}) {
  const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-test-"));
  at_end(t, () => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));
  write_files(dir, { ...(route === undefined ? {} : { "scripts/routes/test.lua": routes(route) }), ...files });
  return dir;
}

// --- the command line -----------------------------------------------------------

/** Runs the program to its end: {code, signal, stdout, stderr}. */
export async function perigee(args, { cwd, env, input = "", timeout_ms = 30_000 } = {}) {
  const child = spawn(PROGRAM, args, {
    cwd,
    env: clean_env(env),
    stdio: ["pipe", "pipe", "pipe"],
    timeout: timeout_ms,
    killSignal: "SIGKILL",
  });
  const out = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) {
    child[name].setEncoding("utf8").on("data", (chunk) => {
      out[name] += chunk;
    });
  }
  child.stdin.on("error", () => {}); // it may end without having read all
  child.stdin.end(input);
  const [code, signal] = await once(child, "close");
  return { code, signal, ...out };
}

// --- a host ---------------------------------------------------------------------

export class Host {
  lines = []; // of stdout and stderr; log lines decoded, others {raw}

  constructor(dir, child) {
    this.dir = dir;
    this.process = child;
    this.pid = child.pid;
    // With the streams' ends: what it has printed is in lines then.
    this.ended = new Promise((resolve) => {
      child.on("close", (code, signal) => resolve({ code, signal }));
      child.on("error", (error) => {
        this.lines.push({ raw: error.message });
        resolve({ code: -1, signal: null });
      });
    });
    this.#listen(child.stdout);
    this.#listen(child.stderr);
  }

  #listen(stream) {
    let rest = "";
    stream.setEncoding("utf8").on("data", (chunk) => {
      const parts = (rest + chunk).split("\n");
      rest = parts.pop();
      for (const raw of parts) {
        this.lines.push(decode(raw));
      }
    });
  }

  /** What it printed, for the message of a failure. */
  printed(count = 40) {
    return this.lines.slice(-count).map((l) => l.raw ?? JSON.stringify(l)).join("\n");
  }

  /** The first log line from index `from` on for which matches(line) holds, when it comes. */
  async line(matches, { from = 0, timeout_ms = WAIT_MS } = {}) {
    const wanted = typeof matches === "string" ? (l) => l.msg === matches : matches;
    try {
      return await until(() => this.lines.slice(from).find(wanted), { timeout_ms });
    } catch {
      throw new Error(`no such line: ${matches}\n${this.printed()}`);
    }
  }

  async listening(timeout_ms = START_MS) {
    const line = await Promise.race([
      this.line((l) => l.msg === "listening" && l.port && !l.admin, { timeout_ms }),
      this.ended.then(({ code, signal }) => {
        throw new Error(`it ended with ${code ?? signal} and does not serve\n${this.printed()}`);
      }),
    ]);
    this.port = line.port;
    this.url = `http://127.0.0.1:${line.port}`;
    return this;
  }

  /** The ids of its workers. */
  workers() {
    try {
      const text = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, "utf8");
      return text.trim().split(/\s+/).filter(Boolean).map(Number);
    } catch {
      return [];
    }
  }

  write(files) {
    write_files(this.dir, files);
  }

  /** A command to this host: app.command("reload"). */
  command(...args) {
    return perigee([args[0], ...args.slice(1)], { cwd: this.dir });
  }

  signal(name) {
    process.kill(this.pid, name);
  }

  /** TERM, then how it ended: {code, signal}. */
  async stop(signal = "SIGTERM") {
    try {
      this.process.kill(signal);
      return await within(this.ended, "stopping", STOP_MS);
    } finally {
      this.kill();
    }
  }

  /** Ends all of it at once, as a power cut would. */
  kill() {
    try {
      process.kill(-this.pid, "SIGKILL");
    } catch {
      // it has ended
    }
  }

  // One request on a connection of its own.

  async request(method, target, { headers = {}, body, version = "1.1", timeout_ms } = {}) {
    const bytes = body === undefined || typeof body === "string" || Buffer.isBuffer(body)
      ? body : JSON.stringify(body);
    const all = { host: `127.0.0.1:${this.port}`, connection: "close", ...headers };
    if (bytes !== undefined) {
      all["content-type"] ??= typeof body === "string" ? "text/plain" : "application/json";
      all["content-length"] ??= String(Buffer.byteLength(bytes));
    }
    const head = Object.entries(all).filter(([, value]) => value !== undefined)
      .flatMap(([name, value]) => [value].flat().map((v) => `${name}: ${v}\r\n`)).join("");
    const connection = await this.connect();
    try {
      connection.write(`${method} ${target} HTTP/${version}\r\n${head}\r\n`);
      if (bytes !== undefined) {
        connection.write(bytes);
      }
      return await connection.answer({ head: method === "HEAD", timeout_ms });
    } finally {
      connection.end();
    }
  }

  get(target, options) {
    return this.request("GET", target, options);
  }

  post(target, body, options) {
    return this.request("POST", target, { body, ...options });
  }

  connect() {
    return Connection.open(this.port);
  }

  /** Sends bytes on a new connection, gives all that comes until it is closed. */
  async raw(bytes, options) {
    const connection = await this.connect();
    connection.write(bytes);
    return connection.rest(options);
  }
}

function decode(raw) {
  try {
    const line = JSON.parse(raw);
    return line && typeof line === "object" ? line : { raw };
  } catch {
    return { raw };
  }
}

/**
 * A host that serves. Options: dir, or files and route (see app_dir); env (the
 * environment's name), workers, settings ({"http.body_max": "1kb"}), args, vars
 * (environment variables), command.
 */
export async function start(t, options = {}) {
  const app = launch(t, options);
  return app.listening();
}

/** The same without waiting until it serves. */
export function launch(t, options = {}) {
  const { env = "production", workers = 1, settings = {}, args = [], vars, command = "run" } = options;
  const dir = options.dir ?? app_dir(t, options);
  const all = { "admin.port": 0, ...settings };
  const argv = [
    command, dir, "-e", env, "-p", "0", "-w", String(workers),
    ...Object.entries(all).flatMap(([key, value]) => ["--set", `${key}=${value}`]),
    ...args,
  ];
  const child = spawn(PROGRAM, argv, {
    cwd: dir,
    env: clean_env(vars),
    stdio: ["ignore", "pipe", "pipe"],
    detached: true, // a group of its own, to be ended as one
  });
  const app = new Host(dir, child);
  at_end(t, async () => {
    app.kill();
    await app.ended;
  });
  return app;
}

// --- a client ---------------------------------------------------------------------

/** A TCP connection, and answers read from it one by one. */
export class Connection {
  #data = Buffer.alloc(0);
  #wake = () => {};
  closed = false;
  error = null;

  static async open(port, host = "127.0.0.1") {
    const socket = net.connect({ port, host, allowHalfOpen: true });
    await once(socket, "connect");
    return new Connection(socket);
  }

  constructor(socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk) => {
      this.#data = Buffer.concat([this.#data, chunk]);
      this.#wake();
    });
    socket.on("error", (error) => {
      this.error = error;
    });
    for (const event of ["end", "close"]) {
      socket.on(event, () => {
        this.closed = true;
        this.#wake();
      });
    }
  }

  write(bytes) {
    this.socket.write(bytes);
    return this;
  }

  /** No more will be sent; answers may still come. */
  finish() {
    this.socket.end();
    return this;
  }

  end() {
    this.socket.destroy();
  }

  // Waits until ready() gives something; undefined when the other side closed.
  async #until(ready, what, timeout_ms) {
    const wait = async () => {
      for (;;) {
        const value = ready();
        if (value !== undefined || this.closed) {
          return value;
        }
        await new Promise((resolve) => {
          this.#wake = resolve;
        });
      }
    };
    try {
      return await within(wait(), what, timeout_ms);
    } catch (error) {
      throw new Error(`${error.message}; so far: ${JSON.stringify(this.#data.toString("latin1").slice(0, 500))}`);
    }
  }

  #take(count) {
    const bytes = this.#data.subarray(0, count);
    this.#data = this.#data.subarray(count);
    return bytes;
  }

  /** That many bytes. */
  async bytes(count, { timeout_ms = WAIT_MS } = {}) {
    const ready = () => (this.#data.length >= count ? true : undefined);
    if ((await this.#until(ready, `${count} bytes`, timeout_ms)) === undefined) {
      throw new Error(`closed after ${this.#data.length} of ${count} bytes`);
    }
    return this.#take(count);
  }

  /** Up to the separator, which is taken and not given. */
  async upto(separator, { timeout_ms = WAIT_MS } = {}) {
    const ready = () => {
      const at = this.#data.indexOf(separator);
      return at < 0 ? undefined : at;
    };
    const at = await this.#until(ready, JSON.stringify(separator), timeout_ms);
    if (at === undefined) {
      throw new Error(`closed before ${JSON.stringify(separator)}: ${JSON.stringify(this.#data.toString("latin1"))}`);
    }
    const bytes = this.#take(at);
    this.#take(separator.length);
    return bytes.toString("latin1");
  }

  /** All that comes until the other side closes, as text. */
  async rest({ timeout_ms = WAIT_MS, encoding = "utf8" } = {}) {
    await this.#until(() => undefined, "the connection's end", timeout_ms);
    const text = this.#take(this.#data.length);
    this.end();
    return encoding === null ? text : text.toString(encoding);
  }

  /** Has the other side closed, without sending more? */
  async is_closed({ timeout_ms = WAIT_MS } = {}) {
    await this.#until(() => (this.#data.length > 0 ? true : undefined), "closing", timeout_ms);
    return this.closed && this.#data.length === 0;
  }

  async #chunks(options) {
    const parts = [];
    for (;;) {
      const size = Number.parseInt(await this.upto("\r\n", options), 16);
      if (size === 0) {
        break;
      }
      parts.push(await this.bytes(size, options));
      await this.upto("\r\n", options);
    }
    const trailers = [];
    for (let line = await this.upto("\r\n", options); line !== ""; line = await this.upto("\r\n", options)) {
      trailers.push(line);
    }
    return { body: Buffer.concat(parts), trailers };
  }

  /**
   * The next answer: {version, status, reason, headers (lower case; repeated
   * ones in a list), body, text, json, trailers}. head: it answers a HEAD.
   */
  async answer({ head = false, ...options } = {}) {
    const first = await this.upto("\r\n", options);
    const found = /^HTTP\/(\d\.\d) (\d{3}) ?(.*)$/.exec(first);
    if (!found) {
      throw new Error(`no status line: ${JSON.stringify(first)}`);
    }
    const answer = { version: found[1], status: Number(found[2]), reason: found[3], headers: {}, trailers: [] };
    for (let line = await this.upto("\r\n", options); line !== ""; line = await this.upto("\r\n", options)) {
      const colon = line.indexOf(":");
      const name = line.slice(0, colon).toLowerCase();
      const value = line.slice(colon + 1).trim();
      answer.headers[name] = name in answer.headers ? [answer.headers[name], value].flat() : value;
    }
    const bare = head || answer.status < 200 || answer.status === 204 || answer.status === 304;
    let body = Buffer.alloc(0);
    if (!bare && answer.headers["transfer-encoding"] === "chunked") {
      ({ body, trailers: answer.trailers } = await this.#chunks(options));
    } else if (!bare && "content-length" in answer.headers) {
      body = await this.bytes(Number(answer.headers["content-length"]), options);
    } else if (!bare) {
      body = await this.rest({ ...options, encoding: null });
    }
    answer.body = Buffer.from(body);
    answer.text = answer.body.toString("utf8");
    if (/\bjson\b/.test(answer.headers["content-type"] ?? "") && answer.text !== "" &&
        !("content-encoding" in answer.headers)) {
      answer.json = JSON.parse(answer.text);
    }
    return answer;
  }
}
