// A redis-server of the test's own.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { free_port, until } from "./helpers.mjs";

/** Why tests with it have to be skipped, or false. */
export const missing = spawnSync("redis-server", ["--version"]).status !== 0
  ? "there is no redis-server" : false;

export class RedisServer {
  /** One that ends with the test t; args for the command line. */
  static async start(t, args = []) {
    const redis = new RedisServer();
    redis.dir = mkdtempSync(path.join(os.tmpdir(), "perigee-redis-"));
    redis.port = await free_port();
    redis.url = `redis://127.0.0.1:${redis.port}`;
    redis.args = args;
    t.after(async () => {
      await redis.kill();
      rmSync(redis.dir, { recursive: true, force: true });
    });
    await redis.launch();
    return redis;
  }

  async launch() {
    this.process = spawn("redis-server", ["--port", String(this.port), "--bind", "127.0.0.1",
      "--save", "", "--dir", this.dir, ...this.args], { stdio: "ignore" });
    this.ended = new Promise((resolve) => this.process.on("exit", resolve));
    await until(() => this.ask("PING").catch(() => null), { what: "redis-server", timeout_ms: 20_000 });
  }

  /** Sends a command as one line; its reply as text. */
  ask(line) {
    return new Promise((resolve, reject) => {
      const socket = net.connect(this.port, "127.0.0.1");
      socket.on("error", reject);
      socket.on("close", () => reject(new Error("the server closed the connection")));
      socket.on("data", (data) => {
        resolve(data.toString("latin1"));
        socket.destroy();
      });
      socket.write(`${line}\r\n`);
    });
  }

  signal(name) {
    this.process.kill(name);
  }

  async kill() {
    if (this.process && this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill("SIGCONT");
      this.process.kill("SIGKILL");
    }
    await this.ended;
  }
}
