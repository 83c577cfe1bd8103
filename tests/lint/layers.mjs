// Layers: includes and requires go down only.
//
// Each room says which rooms it may see. A line that reaches elsewhere is a
// fault, with file:line. The table is the house of ARCHITECTURE.md.
import { readFileSync } from "node:fs";
import path from "node:path";
import { ROOT } from "../tools/proc.mjs";

const C_ROOMS = {
  "core/base": [],
  "core/shm": ["core/base"],
  "core/loop": ["core/base"],
  "core/http": ["core/shm", "core/loop", "core/base"],
  "core/redis": ["core/shm", "core/loop", "core/base"],
  "core/queue": ["core/shm", "core/loop", "core/base"],
  "core/sqlite": ["core/loop", "core/base"],
  "core/cluster": ["core/http", "core/shm", "core/loop", "core/base"],
  bindings: [
    "core/cluster", "core/sqlite", "core/queue", "core/redis", "core/http", "core/shm",
    "core/loop", "core/base",
  ],
};

// Libraries that only some rooms know; all others are free.
const LIBRARIES = [
  { match: /^(lua|lauxlib|lualib|luajit|lua\.h)/, rooms: ["bindings"] },
  { match: /^llhttp/, rooms: ["core/http"] },
  { match: /^hiredis/, rooms: ["core/redis"] },
  { match: /^openssl\/ssl/, rooms: ["core/loop"] },
  { match: /^sqlite3/, rooms: ["core/sqlite", "core/queue", "bindings"] },
  { match: /^uv\.h|^uv\//, not: ["core/base", "core/shm"] },
];

// Rooms of an application below scripts/, and which others each may require.
const APP_ROOMS = {
  routes: ["controllers", "middleware", "schemas"],
  controllers: ["services", "schemas"],
  services: ["data", "transforms"],
  data: [],
  jobs: ["services"],
  middleware: ["services", "schemas"],
  schemas: [],
  transforms: [],
};

function room_of(file) {
  return Object.keys(C_ROOMS).find((room) => file.startsWith(`${room}/`));
}

function check_include(file, quote, target) {
  const room = room_of(file);
  if (!room) { // tests see all
    return file.startsWith("core/") ? "a room that layers.mjs does not know" : null;
  }
  if (quote === '"') {
    const to = room_of(target);
    if (!to) {
      return `"${target}" is not a path from the root of the project`;
    }
    if (to !== room && !C_ROOMS[room].includes(to)) {
      return `${room} does not know ${to}`;
    }
    return null;
  }
  for (const library of LIBRARIES) {
    if (!library.match.test(target)) {
      continue;
    }
    const refused = library.rooms
      ? !library.rooms.includes(room)
      : library.not.includes(room);
    return refused ? `${room} does not know <${target}>` : null;
  }
  return null;
}

function check_library_require(file, name) {
  const from_cli = file.startsWith("bindings/lua/perigee/cli/");
  if (/^perigee\.cli\b/.test(name) && !from_cli) {
    return "only the command line knows perigee.cli";
  }
  if (/^(routes|controllers|services|data|jobs|middleware|schemas)\./.test(name)) {
    return `the library does not know an application's ${name}`;
  }
  return null;
}

function check_app_require(file, name) {
  if (/^perigee\.(core|cli)\b/.test(name)) {
    return `${name} is the library's own; use perigee.*`;
  }
  const room = file.split("/")[1];
  const to = name.split(".")[0];
  if (!(room in APP_ROOMS) || !(to in APP_ROOMS) || to === room) {
    return null;
  }
  return APP_ROOMS[room].includes(to) ? null : `${room} does not know ${to}`;
}

function check_require(file, name) {
  if (file.startsWith("bindings/lua/perigee/")) {
    return check_library_require(file, name);
  }
  return file.startsWith("scripts/") ? check_app_require(file, name) : null;
}

const INCLUDE = /^\s*#\s*include\s*(["<])([^">]+)[">]/;
const REQUIRE = /\brequire\s*\(?\s*["']([^"']+)["']/g;

export function layer_faults(files, read) {
  const text = read ?? ((file) => readFileSync(path.join(ROOT, file), "utf8"));
  const faults = [];
  for (const file of files) {
    const is_c = /\.[ch]$/.test(file);
    if (!is_c && !file.endsWith(".lua")) {
      continue;
    }
    text(file).split("\n").forEach((line, index) => {
      const found = is_c
        ? [INCLUDE.exec(line)].filter(Boolean).map((m) => check_include(file, m[1], m[2]))
        : [...line.matchAll(REQUIRE)].map((m) => check_require(file, m[1]));
      for (const fault of found.filter(Boolean)) {
        faults.push(`${file}:${index + 1}: ${fault}`);
      }
    });
  }
  return faults;
}
