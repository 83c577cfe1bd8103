// Redis servers for tests, and a host that runs Lua with a client.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { start, until } from "./helpers.mjs";

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

export async function free_port() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.on("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

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
    this.process = spawn("redis-server", ["--port", String(this.port), "--bind", "127.0.0.1",
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
}

export async function setup(t, { args, url, settings, redis } = {}) {
  redis ??= await Redis.start(t, args);
  const app = await start(t, { route: ROUTES, settings: {
    "redis.main.url": url ? url(redis) : redis.url, ...settings,
  } });
  const run = async (lua) => {
    const answer = await app.post("/run", `local r, task, redis, json = ...\n${lua}`);
    assert.equal(answer.status, 200, `${lua}: ${answer.text ?? answer.body}\n${app.printed?.()}`);
    return answer.json;
  };
  return { redis, app, run };
}
