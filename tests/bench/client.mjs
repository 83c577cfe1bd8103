#!/usr/bin/env node
// What a request to another server costs: GETs from a local nginx, 64 in flight,
// by perigee's HTTP client and by Node's undici, in turns.
//
//   client.mjs [--rounds 5] [--count 60000] [--flight 64] [--quick]
//
// Both run on CPU 0, nginx on CPU 1; counted is the client's own CPU time, from
// the first request to the last, after a warm-up. undici comes with the tests'
// packages (./bootstrap test installs them); without it there is no ratio.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "../tools/proc.mjs";
import { CLIENT_CPU, SERVER_CPU, free_port, probe, sleep } from "./servers.mjs";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    count: { type: "string", default: "60000" },
    flight: { type: "string", default: "64" },
    quick: { type: "boolean", default: false },
  },
});
const ROUNDS = options.quick ? 2 : Number(options.rounds);
const COUNT = options.quick ? 20000 : Number(options.count);
const FLIGHT = Number(options.flight);

const LUA = `
  local http = require "perigee.http"
  local task = require "perigee.task"
  local ffi = require "ffi"
  ffi.cdef "typedef struct { long s, ns; } bench_time; int clock_gettime(int, bench_time *);"
  local function seconds(id)
    local at = ffi.new "bench_time"
    ffi.C.clock_gettime(id, at)
    return tonumber(at.s) + tonumber(at.ns) / 1e9
  end
  local function run(count)
    local left = count
    local lanes = {}
    for i = 1, FLIGHT do
      lanes[i] = function()
        while left > 0 do
          left = left - 1
          local res = assert(http.get "URL")
          assert(res.status == 200 and #res.body == 13)
        end
        return true
      end
    end
    assert(task.all(lanes))
  end
  run(COUNT / 10)
  local cpu, wall = seconds(2), seconds(1)
  run(COUNT)
  print(("%.3f %.3f"):format((seconds(2) - cpu) * 1e6 / COUNT, COUNT / (seconds(1) - wall)))
`;

const NODE = `
  const { Agent, request } = require(process.argv[1]);
  const dispatcher = new Agent({ connections: FLIGHT });
  async function run(count) {
    let left = count;
    await Promise.all(Array.from({ length: FLIGHT }, async () => {
      while (left-- > 0) {
        const { statusCode, body } = await request("URL", { dispatcher });
        if (statusCode !== 200 || (await body.text()).length !== 13) throw new Error("wrong");
      }
    }));
  }
  (async () => {
    await run(COUNT / 10);
    const cpu = process.cpuUsage();
    const wall = process.hrtime.bigint();
    await run(COUNT);
    const used = process.cpuUsage(cpu);
    const seconds = Number(process.hrtime.bigint() - wall) / 1e9;
    console.log(((used.user + used.system) / COUNT).toFixed(3), (COUNT / seconds).toFixed(3));
    process.exit(0);
  })();
`;

function fill(text, url) {
  return text.replaceAll("FLIGHT", FLIGHT).replaceAll("COUNT", COUNT).replaceAll("URL", url);
}

function run(argv) {
  return new Promise((resolve, reject) => {
    const child = spawn("taskset", ["-c", SERVER_CPU, ...argv], { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => (text += chunk));
    child.on("close", (code) => {
      const [cpu_us, rps] = text.trim().split(" ").map(Number);
      if (code !== 0 || !(cpu_us > 0)) {
        reject(new Error(`${argv[0]}: ${code} ${text}`));
        return;
      }
      resolve({ cpu_us, rps });
    });
  });
}

async function start_nginx(folder) {
  const port = await free_port();
  const file = path.join(folder, "nginx.conf");
  writeFileSync(file, `
${process.getuid() === 0 ? "user root;" : ""}
worker_processes 1;
daemon off;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log error;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  server {
    listen 127.0.0.1:${port};
    location / { default_type text/plain; return 200 "Hello, World!"; }
  }
}
`);
  const child = spawn("taskset", ["-c", CLIENT_CPU, "/usr/sbin/nginx", "-p", folder, "-c", file], { stdio: "inherit" });
  while ((await probe(port, "/")) !== 200) {
    if (child.exitCode !== null) {
      throw new Error("nginx does not serve");
    }
    await sleep(20);
  }
  return { port, child };
}

function undici() {
  try {
    return createRequire(path.join(ROOT, "tests/package.json")).resolve("undici");
  } catch {
    return null;
  }
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

async function main() {
  if (!existsSync("/usr/sbin/nginx")) {
    console.log("nginx is not installed: no measurement");
    return;
  }
  const folder = mkdtempSync(path.join(os.tmpdir(), "perigee-bench-"));
  mkdirSync(path.join(folder, "app/config"), { recursive: true });
  writeFileSync(path.join(folder, "app/config/default.lua"), "return {}\n");
  const nginx = await start_nginx(folder);
  const url = `http://127.0.0.1:${nginx.port}/`;
  const clients = new Map([["perigee", [path.join(ROOT, "build/release/perigee"), "exec", fill(LUA, url), path.join(folder, "app")]]]);
  if (undici()) {
    clients.set("undici", ["node", "-e", fill(NODE, url), undici()]);
  } else {
    console.log("undici is not installed (./bootstrap test does that): no ratio");
  }
  const kept = new Map([...clients.keys()].map((name) => [name, []]));
  try {
    for (let i = 0; i < ROUNDS; i += 1) {
      for (const [name, argv] of clients) {
        kept.get(name).push(await run(argv));
      }
    }
  } finally {
    nginx.child.kill();
    rmSync(folder, { recursive: true, force: true });
  }
  console.log(`\n### HTTP client: GET from a local nginx, ${FLIGHT} in flight\n`);
  console.log("|         | CPU µs/req | ratio |   req/s |");
  console.log("|---------|-----------:|------:|--------:|");
  const base = kept.get("undici");
  for (const [name, rounds] of kept) {
    const ratio = base ? median(rounds.map((r, i) => r.cpu_us / base[i].cpu_us)).toFixed(2) : "-";
    console.log(`| ${name.padEnd(7)} | ${median(rounds.map((r) => r.cpu_us)).toFixed(2).padStart(10)} | ${ratio.padStart(5)} | ${Math.round(median(rounds.map((r) => r.rps))).toString().padStart(7)} |`);
  }
}

await main();
