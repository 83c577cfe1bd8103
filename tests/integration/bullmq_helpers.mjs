// Queues that Perigee and Node's bullmq share: a Redis, a host with the driver,
// and what of bullmq is closed when the test ends.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { sleep, start } from "./helpers.mjs";
import { RedisServer, missing as no_redis } from "./redis_server.mjs";

const require = createRequire(import.meta.url);

/** Versions of bullmq that the layout is tested with; the last of 5 first. */
export const VERSIONS = ["bullmq", "bullmq-5.56", "bullmq-6"];

/** A version's module, or null where this Node cannot load it. */
export function load(name) {
  try {
    return require(name);
  } catch {
    return null;
  }
}

/** Why tests have to be skipped, or false. */
export const missing = no_redis || (load("bullmq") ? false : "bullmq does not load here");

// POST /run: Lua, whose values come back as a list; errors as {kind, message}.
const ROUTES = `
  local errors = require "perigee.error"
  local json = require "perigee.json"
  local queue = require "perigee.queue"
  local task = require "perigee.task"
  local workers = require "services.workers"
  router:post("/run", function(req)
    local chunk = assert(loadstring(req:body()))
    local out = { chunk(queue, workers, task, json) }
    local n = select("#", unpack(out, 1, table.maxn(out)))
    for i = 1, n do
      if out[i] == nil then out[i] = json.null
      elseif errors.is(out[i]) then
        out[i] = { kind = out[i].kind, message = out[i].message }
      elseif type(out[i]) == "table" and out[i].driver then
        local plain = {}
        for k, v in pairs(out[i]) do if k ~= "driver" then plain[k] = v end end
        out[i] = plain
      end
    end
    return json.array(out)
  end, { timeout = "60s" })
`;

// Workers on the driver itself: start(queue, concurrency, fn), fn(job) gives a
// result as JSON text, or nil and why it failed.
const WORKERS = `
  local drivers = require "perigee.queue.driver"
  local config = require "perigee.config"
  local options = require "perigee.queue.options"
  local core = require "perigee.core.queue"
  local task = require "perigee.task"
  local M = { open = {} }
  function M.driver() return drivers.open(config.queue) end
  local function run(consumer, job, fn)
    local ok, result, err = pcall(fn, job)
    core.check() -- raises where the host closes: it gives the job back
    if ok and result ~= nil then
      return consumer:complete(job, result)
    end
    local message = tostring(ok and err or result)
    local made = job.attempts + 1
    local again = made < (job.opts.attempts or 1)
      and not message:find "^unrecoverable"
    return consumer:fail(job, { message = message },
      again and options.backoff(job.opts, made) or nil)
  end
  function M.start(queue, concurrency, fn)
    local consumer = M.driver():consume(queue, { concurrency = concurrency, name = "perigee" })
    local running, freed = 0, core.signal()
    M.open[#M.open + 1] = consumer
    task.spawn_detached(function()
      while true do
        while running >= concurrency do freed:wait() end
        local jobs, err = consumer:take(concurrency - running)
        if not jobs and not err then return end
        if err then task.sleep(50) end
        for _, job in ipairs(jobs or {}) do
          running = running + 1
          task.spawn_detached(function()
            run(consumer, job, fn)
            running = running - 1
            freed:set()
          end)
        end
      end
    end)
    return consumer
  end
  function M.stop()
    for _, consumer in ipairs(M.open) do consumer:close() end
    M.open = {}
  end
  return M
`;

export const FILES = { "scripts/services/workers.lua": WORKERS };

const LONG = { timeout_ms: 60_000 }; // as long as the route may take

/** A host on a Redis; run(lua) gives the values of the chunk. */
export async function host(t, redis, options = {}) {
  const app = await start(t, {
    route: ROUTES, ...options, files: { ...FILES, ...options.files },
    settings: { "queue.driver": "redis", "redis.main.url": redis.url, ...options.settings },
  });
  app.run = async (lua) => {
    const answer = await app.post("/run", `local queue, workers, task, json = ...\n${lua}`, LONG);
    assert.equal(answer.status, 200, `${answer.body}\n${app.printed()}`);
    return answer.json;
  };
  return app;
}

/** Everything a test needs: {redis, app, run, Queue..., open(Class, ...args)}. */
export async function setup(t, { version = "bullmq", args, ...options } = {}) {
  const opened = [];
  // Before the Redis goes: they would wait for it to come back.
  t.after(async () => {
    const closing = opened.reverse().map((one) => one.close(true).catch(() => {}));
    await Promise.race([Promise.all(closing), sleep(5000)]);
  });
  const redis = await RedisServer.start(t, args);
  const app = await host(t, redis, options);
  const node = load(version);
  const connection = { host: "127.0.0.1", port: redis.port, maxRetriesPerRequest: null };
  const open = (name, ...rest) => {
    const options_at = name === "Worker" ? 2 : name === "FlowProducer" ? 0 : 1;
    const all = [...rest];
    all[options_at] = { connection, ...all[options_at] };
    const one = new node[name](...all);
    one.on("error", () => {});
    opened.push(one);
    return one;
  };
  return { redis, app, run: app.run, node, open, connection };
}
