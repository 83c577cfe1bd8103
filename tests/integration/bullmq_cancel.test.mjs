// A job that was cancelled here, and is retried by Node.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setup, missing } from "./bullmq_helpers.mjs";
import { until } from "./helpers.mjs";

const JOBS = `
  local task = require "perigee.task"
  return { queue = "long", run = function(job)
    task.sleep(job.data.ms)
    return "done"
  end }
`;

test("a job that was cancelled here and is retried by Node is not cancelled again", { skip: missing }, async (t) => {
  const { run, open } = await setup(t, { files: { "scripts/jobs/long.lua": JOBS } });
  const queue = open("Queue", "long");
  const job = await queue.add("x", { ms: 60_000 });
  await until(async () => await job.getState() === "active");
  assert.deepEqual(await run(`return queue.get("long"):job("${job.id}"):cancel("no more")`), [true]);
  await until(async () => await job.getState() === "failed");
  const failed = await queue.getJob(job.id);
  assert.equal(failed.failedReason, "no more");
  await failed.updateData({ ms: 1500 }); // time enough for a look at what is cancelled
  await failed.retry();
  await until(async () => ["completed", "failed"].includes(await job.getState()), { timeout_ms: 30_000 });
  assert.equal((await queue.getJob(job.id)).returnvalue, "done");
});
