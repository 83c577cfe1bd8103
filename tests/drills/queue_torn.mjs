#!/usr/bin/env node
// Copies of a store whose last writes are missing or torn, as a power cut may
// leave them: each opens, is sound, and has every job that had been
// acknowledged when the last of its writes was made.
import { mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { perigee, write_files } from "../integration/helpers.mjs";
import { report } from "./drill.mjs";

const FRAME = 24 + 4096;
const HEADER = 32;

// Each line: how long the log was when that job had been acknowledged.
const FILL = `
local queue = require "perigee.queue"
local client = queue.open { path = "var/store.sqlite" }
local q = client:get "work"
local consumer = client.driver:consume("work", { concurrency = 5 })
local function size()
  local f = io.open("var/store.sqlite-wal", "rb")
  local bytes = f:seek "end"
  f:close()
  return bytes
end
for i = 1, 120 do
  local job = assert(q:add("x", { pad = ("x"):rep(200) }))
  print("added", job.id, size())
  if i % 4 == 0 then
    local record = consumer:take(1)[1]
    assert(consumer:complete(record, "1"))
  end
end
io.stdout:flush()
os.execute("cp var/store.sqlite var/store.sqlite-wal copy/")
`;

const CHECK = `
local queue = require "perigee.queue"
local bad, slowest = {}, 0
local time = require "perigee.time"
for line in io.lines "states" do
  local folder, needed = line:match "^(%S+) (%d+)$"
  local began = time.monotonic()
  local client = queue.open { path = folder .. "/store.sqlite", synchronous = "off" }
  local q = client:get "work"
  local counts, err = q:counts()
  slowest = math.max(slowest, time.monotonic() - began)
  local sound = counts and client.driver.store.db:one "PRAGMA integrity_check"
  if not counts or sound.integrity_check ~= "ok" then
    bad[#bad + 1] = folder .. ": " .. tostring(err or sound.integrity_check)
  else
    local sum = 0
    for _, n in pairs(counts) do sum = sum + n end
    if sum < tonumber(needed) then
      bad[#bad + 1] = ("%s: %d of %s jobs"):format(folder, sum, needed)
    end
  end
  client.driver:close()
end
print(#bad, slowest, bad[1] or "")
`;

const dir = mkdtempSync(path.join(os.tmpdir(), "perigee-drill-"));
write_files(dir, { "config/default.lua": "return {}" });
mkdirSync(path.join(dir, "copy"));
const filled = await perigee(["exec", FILL], { cwd: dir, timeout_ms: 120_000 });
if (filled.code !== 0) {
  throw new Error(filled.stderr);
}
const marks = filled.stdout.trim().split("\n").map((line) => Number(line.split("\t")[2]));
const store = readFileSync(path.join(dir, "copy/store.sqlite"));
const log = readFileSync(path.join(dir, "copy/store.sqlite-wal"));
const frames = Math.floor((log.length - HEADER) / FRAME);

let count = 0;
const states = [];
function state(bytes, needed) {
  const folder = path.join(dir, `s${count}`);
  mkdirSync(folder);
  writeFileSync(path.join(folder, "store.sqlite"), store);
  writeFileSync(path.join(folder, "store.sqlite-wal"), bytes);
  states.push(`${folder} ${needed}`);
  count += 1;
}

for (let k = 0; k <= frames; k += 1) {
  const whole = HEADER + k * FRAME;
  const needed = marks.filter((mark) => mark <= whole).length;
  state(log.subarray(0, whole), needed);
  if (k === frames) {
    break;
  }
  // The next frame: its head alone, half of it, all of it with a sector of rubbish.
  const at = [30, FRAME / 2, FRAME - 512][k % 3];
  state(log.subarray(0, whole + at), needed);
  const rubbish = Buffer.from(log.subarray(0, whole + FRAME));
  rubbish.fill(0xa5, whole + 1024, whole + 1536);
  state(rubbish, needed);
}
writeFileSync(path.join(dir, "states"), `${states.join("\n")}\n`);
const checked = await perigee(["exec", CHECK], { cwd: dir, timeout_ms: 590_000 });
const [bad, slowest, first] = checked.stdout.trim().split("\t");
rmSync(dir, { recursive: true, force: true });
report("torn writes of a store", {
  "jobs acknowledged": marks.length,
  "frames of the log": frames,
  "states": count,
  "states that are unsound or have lost a job": bad ?? checked.stderr,
  "the first of them": first || "none",
  "slowest to open (ms)": Number(slowest).toFixed(1),
}, {
  "500 states at least": count >= 500,
  "each is sound and whole": checked.code === 0 && bad === "0",
  "each opens within 2 s": Number(slowest) <= 2000,
});
