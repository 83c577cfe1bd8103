// What every driver of queues has to do, done by the one in Redis.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ROOT, perigee } from "./helpers.mjs";
import { RedisServer, missing } from "./redis_server.mjs";

test("the redis driver keeps the contract of drivers", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const { code, stdout, stderr } = await perigee(["test", "spec/perigee/queue_redis_spec.lua", "-o", "TAP"],
    { cwd: ROOT, env: { REDIS_URL: redis.url }, timeout_ms: 120_000 });
  const failed = stdout.split("\n").filter((line) => !/^ok /.test(line)).join("\n");
  assert.equal(code, 0, `${failed}\n${stderr}`);
  assert.ok(stdout.split("\n").filter((line) => /^ok /.test(line)).length > 30, stdout);
});
