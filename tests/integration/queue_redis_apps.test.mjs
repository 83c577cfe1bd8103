// Several applications that keep their queues in one Redis.
import assert from "node:assert/strict";
import { test } from "node:test";
import { start, until } from "./helpers.mjs";
import { RedisServer, missing } from "./redis_server.mjs";

const ROUTE = `
  local queue = require "perigee.queue"
  router:get("/schedules/:queue", function(req)
    local ids = {}
    for i, one in ipairs(assert(queue.get(req.params.queue):schedules())) do ids[i] = one.id end
    return require("perigee.json").array(ids)
  end)`;

const hourly = (queue, name) => `return { queue = "${queue}", name = "${name}", every = "1h", run = function() end }`;

async function application(t, redis, job, prefix = "bull") {
  const app = await start(t, {
    route: ROUTE, files: { "scripts/jobs/one.lua": job },
    settings: { "queue.driver": "redis", "redis.main.url": redis.url, "queue.prefix": prefix },
  });
  app.schedules = async (queue) => (await app.get(`/schedules/${queue}`)).json;
  app.has = (queue, ids) => until(async () => (await app.schedules(queue)).join() === ids.join(), { what: `${queue}: ${ids}` });
  app.change = async (job) => {
    app.write({ "scripts/jobs/one.lua": job });
    const { code, stderr } = await app.command("reload");
    assert.equal(code, 0, stderr);
  };
  return app;
}

test("schedules of the code are left alone by other applications' reloads", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  // Queues are looked through by name: the first one's before the second's own.
  const first = await application(t, redis, hourly("alpha", "nightly"));
  const second = await application(t, redis, hourly("beta", "old"));
  const elsewhere = await application(t, redis, hourly("alpha", "theirs"), "other");
  await first.has("alpha", ["nightly"]);
  await second.has("beta", ["old"]);
  await elsewhere.has("alpha", ["theirs"]);

  // What each takes away is its own: another queue's, or another prefix's, stays.
  await second.change(hourly("beta", "new"));
  await second.has("beta", ["new"]);
  await elsewhere.change(`return { queue = "alpha", run = function() end }`);
  await elsewhere.has("alpha", []);
  assert.deepEqual(await first.schedules("alpha"), ["nightly"]);
  await first.change(hourly("alpha", "daily"));
  await first.has("alpha", ["daily"]);
  assert.deepEqual(await second.schedules("beta"), ["new"]);
});
