// Builds a preset of CMakePresets.json for the tests: warnings are errors.
import { spawnSync } from "node:child_process";
import { CPUS, run } from "./proc.mjs";

const has_ccache = spawnSync("ccache", ["--version"]).status === 0;

export async function configure_and_build(preset, targets = []) {
  const began = Date.now();
  const options = ["-DPERI_WERROR=ON"];
  if (preset !== "fuzz") {
    options.push("-DPERI_TESTS=ON");
  }
  if (has_ccache) {
    options.push("-DCMAKE_C_COMPILER_LAUNCHER=ccache");
  }
  let result = await run(["cmake", "--preset", preset, ...options]);
  if (result.code === 0) {
    result = await run(["ninja", "-C", `build/${preset}`, "-k", "0", `-j${CPUS}`, ...targets],
      { timeout_ms: 1_800_000 });
  }
  const output = result.output
    .split("\n")
    .filter((line) => !/^\[\d+\/\d+\]/.test(line))
    .join("\n");
  return { code: result.code, output, ms: Date.now() - began };
}
