#!/usr/bin/env node
// The whole test run, step by step; `./bootstrap test` starts it.
//
//   run.mjs [--quick] [--list] [--only STEP,STEP] [--fuzz SECONDS]
//
// The last line of its output is `N passed, N failed`, counting every single
// test; what failed is printed before it.
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fuzz_one, fuzz_targets } from "./fuzz/run.mjs";
import { lint } from "./lint/lint.mjs";
import { lua_in_core, mutable_globals, stray_names } from "./lint/symbols.mjs";
import { configure_and_build } from "./tools/build.mjs";
import { CPUS, ROOT, pool, run, seconds } from "./tools/proc.mjs";
import { Results, from_exit, from_tap, tail } from "./tools/results.mjs";

const SANITIZERS = {
  ASAN_OPTIONS: "detect_stack_use_after_return=1:strict_string_checks=1",
  UBSAN_OPTIONS: "print_stacktrace=1",
};

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    only: { type: "string" },
    fuzz: { type: "string", default: process.env.CI ? "40" : "5" },
  },
});

function files_in(dir, pattern) {
  const full = path.join(ROOT, dir);
  if (!existsSync(full)) {
    return [];
  }
  return readdirSync(full).filter((f) => pattern.test(f)).sort().map((f) => `${dir}/${f}`);
}

const merge = (list) => list.reduce((sum, one) => sum.add(one), new Results());

function from_faults(title, faults) {
  return from_exit(title, { code: faults.length === 0 ? 0 : 1, output: faults.join("\n") });
}

async function step_lint() {
  const results = new Results();
  for (const { name, output, skipped } of await lint()) {
    if (skipped) {
      results.skipped += 1;
    } else if (output === "") {
      results.pass();
    } else {
      results.fail(`lint: ${name}`, tail(output, 200));
    }
  }
  return results;
}

const step_build = (preset, targets) => async () => {
  const title = `build: ${preset} compiles without a warning`;
  const made = await configure_and_build(preset, targets);
  return from_exit(title, { code: made.code, output: tail(made.output, 120) });
};

async function core_objects() {
  const { stdout } = await run(["find", "build/asan/CMakeFiles", "-path", "*/core/*", "-name", "*.o"]);
  return stdout.split("\n").filter(Boolean);
}

async function step_symbols() {
  return merge([
    from_faults("symbols: no mutable variable of file scope",
      await mutable_globals("build/release/perigee")),
    from_faults("symbols: public names carry a prefix",
      await stray_names("build/asan/libperigee.a")),
    from_faults("symbols: core does not know Lua", await lua_in_core(await core_objects())),
  ]);
}

const step_unit = (preset) => async () => {
  const sources = files_in("tests/unit", /^test_\w+\.c$/);
  const each = await pool(sources, async (source) => {
    const name = path.basename(source, ".c");
    const result = await run([`build/${preset}/${name}`], {
      env: { ...SANITIZERS, CMOCKA_MESSAGE_OUTPUT: "TAP" },
      timeout_ms: 120_000,
    });
    return from_tap(`unit ${preset} ${name}`, result);
  });
  return merge(each);
};

const step_specs = (preset) => async () => {
  if (!existsSync(path.join(ROOT, "bindings/lua/perigee/cli/test.lua"))) {
    return new Results();
  }
  const result = await run([`build/${preset}/perigee`, "test", "-o", "TAP"], {
    env: SANITIZERS,
    timeout_ms: 300_000,
  });
  return from_tap(`spec ${preset}`, result);
};

// They wait more than they compute, but for what the sanitizers take.
const node_lanes = (preset) => (preset === "asan" ? CPUS : Math.ceil(CPUS * 1.5));

const step_node = (dir, preset) => async () => {
  const each = await pool(files_in(dir, /\.test\.mjs$/), async (file) => {
    const argv = [
      process.execPath, "--test-reporter=./tests/tools/reporter.mjs",
      "--test-reporter-destination=stdout", file,
    ];
    const result = await run(argv, {
      env: { ...SANITIZERS, PERIGEE_PROGRAM: path.join(ROOT, `build/${preset}/perigee`) },
      timeout_ms: 300_000,
    });
    return from_tap(`${path.basename(file)} (${preset})`, result);
  }, node_lanes(preset));
  return merge(each);
};

// What a peer reaches first is searched for the whole time.
const FUZZED_LONGEST = ["head", "router", "json", "config"];

async function step_fuzz() {
  const secs = Number(options.fuzz);
  const each = await pool(fuzz_targets(), (name) =>
    fuzz_one(name, FUZZED_LONGEST.includes(name) ? secs : Math.ceil(secs / 3), 1));
  return merge(each.map((end) => end.results));
}

// name, what it does, whether --quick has it; a step whose name ends in that of
// a build needs it, others need the release.
const STEPS = [
  ["lint", step_lint, true],
  ["build-release", step_build("release"), true],
  ["unit", step_unit("release"), true],
  ["specs", step_specs("release"), true],
  ["integration", step_node("tests/integration", "release"), true],
  ["browser", step_node("tests/browser", "release"), false],
  ["build-asan", step_build("asan"), false],
  ["symbols", step_symbols, false],
  ["unit-asan", step_unit("asan"), false],
  ["specs-asan", step_specs("asan"), false],
  ["integration-asan", step_node("tests/integration", "asan"), false],
  ["build-fuzz", step_build("fuzz"), false],
  ["fuzz", step_fuzz, false],
];

function chosen_steps() {
  if (options.only === undefined) {
    return STEPS.filter(([, , quick]) => quick || !options.quick);
  }
  const names = options.only.split(",");
  const unknown = names.filter((name) => !STEPS.some(([step]) => step === name));
  if (unknown.length > 0) {
    console.error(`no step ${unknown.join(", ")}; --list names them`);
    process.exit(2);
  }
  return STEPS.filter(([name]) => names.includes(name));
}

function print_failures(failures) {
  for (const { name, output } of failures) {
    console.log(`\nFAILED ${name}`);
    if (output) {
      console.log(output.replace(/^/gm, "    "));
    }
  }
}

async function main() {
  if (options.list) {
    STEPS.forEach(([name, , quick]) => console.log(quick ? `${name} (quick)` : name));
    return;
  }
  const began = Date.now();
  const total = new Results();
  const broken = new Set();
  for (const [name, step] of chosen_steps()) {
    const start = Date.now();
    const preset = /-(\w+)$/.exec(name)?.[1] ?? (name === "fuzz" ? "fuzz" : "release");
    if (broken.has(preset)) {
      console.log(`${name.padEnd(18)}${"-".padStart(8)}  not run: no ${preset} build`);
      continue;
    }
    const results = await step();
    const failed = results.failures.length;
    if (failed > 0 && name.startsWith("build-")) {
      broken.add(preset);
    }
    const counts = [
      `${results.passed} passed`,
      failed > 0 ? `${failed} FAILED` : "",
      results.skipped > 0 ? `${results.skipped} skipped` : "",
    ].filter(Boolean).join(", ");
    console.log(`${name.padEnd(18)}${seconds(Date.now() - start).padStart(8)}  ${counts}`);
    print_failures(results.failures.slice(0, 40));
    total.add(results);
  }
  const failed = total.failures.length;
  if (failed > 0) {
    console.log("\nFailed:");
    total.failures.forEach(({ name }) => console.log(`  ${name}`));
  }
  const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
  console.log(`\n${process.version} on ${process.platform}, ${seconds(Date.now() - began)}`);
  console.log(`${total.passed} passed, ${failed} failed${skipped}`);
  process.exitCode = failed > 0 || total.passed === 0 ? 1 : 0;
}

await main();
