#!/usr/bin/env node
// What logging costs: lines with three fields to a file, beside pino in all three
// of its ways; a level that is off; and the line of each request.
//
//   logs.mjs [--rounds 5] [--lines 300000] [--secs 3] [--parts "off lines requests"] [--quick]
//
// Loggers run on one CPU, their writing threads too, in turns; counted are lines
// a second of that CPU, until the last is in the file, and of both none may be
// missing. pino comes with the tests' packages (./bootstrap test installs them).
// The line of a request is the difference of two servers, in turns: json@64.
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "../tools/proc.mjs";
import { CLIENT_CPU, SERVER_CPU, Server, cpu, sleep } from "./servers.mjs";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    lines: { type: "string", default: "300000" },
    secs: { type: "string", default: "3" },
    parts: { type: "string", default: "off lines requests" },
    quick: { type: "boolean", default: false },
  },
});
const ROUNDS = options.quick ? 2 : Number(options.rounds);
const LINES = options.quick ? 100_000 : Number(options.lines);
const SECS = options.quick ? 1 : Number(options.secs);
const PROGRAM = path.join(ROOT, "build/release/perigee");

const folder = mkdtempSync(path.join(os.tmpdir(), "perigee-bench-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

// --- lines to a file -------------------------------------------------------------

const PINO = `
  const fs = require("node:fs");
  const [, module, file, how, count] = process.argv;
  const pino = require(module);
  (async () => {
    const out = how === "transport"
      ? pino.transport({ target: "pino/file", options: { destination: file } })
      : pino.destination({ dest: file, sync: how === "sync", minLength: how === "async" ? 4096 : 0 });
    if (how === "transport") await new Promise((resolve) => out.once("ready", resolve));
    const log = pino(out);
    const line = (i) => log.info({ url: "/users/42", status: 200, ms: 1.25 + i }, "request completed");
    const hold = setInterval(() => {}, 1000);
    for (let i = 0; i < 20000; i++) {
      line(i);
      if (how !== "sync" && i % 50 === 49) await new Promise(setImmediate);
    }
    const before = process.cpuUsage();
    for (let i = 0; i < count; i++) {
      line(i);
      if (how !== "sync" && i % 50 === 49) await new Promise(setImmediate);
    }
    await new Promise((resolve) => { out.once(how === "transport" ? "close" : "finish", resolve); out.end(); });
    const { user, system } = process.cpuUsage(before);
    const lines = fs.readFileSync(file, "latin1").split("\\n").length - 1 - 20000;
    console.log(lines, (user + system) / 1e6);
    clearInterval(hold);
  })();`;

function output(argv) {
  return new Promise((resolve) => {
    const child = spawn("taskset", ["-c", SERVER_CPU, ...argv], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => (text += chunk));
    child.on("close", () => resolve(text));
  });
}

function find_pino() {
  try {
    return createRequire(path.join(ROOT, "tests/package.json")).resolve("pino");
  } catch {
    return null;
  }
}

async function pino_rate(module, how) {
  const file = path.join(folder, `pino-${how}.log`);
  rmSync(file, { force: true });
  const [lines, seconds] = (await output([process.execPath, "-e", PINO, module, file, how, String(LINES)])).split(" ").map(Number);
  return { rate: LINES / seconds, missing: LINES - lines };
}

const ROUTE = `
local log = require "perigee.log"
local task = require "perigee.task"
return function(router)
  router:get("/plaintext", function() return "ok" end)
  router:get("/log", function(req)
    for i = 1, tonumber(req.query.n) do
      log.info("request completed", { url = "/users/42", status = 200, ms = 1.25 + i })
      if i % 50 == 0 then
        task.sleep(0)
      end
    end
    return "ok"
  end)
end`;

const OFF = `
local log = require "perigee.log"
local debug_off, child = log.debug, log.child { a = 1 }
local function bench(name, count, fn)
  fn(count / 10)
  local best = math.huge
  for _ = 1, 5 do
    local begun = os.clock()
    fn(count)
    best = math.min(best, os.clock() - begun)
  end
  print(("%s\\t%.2f"):format(name, best / count * 1e9))
end
bench("log.debug, off", 1e7, function(n) for _ = 1, n do log.debug "detail" end end)
bench("child.debug, off", 1e7, function(n) for _ = 1, n do child.debug "detail" end end)
require("jit").off()
require("jit").flush()
bench("log.debug, off, not compiled", 3e6, function(n) for _ = 1, n do debug_off "detail" end end)`;

function host(name, dir, settings) {
  return new Server(name, (port) => [PROGRAM, "run", dir, "-e", "production", "-p", String(port), "-w", "1", "--set", "admin.port=0",
    ...Object.entries(settings).flatMap(([key, value]) => ["--set", `${key}=${value}`])]);
}

function truncate(file) {
  if (existsSync(file)) {
    truncateSync(file);
  }
}

function ask(port, target) {
  return new Promise((resolve, reject) => {
    http.get({ host: "127.0.0.1", port, path: target, agent: false }, (res) => {
      res.resume().on("end", () => resolve(res.statusCode));
    }).on("error", reject);
  });
}

function count_lines(file) {
  return existsSync(file) ? readFileSync(file, "latin1").split('"msg":"request completed"').length - 1 : 0;
}

/** How many there are once no more come. */
async function settled(file) {
  for (let lines = -1; ; ) {
    const now = count_lines(file);
    if (now === lines) {
      return now;
    }
    lines = now;
    await sleep(100);
  }
}

async function our_rate(server, file) {
  const had = await settled(file);
  const before = cpu(server.pids).all;
  await ask(server.port, `/log?n=${LINES}`);
  const missing = had + LINES - (await settled(file));
  return { rate: LINES / (cpu(server.pids).all - before), missing };
}

async function print_lines() {
  const module = find_pino();
  const file = path.join(folder, "var/app.log");
  const server = await host("perigee", folder, { "log.destination": "var/app.log", "log.requests": false }).start();
  const found = new Map();
  const note = (name, { rate, missing }) => {
    const kept = found.get(name) ?? { rates: [], missing: 0 };
    kept.rates.push(rate);
    kept.missing += missing;
    found.set(name, kept);
  };
  try {
    await ask(server.port, "/log?n=20000");
    for (let i = 0; i < ROUNDS; i++) {
      note("perigee", await our_rate(server, file));
      for (const how of module ? ["sync", "async", "transport"] : []) {
        note(`pino, ${how}`, await pino_rate(module, how));
      }
    }
  } finally {
    await server.stop();
  }
  const best = Math.max(...[...found].filter(([name]) => name !== "perigee").map(([, kept]) => median(kept.rates)));
  console.log("\n### Lines with three fields to a file\n");
  console.log("| logger | lines a second of CPU | of pino's best | must be | missing |");
  console.log("|---|--:|--:|--:|--:|");
  for (const [name, { rates, missing }] of found) {
    const rate = median(rates);
    console.log(`| ${[name, Math.round(rate).toLocaleString("en"), module ? (rate / best).toFixed(2) : "-", name === "perigee" ? "≥ 2" : "", missing].join(" | ")} |`);
  }
}

async function print_off() {
  console.log("\n### A level that is off\n\n| call | ns | must be |\n|---|--:|--:|");
  for (const line of (await output([PROGRAM, "exec", OFF])).trim().split("\n")) {
    const [name, ns] = line.split("\t");
    console.log(`| ${name} | ${ns} | ≤ 20 |`);
  }
}

// --- the line of a request ------------------------------------------------------------

function load(port, secs) {
  return new Promise((resolve, reject) => {
    const child = spawn("taskset", ["-c", CLIENT_CPU, "wrk", "-t1", "-c64", `-d${secs}s`, `http://127.0.0.1:${port}/json`],
      { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => (text += chunk));
    child.on("close", () => {
      const requests = /(\d+) requests in/.exec(text);
      return requests ? resolve(Number(requests[1])) : reject(new Error(text));
    });
  });
}

async function cost(server) {
  const before = cpu(server.pids).all;
  const requests = await load(server.port, SECS);
  return ((cpu(server.pids).all - before) * 1e6) / requests;
}

async function print_requests() {
  const ways = {
    off: { "log.requests": false },
    json: { "log.destination": "var/requests.log", "log.level": "info" },
    combined: { "log.access.format": "combined", "log.access.destination": "var/requests.log" },
  };
  const dir = (name) => path.join(folder, name); // one host a directory
  const servers = Object.entries(ways).map(([name, settings]) => {
    cpSync(path.join(ROOT, "tests/bench/app"), dir(name), { recursive: true, filter: (file) => path.basename(file) !== "var" });
    return host(name, dir(name), settings);
  });
  const kept = new Map(servers.map((server) => [server.name, []]));
  try {
    for (const server of servers) {
      await server.start();
      await load(server.port, 1);
    }
    for (let i = 0; i < ROUNDS; i++) {
      for (const server of servers) {
        kept.get(server.name).push(await cost(server));
        truncate(path.join(dir(server.name), "var/requests.log")); // or the disk fills up
      }
    }
  } finally {
    await Promise.all(servers.map((server) => server.process && server.stop()));
  }
  console.log("\n### The line of a request, to a file (json@64)\n");
  console.log("| requests logged | CPU µs/req | more | in % | must be |\n|---|--:|--:|--:|--:|");
  const off = kept.get("off");
  for (const [name, costs] of kept) {
    const more = median(costs.map((us, i) => us - off[i]));
    const share = median(costs.map((us, i) => us / off[i] - 1)) * 100;
    console.log(`| ${[name, median(costs).toFixed(2), ...(name === "off" ? ["", "", ""] : [more.toFixed(2), share.toFixed(1), "≤ 0.8 µs, ≤ 8 %"])].join(" | ")} |`);
  }
}

mkdirSync(path.join(folder, "scripts/routes"), { recursive: true });
writeFileSync(path.join(folder, "scripts/routes/log.lua"), ROUTE);
for (const [part, print] of Object.entries({ off: print_off, lines: print_lines, requests: print_requests })) {
  if (options.parts.split(" ").includes(part)) {
    await print();
  }
}
