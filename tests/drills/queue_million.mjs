#!/usr/bin/env node
// A million jobs wait: adding one more and taking one costs what it costs in an
// empty queue, and the host's memory does not grow.
//
//     node tests/drills/queue_million.mjs [JOBS]
import { cpu, tree } from "../bench/servers.mjs";
import { host, pss, report } from "./drill.mjs";

const JOBS = Number(process.argv[2] ?? 1_000_000);
const PORTION = 5000;
const ROUNDS = 15;

const FILES = {
  "scripts/seen.lua": "return { done = 0 }",
  "scripts/jobs/work.lua": `local seen = require "seen"
return { concurrency = 50, run = function() seen.done = seen.done + 1 end }`,
  "scripts/routes/a.lua": `
local queue = require "perigee.queue"
local seen = require "seen"
local task = require "perigee.task"
local time = require "perigee.time"
local LONG = { timeout = "10m" }
local OPTS = { remove_on_complete = true }
local function data(i) return { n = i, note = ("x"):rep(64) } end
return function(router)
  router:get("/fill/:n", function(req)
    local list = {}
    for i = 1, tonumber(req.params.n) do list[i] = { name = "x", data = data(i), opts = OPTS } end
    assert(queue.get(req.query.queue):add_bulk(list))
    return 204
  end, LONG)
  router:get("/add/:n", function(req)
    local q, n, i, fns = queue.get(req.query.queue), tonumber(req.params.n), 0, {}
    for k = 1, 100 do
      fns[k] = function()
        while i < n do i = i + 1 assert(q:add("x", data(i), OPTS)) end
        return true
      end
    end
    local began = time.monotonic()
    assert(task.all(fns))
    return { rate = n / (time.monotonic() - began) * 1000 }
  end, LONG)
  -- Jobs of the queue "work" are run by its definition; what is behind those
  -- that are counted stays.
  router:get("/run/:n", function(req)
    local q, n = queue.get "work", tonumber(req.params.n)
    seen.done = 0
    local began = time.monotonic()
    assert(q:resume())
    while seen.done < n do task.sleep(1) end
    local rate = seen.done / (time.monotonic() - began) * 1000
    assert(q:pause())
    return { rate = rate }
  end, LONG)
  router:get("/drain", function(req) return { n = assert(queue.get(req.query.queue):drain()) } end, LONG)
  router:get("/pause", function() return assert(queue.get("work"):pause()) and 204 end)
  router:get("/counts", function() return assert(queue.get("work"):counts()) end, LONG)
end`,
};

const settings = { "http.request_timeout": "10m" };
// Two hosts side by side, measured in turn: the disk is not the same from one
// minute to the next.
const [empty, full] = [await host(FILES, { workers: 1, settings }), await host(FILES, { workers: 1, settings })];
const get = async (app, url) => {
  const answer = await fetch(app.url + url);
  if (!answer.ok) {
    throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  }
  return answer.status === 204 ? {} : answer.json();
};
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const memory = () => full.workers().reduce((sum, pid) => sum + pss(pid), 0);

async function measure(app, into, what, url) {
  const before = cpu(tree(app.pid)).all;
  const { rate } = await get(app, url);
  into[what].push(rate);
  into[`${what}_us`].push(((cpu(tree(app.pid)).all - before) * 1e6) / PORTION);
}

async function rounds(count) {
  const seen = [empty, full].map(() => ({ add: [], run: [], add_us: [], run_us: [] }));
  for (let round = 0; round < count; round += 1) {
    for (const [what, url] of [["add", `/add/${PORTION}?queue=work`], ["run", `/run/${PORTION}`]]) {
      await measure(empty, seen[0], what, url);
      await measure(full, seen[1], what, url);
    }
  }
  return seen;
}

for (const app of [empty, full]) {
  await get(app, "/pause");
}
await rounds(3); // warms up
const before_kb = memory();
const began = performance.now();
for (let i = 0; i < JOBS; i += 1000) {
  await get(full, "/fill/1000?queue=work");
}
const filled_ms = performance.now() - began;
const [none, many] = await rounds(ROUNDS);
const waiting = (await get(full, "/counts")).paused;
const after_kb = memory();
const ends = [await empty.end(), await full.end()];

const ratio = (what) => median(many[what].map((value, i) => value / none[what][i]));
const told = (what) => `${median(none[what]).toFixed(0)} ${median(many[what]).toFixed(0)}; ${ratio(what).toFixed(2)}`;
report(`${JOBS} jobs wait: 1 worker, synchronous full, medians of ${ROUNDS} times ${PORTION} jobs`, {
  "adds a second, empty, full; ratio": told("add"),
  "CPU of one (µs)": told("add_us"),
  "jobs run a second, empty, full; ratio": told("run"),
  "CPU of a run (µs)": told("run_us"),
  "waiting at the end": waiting,
  "added in bulk, a second": ((JOBS / filled_ms) * 1000).toFixed(0),
  "PSS before and after (KB)": `${before_kb} ${after_kb}`,
}, {
  "all are there": Math.abs(waiting - JOBS) <= ROUNDS * 200,
  "adding is within 20 %": ratio("add") >= 0.8,
  "running is within 20 %": ratio("run") >= 0.8,
  "memory is flat, but for SQLite's pages": after_kb - before_kb < 16_384,
  "graceful end": ends.every((how) => how.code === 0),
});
