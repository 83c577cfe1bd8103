// The dashboard's paths on the admin listener: what they tell, who may ask, and
// what a page of another site can do to them.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { Connection, perigee, start, until } from "./helpers.mjs";

const ROUTE = `
  local task = require "perigee.task"
  router:get("/hello/:name", function(req) return { hello = req.params.name } end)
  router:get("/slow", function() task.sleep(60) return "slow" end)
  router:get("/late", function()
    return require("perigee.http").stream(function(out) out:write "begun" error "late" end)
  end)
  router:get("/broken", function() error "broken on purpose" end)
  router:post("/jobs", function(req)
    local job = assert(require("perigee.queue").get("mail"):add("letter", req:json()))
    return 201, { id = job.id }
  end)
`;

// Jobs fail until they are told to go well.
const JOBS = `
  local shared = require "perigee.shared"
  return { queue = "mail", run = function(job)
    if job.data.fails and not shared.dict("letters", { size = "64kb" }):get "go" then
      error("no such mailbox", 0)
    end
    job:log("sent to " .. tostring(job.data.to))
    return { sent = true }
  end }
`;

const GO = `
  router:post("/go", function()
    require("perigee.shared").dict("letters", { size = "64kb" }):set("go", true)
    return 204
  end)
`;

async function host(t, { settings, files, route = ROUTE, ...options } = {}) {
  const app = await start(t, { workers: 2, route, files, settings, ...options });
  app.admin = (await app.line((l) => l.msg === "listening" && l.admin)).port;
  return app;
}

/** One request on a connection of its own, with exactly these fields beside Host. */
async function ask(app, target, { method = "GET", headers = {}, body } = {}) {
  const all = { host: `127.0.0.1:${app.admin}`, connection: "close", ...headers };
  if (body !== undefined) {
    all["content-length"] = Buffer.byteLength(body);
  }
  const head = Object.entries(all).filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const connection = await Connection.open(app.admin);
  try {
    connection.write(`${method} ${target} HTTP/1.1\r\n${head}\r\n${body ?? ""}`);
    return await connection.answer({ head: method === "HEAD" });
  } finally {
    connection.end();
  }
}

const CHANGE = { "content-type": "application/json", "x-perigee-dashboard": "1" };

const change = (app, target, headers = {}) =>
  ask(app, `/dashboard/queues${target}`, { method: "POST", headers: { ...CHANGE, ...headers }, body: "{}" });

/** Server-sent events, one after the other. */
class Events {
  static async open(app) {
    const events = new Events();
    events.connection = await Connection.open(app.admin);
    events.connection.write(`GET /dashboard/events HTTP/1.1\r\nhost: 127.0.0.1:${app.admin}\r\n\r\n`);
    events.head = await events.connection.upto("\r\n\r\n");
    events.text = "";
    return events;
  }

  /** The next event of that name for which matches(data) holds. */
  async next(name, matches = () => true) {
    for (;;) {
      const end = this.text.indexOf("\n\n");
      if (end < 0) {
        const size = Number.parseInt(await this.connection.upto("\r\n"), 16);
        this.text += (await this.connection.bytes(size)).toString("utf8");
        await this.connection.upto("\r\n");
        continue;
      }
      const event = this.text.slice(0, end);
      this.text = this.text.slice(end + 2);
      const found = /^event: (\w+)\ndata: (.*)$/s.exec(event);
      if (found && found[1] === name) {
        const data = JSON.parse(found[2]);
        if (matches(data)) {
          return data;
        }
      }
    }
  }

  end() {
    this.connection.end();
  }
}

test("the page and its files come from the program, and may load nothing else", async (t) => {
  const app = await host(t, { workers: 1 });
  const root = await ask(app, "/");
  assert.deepEqual([root.status, root.headers.location], [302, "/dashboard"]);
  const page = await ask(app, "/dashboard");
  assert.equal(page.status, 200);
  assert.match(page.headers["content-type"], /^text\/html/);
  assert.match(page.headers["content-security-policy"], /^default-src 'none'; script-src 'self'/);
  assert.equal(page.headers["x-frame-options"], "DENY");
  const names = [...page.text.matchAll(/(?:src|href)="([^"#]+)"/g)].map((m) => m[1]);
  assert.ok(names.length >= 3);
  for (const name of names) {
    assert.match(name, /^\/dashboard\//);
    const file = await ask(app, name);
    assert.equal(file.status, 200, name);
    assert.equal(file.headers["x-content-type-options"], "nosniff");
  }
  assert.equal((await ask(app, "/dashboard", { method: "HEAD" })).status, 200);
  for (const name of ["/dashboard/none.js", "/dashboard/..%2fperigee%2fapp.lua", "/dashboard/../perigee/app.lua", "/dashboardx"]) {
    assert.equal((await ask(app, name)).status, 404, name);
  }
  const post = await ask(app, "/dashboard", { method: "POST", headers: CHANGE, body: "{}" });
  assert.deepEqual([post.status, post.headers.allow], [405, "GET, HEAD"]);
});

test("routes are told as counts that grow, added up over workers and statuses", async (t) => {
  const app = await host(t);
  for (let i = 0; i < 12; i++) {
    await app.get(`/hello/n${i}`);
  }
  for (let i = 0; i < 3; i++) {
    assert.equal((await app.get("/broken")).status, 500);
  }
  await assert.rejects(app.get("/late"));
  await app.get("/nowhere");
  const { json } = await ask(app, "/dashboard/state");
  const of = (route) => json.routes.find((each) => each.route === route);
  assert.equal(of("/hello/:name").total, 12);
  assert.equal(of("/hello/:name").counts.reduce((sum, n) => sum + n, 0), 12);
  assert.equal(json.bounds.length + 1, of("/hello/:name").counts.length);
  assert.equal(of("/broken").server_errors, 3);
  assert.equal(of("/late").server_errors, 1);
  assert.equal(of("").client_errors, 1);
  assert.equal(json.status.workers.length, 2);
  assert.equal(json.write, false);
});

test("the last refusal stays known, with its file and line, when a later reload goes well", async (t) => {
  const app = await host(t, { workers: 1 });
  const file = path.join(app.dir, "scripts/routes/bad.lua");
  writeFileSync(file, "return function(router)\n  router:get('/x', nothing.there)\nend\n");
  assert.equal((await app.command("reload")).code, 3);
  let { reloads } = (await ask(app, "/dashboard/state")).json;
  assert.match(reloads.last[0].reason, /scripts\/routes\/bad\.lua:2/);
  writeFileSync(file, "return function() end\n");
  assert.equal((await app.command("reload")).code, 0);
  ({ reloads } = (await ask(app, "/dashboard/state")).json);
  assert.deepEqual([reloads.ok, reloads.refused], [1, 1]);
  assert.equal(reloads.last[0].reason, null);
  assert.equal(reloads.last[0].generation, 2);
  assert.match(reloads.last[1].reason, /scripts\/routes\/bad\.lua:2/);
});

test("viewers hear numbers, log lines of all processes, and the slowest requests", async (t) => {
  const app = await host(t);
  await app.get("/hello/before");
  const events = await Events.open(app);
  t.after(() => events.end());
  assert.match(events.head, /text\/event-stream/);
  const first = await events.next("state");
  await events.next("log", ({ lines }) => lines.some((l) => JSON.parse(l).msg === "listening"));
  await app.get("/slow");
  await events.next("log", ({ lines }) => lines.some((l) => JSON.parse(l).req?.url === "/slow"));
  const { slow } = await events.next("slow", (told) => told.slow[0]?.name === "GET /slow");
  assert.ok(slow[0].took_us >= 60_000);
  assert.equal(slow[0].status, 200);
  assert.equal(slow[0].spans, undefined); // it was not traced
  const later = await events.next("state", ({ routes }) => routes.some((each) => each.route === "/slow"));
  assert.ok(later.monotonic_ms > first.monotonic_ms);
});

test("a traced request is told with its spans, without a collector", async (t) => {
  const app = await host(t, {
    workers: 1,
    settings: { "trace.enabled": "true", "trace.exporter": "none" },
    route: `
      local task, trace = require "perigee.task", require "perigee.trace"
      router:get("/work/:id", function()
        trace.span("outer", {}, function()
          trace.span("inner", {}, function() task.sleep(30) end)
        end)
        return "done"
      end)`,
  });
  await app.get("/work/7?token=hunter2");
  const { slow: [trace] } = (await ask(app, "/dashboard/slow")).json;
  assert.equal(trace.name, "GET /work/:id");
  assert.match(trace.trace_id, /^[0-9a-f]{32}$/);
  assert.equal(trace.detail, "/work/7");
  const outer = trace.spans.findIndex((span) => span.name === "outer");
  const inner = trace.spans.find((span) => span.name === "inner");
  assert.equal(inner.parent, outer);
  assert.equal(trace.spans[outer].parent, -1);
  assert.ok(inner.took_us >= 30_000 && inner.took_us <= trace.took_us);
  assert.ok(!JSON.stringify(trace).includes("hunter2"));
});

test("at most sixteen may look at once; who leaves makes room", async (t) => {
  const app = await host(t, { workers: 1 });
  const all = [];
  t.after(() => all.forEach((each) => each.end()));
  for (let i = 0; i < 16; i++) {
    all.push(await Events.open(app));
    await all.at(-1).next("state");
  }
  assert.equal((await ask(app, "/dashboard/events")).status, 503);
  all.pop().end();
  await until(async () => {
    const events = await Events.open(app);
    all.push(events);
    return / 200 /.test(events.head);
  });
});

test("a viewer that reads nothing loses events; the host's memory stays, and others see on", async (t) => {
  const app = await host(t, {
    workers: 1,
    route: `
      local log = require "perigee.log"
      router:get("/talk", function()
        for i = 1, 200 do log.info(("x"):rep(1000), { n = i }) end
        return "said"
      end)`,
  });
  const lazy = await Events.open(app);
  const keen = await Events.open(app);
  t.after(() => lazy.end());
  t.after(() => keen.end());
  lazy.connection.socket.pause();
  const rss = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${app.pid}/status`, "utf8"))[1]);
  await keen.next("state");
  const before = rss();
  for (let i = 0; i < 32; i++) { // 64 KB each
    await app.get("/talk");
    await keen.next("log", ({ lines }) => lines.length > 30);
  }
  assert.ok(rss() - before < 20_000, `the master grew by ${rss() - before} kB`);
  lazy.connection.socket.resume();
  const { events } = await lazy.next("missed");
  assert.ok(events > 0);
  await lazy.next("state");
});

test("viewers are let go of when the host stops", async (t) => {
  const app = await host(t, { workers: 1 });
  const events = await Events.open(app);
  t.after(() => events.end());
  await events.next("state");
  assert.deepEqual(await app.stop(), { code: 0, signal: null });
});

test("queues can be looked at, and are not changed unless that is allowed", async (t) => {
  const app = await host(t, { files: { "scripts/jobs/mail.lua": JOBS } });
  await app.post("/jobs", { to: "ada", fails: true, api_key: "hunter2", deep: { Password: "hunter2" } });
  const { jobs: [failed] } = await until(async () => {
    const { json } = await ask(app, "/dashboard/queues/mail?state=failed");
    return json.jobs.length === 1 && json;
  });
  assert.equal(failed.failure, "no such mailbox");
  const { json } = await ask(app, "/dashboard/queues");
  assert.deepEqual(json.queues.map((q) => [q.name, q.paused, q.counts.failed]), [["mail", false, 1]]);
  const job = await ask(app, `/dashboard/queues/mail/${failed.id}`);
  assert.equal(JSON.parse(job.json.data).to, "ada");
  assert.ok(!job.text.includes("hunter2"));
  for (const target of ["/mail/pause", `/mail/${failed.id}/retry`, "/mail/retry"]) {
    const refused = await change(app, target);
    assert.equal(refused.status, 403);
    assert.match(refused.json.detail, /read-only/);
  }
  assert.equal((await ask(app, "/dashboard/queues/mail/none")).status, 404);
  assert.equal((await ask(app, "/dashboard/queues/mail?state=none")).status, 400);
  assert.equal((await ask(app, "/dashboard/queues/mail?from=-1")).status, 400);
  assert.equal((await ask(app, "/dashboard/queues/mail?from=abc")).status, 400);
  assert.equal((await ask(app, "/dashboard/queues/a:b")).status, 404);
});

test("text of jobs is shown whatever its bytes, and cut between characters", async (t) => {
  const app = await host(t, {
    files: {
      "scripts/jobs/mail.lua": `return { queue = "mail", run = function(job)
        job:log("x" .. ("é"):rep(9000))
        error(job.data.odd and "no \\255 mailbox" or "x" .. ("é"):rep(9000), 0)
      end }`,
    },
  });
  const failed = async (count) => (await until(async () => {
    const { json } = await ask(app, "/dashboard/queues/mail?state=failed");
    return json.jobs?.length === count && json;
  })).jobs;
  await app.post("/jobs", { to: `x${"é".repeat(9000)}` });
  const [long] = await failed(1);
  assert.match(long.failure, /^xé+ \.\.\.$/);
  const { json } = await ask(app, `/dashboard/queues/mail/${long.id}`);
  for (const text of [json.data, json.failure, json.logs[0]]) {
    assert.match(text, /xé+ \.\.\.$/);
  }
  await app.post("/jobs", { odd: true });
  assert.ok((await failed(2)).some((job) => job.failure === "no \ufffd mailbox"));
  const shown = await perigee(["queue", "show", "mail", "--json"], { cwd: app.dir });
  assert.equal(shown.code, 0, shown.stderr);
  assert.ok(JSON.parse(shown.stdout).jobs.some((job) => job.failure === "no \ufffd mailbox"));
});

test("a host without queues gets none by being looked at", async (t) => {
  const app = await host(t, { workers: 1 });
  assert.deepEqual((await ask(app, "/dashboard/queues")).json, { queues: [] });
  assert.throws(() => readFileSync(path.join(app.dir, "var/queue.sqlite")), { code: "ENOENT" });
});

test("where it is allowed, jobs are run again and queues are paused", async (t) => {
  const app = await host(t, {
    files: { "scripts/jobs/mail.lua": JOBS },
    settings: { "admin.dashboard.write": "true" },
    route: ROUTE + GO,
  });
  const counts = async () => (await ask(app, "/dashboard/queues")).json.queues[0];
  for (const to of ["ada", "bob", "eve"]) {
    await app.post("/jobs", { to, fails: true });
  }
  await until(async () => (await counts())?.counts.failed === 3);
  const { json: { jobs } } = await ask(app, "/dashboard/queues/mail?state=failed");
  await app.post("/go", {});
  assert.equal((await change(app, `/mail/${jobs[0].id}/retry`)).status, 200);
  await until(async () => (await counts()).counts.completed === 1);
  assert.deepEqual((await change(app, "/mail/retry")).json, { retried: 2 });
  await until(async () => (await counts()).counts.completed === 3);
  assert.equal((await change(app, `/mail/${jobs[0].id}/promote`)).status, 409);
  assert.equal((await change(app, "/mail/none/retry")).status, 404);
  assert.equal((await change(app, "/mail/nonsense")).status, 404);
  assert.equal((await change(app, "/mail/pause")).status, 200);
  assert.equal((await counts()).paused, true);
  await app.post("/jobs", { to: "later" });
  await until(async () => (await counts()).counts.paused === 1);
  assert.equal((await change(app, "/mail/resume")).status, 200);
  await until(async () => (await counts()).counts.completed === 4);
  const { json } = await ask(app, `/dashboard/queues/mail/${jobs[0].id}`);
  assert.deepEqual(json.logs, [`sent to ${JSON.parse(json.data).to}`]);
});

test("development may change what there is", async (t) => {
  const app = await host(t, { workers: 1, env: "development", settings: { "log.format": "json" } });
  assert.equal((await ask(app, "/dashboard/state")).json.write, true);
});

test("a name that was pointed here (DNS rebinding) gets nothing", async (t) => {
  const app = await host(t, {
    workers: 1,
    settings: { "admin.dashboard": '{"hosts":["ops.example.org"],"write":true}' },
  });
  const port = app.admin;
  for (const name of ["evil.example", `evil.example:${port}`, `localhost.evil.example:${port}`, `127.0.0.1.evil.example:${port}`,
    `xlocalhost:${port}`, `notops.example.org:${port}`]) {
    for (const target of ["/", "/dashboard", "/dashboard/state", "/dashboard/events", "/dashboard/app.js", "/dashboard/queues"]) {
      const answer = await ask(app, target, { headers: { host: name } });
      assert.equal(answer.status, 403, `${name} ${target}`);
    }
    assert.equal((await change(app, "/mail/pause", { host: name })).status, 403);
    // Those who scrape may come by any name.
    assert.equal((await ask(app, "/metrics", { headers: { host: name } })).status, 200);
  }
  for (const name of [`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`, `LOCALHOST:${port}`, `ops.example.org`]) {
    assert.equal((await ask(app, "/dashboard/state", { headers: { host: name } })).status, 200, name);
  }
});

test("a page of another site can neither read nor change anything", async (t) => {
  const app = await host(t, { workers: 1, settings: { "admin.dashboard.write": "true" } });
  const own = `http://127.0.0.1:${app.admin}`;
  for (const target of ["/dashboard/state", "/dashboard/events", "/dashboard/queues", "/dashboard/slow", "/dashboard/app.js"]) {
    for (const headers of [
      { origin: "https://evil.example" }, { origin: "null" }, { origin: "http://127.0.0.1:3000" },
      { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script" },
      { "sec-fetch-site": "same-site" },
      { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" },
    ]) {
      assert.equal((await ask(app, target, { headers })).status, 403, JSON.stringify([target, headers]));
    }
  }
  // A link to the page itself is one; to see it in a frame is none.
  const link = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" };
  assert.equal((await ask(app, "/dashboard", { headers: { ...link, "sec-fetch-dest": "document" } })).status, 200);
  assert.equal((await ask(app, "/dashboard", { headers: { ...link, "sec-fetch-dest": "iframe" } })).status, 403);

  const pause = (headers) => ask(app, "/dashboard/queues/mail/pause", { method: "POST", headers, body: "{}" });
  for (const headers of [
    {}, { "content-type": "application/json" }, { "x-perigee-dashboard": "1" },
    { "x-perigee-dashboard": "1", "content-type": "text/plain" },
    { "x-perigee-dashboard": "1", "content-type": "application/jsonp" },
    { ...CHANGE, origin: "https://evil.example" }, { ...CHANGE, origin: `${own}.evil.example` },
    { ...CHANGE, "sec-fetch-site": "same-site" },
  ]) {
    assert.equal((await pause(headers)).status, 403, JSON.stringify(headers));
  }
  assert.equal((await pause({ ...CHANGE, origin: own, "sec-fetch-site": "same-origin" })).status, 200);
  const preflight = await ask(app, "/dashboard/queues/mail/pause", {
    method: "OPTIONS",
    headers: { origin: "https://evil.example", "access-control-request-method": "POST" },
  });
  assert.ok(preflight.status >= 400);
  assert.equal(preflight.headers["access-control-allow-origin"], undefined);
});

test("a profile is taken for the page alone, one at a time", async (t) => {
  const app = await host(t);
  const take = (query, headers = CHANGE) =>
    ask(app, `/dashboard/profile${query}`, { method: "POST", headers, body: "{}" });
  assert.equal((await ask(app, "/dashboard/profile")).status, 405);
  assert.equal((await take("?seconds=1", {})).status, 403);
  for (const query of ["?seconds=0", "?seconds=31", "?seconds=1x", "?kind=none", "?seconds=-1"]) {
    assert.equal((await take(query)).status, 400, query);
  }
  const leaver = await Connection.open(app.admin); // who leaves ends it
  leaver.write(`POST /dashboard/profile?seconds=30 HTTP/1.1\r\nhost: 127.0.0.1:${app.admin}\r\ncontent-type: application/json\r\nx-perigee-dashboard: 1\r\ncontent-length: 0\r\n\r\n`);
  await until(async () => (await take("?seconds=1")).status === 409);
  leaver.end();
  const { json } = await until(async () => {
    const answer = await take("?seconds=1");
    return answer.status === 200 && answer;
  });
  assert.match(json.summary, /2 workers/);
  assert.equal(typeof json.stacks, "string");
});

test("it can be switched off, and on again by a reload", async (t) => {
  const app = await host(t, {
    workers: 1,
    files: { "config/default.lua": "return { admin = { dashboard = false } }\n" },
  });
  for (const target of ["/", "/dashboard", "/dashboard/state", "/dashboard/events", "/dashboard/queues"]) {
    assert.equal((await ask(app, target)).status, 404, target);
  }
  assert.equal((await ask(app, "/metrics")).status, 200);
  app.write({ "config/default.lua": "return { admin = { dashboard = true } }\n" });
  assert.equal((await app.command("reload")).code, 0);
  assert.equal((await ask(app, "/dashboard")).status, 200);
});
