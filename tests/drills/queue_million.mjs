#!/usr/bin/env node
// A million jobs wait: adding one more and taking one costs what it costs in an
// empty queue, and the host's memory does not grow.
//
//     node tests/drills/queue_million.mjs [JOBS]
import { host, pss, report } from "./drill.mjs";

const JOBS = Number(process.argv[2] ?? 1_000_000);
const PORTION = 5000;
const ROUNDS = 9;

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

const app = await host(FILES, { workers: 1, settings: { "http.request_timeout": "10m" } });
const get = async (url) => {
  const answer = await fetch(app.url + url);
  if (!answer.ok) {
    throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  }
  return answer.status === 204 ? {} : answer.json();
};
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const memory = () => app.workers().reduce((sum, pid) => sum + pss(pid), 0);

// add: to a queue with so many; run: of a queue with so many.
async function measure() {
  const rates = { add: [], run: [] };
  for (let round = 0; round < ROUNDS; round += 1) {
    rates.add.push((await get(`/add/${PORTION}?queue=work`)).rate);
    rates.run.push((await get(`/run/${PORTION}`)).rate);
  }
  return { add: median(rates.add), run: median(rates.run) };
}

await get("/pause");
await measure(); // warms up
await get("/drain?queue=work");
const empty = await measure();
await get("/drain?queue=work");
const before_kb = memory();
const began = performance.now();
for (let i = 0; i < JOBS; i += 1000) {
  await get("/fill/1000?queue=work");
}
const filled_ms = performance.now() - began;
const full = await measure();
const waiting = (await get("/counts")).paused;
const after_kb = memory();
const how = await app.end();

report(`${JOBS} jobs wait: 1 worker, synchronous full, medians of ${ROUNDS} times ${PORTION} jobs`, {
  "adds a second, empty and full": `${empty.add.toFixed(0)} ${full.add.toFixed(0)}`,
  "jobs run a second, empty and full": `${empty.run.toFixed(0)} ${full.run.toFixed(0)}`,
  "waiting at the end": waiting,
  "added in bulk, a second": ((JOBS / filled_ms) * 1000).toFixed(0),
  "PSS before and after (KB)": `${before_kb} ${after_kb}`,
}, {
  "all are there": waiting >= JOBS - 60 && waiting <= JOBS + ROUNDS * PORTION,
  "adding is within 20 %": full.add >= 0.8 * empty.add,
  "running is within 20 %": full.run >= 0.8 * empty.run,
  "memory is flat, but for SQLite's pages": after_kb - before_kb < 16_384,
  "graceful end": how.code === 0,
});
