#!/usr/bin/env node
// Queues beside Node's bullmq in the same run: jobs a second added with 100 in
// flight and by the thousand, jobs a second run at a concurrency of 50, the time
// from add to run at 200 a second, and what each costs.
//
//   queue.mjs [--rounds 3] [--jobs 20000] [--tests "add bulk run latency"]
//             [--sides "redis full normal"] [--json FILE]
//
// Ours: the redis driver, and the embedded store with synchronous FULL and
// NORMAL. bullmq and our redis driver use one redis-server, with appendonly
// everysec; its CPU is counted as well. "Other worker": one adds, another runs.
// Rounds go from side to side, and a ratio is the median of the ratios of the
// rounds, so the machine's drift cancels out.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { RATE, bullmq, ours, start_redis } from "./queue_sides.mjs";
import { median, table } from "./table.mjs";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    jobs: { type: "string", default: "20000" },
    tests: { type: "string", default: "add bulk run latency" },
    sides: { type: "string", default: "redis full normal" },
    json: { type: "string" },
  },
});
const TITLES = { add: "add, 100 in flight", bulk: "add_bulk of 1000", run: "run at 50" };

// What the project wants to reach: side, test, key, and the least or the most.
const FIGURES = [
  ["redis", "add", "rate", { least: 1.8 }], ["redis", "bulk", "rate", { least: 3 }], ["redis", "run", "rate", { least: 2 }],
  ["redis", "run", "us", { most: 0.25 }], ["redis", "run", "redis_us", { most: 0.8 }],
  ["redis", "latency", "p50", { most: 0.6 }], ["redis", "latency", "p99", { most: 0.6 }],
  ["full", "add", "rate", { least: 2.5 }], ["normal", "add", "rate", { least: 4 }], ["full", "run", "rate", { least: 4 }],
  ["normal", "latency", "p50", { most_ms: 0.6 }], ["normal", "other", "p50", { most_ms: 0.6 }],
];
const WORDS = { rate: "jobs/s", us: "CPU a job", redis_us: "redis CPU a job", p50: "p50", p99: "p99" };

async function measure(side, test, redis) {
  await side.before[test]?.();
  const before = await redis.cpu_s();
  const result = await side[test]();
  result.redis_us = ((await redis.cpu_s()) - before) * 1e6 / Number(options.jobs);
  await side.after[test]?.();
  return result;
}

const middle = (rounds, key) => median(rounds.map((r) => r[key]));
const ratio = (rounds, base, key) => median(rounds.map((r, i) => r[key] / base[i][key]));

function print_rates(test, results) {
  const base = results.values().next().value[test];
  console.log(`\n### queues: ${TITLES[test]}\n`);
  table(["", "jobs/s", "ratio", "CPU µs", "ratio", "redis µs", "ratio"], [...results].map(([name, { [test]: rounds, on_redis }]) => {
    const cells = (key, digits) => [middle(rounds, key).toFixed(digits), ratio(rounds, base, key).toFixed(2)];
    return [name, ...cells("rate", 0), ...cells("us", 1), ...(on_redis ? cells("redis_us", 1) : ["-", "-"])];
  }));
}

function print_latency(results) {
  const base = results.values().next().value.latency;
  console.log(`\n### queues: from add to run, ${RATE} a second\n`);
  table(["", "p50 ms", "ratio", "p99 ms", "ratio", "other worker p50 ms", "p99 ms"], [...results].map(([name, { latency, other }]) => [
    name, ...["p50", "p99"].flatMap((key) => [middle(latency, key).toFixed(2), ratio(latency, base, key).toFixed(2)]),
    ...["p50", "p99"].map((key) => (other.length > 0 ? middle(other, key).toFixed(2) : "-")),
  ]));
}

function print_figures(results) {
  const base = results.values().next().value;
  console.log("\n### queues: what is to be reached\n");
  table(["", "wanted", "is", ""], FIGURES.filter(([side, test]) => results.get(side)?.[test].length > 0).map(([side, test, key, wanted]) => {
    const rounds = results.get(side)[test];
    const [[word, value]] = Object.entries(wanted);
    const is = word === "most_ms" ? middle(rounds, key) : ratio(rounds, base[test], key);
    const unit = word === "most_ms" ? " ms" : " x bullmq";
    const reached = word === "least" ? is >= value : is <= value;
    return [`${side}: ${test === "other" ? "latency, other worker" : test}, ${WORDS[key]}`,
      `${word === "least" ? "≥" : "≤"} ${value}${unit}`, `${is.toFixed(2)}${unit}`, reached ? "reached" : "NOT REACHED"];
  }));
}

const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-bench-"));
const redis = await start_redis(dir);
const tests = options.tests.trim().split(/[ ,]+/);
const how = { jobs: Number(options.jobs) };
const sides = [await bullmq(redis.port, how)];
const others = new Map();
for (const [at, name] of options.sides.trim().split(/[ ,]+/).entries()) {
  const settings = (db) => (name === "redis"
    ? { "queue.driver": "redis", "redis.main.url": `redis://127.0.0.1:${redis.port}/${2 * at + db}` }
    : { "queue.synchronous": name });
  sides.push(await ours(dir, name, settings(1), how));
  if (tests.includes("latency")) {
    others.set(name, await ours(dir, name, settings(2), { ...how, apart: true }));
  }
}
const results = new Map(sides.map(({ name }, i) => [name,
  { add: [], bulk: [], run: [], latency: [], other: [], on_redis: i === 0 || name === "redis" }]));
for (let round = -1; round < Number(options.rounds); round += 1) {
  for (const test of tests) {
    for (const side of sides) {
      const result = await measure(side, test, redis);
      const other = test === "latency" && await others.get(side.name)?.latency();
      if (round >= 0) { // the first warms up
        results.get(side.name)[test].push(result);
        results.get(side.name).other.push(...(other ? [other] : []));
      }
    }
  }
}
tests.filter((test) => test !== "latency").forEach((test) => print_rates(test, results));
if (tests.includes("latency")) {
  print_latency(results);
}
print_figures(results);
if (options.json) {
  writeFileSync(options.json, JSON.stringify(Object.fromEntries(results)));
}
for (const side of [...sides, ...others.values()]) {
  await side.end();
}
redis.end();
rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
