#!/usr/bin/env node
// What a profile costs those who are served meanwhile, and log.stall always:
// CPU of the worker a request, in rounds, each beside one without.
//
//   node tests/bench/profile.mjs [--quick]
import { spawn } from "node:child_process";

import { start } from "../integration/helpers.mjs";
import { CLIENT_CPU, cpu } from "./servers.mjs";

const quick = process.argv.includes("--quick");
const ROUNDS = quick ? 2 : 5;
const SECS = quick ? 1 : 3;

const ROUTE = `
  router:get("/plain", function() return { ok = true } end)
  router:get("/list", function()
    local list = {}
    for i = 1, 200 do list[i] = { id = i, name = "item " .. i, even = i % 2 == 0 } end
    return list
  end)
`;

function wrk(url) {
  return new Promise((resolve, reject) => {
    const child = spawn("taskset", ["-c", CLIENT_CPU, "wrk", "-t1", "-c32", `-d${SECS}s`, url], { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => (text += chunk));
    child.on("close", () => {
      const found = /(\d+) requests in/.exec(text);
      found ? resolve(Number(found[1])) : reject(new Error(`wrk: ${text}`));
    });
  });
}

async function cost_us(app, target) {
  const before = cpu(app.workers()).all;
  const requests = await wrk(app.url + target);
  return ((cpu(app.workers()).all - before) * 1e6) / requests;
}

async function with_profile(app, kind, target) {
  const profile = app.command("profile", kind, `${SECS + 1}s`, "-o", "/dev/null");
  const us = await cost_us(app, target);
  const { code, stderr } = await profile;
  if (code !== 0) {
    throw new Error(stderr);
  }
  return us;
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

const ends = [];
const t = { after: (fn) => ends.unshift(fn) };
try {
  const settings = { "log.requests": false };
  const app = await start(t, { route: ROUTE, settings });
  const blind = await start(t, { route: ROUTE, settings: { ...settings, "log.stall": 0 } });
  for (const target of ["/plain", "/list"]) {
    await cost_us(app, target); // the JIT's first second
    await cost_us(blind, target);
    const seen = { "log.stall off": [], "--cpu": [], "--heap": [] };
    const plain = [];
    for (let i = 0; i < ROUNDS; i++) {
      const base = await cost_us(app, target);
      plain.push(base);
      seen["log.stall off"].push((await cost_us(blind, target)) / base);
      seen["--cpu"].push((await with_profile(app, "--cpu", target)) / base);
      seen["--heap"].push((await with_profile(app, "--heap", target)) / base);
    }
    const ratios = Object.entries(seen).map(([name, list]) => `${name} x ${median(list).toFixed(2)}`);
    console.log(`${target}: ${median(plain).toFixed(2)} us of CPU a request; ${ratios.join(", ")}`);
  }
} finally {
  for (const end of ends) {
    await end();
  }
}
