#!/usr/bin/env node
// How much CPU a request costs, beside nginx with Lua in the same run.
//
//   bench.mjs [--cases "json@64 ..."] [--rounds 5] [--secs 4] [--peer NAME=COMMAND] [--contend]
//             [--no-idle] [--no-start] [--no-client] [--no-micro] [--no-logs] [--no-queue]
//             [--json FILE] [--quick]
//
// A case is ROUTE@CONNECTIONS; pipeline is /plaintext with 16 requests a write,
// cache a GET from a redis-server on CPU 1, whose CPU is measured too, local a get
// and an incr in memory that workers share.
// TLS: tls-ROUTE over TLS 1.3 (whose default cipher both take), handshake with a
// connection and a full handshake for each request (Connection: close, no
// tickets); --tls-key 2048 for RSA instead of P-256.
// traces: /json without traces, with one in a hundred, with all exported to a
// collector's stand-in on CPU 1. metrics: /json without metrics and with all of
// them. workers: /plaintext from one worker and from two, which share CPU 0.
// All servers of a run are up together, one worker each, pinned to CPU 0; only
// the one measured gets requests, from wrk on CPU 1. Rounds go A B A B, and a
// ratio is the median of the ratios of the rounds, so the machine's drift
// cancels out. On a fast server wrk is the limit: compare CPU per request. With
// --contend a busy loop takes half of CPU 0, so that the server is: compare req/s.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "../tools/proc.mjs";
import {
  CLIENT_CPU, SERVER_CPU, certificate, cpu, dial, free_port, nginx, other, perigee, probe, pss_kb, redis, sleep,
  tls_servers, tree,
} from "./servers.mjs";
import { median, table } from "./table.mjs";

const CASES = "plaintext@64 json@64 users@64 echo@64 plaintext@512 pipeline@64 cache@64 local@64 "
  + "tls-json@64 handshake@64 traces@64 metrics@64 workers@64";
const TARGETS = { pipeline: "/plaintext", users: "/users/42", handshake: "/json", traces: "/json", metrics: "/json",
  workers: "/plaintext" };
const BODY = '{"name":"lua"}';
const PIPELINED = 16;

const { values: options } = parseArgs({
  options: {
    cases: { type: "string", default: CASES },
    rounds: { type: "string", default: "5" },
    secs: { type: "string", default: "4" },
    peer: { type: "string", multiple: true, default: [] },
    contend: { type: "boolean", default: false },
    json: { type: "string" },
    "tls-key": { type: "string", default: "ec" },
    conns: { type: "string", default: "5000" },
    "no-idle": { type: "boolean", default: false },
    "no-start": { type: "boolean", default: false },
    "no-client": { type: "boolean", default: false },
    "no-micro": { type: "boolean", default: false },
    "no-logs": { type: "boolean", default: false },
    "no-queue": { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
  },
});

// --- load --------------------------------------------------------------------------

function wrk({ port, secure }, name, connections, secs) {
  const route = name.replace(/^tls-/, "");
  const target = TARGETS[route] ?? `/${route}`;
  const how = { echo: ["post", BODY], pipeline: ["pipeline", String(PIPELINED)] }[route] ?? ["get"];
  const argv = [
    "-c", CLIENT_CPU, "wrk", "-t1", `-c${connections}`, `-d${secs}s`, "--timeout", "5s", "--latency",
    ...(route === "handshake" ? ["-H", "Connection: close"] : []),
    "-s", path.join(ROOT, "tests/bench/report.lua"), `${secure ? "https" : "http"}://127.0.0.1:${port}${target}`, "--", ...how,
  ];
  return new Promise((resolve, reject) => {
    const child = spawn("taskset", argv, { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => (text += chunk));
    child.on("close", () => {
      const found = /^REPORT (.*)$/m.exec(text);
      if (!found) {
        reject(new Error(`wrk: ${text}`));
        return;
      }
      const [requests, duration_us, errors, p50_us, p99_us] = found[1].split(" ").map(Number);
      resolve({ requests, rps: requests / (duration_us / 1e6), errors, p50_us, p99_us });
    });
  });
}

const stores = (name) => name.startsWith("cache@") || name === "cache";

async function round(server, route, connections, secs, store) {
  const its = () => (store ? cpu([store.pid]).all : 0);
  const store_before = its();
  const before = cpu(server.pids);
  const report = await wrk(server, route, connections, secs);
  const after = cpu(server.pids);
  return {
    ...report,
    store_us: ((its() - store_before) * 1e6) / report.requests,
    cpu_us: ((after.all - before.all) * 1e6) / report.requests,
    user_us: ((after.user - before.user) * 1e6) / report.requests,
  };
}

async function measure(servers, name, rounds, secs, store) {
  const [route, connections = "64"] = name.split("@");
  const kept = new Map(servers.map((server) => [server.name, []]));
  for (const server of servers) {
    await wrk(server, route, connections, 1); // the JIT's first second
  }
  for (let i = 0; i < rounds; i++) {
    for (const server of servers) {
      kept.get(server.name).push(await round(server, route, connections, secs, store));
    }
  }
  return kept;
}

function ratio(ours, theirs, key) {
  return theirs ? median(ours.map((r, i) => r[key] / theirs[i][key])).toFixed(2) : "-";
}

function print_case(name, kept, baseline) {
  const rows = [...kept].map(([server, rounds]) => {
    const mid = (key) => median(rounds.map((r) => r[key]));
    const errors = rounds.reduce((sum, r) => sum + r.errors, 0);
    const base = kept.get(baseline);
    return [
      server + (errors > 0 ? ` (${errors} ERRORS)` : ""),
      mid("cpu_us").toFixed(2), ratio(rounds, base, "cpu_us"),
      mid("user_us").toFixed(2), ratio(rounds, base, "user_us"),
      Math.round(mid("rps")).toLocaleString("en"), ratio(rounds, base, "rps"),
      (mid("p50_us") / 1000).toFixed(2), (mid("p99_us") / 1000).toFixed(2),
      ...(stores(name) ? [mid("store_us").toFixed(2), ratio(rounds, base, "store_us")] : []),
    ];
  });
  console.log(`\n### ${name}\n`);
  table(["", "CPU µs/req", "ratio", "of it user", "ratio", "req/s", "ratio", "p50 ms", "p99 ms",
    ...(stores(name) ? ["redis µs/req", "ratio"] : [])], rows);
}

// --- memory ----------------------------------------------------------------

function open_connection({ port, secure }) {
  return new Promise((resolve, reject) => {
    const socket = dial(port, secure);
    socket.on("error", reject);
    socket.on(secure ? "secureConnect" : "connect", () => socket.write("GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
    socket.once("data", () => resolve(socket));
  });
}

async function idle(server, count) {
  for (let i = 0; i < 200; i++) {
    await probe(server.port, "/plaintext", server.secure);
  }
  const memory = () => tree(server.process.pid).reduce((sum, pid) => sum + pss_kb(pid), 0);
  const before = memory();
  const sockets = [];
  for (let i = 0; i < count; i++) {
    sockets.push(await open_connection(server));
  }
  await sleep(500);
  const after = memory();
  sockets.forEach((socket) => socket.destroy());
  await sleep(500);
  return { kb: (after - before) / count, before, after };
}

async function print_idle(servers, count, what = "idle keep-alive connections") {
  const rows = [];
  for (const server of servers) {
    const { kb, before, after } = await idle(server, count);
    rows.push([server.name, kb.toFixed(2), (before / 1024).toFixed(1), (after / 1024).toFixed(1)]);
  }
  console.log(`\n### ${count} ${what}\n`);
  table(["", "KB each", "PSS MB before", "with them"], rows);
}

/** Programs of their own: what is not a request. */
function run_other(name, quick, more = []) {
  const argv = [path.join(ROOT, "tests/bench", name), ...(quick ? ["--quick"] : []), ...more];
  const child = spawn(process.execPath, argv, { stdio: "inherit" });
  return new Promise((resolve) => child.on("close", resolve));
}

const print_start = (quick) => run_other("start.mjs", quick, options.peer.flatMap((spec) => ["--peer", spec]));
const print_client = (quick) => run_other("client.mjs", quick);
const print_micro = (quick) => run_other("micro.mjs", quick);
const print_logs = (quick) => run_other("logs.mjs", quick);

// --- all -------------------------------------------------------------------------------

/** Servers of one kind in one run; each() after each case, last() before their end. */
async function measure_beside(servers, names, rounds, secs, everything, { base = servers[0].name, each, last } = {}) {
  try {
    for (const server of servers) {
      await server.start();
    }
    for (const name of names) {
      const kept = await measure(servers, name, rounds, secs, null);
      everything[name] = Object.fromEntries(kept);
      print_case(name, kept, base);
      await each?.();
    }
    await last?.();
  } finally {
    await Promise.all(servers.map((server) => server.process && server.stop()));
  }
}

/** A second run of servers: the plain ones have ended. */
async function measure_tls(names, rounds, secs, everything) {
  const makers = tls_servers(certificate(options["tls-key"])).filter((make) => make() !== null);
  const servers = makers.map((make) => make());
  await measure_beside(servers, names, rounds, secs, everything, { base: servers.length > 1 ? "nginx+Lua" : servers[0].name,
    last: async () => {
      if (!options["no-idle"]) {
        await print_idle(servers, options.quick ? 200 : 1000, "idle TLS connections");
      }
    } });
}

/** The same server three times; all but the first traces. */
async function measure_traces(names, rounds, secs, everything) {
  const collector = spawn("taskset", ["-c", CLIENT_CPU, process.execPath, path.join(ROOT, "tests/bench/collector.mjs")],
    { stdio: ["ignore", "pipe", "inherit"] });
  const [port] = await once(collector.stdout, "data");
  const settings = { "trace.endpoint": `http://127.0.0.1:${String(port).trim()}/v1/traces`, "trace.queue_max": 20000 };
  const admin = await free_port();
  const servers = [
    perigee("without traces", { copies: true }),
    perigee("1 % traced", { copies: true, settings: { ...settings, "trace.sampler": "traceidratio", "trace.ratio": 0.01 } }),
    perigee("100 % traced", { copies: true, settings: { ...settings, "admin.port": admin } }),
  ];
  try {
    await measure_beside(servers, names, rounds, secs, everything, { each: async () => {
      const text = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
      const spans = Object.fromEntries([...text.matchAll(/^perigee_trace_spans_total\{result="(\w+)"\} (\d+)/gm)].map((m) => m.slice(1)));
      console.log(`\nspans exported ${spans.exported}, dropped ${spans.dropped ?? 0}, failed ${spans.failed ?? 0}`);
    } });
  } finally {
    collector.kill();
  }
}

async function measure_metrics(names, rounds, secs, everything) {
  const servers = [false, true].map((enabled) =>
    perigee(`${enabled ? "with" : "without"} metrics`, { copies: true, settings: { "metrics.enabled": enabled } }));
  await measure_beside(servers, names, rounds, secs, everything);
}

async function measure_workers(names, rounds, secs, everything) {
  const servers = [1, 2].map((workers) =>
    perigee(workers === 1 ? "one worker" : "two workers", { workers, copies: true }));
  await measure_beside(servers, names, rounds, secs, everything);
}

// Cases with servers of their own.
const APART = [
  [(name) => /^(tls-|handshake\b)/.test(name), measure_tls],
  [(name) => /^traces\b/.test(name), measure_traces],
  [(name) => /^metrics\b/.test(name), measure_metrics],
  [(name) => /^workers\b/.test(name), measure_workers],
];

/** A busy loop on the servers' CPU, or null. */
function contender() {
  if (!options.contend) {
    return null;
  }
  console.log("a busy loop takes half of the servers' CPU");
  const child = spawn("taskset", ["-c", SERVER_CPU, process.execPath, "-e", "for (;;);"], { stdio: "ignore" });
  process.on("exit", () => child.kill("SIGKILL"));
  return child;
}

async function main() {
  const quick = options.quick;
  const rounds = quick ? 2 : Number(options.rounds);
  const secs = quick ? 1 : Number(options.secs);
  const makers = [() => perigee(), nginx, ...options.peer.map((spec) => () => other(spec))]
    .filter((make) => make() !== null);
  const servers = makers.map((make) => make());
  const baseline = servers.some((s) => s.name === "nginx+Lua") ? "nginx+Lua" : servers[0].name;
  const everything = {};
  if (baseline !== "nginx+Lua") {
    console.log("nginx with Lua is not installed (Debian: nginx libnginx-mod-http-lua lua-cjson): no ratios to it");
  }
  if (CLIENT_CPU === SERVER_CPU) {
    console.log("one CPU alone: server and load take it from each other");
  }
  const all_cases = options.cases.trim().split(/[ ,]+/);
  let cases = all_cases.filter((name) => !APART.some(([is_one]) => is_one(name)));
  const store = cases.some(stores) ? await redis() : null;
  if (store === null && cases.some(stores)) {
    console.log("redis-server is not installed: no cache case");
    cases = cases.filter((name) => !stores(name));
  }
  const hog = contender();
  try {
    for (const server of cases.length > 0 ? servers : []) {
      await server.start();
    }
    for (const name of cases) {
      const serving = [];
      for (const server of servers) {
        if (!stores(name) || (await probe(server.port, "/cache")) === 200) {
          serving.push(server);
        } else {
          console.log(`${server.name} does not serve /cache`);
        }
      }
      const kept = await measure(serving, name, rounds, secs, stores(name) ? store : null);
      everything[name] = Object.fromEntries(kept);
      print_case(name, kept, baseline);
    }
    if (!options["no-idle"] && cases.length > 0) {
      await print_idle(servers, quick ? 500 : Number(options.conns));
    }
  } finally {
    await Promise.all(servers.map((server) => server.process && server.stop()));
    store?.kill("SIGKILL");
    hog?.kill("SIGKILL");
  }
  for (const [is_one, measure_them] of APART) {
    const some = all_cases.filter(is_one);
    if (some.length > 0) {
      await measure_them(some, rounds, secs, everything);
    }
  }
  if (!options["no-start"]) {
    await print_start(quick);
  }
  if (!options["no-micro"]) {
    await print_micro(quick);
  }
  if (!options["no-logs"]) {
    await print_logs(quick);
  }
  if (!options["no-client"]) {
    await print_client(quick);
  }
  if (!options["no-queue"]) {
    await run_queue(quick);
  }
  if (options.json) {
    writeFileSync(options.json, JSON.stringify(everything, null, 1));
  }
}

// queue.mjs, in a process of its own: bullmq's CPU is that process's.
async function run_queue(quick) {
  if (!existsSync(path.join(ROOT, "tests/node_modules/bullmq-6")) || spawnSync("redis-server", ["--version"]).status !== 0) {
    console.log("redis-server or bullmq is not installed (./bootstrap test installs it): no queues");
    return;
  }
  const argv = [path.join(ROOT, "tests/bench/queue.mjs"), ...(quick ? ["--rounds", "1", "--jobs", "5000"] : [])];
  await once(spawn(process.execPath, argv, { stdio: "inherit" }), "close");
}

await main();
