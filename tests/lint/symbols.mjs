// Symbols: what only the compiled objects tell.
//
// - no mutable file-scope variables: all state hangs off structs handed down
// - public names carry their room's prefix
// - nothing in core/ refers to Lua
import { run } from "../tools/proc.mjs";

// The C runtime's own, and what a shared library's data is copied to.
const RUNTIME = /^(__|_edata|_end|_IO_|data_start|completed\.\d+$|.*@)/;
const ASAN = /^(\.Lubsan|asan\.|__asan|__odr_asan)/;

function fields(line) {
  // name |value|class|type|size|line|section
  const [name, , kind, , size, , section] = line.split("|").map((s) => s.trim());
  return { name, kind, size, section };
}

async function symbols_of(file) {
  const { stdout } = await run(["nm", "-f", "sysv", file]);
  return stdout.split("\n").filter((l) => l.includes("|")).map(fields);
}

export async function mutable_globals(program) {
  const all = await symbols_of(program);
  return all
    .filter((s) => /^\.t?(data|bss)(\.(?!rel\.ro).*)?$/.test(s.section ?? ""))
    .filter((s) => s.size && !RUNTIME.test(s.name) && !ASAN.test(s.name))
    .map((s) => `${s.name}: a mutable variable of file scope`);
}

// library: an archive that was built without link-time optimisation.
export async function stray_names(library) {
  const { stdout } = await run(["nm", "-A", "-g", library]);
  const faults = [];
  for (const line of stdout.split("\n")) {
    const found = /:([^:]+\.o):\s*\S*\s+([A-Za-z]) (\S+)$/.exec(line);
    if (!found) {
      continue;
    }
    const [, object, kind, name] = found;
    if (kind !== "U" && !/^(peri_|perilua_|perigee_|llhttp_|__asan|__odr)/.test(name)) {
      faults.push(`${object}: ${name} has no prefix of ours`);
    }
  }
  return faults;
}

// objects: the .o files below core/.
export async function lua_in_core(objects) {
  const faults = [];
  for (const object of objects) {
    const { stdout } = await run(["nm", "-u", object]);
    for (const [, name] of stdout.matchAll(/\bU (lua\w*|perilua_\w+)/g)) {
      faults.push(`${object}: refers to ${name}`);
    }
  }
  return faults;
}
