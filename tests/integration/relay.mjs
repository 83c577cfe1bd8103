// The relay as a process: the application of this repository, copied to a
// directory of its own so that tests may run side by side and change its code.
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const PROGRAM = process.env.PERIGEE_PROGRAM ?? path.join(ROOT, "build/debug/perigee");
const START_MS = 20_000;

export class Relay {
  constructor({ workers = 1, env = "production", settings = {} } = {}) {
    this.workers = workers;
    this.env = env;
    this.settings = settings;
    this.lines = []; // what it logged, decoded
    this.dir = mkdtempSync(path.join(os.tmpdir(), "perigee-relay-"));
    for (const name of ["config", "scripts", "public"]) {
      cpSync(path.join(ROOT, name), path.join(this.dir, name), { recursive: true });
    }
  }

  static async start(options) {
    const relay = new Relay(options);
    await relay.start();
    return relay;
  }

  argv() {
    const settings = { "admin.port": 0, ...this.settings };
    return [
      "run", this.dir, "-e", this.env, "-p", "0", "-w", String(this.workers),
      ...Object.entries(settings).flatMap(([key, value]) => ["--set", `${key}=${value}`]),
    ];
  }

  async start() {
    this.process = spawn(PROGRAM, this.argv(), {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true, // a group of its own, to be killed as one
    });
    this.ended = once(this.process, "exit");
    const heard = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(this.failure("did not start")), START_MS);
      this.ended.then(() => reject(this.failure("ended")), () => {});
      this.listen(this.process.stderr);
      this.listen(this.process.stdout, (line) => {
        if (line.msg === "listening" && line.port && !line.admin) {
          clearTimeout(timer);
          resolve(line.port);
        }
      });
    });
    const port = await heard;
    this.url = `http://127.0.0.1:${port}`;
    return this;
  }

  listen(stream, seen = () => {}) {
    createInterface({ input: stream }).on("line", (text) => {
      let line = { raw: text };
      try {
        line = JSON.parse(text);
      } catch {
        // not a log line: kept for the message of a failure
      }
      this.lines.push(line);
      seen(line);
    });
  }

  failure(what) {
    const log = this.lines.slice(-30).map((line) => JSON.stringify(line)).join("\n");
    return new Error(`the relay ${what}:\n${log}`);
  }

  signal(name) {
    try {
      process.kill(-this.process.pid, name);
    } catch {
      // it has ended
    }
  }

  /** As a power cut would: master and workers at once. */
  async kill() {
    this.signal("SIGKILL");
    await this.ended.catch(() => {});
  }

  async stop() {
    if (this.process) {
      this.process.kill("SIGTERM");
      const timer = setTimeout(() => this.signal("SIGKILL"), 10_000);
      await this.ended.catch(() => {});
      clearTimeout(timer);
      this.signal("SIGKILL");
    }
    rmSync(this.dir, { recursive: true, force: true });
  }

  async call(method, target, { body, headers = {} } = {}) {
    const json = body !== undefined && typeof body !== "string" && !Buffer.isBuffer(body);
    const response = await fetch(this.url + target, {
      method,
      headers: json ? { "content-type": "application/json", ...headers } : headers,
      body: json ? JSON.stringify(body) : body,
    });
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "";
    return {
      status: response.status,
      headers: response.headers,
      type,
      text,
      json: type.includes("json") ? JSON.parse(text) : undefined,
    };
  }

  get(target, options) {
    return this.call("GET", target, options);
  }

  post(target, body, headers) {
    return this.call("POST", target, { body, headers });
  }

  /** Makes a source (and a subscription to it), or throws. */
  async source(source, subscription) {
    const made = await this.post("/sources", source);
    if (made.status !== 201) {
      throw new Error(`${made.status} ${made.text}`);
    }
    return subscription && this.subscribe({ source: source.name, ...subscription });
  }

  async subscribe(subscription) {
    const made = await this.post("/subscriptions",
      { target_url: "https://example.com/hook", ...subscription });
    if (made.status !== 201) {
      throw new Error(`${made.status} ${made.text}`);
    }
    return made.json;
  }

  /** All items of a list, page by page. */
  async all(target, query = {}) {
    const items = [];
    let after;
    do {
      const search = new URLSearchParams({ ...query, ...(after ? { after } : {}) });
      const page = await this.get(`${target}?${search}`);
      if (page.status !== 200) {
        throw new Error(`${page.status} ${page.text}`);
      }
      items.push(...page.json.items);
      after = page.json.next;
    } while (after !== null);
    return items;
  }
}

export function hmac(secret, data, encoding = "hex") {
  return createHmac("sha256", secret).update(data).digest(encoding);
}

export function github(secret, body, event, delivery) {
  return {
    "content-type": "application/json",
    "x-github-event": event,
    ...(delivery ? { "x-github-delivery": delivery } : {}),
    "x-hub-signature-256": `sha256=${hmac(secret, body)}`,
  };
}

export function stripe(secret, body, { time_s = Math.floor(Date.now() / 1000), before = "" } = {}) {
  return {
    "content-type": "application/json",
    "stripe-signature": `t=${time_s},${before}v1=${hmac(secret, `${time_s}.${body}`)}`,
  };
}

/** Asks again until the answer satisfies. */
export async function until(ask, satisfies, timeout_ms = 10_000) {
  const deadline = Date.now() + timeout_ms;
  for (;;) {
    const answer = await ask();
    if (satisfies(answer)) {
      return answer;
    }
    if (Date.now() > deadline) {
      throw new Error(`not within ${timeout_ms} ms: ${JSON.stringify(answer)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
