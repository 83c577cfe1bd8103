// Redis servers for tests, and a host that runs Lua with a client.
import assert from "node:assert/strict";
import { execFile, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { free_port, start, until } from "./helpers.mjs";

export const missing = spawnSync("redis-server", ["--version"]).status !== 0
  ? "there is no redis-server" : false;

// POST /run: Lua, whose values come back as a list; errors as {kind, code}.
const ROUTES = `
  local redis = require "perigee.redis"
  local errors = require "perigee.error"
  local json = require "perigee.json"
  local task = require "perigee.task"
  router:post("/run", function(req)
    local chunk = assert(loadstring(req:body()))
    local out = { chunk(redis.get(), task, redis, json) }
    local n = select("#", unpack(out, 1, table.maxn(out)))
    for i = 1, n do
      if out[i] == nil then out[i] = json.null
      elseif errors.is(out[i]) then
        out[i] = { kind = out[i].kind, code = out[i].code, message = out[i].message }
      elseif type(out[i]) == "cdata" then out[i] = tostring(out[i]) end
    end
    return json.array(out)
  end, { timeout = "60s" })
`;

export class Redis {
  static async start(t, args = []) {
    const redis = new Redis();
    redis.dir = mkdtempSync(path.join(os.tmpdir(), "perigee-redis-"));
    redis.port = await free_port();
    redis.socket = path.join(redis.dir, "redis.sock");
    redis.args = args;
    t.after(async () => {
      await redis.kill();
      rmSync(redis.dir, { recursive: true, force: true, maxRetries: 5 });
    });
    await redis.launch();
    return redis;
  }

  async launch() {
    this.process = spawn("redis-server", this.file ? [this.file, "--sentinel"] : ["--port", String(this.port), "--bind", "127.0.0.1",
      "--unixsocket", this.socket, "--save", "", "--dir", this.dir,
      "--enable-debug-command", "yes", ...this.args], { stdio: "ignore" });
    this.ended = new Promise((resolve) => this.process.on("exit", resolve));
    await until(() => this.answers(), { what: "redis-server" });
  }

  answers() {
    return new Promise((resolve) => {
      const socket = net.connect(this.port, "127.0.0.1");
      socket.on("error", () => resolve(false));
      socket.on("data", () => { socket.destroy(); resolve(true); });
      socket.write("PING\r\n");
    });
  }

  async kill() {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill("SIGCONT");
      this.process.kill("SIGKILL");
    }
    await this.ended;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** "master" or "slave"; null where it cuts off who asks, as at a failover. */
  async role() {
    return this.call("ROLE").then((reply) => reply.split("\n")[0], () => null);
  }

  /** One command; its reply as redis-cli prints it. */
  call(...words) {
    return new Promise((resolve, reject) => {
      execFile("redis-cli", ["-p", String(this.port), ...words.map(String)], { timeout: 20_000 },
        (error, stdout) => (error ? reject(error) : resolve(stdout.trim())));
    });
  }
}

const SLOTS = 16384;

/** Masters that share the slots evenly, each with so many replicas. */
export class Cluster {
  nodes = [];

  static async start(t, { masters = 3, replicas = 0, timeout_ms = 5000 } = {}) {
    const cluster = new Cluster();
    for (let i = 0; i < masters * (1 + replicas); i += 1) {
      const bus = await free_port();
      const node = await Redis.start(t, ["--cluster-enabled", "yes", "--cluster-port", String(bus),
        "--cluster-node-timeout", String(timeout_ms), "--cluster-config-file", "nodes.conf",
        "--cluster-replica-validity-factor", "0", "--repl-ping-replica-period", "1", "--repl-diskless-sync-delay", "0"]);
      node.bus = bus;
      node.id = await node.call("CLUSTER", "MYID");
      cluster.nodes.push(node);
    }
    cluster.masters = cluster.nodes.slice(0, masters);
    cluster.replicas = cluster.nodes.slice(masters);
    for (const [i, node] of cluster.masters.entries()) {
      await node.call("CLUSTER", "ADDSLOTSRANGE", Math.floor((i * SLOTS) / masters), Math.floor(((i + 1) * SLOTS) / masters) - 1);
      await node.call("CLUSTER", "SET-CONFIG-EPOCH", i + 1);
    }
    for (const node of cluster.nodes.slice(1)) {
      await node.call("CLUSTER", "MEET", "127.0.0.1", cluster.nodes[0].port, cluster.nodes[0].bus);
    }
    const known = async (node) => (await node.call("CLUSTER", "NODES")).split("\n")
      .filter((line) => /connected/.test(line) && !/handshake|noaddr|disconnected/.test(line)).length === cluster.nodes.length;
    for (const node of cluster.nodes) {
      await until(() => known(node), { what: "the nodes' meeting", timeout_ms: 40_000 });
    }
    for (const [i, node] of cluster.replicas.entries()) {
      await node.call("CLUSTER", "REPLICATE", cluster.masters[i % masters].id);
    }
    await cluster.ready();
    return cluster;
  }

  async ready() {
    for (const node of this.nodes) {
      await until(async () => /cluster_state:ok/.test(await node.call("CLUSTER", "INFO")), { what: "the cluster", timeout_ms: 40_000 });
    }
    for (const node of this.replicas) {
      await until(async () => /master_link_status:up/.test(await node.call("INFO", "replication")), { what: "a replica", timeout_ms: 40_000 });
    }
    for (const node of this.nodes) { // a replica is told of once its offset is known
      const all = async () => {
        const words = (await node.call("CLUSTER", "SLOTS")).split("\n");
        return this.nodes.every((other) => words.includes(String(other.port)));
      };
      await until(all, { what: "replicas' being known", timeout_ms: 40_000 });
    }
  }

  /** Moves a slot, key by key; between(): half of the way. */
  async move(slot, from, to, between) {
    await to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", from.id);
    await from.call("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id);
    await between?.();
    for (;;) {
      const keys = (await from.call("CLUSTER", "GETKEYSINSLOT", slot, 10)).split("\n").filter(Boolean);
      if (keys.length === 0) {
        break;
      }
      await from.call("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", ...keys);
    }
    for (const node of [to, from, ...this.masters]) {
      await node.call("CLUSTER", "SETSLOT", slot, "NODE", to.id);
    }
  }

  get url() {
    return `redis+cluster://${this.nodes.map((node) => `127.0.0.1:${node.port}`).join(",")}`;
  }
}

export async function setup(t, { args, url, settings, redis } = {}) {
  redis ??= await Redis.start(t, args);
  const app = await start(t, { route: ROUTES, settings: {
    "redis.main.url": url ? url(redis) : redis.url, ...settings,
  } });
  const run = async (lua) => {
    const answer = await app.post("/run", `local r, task, redis, json = ...\n${lua}`, { timeout_ms: 60_000 });
    assert.equal(answer.status, 200, `${lua}: ${answer.text ?? answer.body}\n${app.printed?.()}`);
    return answer.json;
  };
  return { redis, app, run };
}

/** A master with replicas, and sentinels that watch them. */
export class Sentinels {
  static async start(t, { replicas = 1, sentinels = 3, down_ms = 1000 } = {}) {
    const all = new Sentinels();
    const common = ["--repl-ping-replica-period", "1", "--repl-diskless-sync-delay", "0"];
    all.master = await Redis.start(t, common);
    all.replicas = [];
    for (let i = 0; i < replicas; i += 1) {
      all.replicas.push(await Redis.start(t, [...common, "--replicaof", "127.0.0.1", String(all.master.port)]));
    }
    all.servers = [all.master, ...all.replicas];
    for (const replica of all.replicas) {
      await until(async () => /master_link_status:up/.test(await replica.call("INFO", "replication")),
        { what: "a replica", timeout_ms: 40_000 });
    }
    all.sentinels = [];
    for (let i = 0; i < sentinels; i += 1) {
      const sentinel = new Redis();
      sentinel.dir = mkdtempSync(path.join(os.tmpdir(), "perigee-redis-"));
      sentinel.port = await free_port();
      sentinel.file = path.join(sentinel.dir, "sentinel.conf");
      writeFileSync(sentinel.file, [
        `port ${sentinel.port}`, "bind 127.0.0.1", `dir ${sentinel.dir}`,
        `sentinel monitor main 127.0.0.1 ${all.master.port} ${Math.floor(sentinels / 2) + 1}`,
        `sentinel down-after-milliseconds main ${down_ms}`, "sentinel failover-timeout main 5000",
      ].map((line) => `${line}\n`).join(""));
      t.after(async () => {
        await sentinel.kill();
        rmSync(sentinel.dir, { recursive: true, force: true, maxRetries: 5 });
      });
      await sentinel.launch();
      all.sentinels.push(sentinel);
    }
    await all.ready();
    return all;
  }

  async ready() {
    for (const sentinel of this.sentinels) {
      const sees = async () => {
        const info = await sentinel.call("INFO", "sentinel");
        const [, slaves, sentinels] = /status=ok.*slaves=(\d+),sentinels=(\d+)/.exec(info) ?? [];
        return Number(slaves) === this.replicas.length && Number(sentinels) === this.sentinels.length;
      };
      await until(sees, { what: "the sentinels' knowing each other", timeout_ms: 40_000 });
    }
  }

  get url() {
    return `redis+sentinel://${this.sentinels.map((s) => `127.0.0.1:${s.port}`).join(",")}/main`;
  }
}
