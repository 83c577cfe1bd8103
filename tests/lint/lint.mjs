#!/usr/bin/env node
// Lint: everything that can be judged without building.
//
//   lint.mjs [FILE...]
//
// A file that passed is not looked at again until it, a header that it includes,
// a setting or the tool changes (build/lint-cache.json). LLVM's formatter and linter change
// their mind from release to release: theirs of LLVM_MAJOR is the one that
// counts, on other machines these two checks are skipped.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ROOT, pool, project_files, run, seconds } from "../tools/proc.mjs";
import { hygiene_faults } from "./hygiene.mjs";
import { layer_faults } from "./layers.mjs";

const LLVM_MAJOR = 14;
const CACHE = path.join(ROOT, "build/lint-cache.json");
const WARNINGS = [
  "-std=gnu11", "-D_GNU_SOURCE", '-DPERI_VERSION="lint"',
  "-DLLHTTP_STRICT_MODE=1", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow",
  "-Wconversion", "-Werror", "-I.",
];

const read = (file) => readFileSync(path.join(ROOT, file), "utf8");
const hash = (...parts) => {
  const sha = createHash("sha256");
  parts.forEach((part) => sha.update(part).update("\0"));
  return sha.digest("hex");
};

function first_line(...argv) {
  return spawnSync(argv[0], argv.slice(1), { encoding: "utf8" }).stdout ?? "";
}

function llvm_major(tool) {
  return Number(/version (\d+)/.exec(first_line(tool, "--version"))?.[1]);
}

function system_includes(packages) {
  const text = first_line("pkg-config", "--cflags-only-I", ...packages);
  const dirs = [...text.matchAll(/-I(\S+)/g)].map((m) => m[1]);
  if (existsSync("/usr/share/include/llhttp")) {
    dirs.push("/usr/share/include/llhttp");
  }
  return [...new Set(dirs)].flatMap((dir) => ["-isystem", dir]);
}

// As CMakeLists.txt has it: core/ has no path to lua.h.
// The analyzer's default, three times as much, takes two thirds of the whole lint
// and has found nothing here that this does not.
const ANALYZER = ["-Xclang", "-analyzer-config", "-Xclang", "max-nodes=75000"];

function compiler_flags(file) {
  const base = ["libuv", "libcrypto"];
  const all = [...base, "luajit", "sqlite3", "cmocka"];
  const flags = [...WARNINGS, ...system_includes(file.startsWith("core/") ? base : all)];
  return file.startsWith("tests/") ? [...flags, "-Wno-conversion"] : flags;
}

class Cache {
  constructor() {
    try {
      this.old = JSON.parse(readFileSync(CACHE, "utf8"));
    } catch {
      this.old = {};
    }
    this.passed = { ...this.old };
  }

  has(key, sha) {
    return this.old[key] === sha;
  }

  save() {
    mkdirSync(path.dirname(CACHE), { recursive: true });
    writeFileSync(CACHE, JSON.stringify(this.passed));
  }
}

// A hash of a C file and of all the project's headers that it comes to include.
function hasher_of_sources() {
  const seen = new Map();
  const texts = (file, out) => {
    if (!out.has(file) && existsSync(path.join(ROOT, file))) {
      const text = read(file);
      out.set(file, text);
      for (const [, name] of text.matchAll(/^#include "([^"]+)"/gm)) {
        texts(name, out);
      }
    }
    return out;
  };
  return (file) => {
    if (!seen.has(file)) {
      seen.set(file, hash(...texts(file, new Map()).values()));
    }
    return seen.get(file);
  };
}

// One process a file, remembered. argv_of(file) is the command; hash_of(file)
// changes when what the command reads does.
async function each_file(cache, name, files, key, argv_of, hash_of = (file) => hash(read(file))) {
  const outputs = await pool(files, async (file) => {
    const sha = hash(key, argv_of(file).join(" "), hash_of(file));
    if (cache.has(`${name}:${file}`, sha)) {
      return "";
    }
    const { code, output } = await run(argv_of(file));
    if (code === 0) {
      cache.passed[`${name}:${file}`] = sha;
      return "";
    }
    return without_notes(output) || `${file}: ${name} failed\n`;
  });
  return outputs.join("");
}

// The analyzer tells a path of dozens of notes; where and what will do.
function without_notes(output) {
  const kept = [];
  let inside = false;
  for (const line of output.split("\n")) {
    const head = /^\S+:\d+:\d+: (\w+)/.exec(line)?.[1];
    inside = head ? head !== "note" : inside && !/^\d+ warnings? /.test(line);
    if (inside) {
      kept.push(line.replace(ROOT, ""));
    }
  }
  return kept.length > 0 ? `${kept.join("\n")}\n` : output;
}

async function all_at_once(argv, files) {
  if (files.length === 0) {
    return "";
  }
  const { code, output } = await run([...argv, ...files]);
  return code === 0 ? "" : output || `${argv[0]} failed\n`;
}

const SKIP = Symbol("skip");

function checks(files, everything, cache) {
  const c = files.filter((f) => /\.[ch]$/.test(f));
  const sources = c.filter((f) => f.endsWith(".c"));
  const product = (f) => /^(core|bindings)\//.test(f) && !f.startsWith("bindings/tools/");
  const lua = files.filter((f) => f.endsWith(".lua"));
  const shell = files.filter((f) => /^#!\/bin\/(sh|bash)/.test(read(f).slice(0, 20)));
  const scripts = files.filter((f) => f.endsWith(".mjs"));
  const source_hash = hasher_of_sources();
  const pinned = (tool, fn) => () => (llvm_major(tool) === LLVM_MAJOR ? fn() : SKIP);
  // clang-tidy has the compiler's warnings, too.
  const tidied = llvm_major("clang-tidy") === LLVM_MAJOR ? sources.filter(product) : [];
  return {
    layers: () => layer_faults(files).join("\n"),
    hygiene: () => hygiene_faults(files).join("\n"),
    format: pinned("clang-format", () =>
      all_at_once(["clang-format", "--dry-run", "-Werror"], c)),
    luacheck: () => all_at_once(["luacheck", "--quiet", "--no-color"], lua),
    shellcheck: () => all_at_once(["shellcheck", "-x"], shell),
    javascript: () => each_file(cache, "js", scripts, process.version, (f) =>
      [process.execPath, "--check", f]),
    clang: () => each_file(cache, "clang", c.filter((f) => !tidied.includes(f)), first_line("clang", "--version"), (f) =>
      ["clang", "-fsyntax-only", "-x", "c", ...compiler_flags(f),
        ...(f.endsWith(".h") ? ["-Wno-unused-function", "-Wno-unused-const-variable"] : []), f],
    source_hash),
    tidy: pinned("clang-tidy", () =>
      each_file(cache, "tidy", tidied, read(".clang-tidy"), (f) =>
        ["clang-tidy", "--quiet", f, "--", ...compiler_flags(f), ...ANALYZER], source_hash)),
    "api reference": async () => {
      if (!everything.includes("docs/api.md")) {
        return SKIP;
      }
      return (await run([process.execPath, "tests/tools/apidoc.mjs", "--check"])).output;
    },
  };
}

// [{name, output, ms, skipped}]; output is empty when nothing was found.
export async function lint(only = []) {
  const everything = project_files();
  const cache = new Cache();
  const wanted = only.length > 0 ? everything.filter((f) => only.includes(f)) : everything;
  const results = [];
  for (const [name, check] of Object.entries(checks(wanted, everything, cache))) {
    const began = Date.now();
    const output = await check();
    const skipped = output === SKIP;
    results.push({
      name,
      output: skipped ? "" : output.trim(),
      skipped,
      ms: Date.now() - began,
    });
  }
  cache.save();
  return results;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const only = process.argv.slice(2).map((f) => path.relative(ROOT, path.resolve(f)));
  const results = await lint(only);
  for (const { name, output, skipped, ms } of results) {
    const word = skipped ? "skipped" : output === "" ? "ok" : "FAILED";
    console.log(`${word.padEnd(8)}${name.padEnd(16)}${seconds(ms)}`);
    if (output) {
      console.log(output);
    }
  }
  process.exitCode = results.some((r) => r.output) ? 1 : 0;
}
