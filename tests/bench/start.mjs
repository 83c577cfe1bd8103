#!/usr/bin/env node
// From exec to the first 200, and the memory (PSS) of the master and of a fresh
// worker: a plain application, the relay (its database is there already), nginx
// with Lua. All on CPU 0, starts in turns.
//
//   start.mjs [--rounds 9] [--quick] [--peer NAME=COMMAND]
import { parseArgs } from "node:util";
import { nginx, other, perigee, pss_kb, relay } from "./servers.mjs";
import { median, table } from "./table.mjs";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "9" },
    quick: { type: "boolean", default: false },
    peer: { type: "string", multiple: true, default: [] },
  },
});
const ROUNDS = options.quick ? 3 : Number(options.rounds);

const seen = new Map();

async function measure(server) {
  await server.start({ pause_ms: 0 });
  const [master, ...workers] = server.pids;
  const one = { ms: server.started_ms, master_kb: pss_kb(master), worker_kb: workers.map(pss_kb)[0] ?? 0 };
  await server.stop();
  return one;
}

const servers = [perigee(), relay(), nginx(), ...options.peer.map(other)].filter((server) => server !== null);
for (let i = 0; i <= ROUNDS; i++) { // the first warms the page cache
  for (const server of servers) {
    const one = await measure(server);
    if (i > 0) {
      seen.set(server.name, [...(seen.get(server.name) ?? []), one]);
    }
  }
}
console.log("\n### From exec to the first 200; memory then\n");
table(["", "ms", "fastest", "master PSS MB", "worker PSS MB"], [...seen].map(([name, rounds]) => {
  const mid = (key) => median(rounds.map((one) => one[key]));
  return [name, mid("ms").toFixed(1), Math.min(...rounds.map((one) => one.ms)).toFixed(1),
    (mid("master_kb") / 1024).toFixed(1), (mid("worker_kb") / 1024).toFixed(1)];
}));
