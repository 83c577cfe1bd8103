// perigee profile: CPU time by call stack of a host that serves, and what it
// does to those whom it serves.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { text as all_of } from "node:stream/consumers";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import protobuf from "protobufjs";

import { PROGRAM, app_dir, perigee, start, until } from "./helpers.mjs";

const WORK = `local M = {}

-- Compiled: a loop of one line that calls nothing.
local function add(n)
  local sum = 0
  for i = 1, n do sum = sum + i % 7 end
  return sum
end

function M.spin(ms)
  local till = os.clock() + ms / 1000
  local sum = 0
  while os.clock() < till do
    sum = sum + add(20000)
  end
  return sum
end

M.build = function(ms)
  local till = os.clock() + ms / 1000
  local kept
  while os.clock() < till do
    kept = {}
    for i = 1, 1000 do kept[i] = { i } end
  end
  return #kept
end

local kept = {}

function M.keep()
  for i = 1, 1000 do kept[#kept + 1] = { name = "number " .. i } end
end

return M
`;

const ROUTE = `
  local task = require "perigee.task"
  local work = require "services.work"
  router:get("/spin/:ms", function(req) return { sum = work.spin(tonumber(req.params.ms)) } end)
  router:get("/build/:ms", function(req) return { n = work.build(tonumber(req.params.ms)) } end)
  router:get("/sleep/:ms", function(req) task.sleep(tonumber(req.params.ms)) return "slept" end)
  router:get("/coroutine", function()
    local step = coroutine.wrap(function() for i = 1, 3 do work.spin(20) coroutine.yield(i) end end)
    return { step(), step(), step() }
  end)
  router:get("/forever", function() local x = 0 while true do x = x + 1 end end)
  router:get("/keep", function() work.keep() return "kept" end)
  router:get("/ok", function() return "ok" end)
`;

const FILES = { "scripts/services/work.lua": WORK };

function host(t, options = {}) {
  return start(t, { route: ROUTE, files: FILES, ...options });
}

// Until a profile is being taken; asks for none itself.
function taken(app) {
  return until(async () => {
    const { code, stderr } = await app.command("profile", "--cpu", "1ms", "--worker", "255");
    assert.equal(code, 1);
    return stderr.includes("a profile is being taken already");
  }, { what: "a profile" });
}

// Asks for the targets, one after the other, until the promise is settled.
async function load(app, targets, promise) {
  let done = false;
  promise.finally(() => { done = true; });
  const one = async (target) => {
    while (!done) {
      await app.get(target);
    }
  };
  await Promise.all(targets.map(one));
  return promise;
}

/** {stack: value} of collapsed lines. */
function stacks_of(text) {
  return Object.fromEntries(text.trimEnd().split("\n").filter(Boolean).map((line) => {
    const at = line.lastIndexOf(" ");
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }));
}

function sum(stacks, matches) {
  return Object.entries(stacks).filter(([key]) => matches.test(key)).reduce((n, [, value]) => n + value, 0);
}

// A profile that is being taken; end() gives what there is by then.
async function profiling(app) {
  const child = spawn(PROGRAM, ["profile", "--cpu", "5m", "--format", "collapsed"], { cwd: app.dir, stdio: ["ignore", "pipe", "pipe"] });
  const said = Promise.all([child.stdout, child.stderr].map(all_of));
  const ended = once(child, "close");
  await taken(app);
  return {
    async end() {
      child.kill("SIGINT");
      const [code] = await ended;
      const [stdout, stderr] = await said;
      assert.equal(code, 0, stderr);
      return { stacks: stacks_of(stdout), stderr };
    },
  };
}

// A profile of so many answers of each target, however long they take.
async function collapsed(app, targets, times) {
  const profile = await profiling(app);
  await Promise.all(targets.map(async (target) => {
    for (let i = 0; i < times; i++) {
      await app.get(target);
    }
  }));
  return profile.end();
}

test("a CPU profile names routes and functions, of compiled code too, and the collector", async (t) => {
  const app = await host(t);
  const { stacks, stderr } = await collapsed(app, ["/spin/20", "/build/20", "/coroutine"], 20);
  assert.match(stderr, /1 worker, [\d.]+ s of CPU time in [\d.]+ s, \d+ samples/);
  assert.ok(sum(stacks, /^GET \/spin\/:ms;.*routes\/test\.lua:[^;]*;services\/work\.lua:spin:10;services\/work\.lua:add:4/) > 5, JSON.stringify(stacks));
  assert.ok(sum(stacks, /^GET \/build\/:ms;.*services\/work\.lua:build:19/) > 5, JSON.stringify(stacks));
  assert.ok(sum(stacks, /build:19;\[gc\]$/) > 0, JSON.stringify(stacks));
  // Of the handler's own coroutine and of who resumed it.
  assert.ok(sum(stacks, /^GET \/coroutine;.*routes\/test\.lua.*resume;.*services\/work\.lua:spin:10/) > 0, JSON.stringify(stacks));
});

test("what waits is not counted", async (t) => {
  const app = await host(t);
  const { stacks } = await collapsed(app, ["/sleep/50", "/sleep/51"], 15);
  assert.ok(sum(stacks, /./) < 100, JSON.stringify(stacks)); // of 750 at the least, did it count
});

test("workers are added up, and one can be chosen", async (t) => {
  const app = await host(t, { workers: 2 });
  const both = await collapsed(app, Array(8).fill("/spin/10"), 10);
  assert.match(both.stderr, /2 workers/);
  const { code, stderr } = await app.command("profile", "--cpu", "100ms", "--worker", "1");
  assert.equal(code, 0);
  assert.match(stderr, /1 worker,/);
  const none = await app.command("profile", "--cpu", "100ms", "--worker=7");
  assert.deepEqual([none.code, none.stdout, none.stderr], [1, "", "perigee: there is no worker 7 that serves\n"]);
});

// What of profile.proto is read here.
const PROTO = `syntax = "proto3";
message ValueType { int64 type = 1; int64 unit = 2; }
message Label { int64 key = 1; int64 str = 2; int64 num = 3; int64 num_unit = 4; }
message Sample { repeated uint64 location_id = 1; repeated int64 value = 2; repeated Label label = 3; }
message Line { uint64 function_id = 1; int64 line = 2; int64 column = 3; }
message Location { uint64 id = 1; uint64 mapping_id = 2; uint64 address = 3; repeated Line line = 4; bool is_folded = 5; }
message Function { uint64 id = 1; int64 name = 2; int64 system_name = 3; int64 filename = 4; int64 start_line = 5; }
message Profile {
  repeated ValueType sample_type = 1; repeated Sample sample = 2; repeated Location location = 4;
  repeated Function function = 5; repeated string string_table = 6; int64 time_nanos = 9; int64 duration_nanos = 10;
  ValueType period_type = 11; int64 period = 12; repeated int64 comment = 13; int64 default_sample_type = 14;
}`;

function decode_pprof(file) {
  const type = protobuf.parse(PROTO, { keepCase: true }).root.lookupType("Profile");
  const p = type.toObject(type.decode(gunzipSync(readFileSync(file))), { longs: Number, defaults: true });
  const text = (i) => p.string_table[i];
  const functions = new Map(p.function.map((f) => [f.id, {
    name: text(f.name), file: text(f.filename), start: f.start_line,
  }]));
  const places = new Map(p.location.map((l) => [l.id, { ...functions.get(l.line[0].function_id), line: l.line[0].line }]));
  return {
    raw: p,
    types: p.sample_type.map((v) => [text(v.type), text(v.unit)]),
    shown: text(p.default_sample_type),
    samples: p.sample.map((s) => ({
      values: s.value,
      frames: s.location_id.map((id) => places.get(id)),
      labels: Object.fromEntries(s.label.map((l) => [text(l.key), text(l.str)])),
    })),
  };
}

test("pprof is what profile.proto says, with counts and nanoseconds", async (t) => {
  const app = await host(t);
  const file = path.join(app.dir, "cpu.pb.gz");
  const asked_ms = Date.now();
  const { code, stdout, stderr } = await load(app, ["/spin/20"],
    app.command("profile", "--cpu", "1s", "--format", "pprof", "-o", file));
  assert.equal(code, 0, stderr);
  assert.equal(stdout, "");
  assert.match(stderr, /written to .*cpu\.pb\.gz/);
  const p = decode_pprof(file);
  assert.equal(p.raw.string_table[0], "");
  assert.deepEqual(p.types, [["samples", "count"], ["cpu", "nanoseconds"]]);
  assert.equal(p.shown, "cpu");
  assert.ok(Math.abs(p.raw.time_nanos / 1e6 - asked_ms) < 60_000);
  assert.ok(p.raw.duration_nanos >= 1e9);
  const cpu_ns = p.samples.reduce((n, s) => n + s.values[1], 0);
  const count = p.samples.reduce((n, s) => n + s.values[0], 0);
  assert.ok(cpu_ns > 0 && cpu_ns < p.raw.duration_nanos * 1.1, `${cpu_ns} of ${p.raw.duration_nanos}`);
  assert.ok(cpu_ns / count >= 0.5e6, "a sample is a millisecond at the least, or so");
  const hot = p.samples.find((s) => s.frames[0].name === "services/work.lua:add:4" && s.labels.state === "compiled");
  assert.ok(hot, JSON.stringify(p.samples));
  assert.deepEqual({ ...hot.frames[0], line: 0 }, { name: "services/work.lua:add:4", file: "services/work.lua", start: 4, line: 0 });
  assert.ok(hot.frames[0].line >= 4 && hot.frames[0].line <= 8, JSON.stringify(hot.frames));
  assert.equal(hot.frames.at(-1).name, "GET /spin/:ms");
});

test("a flame graph is one file that loads nothing", async (t) => {
  const app = await host(t);
  const { code, stdout } = await load(app, ["/spin/20"], app.command("profile", "--cpu=500ms"));
  assert.equal(code, 0);
  assert.match(stdout, /^<svg [^]*<\/svg>\n$/);
  assert.match(stdout, /<title>services\/work\.lua:spin:10 \([\d.]+ ms, [\d.]+ %\)<\/title>/);
  const urls = [...stdout.matchAll(/https?:\/\/[^"' <]*/g)].map(([url]) => url);
  assert.deepEqual([...new Set(urls)].sort(), ["http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"]);
});

test("a heap profile tells who allocates, what is kept, and of which types", async (t) => {
  const app = await host(t, { workers: 2 });
  const file = path.join(app.dir, "heap.pb.gz");
  const { code, stderr } = await load(app, ["/keep", "/keep", "/build/5"],
    app.command("profile", "--heap", "1s", "--format", "pprof", "-o", file));
  assert.equal(code, 0, stderr);
  assert.match(stderr, /2 workers, [\d.]+ MB allocated in [\d.]+ s, [\d.]+ MB of it still there; objects counted in slices of [\d.]+ ms/);
  assert.match(stderr, /heap [\d.]+ MB, of it table \d+ \([\d.]+ MB\)/);
  for (const type of ["string", "function", "upvalue", "thread", "userdata"]) {
    assert.match(stderr, new RegExp(`, ${type} [1-9]\\d* \\(`));
  }
  const p = decode_pprof(file);
  assert.deepEqual(p.types, [["alloc_objects", "count"], ["alloc_space", "bytes"], ["inuse_objects", "count"], ["inuse_space", "bytes"]]);
  assert.equal(p.shown, "alloc_space");
  const of = (name, value) => p.samples.filter((s) => s.frames.some((f) => f.name.startsWith(name)))
    .reduce((n, s) => n + s.values[value], 0);
  assert.ok(of("services/work.lua:build:", 1) > 1e6);
  assert.ok(of("services/work.lua:build:", 0) > 1000);
  assert.ok(of("services/work.lua:keep:", 3) > of("services/work.lua:keep:", 1) / 4, "what is kept is there");
  assert.ok(of("services/work.lua:build:", 3) < of("services/work.lua:build:", 1) / 2, "what is not is gone");
  assert.ok(p.samples.every((s) => s.values[2] <= s.values[0] && s.values[3] <= s.values[1]));
});

test("a heap is counted whole while requests are served, and its count is right", async (t) => {
  const app = await host(t);
  const before = (await app.command("profile", "--heap", "1ms")).stderr;
  for (let i = 0; i < 20; i++) {
    await app.get("/keep");
  }
  const during = app.command("profile", "--heap", "100ms");
  await load(app, ["/ok", "/build/1"], during);
  const tables = (text) => Number(/table (\d+)/.exec(text)[1]);
  const kept = tables((await during).stderr) - tables(before);
  assert.ok(kept >= 20000 && kept < 21500, `${kept} of 20,000 tables`);
});

test("a budget still stops a handler while its host is profiled", async (t) => {
  const app = await host(t, { settings: { "limits.cpu_per_request": "100ms" } });
  const profile = app.command("profile", "--cpu", "60s", "--format", "collapsed", "-o", path.join(app.dir, "out.txt"));
  await taken(app);
  for (let i = 0; i < 3; i++) {
    assert.equal((await app.get("/forever")).status, 504);
    assert.equal((await app.get("/ok")).text, "ok");
  }
  await app.stop();
  assert.equal((await profile).code, 0); // it ends with the host
  const stacks = stacks_of(readFileSync(path.join(app.dir, "out.txt"), "utf8"));
  assert.ok(sum(stacks, /^GET \/forever;/) >= 10, JSON.stringify(stacks));
});

test("after a profile a handler is stopped as before", async (t) => {
  const app = await host(t, { settings: { "limits.cpu_per_request": "100ms" } });
  assert.equal((await app.command("profile", "--cpu", "50ms")).code, 0);
  assert.equal((await app.get("/forever")).status, 504);
  assert.equal((await app.get("/ok")).text, "ok");
});

test("Ctrl-C ends it with what there is; a second profile is refused meanwhile", async (t) => {
  const app = await host(t);
  const child = spawn(PROGRAM, ["profile", "--cpu", "5m", "--format", "collapsed"], { cwd: app.dir, stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  let out = "";
  child.stdout.setEncoding("utf8").on("data", (text) => { out += text; });
  await taken(app);
  const refused = await app.command("profile", "--cpu", "1ms");
  assert.deepEqual([refused.code, refused.stdout], [1, ""]);
  assert.match(refused.stderr, /a profile is being taken already/);
  await app.get("/spin/200");
  child.kill("SIGINT");
  const [code] = await once(child, "close");
  assert.equal(code, 0);
  assert.ok(sum(stacks_of(out), /services\/work\.lua:spin:10/) > 0, out);
  assert.equal((await app.command("profile", "--cpu", "1ms")).code, 0);
});

test("a client that goes away leaves no profile behind", async (t) => {
  const app = await host(t);
  const child = spawn(PROGRAM, ["profile", "--cpu", "5m"], { cwd: app.dir, stdio: "ignore" });
  await taken(app);
  child.kill("SIGKILL");
  await until(async () => (await app.command("profile", "--cpu", "1ms")).code === 0, { what: "another one" });
});

test("a worker that dies is missing from a profile, and is said to be", async (t) => {
  const app = await host(t, { workers: 2 });
  const profile = app.command("profile", "--cpu", "1500ms", "--format", "collapsed");
  await taken(app);
  process.kill(app.workers()[0], "SIGKILL");
  const { code, stderr } = await profile;
  assert.equal(code, 0);
  assert.match(stderr, /1 worker \(1 more did not answer\)/);
});

test("old and new code are both there when it is replaced meanwhile", async (t) => {
  const app = await host(t, { settings: { "reload.drain": "20s" } });
  const profile = await profiling(app);
  await app.get("/spin/100");
  app.write({ "scripts/services/work.lua": WORK.replaceAll("spin", "turn"), "scripts/routes/test.lua":
    `return function(router) router:get("/turn", function() return { sum = require("services.work").turn(100) } end) end` });
  assert.equal((await app.command("reload")).code, 0);
  await app.get("/turn");
  const { stacks } = await profile.end();
  assert.ok(sum(stacks, /work\.lua:spin:10/) > 0, JSON.stringify(stacks));
  assert.ok(sum(stacks, /work\.lua:turn:10/) > 0, JSON.stringify(stacks));
});

test("the command line is looked at", async (t) => {
  const dir = app_dir(t, { files: {} });
  for (const [args, said] of [
    [[], /profile takes --cpu or --heap/],
    [["--cpu", "--heap"], /profile takes --cpu or --heap/],
    [["--cpu", "6m"], /--cpu must be a duration from 1ms to 5m \(10s\), not "6m"/],
    [["--cpu", "0s"], /--cpu must be a duration/],
    [["--cpu=soon"], /--cpu must be a duration/],
    [["--cpu", "1s", "--format", "sgv"], /--format must be svg, pprof or collapsed, not "sgv"; did you mean "svg"\?/],
    [["--cpu", "1s", "--worker", "x"], /--worker must be a number/],
  ]) {
    const { code, stdout, stderr } = await perigee(["profile", ...args], { cwd: dir });
    assert.equal(code, 2, args.join(" "));
    assert.equal(stdout, "");
    assert.match(stderr, said);
  }
  for (const [file, said] of [["away/x.svg", /away\/x\.svg: No such file/], [".", /\.: Is a directory/]]) {
    const { code, stderr } = await perigee(["profile", "--cpu", "1s", "-o", file], { cwd: dir });
    assert.equal(code, 1);
    assert.match(stderr, said); // before it looks for a host
  }
  const { code, stderr } = await perigee(["profile", "--cpu", "1s", "-o", "x.svg"], { cwd: dir });
  assert.ok(!existsSync(path.join(dir, "x.svg")));
  assert.equal(code, 1);
  assert.match(stderr, /no host runs in/);
});
