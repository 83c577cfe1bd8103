// What the drills share: a host to be hurt, and its figures.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { Host, PROGRAM, perigee, sleep, write_files } from "../integration/helpers.mjs";

export { sleep };

/** Serves files in a directory of its own; stopped by end(). */
export async function host(files, { workers = 2, settings = {} } = {}) {
  const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-drill-"));
  write_files(dir, files);
  const all = { "admin.port": 0, "log.requests": false, ...settings };
  const argv = ["run", dir, "-e", "production", "-p", "0", "-w", String(workers),
    ...Object.entries(all).flatMap(([key, value]) => ["--set", `${key}=${value}`])];
  const child = spawn(PROGRAM, argv, { cwd: dir, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const app = new Host(dir, child);
  await app.listening();
  app.end = async () => {
    const how = await app.stop();
    rmSync(dir, { recursive: true, force: true });
    return how;
  };
  return app;
}

export async function status(app) {
  const answer = await perigee(["status", "--json"], { cwd: app.dir });
  return JSON.parse(answer.stdout);
}

/** Proportional set size of a process in KB. */
export function pss(pid) {
  try {
    return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))[1]);
  } catch {
    return 0;
  }
}

/** Prints a figure a line, and exits 1 when one of the checks does not hold. */
export function report(title, figures, checks) {
  console.log(`\n${title}`);
  for (const [name, value] of Object.entries(figures)) {
    console.log(`  ${name.padEnd(34)} ${value}`);
  }
  for (const [what, holds] of Object.entries(checks)) {
    console.log(`  ${holds ? "ok    " : "FAILED"} ${what}`);
    if (!holds) {
      process.exitCode = 1;
    }
  }
}
