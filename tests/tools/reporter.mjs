// For node:test: every test one flat TAP line. What has tests inside (a suite, a
// test with subtests, a file) is no test, unless it fails by itself.

function describe(error) {
  const cause = error?.cause ?? error;
  return String(cause?.stack ?? cause?.message ?? cause ?? "");
}

function is_file(data) {
  return data.nesting === 0 && /\.test\.mjs$/.test(data.name);
}

export default async function* reporter(source) {
  const path_to = [];
  let deepest = -1; // how deep the last reported test was: a parent comes next
  for await (const { type, data } of source) {
    if (type === "test:start") {
      path_to[data.nesting] = data.name;
      path_to.length = data.nesting + 1;
    }
    if (type === "test:stderr" || type === "test:stdout") {
      yield data.message.replace(/^/gm, "# ").replace(/# $/, "");
    }
    if (type !== "test:pass" && type !== "test:fail") {
      continue;
    }
    const failed = type === "test:fail";
    const parent = deepest > data.nesting || is_file(data) || data.details?.type === "suite";
    deepest = data.nesting;
    const with_children = data.details?.error?.failureType === "subtestsFailed";
    if (parent && (!failed || with_children)) {
      continue;
    }
    const name = [...path_to.slice(0, data.nesting), data.name].join(" > ");
    const skip = data.skip !== undefined ? " # SKIP" : data.todo !== undefined ? " # TODO" : "";
    yield `${failed ? "not ok" : "ok"} - ${name}${skip}\n`;
    if (failed) {
      yield `${describe(data.details.error).replace(/^/gm, "# ")}\n`;
    }
  }
}
