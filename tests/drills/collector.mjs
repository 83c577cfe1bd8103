#!/usr/bin/env node
// A collector of traces that is down, slow, busy, stopped or says nonsense, while
// every request is traced: no request notices, memory stays bounded, and each
// span is counted as exported, dropped or failed.
import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import { ROOT } from "../tools/proc.mjs";
import { host, pss, report, sleep, status } from "./drill.mjs";
import { load } from "./load.mjs";

const SECONDS = 5;
const QUEUE = 2048;

// What it does with a connection.
const WAYS = {
  "takes all": null, // for comparison
  "is down": null,
  "never answers": (socket) => socket.resume(),
  "drips its answer": (socket) => {
    const timer = setInterval(() => socket.write("H"), 100);
    socket.resume().on("close", () => clearInterval(timer));
  },
  "answers 429, Retry-After: 1": (socket) => socket.on("data", () => socket.write("HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")),
  "answers 400": (socket) => socket.on("data", () => socket.write("HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno")),
  "answers garbage": (socket) => socket.on("data", () => socket.write(Buffer.from(Array.from({ length: 300 }, (_, i) => (i * 7) & 255)))),
  "answers without end": (socket) => socket.on("data", () => socket.write(`HTTP/1.1 200 OK\r\n\r\n${"x".repeat(100_000)}`)),
  "resets": (socket) => socket.on("data", () => socket.resetAndDestroy()),
  "is stopped (SIGSTOP)": null,
};

async function listener(way) {
  const sockets = new Set();
  const server = net.createServer((socket) => {
    sockets.add(socket.on("error", () => {}));
    way(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: server.address().port,
    close: () => {
      sockets.forEach((socket) => socket.destroy());
      server.close();
    },
  };
}

// A process that takes all, stopped after a moment if so wished.
async function taker(stops) {
  const child = spawn(process.execPath, [path.join(ROOT, "tests/bench/collector.mjs")], { stdio: ["ignore", "pipe", "inherit"] });
  const [text] = await once(child.stdout, "data");
  const timer = stops ? setTimeout(() => child.kill("SIGSTOP"), 1000) : null;
  return {
    port: Number(text),
    close: () => {
      clearTimeout(timer);
      child.kill("SIGKILL");
    },
  };
}

async function open(name) {
  if (name === "takes all" || name.startsWith("is stopped")) {
    return taker(name !== "takes all");
  }
  const it = await listener(WAYS[name] ?? (() => {}));
  if (name === "is down") {
    it.close();
  }
  return it;
}

async function counted(app) {
  const admin = (await app.line((l) => l.msg === "listening" && l.admin)).url;
  const text = await (await fetch(`${admin}/metrics`)).text();
  const all = { exported: 0, dropped: 0, failed: 0 };
  for (const [, result, count] of text.matchAll(/^perigee_trace_spans_total\{result="(\w+)"\} (\d+)/gm)) {
    all[result] = Number(count);
  }
  return all;
}

const figures = {};
const checks = {};
const hold = (what, holds) => { checks[what] = (checks[what] ?? true) && holds; };

for (const name of Object.keys(WAYS)) {
  const to = await open(name);
  const app = await host({ "scripts/routes/a.lua": `return function(router) router:get("/", function() return "serving" end) end` },
    { workers: 1, settings: { "trace.endpoint": `http://127.0.0.1:${to.port}/v1/traces`, "trace.timeout": "1s", "trace.queue_max": QUEUE, "log.level": "info" } });
  const pid = (await status(app)).workers[0].pid;
  const warm = load(app.port, { connections: 8 });
  await sleep(500);
  const warmed = await warm.stop();
  const before_kb = pss(pid);
  const took = [];
  const work = load(app.port, { connections: 8, seen: (ms) => took.push(ms) });
  await sleep(SECONDS * 1000);
  const counts = await work.stop();
  const after_kb = pss(pid);
  const spans = await counted(app);
  const answered = warmed.answered + counts.answered;
  const began = performance.now();
  const how = await app.end();
  took.sort((a, b) => a - b);
  const p99 = took[Math.floor(took.length * 0.99)];
  const missing = answered - spans.exported - spans.dropped - spans.failed;
  figures[name] = `${counts.answered} answers, 99 % in ${p99.toFixed(1)} ms; +${after_kb - before_kb} KB; `
    + `exported ${spans.exported}, dropped ${spans.dropped}, failed ${spans.failed}, waiting ${missing}; stop ${(performance.now() - began).toFixed(0)} ms`;
  to.close();
  hold("no request is lost or wrong", counts.lost + counts.wrong + counts.refused === 0);
  hold("99 % within 20 ms", p99 <= 20);
  hold("no process grew by more than 8 MB", after_kb - before_kb < 8192);
  hold("each span is counted, or waits in the queue", missing >= 0 && missing <= QUEUE);
  hold("the host says that traces are lost, once", app.lines.filter((l) => l.msg === "traces cannot be exported").length <= 1);
  hold("graceful end within 4 s", how.code === 0 && performance.now() - began < 4000);
}
report("collectors of traces that misbehave: every request traced, 8 connections", figures, checks);
