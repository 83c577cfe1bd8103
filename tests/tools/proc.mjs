// Processes: run one to its end, or many at a time; list the project's files.
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import os from "node:os";
import path from "node:path";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));
export const CPUS = Math.max(1, os.availableParallelism?.() ?? os.cpus().length);

const OUTPUT_MAX = 4 << 20;

function kill_group(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch {
    // it has ended
  }
}

// Runs argv in a process group of its own and resolves, never rejects, with
// {code, output, stdout, ms}: code is -1 after a signal or a time-out, output
// both streams as they came.
export function run(argv, { env, cwd = ROOT, timeout_ms = 600_000 } = {}) {
  return new Promise((resolve) => {
    const began = Date.now();
    let output = "";
    let stdout = "";
    const child = spawn(argv[0], argv.slice(1), {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    const take = (chunk) => {
      if (output.length < OUTPUT_MAX) {
        output += chunk;
      }
    };
    child.stdout.setEncoding("utf8").on("data", (chunk) => {
      take(chunk);
      stdout += stdout.length < OUTPUT_MAX ? chunk : "";
    });
    child.stderr.setEncoding("utf8").on("data", take);
    const timer = setTimeout(() => {
      output += `\n${argv[0]}: stopped after ${timeout_ms / 1000} s\n`;
      kill_group(child.pid, "SIGKILL");
    }, timeout_ms);
    const end = (code, signal) => {
      clearTimeout(timer);
      if (signal) {
        output += `\n${argv[0]}: ended by ${signal}\n`;
      }
      // What it started and left behind would hold ports and files.
      if (child.pid) {
        kill_group(child.pid, "SIGKILL");
      }
      resolve({ code: code ?? -1, output, stdout, ms: Date.now() - began });
    };
    child.on("error", (err) => {
      output += `${argv[0]}: ${err.message}\n`;
      end(-1);
    });
    child.on("close", end);
  });
}

// Calls fn for each item, `limit` at a time; results in the items' order.
export async function pool(items, fn, limit = CPUS) {
  const results = new Array(items.length);
  let next = 0;
  const lane = async () => {
    while (next < items.length) {
      const index = next++;
      results[index] = await fn(items[index]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
  return results;
}

const SKIPPED = new Set([".git", "build", "node_modules", "var"]);

function walk(dir, out) {
  for (const entry of readdirSync(path.join(ROOT, dir), { withFileTypes: true })) {
    const name = dir ? `${dir}/${entry.name}` : entry.name;
    if (entry.isDirectory()) {
      if (!SKIPPED.has(entry.name)) {
        walk(name, out);
      }
    } else if (entry.isFile()) {
      out.push(name);
    }
  }
  return out;
}

// The project's own files, relative to ROOT, sorted: what git tracks or would
// track; without git (an unpacked archive), all but what is made here.
export function project_files() {
  if (existsSync(path.join(ROOT, ".git"))) {
    const git = spawnSync(
      "git",
      ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
      { cwd: ROOT, encoding: "utf8", maxBuffer: 64 << 20 },
    );
    if (git.status === 0) {
      const names = new Set(git.stdout.split("\0").filter(Boolean));
      return [...names].filter((n) => existsSync(path.join(ROOT, n))).sort();
    }
  }
  return walk("", []).sort();
}

export function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}
