// The page at / in a real browser.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { chromium } from "playwright-core";
import { until } from "../integration/helpers.mjs";
import { Relay } from "../integration/relay.mjs";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const HOSTILE = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>";

describe("the page", () => {
  let relay;
  let browser;
  let profile;
  let page;
  const faults = []; // of any page: exceptions, console errors, requests elsewhere

  async function open(target = "/") {
    page = await browser.newPage({ viewport: { width: 1100, height: 800 } });
    page.on("pageerror", (error) => faults.push(`exception: ${error.message}`));
    page.on("console", (line) => line.type() === "error" && faults.push(line.text()));
    page.on("request", (request) => {
      if (!request.url().startsWith(relay.url)) {
        faults.push(`request to ${request.url()}`);
      }
    });
    await page.goto(relay.url + target);
    return page;
  }

  /** Waits until the events shown are these. */
  async function listed(names) {
    const shown = page.locator("#events button.event");
    await until(async () => (await shown.allTextContents()).join() === names, { what: names });
  }

  before(async () => {
    relay = await Relay.start();
    profile = mkdtempSync(path.join(os.tmpdir(), "perigee-chromium-"));
    browser = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      headless: true,
      args: FLAGS,
    });
  });

  after(async () => {
    await browser?.close();
    if (profile) {
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    }
    await relay?.stop();
  });

  it("says what to do when there is nothing", async () => {
    await open();
    await page.getByText("Live", { exact: true }).waitFor();
    await page.getByText("Nothing has come in.").waitFor();
    assert.match(await page.locator("#no-sources-how").textContent(), /curl -X POST .*\/sources/);
  });

  it("shows a source and its subscription when they appear", async () => {
    await relay.source({ name: "shop", kind: "none" },
      { events: ["*"], transform: "envelope", target_url: "https://example.com/orders" });
    const card = page.locator("#sources > li").filter({ hasText: "shop" });
    await card.waitFor();
    const text = await card.textContent();
    for (const part of ["none", "/in/shop", "https://example.com/orders", "envelope"]) {
      assert.ok(text.includes(part), `${part} in ${text}`);
    }
    assert.equal(await page.locator("#no-sources").isVisible(), false);
  });

  it("shows an event when it comes in, its deliveries and its body", async () => {
    await relay.post("/in/shop", { type: "order.created", total: 1234 });
    const button = page.getByRole("button", { name: "order.created" });
    await button.waitFor();
    const row = page.locator("#events tr").filter({ hasText: "order.created" }).first();
    assert.match(await row.textContent(), /shop.*pending.*envelope/s);
    assert.equal(await button.getAttribute("aria-expanded"), "false");
    await button.click();
    const details = page.locator("tr.details:visible");
    await details.getByText('"total": 1234').first().waitFor();
    assert.match(await details.textContent(), /https:\/\/example\.com\/orders.*transform envelope/s);
    assert.equal(await button.getAttribute("aria-expanded"), "true");
  });

  it("keeps what is open, and focus, while newer events come in above", async () => {
    const button = page.getByRole("button", { name: "order.created" });
    await button.focus();
    await relay.post("/in/shop", { type: "order.paid" });
    await page.getByRole("button", { name: "order.paid" }).waitFor();
    assert.equal(await button.getAttribute("aria-expanded"), "true");
    assert.equal(await button.evaluate((element) => element === document.activeElement), true);
    const names = await page.locator("#events button.event").allTextContents();
    assert.deepEqual(names, ["order.paid", "order.created"]);
  });

  it("shows hostile payloads as text", async () => {
    await relay.source({ name: "hostile", kind: "none" },
      { target_url: `https://example.com/?q=${encodeURIComponent(HOSTILE)}` });
    await relay.post("/in/hostile", { type: "attack", note: HOSTILE });
    await page.getByRole("button", { name: "attack" }).click();
    await page.locator("tr.details:visible").getByText("onerror").first().waitFor();
    assert.equal(await page.evaluate("window.hacked"), undefined);
    assert.equal(await page.locator("#events img, #events script, #sources b").count(), 0);
  });

  it("filters by source and by type", async () => {
    await page.getByRole("combobox", { name: "Source" }).selectOption("hostile");
    await listed("attack");
    await page.getByRole("combobox", { name: "Source" }).selectOption("");
    await page.getByRole("searchbox", { name: "Type" }).fill("order");
    await page.keyboard.press("Enter");
    await listed("order.paid,order.created");
    await page.getByRole("searchbox", { name: "Type" }).fill("");
    await page.keyboard.press("Enter");
  });

  it("goes back to older events", async () => {
    for (let n = 0; n < 30; n++) {
      await relay.post("/in/shop", { type: `many.n${n}` });
    }
    await page.reload();
    await page.getByRole("button", { name: "many.n29" }).waitFor();
    assert.equal(await page.locator("#events button.event").count(), 25);
    await page.getByRole("button", { name: "Older events" }).click();
    await page.getByRole("button", { name: "order.created" }).waitFor();
    const names = await page.locator("#events button.event").allTextContents();
    assert.equal(names.length, 33);
    assert.equal(new Set(names).size, 33);
  });

  it("can be paused", async () => {
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByText("Paused").waitFor();
    await relay.post("/in/shop", { type: "while.paused" });
    await page.waitForTimeout(2500);
    assert.equal(await page.getByRole("button", { name: "while.paused" }).count(), 0);
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByRole("button", { name: "while.paused" }).waitFor();
  });

  it("can be used by keyboard and read aloud", async () => {
    await page.reload();
    await page.getByRole("button", { name: "while.paused" }).waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate("document.activeElement.textContent"), "Skip to events");
    const unnamed = await page.evaluate(() =>
      [...document.querySelectorAll("button, input, select, a, img")].filter((element) =>
        !(element.textContent.trim() || element.labels?.length || element.hasAttribute("alt")))
        .map((element) => element.outerHTML));
    assert.deepEqual(unnamed, []);
    assert.equal(await page.locator("h1").count(), 1);
    assert.equal(await page.locator("html").getAttribute("lang"), "en");
    assert.equal(await page.locator("#state").getAttribute("role"), "status");
  });

  it("fits a phone", async () => {
    await page.setViewportSize({ width: 360, height: 700 });
    const overflow = await page.evaluate(
      "document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert.ok(overflow <= 0, `${overflow} px wider than the screen`);
    await page.setViewportSize({ width: 1100, height: 800 });
  });

  it("loads nothing from elsewhere and raises no error", () => {
    assert.deepEqual(faults, []);
  });

  it("says when the relay is gone", async () => {
    await relay.kill();
    await page.getByText("The relay does not answer").waitFor();
  });
});

describe("the page of a relay with a token", () => {
  it("asks for it", async () => {
    const token = "0123456789abcdef-token";
    const relay = await Relay.start({ settings: { "app.token": token } });
    const profile = mkdtempSync(path.join(os.tmpdir(), "perigee-chromium-"));
    const browser = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      headless: true,
      args: FLAGS,
    });
    try {
      const page = await browser.newPage();
      await page.goto(relay.url);
      await page.getByLabel("This relay asks for a token").fill(token);
      await page.getByRole("button", { name: "Use it" }).click();
      await page.getByText("Live", { exact: true }).waitFor();
      assert.equal(await page.locator("#token-form").isVisible(), false);
    } finally {
      await browser.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
      await relay.stop();
    }
  });
});

describe("the page of a relay that delivers", () => {
  it("shows deliveries live, their log and dead letters, and sends again", async () => {
    let status = 200;
    const server = http.createServer((req, res) => {
      res.statusCode = status;
      res.end(`said ${status}`);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const relay = await Relay.start({
      settings: { "app.delivery.attempts": 2, "app.delivery.backoff": "50ms" },
    });
    const profile = mkdtempSync(path.join(os.tmpdir(), "perigee-chromium-"));
    const browser = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      headless: true,
      args: FLAGS,
    });
    try {
      const page = await browser.newPage();
      const row = (type) => page.locator("#events tr[data-event]").filter({ hasText: type });
      await relay.source({ name: "shop", kind: "none" },
        { target_url: `http://127.0.0.1:${server.address().port}/` });
      await page.goto(relay.url);
      await page.getByText("Live", { exact: true }).waitFor();
      assert.equal(await page.locator("#dead").isVisible(), false);

      await relay.post("/in/shop", { type: "order.fine" });
      await row("order.fine").getByText("delivered").waitFor();

      status = 500;
      await relay.post("/in/shop", { type: "order.bad" });
      await row("order.bad").getByText("dead").waitFor();
      await page.getByText("1 delivery was given up").waitFor();
      await page.getByRole("button", { name: "order.bad" }).click();
      const details = page.locator("tr.details:visible");
      await details.locator("ol.log li").nth(1).waitFor();
      assert.match(await details.locator("ol.log").textContent(), /500.*said 500/s);

      status = 200;
      await details.getByRole("button", { name: "Send again" }).click();
      await row("order.bad").getByText("delivered").waitFor();
      await details.locator("ol.log li").nth(2).waitFor();

      status = 410;
      await relay.post("/in/shop", { type: "order.gone" });
      await relay.post("/in/shop", { type: "order.lost" });
      await page.getByText("2 deliveries were given up").waitFor();
      status = 200;
      await page.getByRole("button", { name: "Send all again" }).click();
      await row("order.gone").getByText("delivered").waitFor();
      await row("order.lost").getByText("delivered").waitFor();
      await until(async () => !(await page.locator("#dead").isVisible()), { what: "no dead letters" });
    } finally {
      await browser.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
      await relay.stop();
      server.closeAllConnections();
      server.close();
    }
  });
});
