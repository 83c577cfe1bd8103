// One test of Node's bullmq: node.mjs TEST COUNT PORT; prints its result. The
// same as ours.lua.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { Queue, Worker } = require("bullmq-6");
const [test, count_text, port] = process.argv.slice(2);
const [kind, argument] = test.split(":");
const count = Number(count_text);
const connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null };
const OPTIONS = { removeOnComplete: true, removeOnFail: true };
const data = (n) => ({ n, user: `user-${n}`, note: "x".repeat(64) });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const queue = new Queue("bench", { connection });
queue.on("error", () => {});
await queue.waitUntilReady();

async function timed(fn) {
  const cpu = process.cpuUsage();
  const began = performance.now();
  await fn();
  const ms = performance.now() - began;
  const used = process.cpuUsage(cpu);
  return { rate: (count / ms) * 1000, cpu_us: (used.user + used.system) / count };
}

async function add(n, flight) {
  let i = 0;
  await Promise.all(Array.from({ length: flight }, async () => {
    while (i < n) {
      i += 1;
      await queue.add("job", data(i), OPTIONS);
    }
  }));
}

async function fill(n, size) {
  for (let i = 0; i < n; i += size) {
    await queue.addBulk(Array.from({ length: size }, (_, k) => ({ name: "job", data: data(i + k), opts: OPTIONS })));
  }
}

function work(concurrency, fn) {
  const worker = new Worker("bench", fn, { connection, concurrency });
  worker.on("error", () => {});
  return worker;
}

function process_all(concurrency) {
  return new Promise((resolve) => {
    let done = 0;
    work(concurrency, async () => {}).on("completed", () => {
      done += 1;
      if (done === count) {
        resolve();
      }
    });
  });
}

async function latency(per_second) {
  const late = [];
  const sent = new Map();
  const worker = work(50, async (job) => { late.push(performance.now() - sent.get(job.data.n)); });
  await worker.waitUntilReady();
  await sleep(300);
  const began = performance.now();
  for (let i = 0; i < count; i += 1) {
    const wait = began + (i * 1000) / per_second - performance.now();
    if (wait > 0) {
      await sleep(wait);
    }
    sent.set(i, performance.now());
    queue.add("job", data(i), OPTIONS);
  }
  for (let i = 0; late.length < count && i < 500; i += 1) {
    await sleep(20);
  }
  late.sort((a, b) => a - b);
  const at = (part) => late[Math.min(late.length - 1, Math.floor(late.length * part))];
  return { p50_ms: at(0.5), p99_ms: at(0.99), done: late.length };
}

const TESTS = {
  add: async (n) => { await add(count / 10, n); return timed(() => add(count, n)); },
  bulk: async (n) => { await fill(count / 10, n); return timed(() => fill(count, n)); },
  process: async (n) => { await fill(count, 1000); return timed(() => process_all(n)); },
  latency,
};
console.log(JSON.stringify(await TESTS[kind](Number(argument))));
process.exit(0);
