// Hygiene: what no other tool looks at in a file.
import { readFileSync, statSync } from "node:fs";
import path from "node:path";
import { ROOT } from "../tools/proc.mjs";

const FILE_BYTES_MAX = 1 << 20;
const TEXT = /(\.(c|h|lua|mjs|js|json|md|sh|txt|cmake|sql|html|css|yml|yaml|dict|conf)|CMakeLists\.txt|bootstrap|LICENSE|\.ci\/run|rc)$/;

function text_faults(file, text, executable) {
  const faults = [];
  if (text.includes("\r")) {
    faults.push(`${file}: has carriage returns`);
  }
  if (text !== "" && !text.endsWith("\n")) {
    faults.push(`${file}: does not end in a line feed`);
  }
  if (text.endsWith("\n\n")) {
    faults.push(`${file}: ends in an empty line`);
  }
  text.split("\n").forEach((line, index) => {
    if (/[ \t]$/.test(line)) {
      faults.push(`${file}:${index + 1}: blank at the end of the line`);
    }
    if (line.includes("\t")) {
      faults.push(`${file}:${index + 1}: a tab`);
    }
    if (/^(<<<<<<<|>>>>>>>) /.test(line)) {
      faults.push(`${file}:${index + 1}: a merge conflict`);
    }
  });
  if (text.startsWith("#!") !== executable) {
    faults.push(`${file}: ${executable ? "executable without #!" : "#! but not executable"}`);
  }
  return faults;
}

export function hygiene_faults(files) {
  const faults = [];
  for (const file of files) {
    const full = path.join(ROOT, file);
    const stat = statSync(full);
    if (stat.size > FILE_BYTES_MAX) {
      faults.push(`${file}: larger than ${FILE_BYTES_MAX} bytes`);
    }
    const corpus = file.includes("/corpus/");
    if (!corpus && TEXT.test(file)) {
      faults.push(...text_faults(file, readFileSync(full, "utf8"), (stat.mode & 0o111) !== 0));
    }
  }
  const lock = path.join(ROOT, "tests/package-lock.json");
  if (files.includes("tests/package-lock.json") &&
      readFileSync(lock, "utf8").includes('"resolved"')) {
    faults.push("tests/package-lock.json: names where packages come from");
  }
  return faults;
}
