// The flame graph that `perigee profile` writes, in a browser: it zooms,
// searches, and loads nothing.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

import { start, until } from "../integration/helpers.mjs";

const ROUTE = `
  local function inner(till)
    local sum = 0
    while os.clock() < till do
      for i = 1, 1000 do sum = sum + i % 7 end
    end
    return sum
  end
  local function outer(ms)
    local sum = inner(os.clock() + ms / 1000)
    return sum + 1
  end
  router:get("/spin", function() return { sum = outer(30) } end)
  router:get("/turn", function() return { sum = outer(30) } end)
`;

async function take_profile(t) {
  const app = await start(t, { route: ROUTE });
  const file = path.join(app.dir, "cpu.svg");
  await until(async () => { // one may have seen too little of a busy machine
    let done = false;
    const profile = app.command("profile", "--cpu", "1s", "-o", file).finally(() => { done = true; });
    while (!done) {
      await app.get("/spin");
      await app.get("/turn");
    }
    assert.equal((await profile).code, 0);
    const graph = readFileSync(file, "utf8");
    return ["GET /spin", "GET /turn", "test.lua:inner:"].every((name) => graph.includes(name));
  }, { what: "both routes" });
  return file;
}

async function open(t, file) {
  const profile = mkdtempSync(path.join(os.tmpdir(), "perigee-chromium-"));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
    viewport: { width: 1220, height: 600 },
  });
  t.after(async () => {
    await browser.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  const page = await browser.newPage();
  const seen = { errors: [], requests: [] };
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("request", (request) => seen.requests.push(request.url()));
  await page.goto(pathToFileURL(file).href);
  return { page, seen };
}

// {name, x, width, shown} of the frame whose name begins so.
function frame(page, name) {
  return page.evaluate((wanted) => {
    const g = [...document.querySelectorAll(".f")].find((f) => f.querySelector("title").textContent.startsWith(wanted));
    const rect = g.querySelector("rect");
    return {
      width: Number(rect.getAttribute("width")),
      shown: g.style.display !== "none",
      hit: g.classList.contains("hit"),
      above: g.classList.contains("above"),
    };
  }, name);
}

test("a flame graph zooms to a frame and back, and searches", async (t) => {
  const file = await take_profile(t);
  const { page, seen } = await open(t, file);
  const before = await frame(page, "GET /turn");
  assert.ok(before.width > 50 && before.width < 1100, JSON.stringify(before));

  const box = await page.locator(".f", { hasText: "GET /turn" }).first().boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
  assert.deepEqual(await frame(page, "GET /turn"), { width: 1180, shown: true, hit: false, above: false });
  assert.equal((await frame(page, "all")).above, true);
  await page.keyboard.press("Escape");
  assert.deepEqual(await frame(page, "GET /turn"), before);

  await page.fill("input", "inner:\\d");
  assert.match(await page.textContent(".found"), /^matched \d+\.\d %$/);
  assert.equal((await frame(page, "routes/test.lua:inner:")).hit, true);
  assert.equal((await frame(page, "GET /turn")).hit, false);
  await page.fill("input", "(");
  assert.equal(await page.textContent(".found"), "not a regular expression");
  await page.fill("input", "");
  assert.equal((await frame(page, "routes/test.lua:inner:")).hit, false);

  assert.deepEqual(seen, { errors: [], requests: [pathToFileURL(file).href] });
});
