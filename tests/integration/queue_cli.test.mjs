// perigee queue with words and values that make no sense: exit 2, a line that
// says why, and nothing is done. The same on every driver.
import assert from "node:assert/strict";
import { test } from "node:test";
import { app_dir, perigee } from "./helpers.mjs";
import { RedisServer, missing } from "./redis_server.mjs";

// What is wrong with a value is one line.
const VALUES = [
  ["show work --state nonsense", /unknown state nonsense/],
  ["show work --from abc", /--from must be a whole number from 0, not "abc"/],
  ["show work --from=-1", /--from must be/],
  ["show work --to 1.5", /--to must be a whole number from -1/],
  ["show work --to=0x10", /--to must be/],
  ["show work --to 1e3", /--to must be/],
  ["show work --from 99999999999999999999", /--from must be/],
  ["show a:b", /a queue's name/],
  ["show work wait", /"wait" is no job's id/],
  ["show work 1:logs", /"1:logs" is no job's id/],
  ["remove work meta", /"meta" is no job's id/],
  ["remove work 1 repeat:x", /"repeat:x" is no job's id/],
  ["retry work a:b", /"a:b" is no job's id/],
  ["promote work de:1:2", /"de:1:2" is no job's id/],
  ["add work x {", /the data: /],
  ["add work x --priority high", /--priority must be a whole number from 0, not "high"/],
  ["add work x --priority 2097152", /priority: a whole number from 0 to 2097151/],
  ["add work x --attempts 0", /--attempts must be a whole number from 1/],
  ["add work x --delay soon", /delay: a duration expected/],
  ["add work x --backoff x", /backoff.*: a duration expected/],
  ["add work x --timeout=-1s", /timeout: a duration expected/],
  ["add work x --job-id 17", /job_id: "17"/],
  ["add work x --job-id wait", /job_id: "wait"/],
  ["add work x --group=", /group: a text/],
  ["add work x --lifo=yes", /--lifo takes no value/],
  ["clean work --grace yesterday", /grace: /],
  ["clean work --limit some", /--limit must be a whole number from 0/],
  ["clean work --state gone", /unknown state gone/],
  ["drain work --delayed=no", /--delayed takes no value/],
];

// Wrong words: how the command is called follows.
const WORDS = [
  ["", /what is to be done/],
  ["lst", /unknown command "lst"/],
  ["ls work", /one word too many: "work"/],
  ["show", /a queue is expected/],
  ["show work 1 2", /one word too many: "2"/],
  ["show work --from", /--from needs a value/],
  ["add work", /a queue and a job's name are expected/],
  ["add work x {} y", /one word too many: "y"/],
  ["retry work", /which jobs/],
  ["retry work 1 --failed", /either ids or --failed/],
  ["pause work 1", /one word too many/],
  ["pause work --delayed", /pause takes no --delayed/],
  ["clean work --stat completed", /unknown flag --stat\b/],
];

async function refuses(dir, env) {
  const run = (line) => perigee(["queue", ...line.split(" ").filter(Boolean)], { cwd: dir, env });
  const kept = await run("add work kept --job-id mine --delay 1h");
  assert.equal(kept.code, 0, kept.stderr);
  const [before] = JSON.parse((await run("ls --json")).stdout);
  for (const [line, message] of [...VALUES, ...WORDS]) {
    const { code, stdout, stderr } = await run(line);
    assert.equal(code, 2, `${line}: ${code} ${stdout} ${stderr}`);
    assert.match(stderr, message, line);
    assert.match(stderr, /^perigee: /, line);
    assert.equal(stdout, "", line);
  }
  for (const [line] of VALUES) {
    const { stderr } = await run(line);
    assert.equal(stderr.trimEnd().split("\n").length, 1, `${line}: ${stderr}`);
  }
  assert.deepEqual(JSON.parse((await run("ls --json")).stdout), [before]);
  for (const line of ["show work 17", "show work nobody", "remove work 17", "retry work mine", "show work a:b:c"]) {
    const { code, stderr } = await run(line);
    assert.equal(code, 1, line);
    assert.ok(line.split(" ").slice(1).every((word) => stderr.includes(word)), `${line}: ${stderr}`);
  }
  const shown = JSON.parse((await run("show work mine --json")).stdout);
  assert.equal(shown.state, "delayed");
  // Behind -- everything is a word.
  assert.equal((await run("add --delay 1h --job-id mine -- --json --failed")).code, 0);
  const flags = JSON.parse((await run("show --json -- --json mine")).stdout);
  assert.deepEqual([flags.queue, flags.name, flags.state], ["--json", "--failed", "delayed"]);
}

test("perigee queue refuses what makes no sense: the embedded driver", async (t) => {
  await refuses(app_dir(t, { route: "" }));
});

test("perigee queue refuses what makes no sense: the redis driver", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  await refuses(app_dir(t, { route: "" }), { REDIS_URL: redis.url, PERIGEE_QUEUE__DRIVER: "redis" });
});
