// The relay as a process: the application of this repository, copied to a
// directory of its own so that tests may run side by side and change its code.
import { createHmac } from "node:crypto";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { ROOT, launch } from "./helpers.mjs";

export class Relay {
  #ends = []; // as a test's t.after would have them

  constructor(options = {}) {
    // workers, settings, env, vars: see start() of helpers.mjs. Nothing is sent
    // to other machines.
    this.options = { ...options, vars: { RELAY_TARGETS: "127.0.0.1", ...options.vars } };
    this.dir = mkdtempSync(path.join(os.tmpdir(), "perigee-relay-"));
    for (const name of ["config", "scripts", "public"]) {
      cpSync(path.join(ROOT, name), path.join(this.dir, name), { recursive: true });
    }
  }

  static async start(options) {
    const relay = new Relay(options);
    try {
      return await relay.start();
    } catch (error) {
      await relay.stop();
      throw error;
    }
  }

  async start() {
    const after = (end) => this.#ends.push(end);
    this.host = launch({ after }, { ...this.options, dir: this.dir });
    await this.host.listening();
    this.url = this.host.url;
    return this;
  }

  /** As a power cut would: master and workers at once. */
  async kill() {
    this.host.kill();
    await this.host.ended;
  }

  async stop() {
    for (const end of this.#ends.splice(0)) {
      await end();
    }
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 });
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
