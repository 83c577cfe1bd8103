// For node --test: every test one flat TAP line; suites and files are no tests.
import path from "node:path";

function describe(error) {
  const cause = error?.cause ?? error;
  return String(cause?.stack ?? cause?.message ?? cause ?? "");
}

function is_container(data) {
  return data.details?.type === "suite" || (data.nesting === 0 && path.isAbsolute(data.name));
}

export default async function* reporter(source) {
  const path_to = [];
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
    // A container fails with its children; by itself it only fails in a hook.
    const own = data.details?.error?.failureType !== "subtestsFailed";
    if (is_container(data) && !(failed && own)) {
      continue;
    }
    if (failed && !own) {
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
