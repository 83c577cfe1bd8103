#!/usr/bin/env node
// Log destinations that fail under load: a disk that is full, a pipe whose reader
// is stopped, a socket whose other side hangs and goes. Requests are not to
// notice, memory is bounded, and what is lost is counted and told of.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { PROGRAM, perigee, until, write_files } from "../integration/helpers.mjs";
import { pss, report, sleep } from "./drill.mjs";
import { load } from "./load.mjs";

const ROUTE = `
  local log = require "perigee.log"
  local text = ("x"):rep(4000)
  return function(router)
    router:get("/", function()
      log.info("a line", { text = text })
      return "ok"
    end)
  end`;
const HURT_MS = 5000;
const WORKERS = 2;

// A host in its directory, started by a shell so that its output may be a pipe.
async function begin(destination, { prepare = () => {}, command = "exec \"$@\"", settings = {} } = {}) {
  const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-drill-"));
  write_files(dir, { "scripts/routes/a.lua": ROUTE });
  mkdirSync(path.join(dir, "var"));
  prepare(dir);
  const all = { "admin.port": 0, "log.requests": false, "log.destination": destination, ...settings };
  const argv = [PROGRAM, "run", dir, "-e", "production", "-p", "0", "-w", String(WORKERS),
    ...Object.entries(all).flatMap(([key, value]) => ["--set", `${key}=${value}`])];
  const child = spawn("sh", ["-c", command, "sh", ...argv], { cwd: dir, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const app = { dir, child, said: "" };
  child.stdout.resume();
  child.stderr.on("data", (chunk) => (app.said += chunk));
  app.status = async () => {
    const { code, stdout } = await perigee(["status", dir, "--json"]);
    return code === 0 ? JSON.parse(stdout) : null;
  };
  const status = await until(async () => {
    const now = await app.status();
    return now?.state === "running" && now;
  }, { timeout_ms: 20_000, what: "the host" });
  Object.assign(app, { pid: status.pid, port: status.http[0].port, workers: status.workers.map((w) => w.pid) });
  app.lost = async () => {
    const text = await fetch(`http://127.0.0.1:${status.admin.port}/metrics`).then((r) => r.text());
    return Number(/^perigee_log_lines_lost_total (\d+)$/m.exec(text)[1]);
  };
  app.memory_kb = () => app.workers.reduce((sum, pid) => sum + pss(pid), 0);
  app.end = async () => {
    const { code } = await perigee(["stop", dir]);
    rmSync(dir, { recursive: true, force: true });
    return code;
  };
  return app;
}

// Load while something is wrong: what the clients saw of it, and the memory after.
async function hurt(app, first = 0) {
  const times = [];
  const clients = load(app.port, { connections: 8, seen: (ms) => times.push(ms) });
  await sleep(HURT_MS);
  const counts = await clients.stop();
  times.sort((a, b) => a - b);
  return { ...counts, sent: first + counts.answered, p99: times[Math.floor(times.length * 0.99)], memory_kb: app.memory_kb() };
}

const count = (text, msg) => text.split(`"msg":"${msg}"`).length - 1;
const read = (file) => (existsSync(file) ? readFileSync(file, "utf8") : "");

const said = (app) => app.said.split("perigee: log destination").length - 1;

// The first requests, with all well.
async function warm(app) {
  const clients = load(app.port, { connections: 8 });
  await sleep(1000);
  return { sent: (await clients.stop()).answered, memory_kb: app.memory_kb() };
}

function tell(title, before, during, figures, checks) {
  report(title, {
    "requests answered": during.answered,
    "99th percentile (ms)": during.p99.toFixed(1),
    "slowest (ms)": during.slowest_ms.toFixed(1),
    "workers' memory before, after (MB)": `${(before.memory_kb / 1024).toFixed(1)}, ${(during.memory_kb / 1024).toFixed(1)}`,
    ...figures,
  }, {
    "no request was lost or wrong": during.lost + during.wrong + during.refused === 0,
    "99 of 100 requests take 20 ms at most": during.p99 <= 20,
    "a worker's memory grows by its ring at most": during.memory_kb - before.memory_kb < WORKERS * 3 * 1024,
    "lost lines are counted": figures["lines lost, as counted"] > 0,
    ...checks,
  });
}

// ---- a disk that is full -----------------------------------------------------------

// A file system of 2 MB; where we may not have one, a limit of the file's size.
const mounts = (() => {
  const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-drill-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", dir], { stdio: "ignore" });
    execFileSync("umount", [dir]);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(dir, { recursive: true });
  }
})();

async function full_disk() {
  let disk;
  const app = await begin("var/disk/app.log", {
    prepare: (dir) => {
      disk = path.join(dir, "var/disk");
      mkdirSync(disk);
      if (mounts) {
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]);
      }
    },
    command: mounts ? 'exec "$@"' : 'ulimit -f 4096; exec "$@"',
  });
  const file = path.join(disk, "app.log");
  try {
    const before = await warm(app);
    const during = await hurt(app, before.sent);
    const first = read(file);
    truncateSync(file); // somebody makes room
    const told = await until(() => count(read(file), "log lines lost") === WORKERS, { what: "the word of it" }).catch(() => false);
    const lost = await app.lost();
    const all = await until(() => count(first + read(file), "a line") + lost === during.sent, { what: "the last line" }).catch(() => false);
    const written = count(first + read(file), "a line");
    tell(`a log disk is full (${mounts ? "a file system of 2 MB" : "a limit of the file's size"})`, before, during, {
      "lines logged": during.sent, "lines written": written, "lines lost, as counted": lost,
    }, {
      "they are told of when there is room": told,
      "every line was written or counted": all,
      "the trouble is said on standard error, once by each": said(app) === WORKERS,
    });
  } finally {
    if (mounts) {
      spawn("umount", ["-l", disk]);
    }
    await app.end();
  }
}

// ---- a pipe whose reader is stopped -----------------------------------------------------

function reader_of(app) {
  const all = readFileSync(`/proc/${app.child.pid}/task/${app.child.pid}/children`, "utf8").trim().split(" ").map(Number);
  return all.find((pid) => readFileSync(`/proc/${pid}/comm`, "utf8") === "cat\n");
}

async function stopped_pipe() {
  const app = await begin("stdout", { command: '"$@" | cat > out.log' });
  const file = path.join(app.dir, "out.log");
  const before = await warm(app);
  const reader = reader_of(app);
  process.kill(reader, "SIGSTOP");
  const during = await hurt(app, before.sent);
  process.kill(reader, "SIGCONT");
  const told = await until(() => count(read(file), "log lines lost") === WORKERS, { what: "the word of it" }).catch(() => false);
  const lost = await app.lost();
  const all = await until(() => count(read(file), "a line") + lost === during.sent, { what: "the last line" }).catch(() => false);
  const written = count(read(file), "a line");
  const code = await app.end();
  tell("the reader of a log pipe is stopped", before, during, {
    "lines logged": during.sent, "lines written": written, "lines lost, as counted": lost,
  }, {
    "they are told of when it goes on": told,
    "every line was written or counted": all,
    "graceful end": code === 0,
  });
}

// ---- a socket whose other side hangs, then goes, then is back ----------------------------

async function lost_peer() {
  const app = await begin("unix:log.sock");
  const file = path.join(app.dir, "log.sock");
  const texts = []; // of each connection
  const peers = new Set();
  let hangs = false;
  const listen = async () => {
    const server = net.createServer((socket) => {
      const at = texts.push("") - 1;
      peers.add(socket);
      socket.setEncoding("utf8").on("data", (chunk) => (texts[at] += chunk)).on("error", () => {}).on("close", () => peers.delete(socket));
      if (hangs) {
        socket.pause();
      }
    });
    await new Promise((resolve) => server.listen(file, resolve));
    return server;
  };
  let server = await listen();
  const before = await warm(app);
  hangs = true;
  peers.forEach((peer) => peer.pause());
  const hung = await hurt(app, before.sent);
  const lost_hung = await app.lost();
  peers.forEach((peer) => peer.destroy());
  await new Promise((resolve) => server.close(resolve));
  const gone = await hurt(app, hung.sent);
  const lost_gone = await app.lost();
  hangs = false;
  const old = texts.length;
  server = await listen();
  const told = await until(() => count(texts.slice(old).join(""), "log lines lost") >= WORKERS, { what: "the word of it" }).catch(() => false);
  const lines = texts.slice(old).flatMap((text) => text.split("\n").slice(0, -1));
  const whole = lines.every((line) => { try { return JSON.parse(line); } catch { return false; } });
  const code = await app.end();
  server.close();
  tell("the other side of a log socket hangs", before, hung, { "lines lost, as counted": lost_hung }, {});
  tell("and is gone", before, gone, { "lines lost, as counted": lost_gone - lost_hung }, {
    "they are told of when it is back": told,
    "what comes then are whole lines": whole && lines.length > 0,
    "the trouble is said on standard error, once by each": said(app) <= WORKERS + 1,
    "graceful end": code === 0,
  });
}

await full_disk();
await stopped_pipe();
await lost_peer();
