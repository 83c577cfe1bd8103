// What counts as a change of a file while `perigee dev` runs: links, and folders that are put in another's place.
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { routes, sleep, start, until } from "./helpers.mjs";

const saying = (word) => routes(`
  local loaded = require("perigee.time").monotonic()
  router:get("/", function() return "${word}" end)
  router:get("/loaded", function() return tostring(loaded) end)`);
const configured = { "scripts/routes/a.lua": routes(`
  router:get("/", function() return require("perigee.config").app.word end)`) };
const word = (text) => `return { app = { word = "${text}" } }`;

const develop = (t, files) =>
  start(t, { files, command: "dev", env: "development", settings: { "log.format": "json" } });

const serves = (app, wanted) =>
  until(async () => (await app.get("/")).text === wanted, { what: `"${wanted}"` });

test("dev: a file behind a link is changed where it lies", async (t) => {
  const app = await develop(t, { "elsewhere/a.lua": saying("one"), "scripts/main.lua": "return {}" });
  const file = path.join(app.dir, "elsewhere/a.lua");
  mkdirSync(path.join(app.dir, "scripts/routes"));
  symlinkSync(file, path.join(app.dir, "scripts/routes/a.lua"));
  await serves(app, "one");
  writeFileSync(file, saying("written"));
  await serves(app, "written");
  writeFileSync(`${file}.new`, saying("renamed"));
  renameSync(`${file}.new`, file);
  await serves(app, "renamed");
  writeFileSync(file, saying("written again"));
  await serves(app, "written again");

  const before = (await app.get("/loaded")).text; // what else lies there is nobody's business
  writeFileSync(path.join(app.dir, "elsewhere/b.lua"), "return {}");
  await sleep(200);
  assert.equal((await app.get("/loaded")).text, before);
});

test("dev: a linked .env and a linked config file are watched as well", async (t) => {
  const app = await develop(t, {
    ...configured,
    "elsewhere/env": "WORD=one\n",
    "elsewhere/more.lua": "return {}",
    "config/default.lua": 'return { app = { word = env("WORD", "none") } }',
  });
  symlinkSync("elsewhere/env", path.join(app.dir, ".env"));
  await serves(app, "one");
  app.write({ "elsewhere/env": "WORD=two\n" });
  await serves(app, "two");
  symlinkSync("../elsewhere/more.lua", path.join(app.dir, "config/development.lua"));
  await sleep(100);
  app.write({ "elsewhere/more.lua": word("three") });
  app.write({ "elsewhere/env": "\n" });
  await serves(app, "three");
});

test("dev: files that are links through one hidden link change when it does", async (t) => {
  const app = await develop(t, { ...configured, "config/..1/default.lua": word("one") });
  const config = path.join(app.dir, "config");
  symlinkSync("..1", path.join(config, "..data"));
  symlinkSync("..data/default.lua", path.join(config, "default.lua"));
  await serves(app, "one");
  for (const name of ["two", "three"]) { // as Kubernetes does with a ConfigMap
    app.write({ [`config/..${name}/default.lua`]: word(name) });
    symlinkSync(`..${name}`, path.join(config, "..data_tmp"));
    renameSync(path.join(config, "..data_tmp"), path.join(config, "..data"));
    await serves(app, name);
  }
  assert.ok(readdirSync(config).includes("..three"));
});

test("dev: a folder that is put in another's place is watched, with all below it", async (t) => {
  const app = await develop(t, {
    "config/default.lua": "return {}", "scripts/routes/a.lua": saying("one"), "next/routes/a.lua": saying("two"),
  });
  const at = (name) => path.join(app.dir, name);
  renameSync(at("scripts"), at("before"));
  renameSync(at("next"), at("scripts"));
  await serves(app, "two");
  await sleep(100); // its events are over
  app.write({ "scripts/routes/a.lua": saying("three") });
  await serves(app, "three");
  rmSync(at("scripts"), { recursive: true });
  await until(async () => (await app.get("/")).status === 404);
  renameSync(at("before"), at("scripts"));
  await serves(app, "one");
  await sleep(100);
  app.write({ "scripts/routes/a.lua": saying("four") });
  await serves(app, "four");
});
