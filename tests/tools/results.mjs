// Results: what the runners print, turned into counts and named failures.

export class Results {
  passed = 0;
  skipped = 0;
  failures = []; // {name, output}

  pass(count = 1) {
    this.passed += count;
  }

  fail(name, output = "") {
    this.failures.push({ name, output: output.trim() });
  }

  add(other) {
    this.passed += other.passed;
    this.skipped += other.skipped;
    this.failures.push(...other.failures);
    return this;
  }
}

const OK = /^(\s*)(not )?ok\b(?: \d+)?(?: - )?(.*)$/s; // names may hold U+2028

// TAP as cmocka, busted and our Node reporter write it: one level, with what a
// failure says in comments after its line. A run that ends badly without
// having named a failure, or that ran nothing, is a failure itself.
export function from_tap(title, { stdout, output, code }) {
  const results = new Results();
  let last = null;
  let planned = 0;
  for (const line of stdout.split("\n")) {
    const found = OK.exec(line);
    planned += Number(/^1\.\.(\d+)/.exec(line)?.[1] ?? 0);
    if (!found) {
      if (last && line !== "") {
        last.lines.push(line.replace(/^#\s?/, "  "));
      }
      continue;
    }
    const [, , not, name] = found;
    last = null;
    if (/# (skip|todo)/i.test(name)) {
      results.skipped += 1;
    } else if (not) {
      last = { lines: [] };
      results.failures.push({ name: `${title}: ${name}`, last });
    } else {
      results.pass();
    }
  }
  for (const failure of results.failures) {
    failure.output = failure.last.lines.join("\n");
    delete failure.last;
  }
  const ran = results.passed + results.skipped + results.failures.length;
  if (results.failures.length === 0 && (code !== 0 || planned > ran)) {
    results.fail(`${title}: ended with ${code} after ${ran} tests`, tail(output));
  } else if (ran === 0) {
    results.fail(`${title}: ran no test`, tail(output));
  }
  return results;
}

// One run, one test.
export function from_exit(title, { output, code }) {
  const results = new Results();
  if (code === 0) {
    results.pass();
  } else {
    results.fail(title, tail(output));
  }
  return results;
}

export function tail(text, lines_max = 60) {
  // The address sanitizer's map of memory tells nobody anything.
  const readable = text.replace(/^Shadow bytes around[^]*?(?===\d+==ABORTING)/m, "");
  const lines = readable.trimEnd().split("\n");
  return lines.length <= lines_max
    ? lines.join("\n")
    : `... ${lines.length - lines_max} lines\n${lines.slice(-lines_max).join("\n")}`;
}
