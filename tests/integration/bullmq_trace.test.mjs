// One trace through two languages: what a job's telemetry field carries, both
// ways between Node's bullmq and the redis driver.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load, missing } from "./bullmq_helpers.mjs";
import { collector } from "./collector.mjs";
import { start } from "./helpers.mjs";
import { RedisServer } from "./redis_server.mjs";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = "b7ad6b7169203331";
const TRACEPARENT = `00-${TRACE}-${PARENT}-01`;

const FILES = {
  "scripts/jobs/mail.lua": `return { queue = "mail", run = function() return 1 end }`,
  "scripts/routes/out.lua": `
    local queue = require "perigee.queue"
    return function(router)
      router:post("/out", function()
        return { id = assert(queue.get("out"):add("one", { a = 1 })).id }
      end)
    end`,
};

test("a job of bullmq and a job for bullmq are of its trace", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const to = await collector(t);
  const app = await start(t, { files: FILES, settings: {
    "trace.endpoint": to.url, "trace.batch_delay": "50ms", "queue.driver": "redis", "redis.main.url": `redis://127.0.0.1:${redis.port}/0` } });
  const { Queue } = load("bullmq");
  const open = (name) => {
    const queue = new Queue(name, { connection: { host: "127.0.0.1", port: redis.port } });
    t.after(() => queue.close());
    return queue;
  };
  await open("mail").add("one", { to: "a" }, { telemetry: { metadata: JSON.stringify({ traceparent: TRACEPARENT }) } });
  const job = await to.span("process mail");
  assert.deepEqual([job.trace_id, job.parent_id, job.kind], [TRACE, PARENT, 5]);
  assert.equal(job.attributes["messaging.system"], "bullmq");

  const { json } = await app.post("/out", {}, { headers: { traceparent: TRACEPARENT } });
  const add = await to.span("add out");
  assert.equal(add.trace_id, TRACE);
  const seen = await open("out").getJob(json.id);
  assert.equal(JSON.parse(seen.opts.telemetry.metadata).traceparent, `00-${TRACE}-${add.span_id}-01`);
});
