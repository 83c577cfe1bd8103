#!/usr/bin/env node
// docs/api.md, from the annotations of bindings/lua/perigee/*.lua.
//
//   apidoc.mjs           writes it
//   apidoc.mjs --check   says so and fails when it is not what would be written
//
// Of the modules of MODULES, in that order: the opening comment and the
// functions on the table M. Of every module: the classes named perigee.*. What
// says ---@private or ---@package stays out.
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { ROOT } from "./proc.mjs";

const LIBRARY = path.join(ROOT, "bindings/lua/perigee");
const OUT = path.join(ROOT, "docs/api.md");

const MODULES = [
  "http", "task", "error", "json", "schema", "sqlite", "log", "config", "crypto", "hot", "host",
  "time", "events", "cache", "shared", "redis", "queue", "resilience", "metrics", "trace", "test",
];

const TAG = /^---\s*@(\w+)\s*(.*)$/;

// "name? type # words" as LuaCATS writes a parameter, field or return value.
function split_type(text) {
  const comment = /\s+#\s*(.*)$/.exec(text);
  const bare = comment ? text.slice(0, comment.index) : text;
  return { bare: bare.trim(), words: comment?.[1] ?? "" };
}

// The type at the start of text: blanks count only inside of brackets, and
// around `|`, `:` and `,` of a function's results.
function take_type(text) {
  let depth = 0;
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quote) {
      quote = c === quote ? "" : quote;
    } else if (c === '"' || c === "'") {
      quote = c;
    } else if ("([{<".includes(c)) {
      depth += 1;
    } else if (")]}>".includes(c)) {
      depth -= 1;
    } else if (c === " " && depth === 0 && !/[|:,]$/.test(text.slice(0, i)) && !/^\s*[|]/.test(text.slice(i))) {
      return [text.slice(0, i), text.slice(i + 1).trim()];
    }
  }
  return [text, ""];
}

function named_value(text) {
  const { bare, words } = split_type(text);
  const found = /^(\S+?)(\?)?\s+(.*)$/.exec(bare);
  if (!found) {
    return { name: bare, type: "", words };
  }
  const [type, rest] = take_type(found[3]);
  return { name: found[1] + (found[2] ?? ""), type, words: words || rest };
}

function return_value(text) {
  const { bare, words } = split_type(text);
  const [type, name] = take_type(bare);
  return { type, name, words };
}

function parse_block(lines) {
  const block = { text: [], params: [], returns: [], fields: [], overloads: [], hidden: false };
  for (const line of lines) {
    const tag = TAG.exec(line);
    if (!tag) {
      block.text.push(line.replace(/^--- ?/, ""));
      continue;
    }
    const [, name, value] = tag;
    if (name === "param") {
      block.params.push(named_value(value));
    } else if (name === "return") {
      block.returns.push(return_value(value));
    } else if (name === "field") {
      block.fields.push(named_value(value.replace(/^(public|private|protected|package)\s+/, "")));
    } else if (name === "overload") {
      block.overloads.push(value);
    } else if (name === "class" || name === "alias") {
      block[name] = value;
    } else if (name === "private" || name === "package") {
      block.hidden = true;
    }
  }
  return block;
}

const FUNCTION = /^function\s+([\w.]+)([.:])(\w+)\s*\(([^)]*)\)?/;
const ASSIGNED = /^([\w.]+)\.(\w+)\s*=\s*(function\s*\(([^)]*)\))?/;

// {intro, functions: [{owner, separator, name, args, block}], classes, values}
function parse_module(text) {
  const module = { intro: [], functions: [], classes: [], owners: new Map([["M", ""]]) };
  let block = [];
  let first = true;
  for (const line of [...text.split("\n"), ""]) {
    if (line.startsWith("---")) {
      block.push(line);
      continue;
    }
    if (block.length > 0) {
      const parsed = parse_block(block);
      if (first && line === "" && !parsed.class) {
        module.intro = parsed.text;
      } else {
        add_block(module, parsed, line);
      }
      first = false;
    }
    if (line !== "") {
      first = false;
    }
    block = [];
  }
  return module;
}

function add_block(module, block, line) {
  if (block.hidden) {
    return;
  }
  if (block.class !== undefined) {
    const name = block.class.split(/[\s:]/)[0];
    const table = /^local\s+(\w+)\s*=/.exec(line)?.[1];
    if (table) {
      module.owners.set(table, name);
    }
    if (name.startsWith("perigee.")) {
      module.classes.push({ name, ...block });
    }
    return;
  }
  if (block.alias !== undefined) {
    const [name, ...rest] = block.alias.split(/\s+/);
    module.classes.push({ name, alias: rest.join(" "), ...block, fields: [] });
    return;
  }
  const declared = FUNCTION.exec(line);
  const assigned = declared ? null : ASSIGNED.exec(line);
  const found = declared
    ? { owner: declared[1], separator: declared[2], name: declared[3], args: declared[4] }
    : assigned && {
      owner: assigned[1], separator: ".", name: assigned[2], args: assigned[4],
      value: !assigned[3] && block.params.length === 0 && block.returns.length === 0,
    };
  if (found && !found.name.startsWith("_")) {
    module.functions.push({ ...found, block });
  }
}

// --- Markdown ---------------------------------------------------------------------

const code = (text) => `\`${text.replace(/\s+/g, " ")}\``;
const cell = (text) => text.replace(/\|/g, "\\|");

function paragraph(lines) {
  return lines.join("\n").trim();
}

function arguments_of({ args, block }) {
  if (block.params.length > 0) {
    return block.params.map((p) => p.name).filter((name) => name !== "self").join(", ");
  }
  return args ?? "";
}

function signature(fn, prefix) {
  const results = fn.block.returns
    .map(({ type, name }) => (name ? `${name}: ${type}` : type)).join(", ");
  const call = fn.value ? `${prefix}${fn.name}` : `${prefix}${fn.name}(${arguments_of(fn)})`;
  return results ? `${call} → ${results}` : call;
}

function values(list) {
  return list.map(({ name, type, words }) =>
    `- ${[name && code(name), type && code(type)].filter(Boolean).join(" ")}${words ? `: ${words}` : ""}`);
}

function function_text(fn, prefix) {
  const { block } = fn;
  const told = block.params.filter((p) => p.name !== "self");
  const returned = block.returns.filter((r) => r.words);
  return [
    `#### ${code(signature(fn, prefix))}`,
    paragraph(block.text),
    values(told).join("\n"),
    returned.length > 0 ? `Gives\n\n${values(returned).join("\n")}` : "",
    ...block.overloads.map((o) => `Also ${code(o)}.`),
  ].filter(Boolean).join("\n\n");
}

function class_text(cls, methods) {
  const rows = cls.fields.map(({ name, type, words }) =>
    `| ${code(name)} | ${cell(code(type))} | ${cell(words)} |`);
  const own = methods.map((fn) => function_text(fn, `${cls.name.replace(/^.*\./, "").toLowerCase()}${fn.separator}`));
  return [
    `### ${cls.name}`,
    cls.alias ? code(cls.alias) : "",
    paragraph(cls.text),
    rows.length > 0 ? ["| Field | Type | |", "|---|---|---|", ...rows].join("\n") : "",
    ...own,
  ].filter(Boolean).join("\n\n");
}

function module_text(name, module) {
  const of = (owner) => module.functions.filter((fn) => module.owners.get(fn.owner) === owner);
  const nested = module.functions.filter((fn) => fn.owner.startsWith("M."));
  const parts = [
    `## perigee.${name}`,
    paragraph(module.intro),
    ...of("").map((fn) => function_text(fn, `${name}.`)),
    ...nested.map((fn) => function_text(fn, `${fn.owner.replace(/^M/, name)}${fn.separator}`)),
    ...class_texts(module),
  ];
  return parts.filter(Boolean).join("\n\n");
}

function class_texts(module) {
  const of = (name) => module.functions.filter((fn) => module.owners.get(fn.owner) === name);
  return module.classes.map((cls) => class_text(cls, of(cls.name)));
}

function render() {
  const all = new Map(readdirSync(LIBRARY).filter((file) => file.endsWith(".lua")).sort().map((file) =>
    [file.slice(0, -4), parse_module(readFileSync(path.join(LIBRARY, file), "utf8"))]));
  const names = MODULES.filter((name) => all.has(name));
  const others = [...all].filter(([name]) => !MODULES.includes(name));
  const types = others.flatMap(([, module]) => class_texts(module));
  const list = [...names.map((name) => `[${name}](#perigee${name})`), "[types](#types)"].join(" · ");
  return [
    "# Lua API",
    "<!-- Made by `./bootstrap docs` from bindings/lua/perigee; do not edit. -->",
    "Failures are `nil, err` with a `perigee.Error`; a wrong call raises, and so does an option that is not known. Times are milliseconds, " +
    "or text such as `\"30s\"`.",
    list,
    ...names.map((name) => module_text(name, all.get(name))),
    "## Types",
    ...types,
  ].join("\n\n") + "\n";
}

const wanted = render();
const there = existsSync(OUT) ? readFileSync(OUT, "utf8") : "";
if (!process.argv.includes("--check")) {
  writeFileSync(OUT, wanted);
} else if (wanted !== there) {
  console.log("docs/api.md is not what the annotations say: ./bootstrap docs");
  process.exitCode = 1;
}
