// The command line itself: help, wrong words, exit codes.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { app_dir, perigee } from "./helpers.mjs";

const COMMANDS = [
  "run", "dev", "check", "routes", "config", "test", "new", "exec", "repl", "reload", "rollback", "status", "stop",
  "reopen", "queue", "pretty", "logs", "log-level", "version", "help",
];

test("without a command it lists the commands", async () => {
  for (const args of [[], ["help"], ["--help"], ["-h"]]) {
    const { code, stdout, stderr } = await perigee(args);
    assert.equal(code, 0);
    assert.equal(stderr, "");
    for (const name of COMMANDS) {
      assert.match(stdout, new RegExp(`^  ${name} `, "m"));
    }
    assert.doesNotMatch(stdout, /^ {2}(worker|stage) /m);
  }
});

test("every command explains itself", async () => {
  for (const name of COMMANDS) {
    for (const args of [["help", name], [name, "--help"], [name, "-h"]]) {
      const { code, stdout } = await perigee(args);
      assert.equal(code, 0, args.join(" "));
      assert.match(stdout, new RegExp(`^usage: perigee ${name}\\b`));
    }
  }
});

test("a wrong word on the command line is exit 2, with what was meant", async () => {
  const cases = [
    [["rn"], /no command "rn"; did you mean "run"\?/],
    [["relaod"], /did you mean "reload"\?/],
    [["zzzzzz"], /no command "zzzzzz"\n/],
    [["help", "confg"], /did you mean "config"\?/],
    [["--port", "1"], /a command comes first/],
    [["run", "--prot", "1"], /run takes no --prot; did you mean "--port"\?/],
    [["run", "-x"], /run takes no -x/],
    [["run", "--json"], /run takes no --json/],
    [["run", "a", "b"], /one word too many: "b"/],
    [["run", "-p"], /--port needs a value/],
    [["run", "-p", "abc"], /--port must be a number from 0 to 65535, not "abc"/],
    [["run", "-p", "65536"], /--port must be/],
    [["run", "-p", "-1"], /--port must be/],
    [["run", "--port="], /--port must be/],
    [["run", "-w", "0"], /--workers must be auto or a number from 1 to 256/],
    [["run", "-w", "1.5"], /--workers must be/],
    [["run", "-w", "257"], /--workers must be/],
    [["run", "-H", ""], /--host must not be empty/],
    [["run", "-e", "prod"], /--env must be .*; did you mean "production"\?/],
    [["run", "--log-level", "warning"], /--log-level must be .*; did you mean "warn"\?/],
    [["run", "--set", "http.port"], /--set must be KEY=VALUE/],
    [["run", "--set", "=1"], /--set must be KEY=VALUE/],
    [["check", "--json=1"], /--json takes no value/],
    [["version", "x"], /one word too many/],
    [["new"], /new needs a name/],
    [["exec"], /exec needs Lua to evaluate/],
    [["logs", "--trace-id", ""], /--trace-id must be up to 32 hexadecimal digits of lower case, not ""/],
    [["logs", "--trace-id", "4bf9xy"], /--trace-id must be/],
    [["logs", "--trace-id", "4BF9"], /--trace-id must be/],
    [["logs", "--trace-id", "0".repeat(33)], /--trace-id must be/],
    [["log-level"], /log-level needs a level/],
    [["log-level", "loud"], /a level is trace, debug, info, .*, not "loud"/],
    [["log-level", "services="], /a level is .*, not ""/],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await perigee(args);
    assert.equal(code, 2, `${args.join(" ")}: ${stderr}`);
    assert.match(stderr, message);
    assert.equal(stdout, "");
  }
});

test("a wrong option of `perigee test` is exit 2; a spec that fails, or is not there, exit 1", async (t) => {
  const dir = app_dir(t, {
    files: { "config/default.lua": "return {}", "spec/a_spec.lua": 'it("fails", function() error("on purpose") end)', "spec/b_spec.lua": 'it("passes", function() end)' },
  });
  const cases = [
    [["--bad-option"], 2], [["--repeat=often"], 2], [["spec/b_spec.lua", "--tags"], 2],
    [["spec/a_spec.lua"], 1], [["spec/none_spec.lua"], 1], [["spec/b_spec.lua"], 0],
  ];
  for (const [words, expected] of cases) {
    const { code, stderr } = await perigee(["test", ...words], { cwd: dir });
    assert.equal(code, expected, words.join(" "));
    assert.equal(stderr !== "", expected === 2, stderr);
  }
});

test("flags may stand anywhere, in all their forms", async (t) => {
  const dir = app_dir(t, { route: "" });
  for (const args of [
    ["config", dir, "--json", "-p", "81"], ["config", "-p81", "--json", dir], ["config", "--port", "81", dir, "--json"],
    ["config", "--port=81", "--json", "--", dir], ["config", "--json", "--set", "http.port=81", dir],
  ]) {
    const { code, stdout, stderr } = await perigee(args);
    assert.equal(code, 0, stderr);
    const port = JSON.parse(stdout).find((entry) => entry.key === "http.port");
    assert.equal(port.value, 81);
    assert.match(port.source, /^flag --(port|set http\.port)$/);
  }
});

test("version tells what it is made of", async () => {
  const text = await perigee(["version"]);
  assert.equal(text.code, 0);
  assert.match(text.stdout, /^perigee \d+\.\d+\.\d+$/m);
  const { code, stdout } = await perigee(["version", "--json"]);
  assert.equal(code, 0);
  const version = JSON.parse(stdout);
  assert.match(version.version, /^\d+\.\d+\.\d+$/);
  assert.match(version.luajit, /^2\.1/);
  assert.equal(typeof version.gc64, "boolean");
  for (const name of ["libuv", "llhttp", "sqlite", "openssl"]) {
    assert.match(version.libraries[name], /^\d+\.\d+/);
  }
  assert.deepEqual(version.drivers, ["embedded", "redis"]);
});

test("what is no application is told so", async (t) => {
  const dir = app_dir(t);
  const empty = await perigee(["run", dir]);
  assert.equal(empty.code, 78);
  assert.match(empty.stderr, /no application here/);
  const gone = await perigee(["run", `${dir}/gone`]);
  assert.equal(gone.code, 78);
  assert.match(gone.stderr, /gone: No such file or directory/);
});

test("commands for a running host say when there is none", async (t) => {
  const dir = app_dir(t, { route: "" });
  for (const name of ["reload", "rollback", "status", "stop", "reopen"]) {
    const { code, stderr, stdout } = await perigee([name, dir]);
    assert.equal(code, 1);
    assert.match(stderr, /no host runs in/);
    assert.equal(stdout, "");
  }
});

test("a command leaves nothing behind where there is no application", async (t) => {
  const dir = app_dir(t, { files: { "notes.txt": "" } });
  for (const args of [["exec", "1"], ["repl"], ["test"], ["queue", "ls"]]) {
    assert.equal((await perigee(args, { cwd: dir })).code, 78, args[0]);
  }
  const bare = await perigee(["exec"], { cwd: dir });
  assert.equal(bare.code, 2, "what is missing on the command line comes first");
  assert.deepEqual(readdirSync(dir), ["notes.txt"]);
});
