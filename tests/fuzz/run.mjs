#!/usr/bin/env node
// Runs the fuzz targets.
//
//   run.mjs [SECONDS [TARGET...]]
//
// tests/fuzz/fuzz_NAME.c is a target; tests/fuzz/corpus/NAME/ its seeds and all
// crashes ever found, tests/fuzz/NAME.dict its words. What a run learns is kept
// in build/fuzz/corpus/NAME; an input that fails is build/fuzz/NAME-crash-*,
// and belongs in the corpus with the commit that mends it. Each run searches
// elsewhere, but for the whole test run's: that one fails by a change only.
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { configure_and_build } from "../tools/build.mjs";
import { ROOT, pool, run, seconds } from "../tools/proc.mjs";
import { from_exit } from "../tools/results.mjs";

const here = (...parts) => path.join(ROOT, "tests/fuzz", ...parts);
const built = (...parts) => path.join(ROOT, "build/fuzz", ...parts);

export function fuzz_targets() {
  return readdirSync(here())
    .map((file) => /^fuzz_(\w+)\.c$/.exec(file)?.[1])
    .filter(Boolean)
    .sort();
}

export async function fuzz_one(name, secs, seed = 0) {
  const learned = built("corpus", name);
  const seeds = here("corpus", name);
  const words = here(`${name}.dict`);
  mkdirSync(learned, { recursive: true });
  const argv = [
    built(`fuzz_${name}`), `-max_total_time=${secs}`, "-timeout=10",
    "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0",
    `-seed=${seed}`, // 0: libFuzzer picks one
    `-artifact_prefix=${built(`${name}-`)}`,
    ...(existsSync(words) ? [`-dict=${words}`] : []),
    learned, ...(existsSync(seeds) ? [seeds] : []),
  ];
  const result = await run(argv, { timeout_ms: (secs + 120) * 1000 });
  const runs = /number_of_executed_units: (\d+)/.exec(result.output)?.[1] ?? "?";
  return { name, runs, ms: result.ms, results: from_exit(`fuzz ${name}`, result) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [secs = "60", ...only] = process.argv.slice(2);
  const names = only.length > 0 ? only : fuzz_targets();
  const build = await configure_and_build("fuzz", names.map((name) => `fuzz_${name}`));
  if (build.code !== 0) {
    console.log(build.output);
    process.exit(1);
  }
  const ends = await pool(names, (name) => fuzz_one(name, Number(secs)));
  for (const { name, runs, ms, results } of ends) {
    const word = results.failures.length === 0 ? "ok" : "FAILED";
    console.log(`${word.padEnd(8)}${name.padEnd(20)}${runs} runs in ${seconds(ms)}`);
    results.failures.forEach((failure) => console.log(failure.output));
  }
  process.exitCode = ends.some((end) => end.results.failures.length > 0) ? 1 : 0;
}
