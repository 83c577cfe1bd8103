// Jobs on the embedded store: run by all workers, lost with none of them.
import assert from "node:assert/strict";
import test from "node:test";
import { start, until } from "./helpers.mjs";

const ROUTE = `
local queue = require "perigee.queue"
local host = require "perigee.host"
router:post("/add", function(req)
  local body = req:json()
  local jobs, err = queue.get(body.queue):add_bulk(body.jobs)
  if not jobs then return nil, err end
  local ids = {}
  for i, job in ipairs(jobs) do ids[i] = job.id end
  return { ids = ids, pid = host.pid }
end)
router:get("/counts/:queue", function(req)
  return assert(queue.get(req.params.queue):counts())
end)
router:get("/job/:queue/:id", function(req)
  local job, err = queue.get(req.params.queue):job(req.params.id)
  if err then return nil, err end
  if not job then return 404 end
  return { state = job.state, attempts = job.attempts, failure = job.failure,
    progress = job.progress, logs = job.logs, result = job.result }
end)
router:get("/jobs/:queue/:state", function(req)
  local list = {}
  for i, job in ipairs(assert(queue.get(req.params.queue):jobs(req.params.state, 0, 999))) do
    list[i] = { id = job.id, worker = job.worker, result = job.result, attempts = job.attempts }
  end
  return list
end)
router:post("/cancel/:id", function(req)
  local job = assert(queue.get("work"):job(req.params.id))
  local ok, err = job:cancel "enough"
  if not ok then return nil, err end
  return 204
end)
router:post("/call", function(req)
  local job = assert(queue.get("work"):add("echo", req:json()))
  local result, err = job:wait "20s"
  if err then return nil, err end
  return { result = result }
end)
`;

const job = (version = 1) => `
local errors = require "perigee.error"
local host = require "perigee.host"
local task = require "perigee.task"
local json = require "perigee.json"
local runs = {}
return {
  { queue = "work", concurrency = 20, run = function(job)
    if job.name == "sleep" then
      task.sleep(job.data.ms)
    elseif job.name == "flaky" then
      if job.attempt < 3 then error("attempt " .. job.attempt) end
    elseif job.name == "mute" then
      error(setmetatable({}, { __tostring = function() error "no words" end }))
    elseif job.name == "hopeless" then
      return nil, errors.unrecoverable("no use")
    elseif job.name == "late" then
      task.sleep "1m"
    elseif job.name == "busy" then
      while true do pcall(function() while true do end end) end
    elseif job.name == "tells" then
      assert(job:progress { half = true })
      assert(job:log "one") assert(job:log "two")
      assert(job:heartbeat())
      local n = job:once("step", function() return 7 end)
      assert(job:once("step", function() return 8 end) == n)
      return n
    elseif job.name == "deadline" then
      return { job.deadline_ms, job.opts.timeout }
    elseif job.name == "null" then
      return json.null
    elseif job.name == "echo" then
      return job.data
    elseif job.name == "poison" then
      require("ffi").cast("int *", 0)[0] = 1
    end
    return { pid = host.pid, version = ${version}, attempt = job.attempt }
  end },
  { queue = "work", name = "brief", timeout = "100ms", run = function() task.sleep "1m" end },
}`;

const FILES = { "scripts/jobs/work.lua": job() };

async function add(app, jobs, queue = "work") {
  const answer = await app.fetch_json("POST", "/add", { queue, jobs });
  return answer.ids;
}

async function open(t, options = {}) {
  const app = await start(t, { files: FILES, route: ROUTE, workers: 2, ...options });
  app.fetch_json = async (method, url, body) => {
    const answer = await fetch(app.url + url, { method, body: JSON.stringify(body), headers: { "content-type": "application/json" } });
    assert.equal(answer.status, 200, await answer.clone().text());
    return answer.json();
  };
  // The worker asked may be the one that is killed just now.
  app.job = async (id, queue = "work") => (await app.get(`/job/${queue}/${id}`).catch(() => ({}))).json ?? {};
  app.counts = async (queue = "work") => (await app.get(`/counts/${queue}`).catch(() => ({}))).json ?? {};
  app.ended_as = (id, state) => until(async () => {
    const found = await app.job(id);
    return found.state === state && found;
  }, { what: `job ${id} ${state}`, timeout_ms: 30_000 });
  return app;
}

test("jobs", async (t) => {
  const app = await open(t);

  await t.test("run in every worker, and give their results", async () => {
    const ids = await add(app, Array.from({ length: 60 }, (_, n) => ({ name: "sleep", data: { ms: 20, n } })));
    await until(async () => (await app.counts()).completed >= ids.length, { timeout_ms: 30_000 });
    const { json: list } = await app.get("/jobs/work/completed");
    assert.equal(list.length, 60);
    assert.deepEqual((await app.fetch_json("POST", "/call", { a: [], b: {} })).result, { a: [], b: {} });
  });

  await t.test("are tried again as told, or not at all", async () => {
    const [flaky, hopeless, once, mute] = await add(app, [
      { name: "flaky", opts: { attempts: 3, backoff: { type: "exponential", delay: 10 } } },
      { name: "hopeless", opts: { attempts: 5 } },
      { name: "flaky" },
      { name: "mute" },
    ]);
    assert.equal((await app.ended_as(flaky, "completed")).attempts, 3);
    const dead = await app.ended_as(hopeless, "failed");
    assert.equal(dead.attempts, 1);
    assert.equal(dead.failure, "no use");
    assert.match((await app.ended_as(mute, "failed")).failure, /cannot say what it is/);
    assert.match((await app.ended_as(once, "failed")).failure, /work\.lua:\d+: attempt 1/);
    const { err } = await app.line((l) => l.msg === "job failed" && l.job === once);
    assert.match(err.message, /work\.lua:\d+: attempt 1$/);
    assert.match(err.stack, /^\tscripts\/jobs\/work\.lua:\d+: in function/m);
  });

  await t.test("have a deadline, of their own or of their definition", async () => {
    const workers = app.workers();
    const [late, brief, busy] = await add(app, [{ name: "late", opts: { timeout: "100ms" } }, { name: "brief" },
      { name: "busy", opts: { timeout: "100ms" } }]);
    assert.match((await app.ended_as(late, "failed")).failure, /deadline/);
    assert.match((await app.ended_as(busy, "failed")).failure, /deadline/);
    assert.deepEqual(app.workers(), workers);
    const [told] = await add(app, [{ name: "deadline", opts: { timeout: "1m" } }]);
    const [left, whole] = (await app.ended_as(told, "completed")).result;
    assert.ok(left > 0 && left <= whole, `${left} of ${whole}`);
    assert.match((await app.ended_as(brief, "failed")).failure, /deadline/);
  });

  await t.test("are cancelled while they run, in whichever worker", async () => {
    const ids = await add(app, Array.from({ length: 4 }, () => ({ name: "late", opts: { attempts: 5 } })));
    for (const id of ids) {
      await app.ended_as(id, "active");
      assert.equal((await app.post(`/cancel/${id}`)).status, 204);
      const { failure, attempts } = await app.ended_as(id, "failed");
      assert.deepEqual({ failure, attempts }, { failure: "enough", attempts: 1 });
    }
    assert.equal((await app.post(`/cancel/${ids[0]}`)).status, 409);
  });

  await t.test("tell progress, log, and do their steps once", async () => {
    const [id, nothing] = await add(app, [{ name: "tells" }, { name: "null" }]);
    const done = await app.ended_as(id, "completed");
    assert.deepEqual(done.progress, { half: true });
    assert.deepEqual(done.logs, ["one", "two"]);
    assert.equal(done.result, 7);
    assert.equal((await app.ended_as(nothing, "completed")).result, null);
  });

  await t.test("of a worker that is killed run again", async () => {
    const before = (await app.counts()).completed;
    await add(app, Array.from({ length: 40 }, () => ({ name: "sleep", data: { ms: 1500 } })));
    await until(async () => (await app.counts()).active === 40);
    process.kill(app.workers()[0], "SIGKILL");
    await until(async () => (await app.counts()).completed === before + 40, { timeout_ms: 40_000 });
  });

  await t.test("are operated from the command line", async () => {
    const list = async () => JSON.parse((await app.command("queue", "ls", "--json")).stdout);
    assert.equal((await app.command("queue", "pause", "work")).code, 0);
    const added = await app.command("queue", "add", "work", "echo", '{"x":[]}', "--attempts", "2");
    assert.equal(added.code, 0, added.stderr);
    const id = added.stdout.trim();
    const [work] = (await list()).filter((q) => q.name === "work");
    assert.equal(work.paused, true);
    assert.equal(work.counts.paused, 1);
    assert.equal((await app.command("queue", "resume", "work")).code, 0);
    await app.ended_as(id, "completed");
    const shown = JSON.parse((await app.command("queue", "show", "work", id, "--json")).stdout);
    assert.deepEqual(shown.result, { x: [] });
    assert.equal((await app.command("queue", "show", "work", "987654321")).code, 1);
    assert.equal((await app.command("queue", "nonsense")).code, 2);
    const retried = await app.command("queue", "retry", "work", "--failed");
    assert.match(retried.stdout, /^\d+ retried/);
    await until(async () => (await app.counts()).failed >= 4, { timeout_ms: 30_000 });
    await until(async () => { // some may fail yet
      assert.match((await app.command("queue", "clean", "work", "--state", "failed")).stdout, /removed/);
      return (await app.counts()).failed === 0;
    });
  });

  await t.test("are counted", async () => {
    const { port } = await app.line((l) => l.msg === "listening" && l.admin);
    const text = await until(async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/metrics`).catch(() => null);
      const body = answer ? await answer.text() : "";
      return body.includes("messaging_process_duration_seconds_count") && body;
    }, { what: "metrics" });
    assert.match(text, /perigee_queue_jobs\{queue="work",state="completed"\} \d+/);
  });
});

test("a reload: what runs ends on the old code, what begins later is the new's", async (t) => {
  const app = await open(t);
  const [long] = await add(app, [{ name: "sleep", data: { ms: 1200 } }]);
  await until(async () => (await app.job(long)).state === "active");
  app.write({ "scripts/jobs/work.lua": job(2) });
  assert.equal((await app.command("reload")).code, 0);
  const [next] = await add(app, [{ name: "sleep", data: { ms: 0 } }]);
  assert.equal((await app.ended_as(next, "completed")).result.version, 2);
  assert.equal((await app.ended_as(long, "completed")).result.version, 1);
});

test("a stop: what can end in time ends, the rest goes back without a lost attempt", async (t) => {
  const app = await open(t, { settings: { "shutdown.timeout": "3s" } });
  const [short, long] = await add(app, [{ name: "sleep", data: { ms: 800 } }, { name: "sleep", data: { ms: 60_000 } }]);
  await until(async () => (await app.counts()).active === 2);
  assert.equal((await app.stop()).code, 0);
  const show = async (id) => JSON.parse((await app.command("queue", "show", "work", id, "--json")).stdout);
  assert.equal((await show(short)).state, "completed");
  const back = await show(long);
  assert.equal(back.state, "waiting");
  assert.equal(back.attempts, 0);
});

test("roles: workers of the role web run no jobs, those of jobs get no requests", async (t) => {
  const app = await open(t, { settings: { "cluster.roles.web": 1, "cluster.roles.jobs": 1 } });
  await until(() => app.workers().length === 2);
  const web = new Set();
  for (let i = 0; i < 12; i += 1) {
    const { pid, ids } = await app.fetch_json("POST", "/add", { queue: "work", jobs: [{ name: "sleep", data: { ms: 1 } }] });
    web.add(pid);
    const { result } = await app.ended_as(ids[0], "completed");
    assert.ok(!web.has(result.pid));
  }
  assert.equal(web.size, 1);
});

test("what another worker says of a job comes whole, also of one that is not kept", async (t) => {
  const app = await start(t, {
    settings: { "cluster.roles.web": 1, "cluster.roles.jobs": 1 },
    files: { "scripts/jobs/long.lua": `return { concurrency = 4, run = function(job)
      if job.data.fails then return nil, ("y"):rep(job.data.n) end
      return ("x"):rep(job.data.n)
    end }` },
    route: `
      local queue, task = require "perigee.queue", require "perigee.task"
      router:get("/long/:n", function(req)
        local q, n, told = queue.get "long", tonumber(req.params.n), {}
        for _, name in ipairs { "completed", "failed" } do
          q:on(name, function(event) told[name] = #(event.result or event.failure or "") end)
        end
        q:pause()
        local opts = { remove_on_complete = true, remove_on_fail = true }
        local done, failed = q:add("x", { n = n }, opts), q:add("x", { n = n, fails = true }, opts)
        task.spawn(function() task.sleep(100) q:resume() end)
        local result = task.all {
          function() return done:wait "10s" end,
          function() return { select(2, failed:wait "10s").message } end,
        }
        while not (told.completed and told.failed) do task.sleep(5) end
        return { #result[1], #result[2][1], told.completed, told.failed }
      end, { timeout = "20s" })`,
  });
  for (const n of [10, 29_000, 32_000, 2_000_000]) {
    assert.deepEqual((await app.get(`/long/${n}`)).json, [n, n, n, n]);
  }
});

test("a reload that changes the roles changes them at the next start", async (t) => {
  const roles = (web) => ({ "config/default.lua": `return { cluster = { roles = { web = ${web}, jobs = 1 } } }` });
  const app = await open(t, { files: { ...FILES, ...roles(1) } });
  app.write(roles(2));
  assert.equal((await app.command("reload")).code, 0);
  await app.line((l) => l.level === 40 && l.msg.startsWith("cluster.roles.web has changed"));
  const [id] = await add(app, [{ name: "sleep", data: { ms: 1 } }]);
  await app.ended_as(id, "completed");
});

test("a job that kills its worker each time fails, the others are done", async (t) => {
  const app = await open(t);
  // Paused meanwhile: the worker that adds is to live until it has answered.
  assert.equal((await app.command("queue", "pause", "work")).code, 0);
  const [poison, ...others] = await add(app, [
    { name: "poison" },
    ...Array.from({ length: 10 }, (_, n) => ({ name: "sleep", data: { ms: 300, n } })),
  ]);
  assert.equal((await app.command("queue", "resume", "work")).code, 0);
  assert.match((await app.ended_as(poison, "failed")).failure, /died 3 times/);
  for (const id of others) {
    await app.ended_as(id, "completed");
  }
});

test("schedules of the code run once a host", async (t) => {
  const app = await open(t, {
    files: {
      "scripts/jobs/tick.lua": `return { every = "300ms", data = { n = 1 }, run = function(job) return job.data end }`,
    },
  });
  await until(async () => (await app.counts("tick")).completed >= 3, { timeout_ms: 30_000 });
  const { json: list } = await app.get("/jobs/tick/completed");
  assert.equal(new Set(list.map((j) => j.id)).size, list.length);
  app.write({ "scripts/jobs/tick.lua": `return { queue = "other", run = function() end }` });
  assert.equal((await app.command("reload")).code, 0);
  await until(async () => {
    const before = await app.counts("tick");
    await new Promise((resolve) => setTimeout(resolve, 700));
    const after = await app.counts("tick");
    return before.completed === after.completed && after.waiting === before.waiting;
  });
});

test("jobs that stand in line when the host stops go back, and nothing is lost", async (t) => {
  const files = {
    "config/default.lua": "return { queue = { concurrency = 1 } }",
    "scripts/jobs/work.lua": `
      local host = require "perigee.host"
      local task = require "perigee.task"
      return { concurrency = 4, run = function(job)
        if job.name == "first" then
          while not io.open "var/go" do task.sleep(5) end
        end
        return { pid = host.pid, attempt = job.attempt }
      end }`,
  };
  const app = await open(t, { workers: 1, files });
  const [first, ...others] = await add(app, ["first", "second", "third", "fourth"].map((name) => ({ name })));
  await until(async () => (await app.counts()).active === 2); // one runs, one stands in line
  const pid = app.workers()[0];
  app.signal("SIGTERM");
  await until(async () => JSON.parse((await app.command("status", "--json")).stdout).workers.every((w) => w.state === "draining"));
  app.write({ "var/go": "" });
  assert.equal((await app.ended).code, 0);

  const next = await open(t, { workers: 1, dir: app.dir });
  const result_of = async (id) => (await until(async () => {
    const job = await next.job(id);
    return job.state === "completed" && job;
  })).result;
  assert.deepEqual(await result_of(first), { pid, attempt: 1 });
  for (const id of others) {
    assert.deepEqual(await result_of(id), { pid: next.workers()[0], attempt: 1 });
  }
});

test("what a definition says holds for its jobs, whichever queue they are in", async (t) => {
  const files = {
    "config/default.lua": "return { queue = { concurrency = 4 } }",
    "scripts/jobs/a_parts.lua": `
      local task = require "perigee.task"
      local now, most = {}, {}
      local function run(kind)
        return function(job)
          now[kind] = (now[kind] or 0) + 1
          most[kind] = math.max(most[kind] or 0, now[kind])
          task.sleep(15)
          now[kind] = now[kind] - 1
          return most[kind]
        end
      end
      return {
        { queue = "parts", name = "single", run = run "single" },
        { queue = "parts", concurrency = 3, run = run "other" },
        { every = "1h", data = { n = 1 }, run = run "tick" },
        { every = "1h", data = { n = 2 }, run = run "tock" },
      }`,
    "scripts/jobs/custom.lua": `return {
      run = function(job) error("attempt " .. job.attempt) end,
      backoff = function(failed, err, job)
        assert(tostring(err):find("attempt " .. failed, 1, true) and job.id)
        return failed < 3 and 5
      end,
    }`,
    "scripts/jobs/gate.lua": `return { concurrency = 4, run = function()
      repeat require("perigee.task").sleep(5) until io.open "var/go"
    end }`,
    // Each job's result: how many of both had begun then. It ends when some of
    // both stand in line again: the turn is given to one of them.
    "scripts/services/begun.lua": `
      local queue = require "perigee.queue"
      local task = require "perigee.task"
      local begun, running = { heavy = 0, light = 0 }, { heavy = 0, light = 0 }
      local function stand_in_line(kind)
        local counts = queue.get(kind):counts()
        return counts.waiting == 0 or counts.active - running[kind] >= 3
      end
      return function(kind)
        return function()
          begun[kind] = begun[kind] + 1
          running[kind] = running[kind] + 1
          local now = { heavy = begun.heavy, light = begun.light }
          repeat task.sleep(5) until stand_in_line "heavy" and stand_in_line "light"
          running[kind] = running[kind] - 1
          return now
        end
      end`,
    "scripts/jobs/heavy.lua": `return { concurrency = 20, weight = 3, run = require "services.begun" "heavy" }`,
    "scripts/jobs/light.lua": `return { concurrency = 20, run = require "services.begun" "light" }`,
  };
  const app = await open(t, { workers: 1, files });

  await t.test("its concurrency, among others of its queue", async () => {
    const ids = await add(app, Array.from({ length: 12 }, (_, n) => ({ name: n % 2 ? "single" : "x" })), "parts");
    const ended = await Promise.all(ids.map((id) => until(async () => {
      const job = await app.job(id, "parts");
      return job.state === "completed" && job;
    })));
    assert.ok(ended.every((job, n) => (n % 2 ? job.result === 1 : job.result <= 3)), JSON.stringify(ended.map((j) => j.result)));
  });

  await t.test("each schedule of a file is one", async () => {
    await until(async () => (await app.counts("a_parts")).completed === 2);
  });

  await t.test("its own backoff", async () => {
    const [id] = await add(app, [{ name: "x", opts: { attempts: 10, backoff: { type: "custom" } } }], "custom");
    const failed = await until(async () => {
      const job = await app.job(id, "custom");
      return job.state === "failed" && job;
    });
    assert.equal(failed.attempts, 3);
  });

  await t.test("its weight, while not all can run at once", async () => {
    await add(app, Array.from({ length: 4 }, () => ({ name: "x" })), "gate");
    await until(async () => (await app.counts("gate")).active === 4);
    for (const queue of ["heavy", "light"]) {
      await add(app, Array.from({ length: 120 }, () => ({ name: "x" })), queue);
    }
    app.write({ "var/go": "" });
    await until(async () => (await app.counts("heavy")).completed === 120, { timeout_ms: 30_000 });
    const { json: heavy } = await app.get("/jobs/heavy/completed");
    const { light } = heavy.map((each) => each.result).find((now) => now.heavy === 120);
    assert.ok(light > 20 && light < 80, `${light} of the light ones`);
    await until(async () => (await app.counts("light")).completed === 120, { timeout_ms: 30_000 });
  });
});

test("two definitions for the same jobs are a fault that names both", async (t) => {
  const run = "run = function() end";
  const app = await open(t);
  app.write({ "scripts/jobs/again.lua": `return { queue = "work", ${run} }` });
  const { code, stdout, stderr } = await app.command("check");
  assert.equal(code, 78);
  assert.match(stdout + stderr, /work\.lua:1: .*"work" are run by scripts\/jobs\/again\.lua/);
});

test("what an outbox holds is moved, whoever has left it there", async (t) => {
  const app = await open(t, { settings: { "queue.stalled_interval": "100ms" } });
  const done = await app.command("exec", `
    local db = require("perigee.sqlite").get()
    assert(db:transaction(function(tx)
      return assert(require("perigee.queue").get("work"):add_bulk({ { name = "echo", data = 1 }, { name = "echo", data = 2 } }, { tx = tx }))
    end))
    assert(db:exec [[INSERT INTO perigee_outbox(queue, name, data, opts) VALUES ('work', 'echo', '3', '{"job_id":"left"}')]])`);
  assert.equal(done.code, 0, done.stderr);
  await app.ended_as("left", "completed");
  await until(async () => (await app.counts()).completed === 3);
});

test("a row of an outbox that is no job stays, is told of, and holds up no other", async (t) => {
  const app = await open(t, { settings: { "queue.stalled_interval": "100ms" } });
  const done = await app.command("exec", `
    local db = require("perigee.sqlite").get()
    assert(db:transaction(function(tx)
      return assert(require("perigee.queue").get("work"):add("echo", 1, { tx = tx, job_id = "before" }))
    end))
    assert(db:exec [[INSERT INTO perigee_outbox(queue, name, data, opts) VALUES ('work', 'echo', '2', '{nope'),
      ('work', 'echo', '3', '{"job_id":"behind"}'), ('work', 'echo', '4', '7')]])`);
  assert.equal(done.code, 0, done.stderr);
  await app.ended_as("before", "completed");
  await app.ended_as("behind", "completed");
  await app.line((l) => l.level === 50 && /no job: its opts are no JSON object/.test(l.msg) && l.queue === "work");
  const left = await app.command("exec", 'return require("perigee.sqlite").get():query "SELECT data FROM perigee_outbox ORDER BY n"');
  assert.deepEqual(JSON.parse(left.stdout), [{ data: "2" }, { data: "4" }]);
});
