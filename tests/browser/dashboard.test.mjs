// The dashboard in a real browser, over a host of two workers under load.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { chromium } from "playwright-core";
import { upstream } from "../integration/client_helpers.mjs";
import { app_dir, sleep, start, until } from "../integration/helpers.mjs";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const HOSTILE = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>";
const HOSTILE_NAME = "<img src=x onerror=window.hacked=1>"; // paths may not have these

const ROUTE = `
  local cache = require "perigee.cache"
  local log = require "perigee.log"
  local queue = require "perigee.queue"
  local resilience = require "perigee.resilience"
  local task = require "perigee.task"
  local trace = require "perigee.trace"
  local prices = cache.new("prices", { ttl = "1m" })
  local bank = resilience.breaker("bank", { failures = 1 })
  router:get("/hello", function() return { hello = prices:get("x", function() return 1 end) } end)
  router:get("/broken", function() return bank:call(function() error "no bank" end) end)
  router:get("/report", function()
    trace.span("collect ${HOSTILE.replaceAll('"', '\\"')}", {}, function() task.sleep(150) end)
    return "done"
  end)
  router:get("/call", function(req)
    return { status = require("perigee.http").get(req.query.at).status }
  end)
  router:get("/odd", function()
    cache.new("${HOSTILE_NAME}", { ttl = "1m" }):get("x", function() return 1 end)
    return resilience.breaker("${HOSTILE_NAME}", { failures = 1 }):call(function() return "odd" end)
  end)
  router:post("/say", function(req)
    log.warn(req:json().text, { note = req:json().text })
    return 204
  end)
  router:post("/jobs", function(req)
    assert(queue.get("mail"):add(req:json().name, req:json()))
    return 201
  end)
`;

const JOBS = `
  local shared = require "perigee.shared"
  return { queue = "mail", run = function(job)
    if job.data.fails and job.attempt == 1 and not shared.dict("once", { size = "64kb" }):get(job.id) then
      shared.dict("once", { size = "64kb" }):set(job.id, true)
      error("no such mailbox: " .. job.name, 0)
    end
    return { sent = true }
  end }
`;

describe("the dashboard", () => {
  const ends = [];
  const t = { after: (end) => ends.push(end) };
  let app;
  let readonly;
  let browser;
  let page;
  let loading = true;
  const faults = []; // of any page: exceptions, console errors, requests elsewhere

  async function host(settings) {
    const made = await start(t, {
      dir: app_dir(t, { route: ROUTE, files: { "scripts/jobs/mail.lua": JOBS } }),
      workers: 2,
      settings,
    });
    made.admin = (await made.line((l) => l.msg === "listening" && l.admin)).url;
    return made;
  }

  async function open(target) {
    const opened = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    opened.on("pageerror", (error) => faults.push(`exception: ${error.message}`));
    opened.on("console", (line) => line.type() === "error" && faults.push(line.text()));
    opened.on("request", (request) => {
      if (!request.url().startsWith(target.admin)) {
        faults.push(`request to ${request.url()}`);
      }
    });
    await opened.goto(target.admin);
    await opened.getByText("Live", { exact: true }).waitFor();
    return opened;
  }

  const row = (table, text) => page.locator(`#${table} tbody tr`).filter({ hasText: text });
  const cells = async (table, text) => (await row(table, text).locator("td").allTextContents());

  before(async () => {
    app = await host({ "admin.dashboard.write": "true", "trace.enabled": "true", "trace.exporter": "none",
      "client.connections": 1, "client.idle_timeout": "60s" });
    const profile = mkdtempSync(path.join(os.tmpdir(), "perigee-chromium-"));
    browser = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      headless: true,
      args: FLAGS,
    });
    ends.push(async () => {
      await browser.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    });
    page = await open(app);
  });

  after(async () => {
    loading = false;
    for (const end of ends.reverse()) {
      await end();
    }
  });

  it("says so when there is nothing", async () => {
    for (const id of ["routes", "queues", "slow"]) {
      assert.equal(await page.locator(`#${id}-empty`).isVisible(), true, id);
      assert.equal(await page.locator(`#${id}`).isVisible(), false, id);
    }
    assert.equal(await page.locator("#workers tbody tr").count(), 2);
    assert.match(await page.locator("#code").textContent(), /Generation1.*2 of 2 workers serve/);
  });

  it("shows numbers that move while the host is under load", async () => {
    (async () => {
      while (loading) {
        await Promise.allSettled([app.get("/hello"), app.get("/hello"), app.get("/broken")]);
        await sleep(50);
      }
    })();
    await row("routes", "/hello").waitFor();
    const since = async () => Number((await cells("routes", "/hello"))[5].replace(" k", "e3"));
    const first = await since();
    await until(async () => (await since()) > first, { what: "more requests" });
    await until(async () => Number.parseFloat((await cells("routes", "/hello"))[1]) > 0, { what: "a rate" });
    await until(async () => /ms|µs/.test((await cells("routes", "/hello"))[4]), { what: "a percentile" });
    await until(async () => /^100 %$/.test((await cells("routes", "/broken"))[2]), { what: "errors" });
    await until(async () => Number.parseFloat(await page.locator("[data-tile=rate] .value").textContent()) > 0);
    await until(async () => (await page.locator("[data-tile=rate] path.line").getAttribute("d")).includes("L"));
    await until(async () => /prices/.test(await page.locator("#caches").textContent()));
    await until(async () => /open/.test((await cells("breakers", "bank"))[2]));
  });

  it("shows connections to other servers: in use, idle, waited for", async () => {
    const held = [];
    const server = await upstream(t, (socket) => held.push(socket));
    const at = `127.0.0.1:${server.port}`;
    const pool = async () => (await cells("pools", at)).slice(7);
    const calls = Array.from({ length: 5 }, () => app.get(`/call?at=http://${at}/`));
    await row("pools", at).waitFor();
    await until(async () => { // each worker has one connection
      const [used, idle, waiting] = (await pool()).map(Number);
      return used === server.sockets.size && idle === 0 && used + waiting === 5;
    }, { what: "calls that wait" });
    assert.deepEqual((await cells("pools", at)).slice(0, 2), [at, "http"]);
    assert.ok(await page.locator("#pools").evaluate((table) => table.parentElement.scrollWidth <= table.parentElement.clientWidth));
    const answering = setInterval(() => held.splice(0).forEach((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }), 10);
    for (const answer of await Promise.all(calls)) {
      assert.equal(answer.status, 200);
    }
    clearInterval(answering);
    const open = server.sockets.size;
    await until(async () => (await pool()).join() === `0,${open},0`, { what: `${open} idle` });
  });

  it("sorts routes by what is asked for", async () => {
    const routes = page.locator("#routes");
    await routes.getByRole("button", { name: "Errors" }).click();
    assert.match(await page.locator("#routes tbody tr").first().textContent(), /\/broken/);
    assert.equal(await routes.getByRole("columnheader", { name: "Errors" }).getAttribute("aria-sort"), "descending");
  });

  it("shows a refused reload with its file and line, and the next that goes well", async () => {
    app.write({ "scripts/routes/zz.lua": "return function(router)\n  router:get('/z', nothing.here)\nend\n" });
    assert.equal((await app.command("reload")).code, 3);
    const refusal = page.locator("#last-refusal");
    await refusal.waitFor();
    assert.match(await refusal.textContent(), /Refused: the old code serves.*scripts\/routes\/zz\.lua:2/s);
    assert.equal(await refusal.locator("mark").first().textContent(), "scripts/routes/zz.lua:2");
    app.write({ "scripts/routes/zz.lua": "return function() end\n" });
    assert.equal((await app.command("reload")).code, 0);
    await page.getByText("The last refusal").waitFor();
    await until(async () => /Generation2/.test(await page.locator("#code").textContent()));
  });

  it("follows the log, and filters it", async () => {
    await app.post("/say", { text: "the needle is here" });
    await page.locator("#log").getByText("the needle is here").first().waitFor();
    await page.getByLabel("Containing").fill("needle");
    await until(async () => (await page.locator("#log li:visible").count()) === 1);
    await page.getByLabel("Containing").fill("");
    await page.getByLabel("Level").selectOption("warn");
    await until(async () => (await page.locator("#log li:visible .level.of-info").count()) === 0);
    await page.locator("#log li:visible summary").filter({ hasText: "needle" }).click();
    assert.match(await page.locator("#log details[open] pre").textContent(), /"note": "the needle is here"/);
    await page.getByLabel("Level").selectOption("all");
  });

  it("shows the slowest as a waterfall of their spans", async () => {
    await app.get("/report");
    const first = page.locator("#slow > li").filter({ hasText: "GET /report" }).first();
    await first.waitFor();
    await first.locator("summary").click();
    const names = await first.locator(".span-name").allTextContents();
    assert.match(names[0], /^GET \/report/);
    assert.match(names[1], /^collect /);
    const bar = first.locator(".waterfall li").nth(1).locator(".span");
    assert.ok((await bar.evaluate((e) => e.getBoundingClientRect().width / e.parentElement.getBoundingClientRect().width)) > 0.5);
  });

  it("browses queues, runs jobs again, pauses and resumes", async () => {
    for (const name of ["ada", "bob", "eve"]) {
      await app.post("/jobs", { name, fails: true, token: "hunter2" });
    }
    await until(async () => (await row("queues", "mail").count()) === 1 && (await cells("queues", "mail"))[5] === "3", { what: "failures" });
    await row("queues", "mail").locator("[data-state=failed]").click();
    const jobs = page.locator("#browser [data-job]");
    await until(async () => (await jobs.count()) === 3);
    assert.match(await page.locator("#browser").textContent(), /no such mailbox: ada/);
    const bob = jobs.filter({ hasText: "bob" });
    await bob.getByRole("button").first().click();
    await page.locator("#browser .details").getByText('"name": "bob"').waitFor();
    assert.match(await page.locator("#browser .details").textContent(), /\[masked\]/);
    await bob.getByRole("button", { name: "Run again" }).click();
    await until(async () => (await jobs.count()) === 2, { what: "one fewer" });
    await page.getByRole("button", { name: "Run all failed again" }).click();
    await page.getByText("No job is failed.").waitFor();
    await page.getByRole("button", { name: "Pause", exact: true }).first().click();
    await row("queues", "mail").getByText("paused").waitFor();
    await app.post("/jobs", { name: "late" });
    await until(async () => (await cells("queues", "mail"))[1] === "1");
    await row("queues", "mail").getByRole("button", { name: "Resume" }).click();
    await until(async () => (await cells("queues", "mail"))[4] === "4");
    await page.getByRole("button", { name: "Close" }).first().click();
    assert.equal(await page.locator("#browser").isVisible(), false);
  });

  it("shows hostile text as text, wherever it comes from", async () => {
    assert.equal((await app.get("/odd")).status, 200);
    await app.get(`/${encodeURIComponent(HOSTILE)}`);
    await app.post("/say", { text: HOSTILE });
    await app.post("/jobs", { name: HOSTILE, fails: true });
    await page.locator("#log").getByText("onerror").first().waitFor();
    for (const table of ["caches", "breakers"]) {
      await page.locator(`#${table}`).getByText("onerror").first().waitFor();
    }
    await page.locator("#slow").getByText("onerror").first().waitFor();
    await until(async () => (await cells("queues", "mail"))[5] === "1");
    await row("queues", "mail").locator("[data-state=failed]").click();
    await page.locator("#browser").getByText("onerror").first().waitFor();
    await page.locator("#browser [data-job] button").first().click();
    await page.locator("#browser .details").getByText("onerror").first().waitFor();
    app.write({ "scripts/routes/zz.lua": `error([[${HOSTILE}]])\n` });
    assert.equal((await app.command("reload")).code, 3);
    await page.locator("#last-refusal").getByText("onerror").waitFor();
    assert.equal(await page.evaluate("window.hacked"), undefined);
    assert.equal(await page.locator("main img, main script").count(), 0);
  });

  it("draws a flame graph on a button", async () => {
    await page.getByRole("button", { name: "Flame graph" }).click();
    await page.locator("#flame-seconds").selectOption("2");
    await page.getByRole("button", { name: "Take it" }).click();
    const boxes = page.locator("#flame-body button");
    await boxes.getByText("all", { exact: true }).waitFor();
    await until(async () => (await boxes.count()) > 1, { what: "frames" });
    assert.match(await page.locator("#flame-note").textContent(), /2 workers/);
    const inner = boxes.nth(1);
    const name = await inner.textContent();
    await inner.click();
    assert.equal(await boxes.nth(1).textContent(), name); // below "all", as wide
    await boxes.first().click();
    await page.locator("#flame-close").click();
  });

  it("is used with the keyboard alone", async () => {
    await page.reload();
    await page.getByText("Live", { exact: true }).waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate("document.activeElement.textContent"), "Skip to the numbers");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate("document.activeElement.id"), "main");
    const sort = page.getByRole("button", { name: "Rate / s" }).first();
    await sort.focus();
    await page.keyboard.press("Enter");
    assert.equal(await page.getByRole("columnheader", { name: "Rate / s" }).first().getAttribute("aria-sort"), "descending");
  });

  it("goes on when a worker dies, and shows its successor", async () => {
    const [victim] = app.workers();
    process.kill(victim, "SIGKILL");
    await until(async () => {
      const rows = await page.locator("#workers tbody tr").allTextContents();
      return rows.length === 2 && rows.every((each) => each.includes("serving") && !each.includes(String(victim)));
    });
    await page.getByText("Live", { exact: true }).waitFor();
  });

  it("changes nothing where that is not allowed", async () => {
    readonly = await host({});
    await readonly.post("/jobs", { name: "ada", fails: true });
    const shown = page;
    page = await open(readonly);
    await row("queues", "mail").waitFor();
    const pause = row("queues", "mail").getByRole("button", { name: "Pause" });
    assert.equal(await pause.isDisabled(), true);
    await page.getByText("read-only: admin.dashboard.write is not set").waitFor();
    const status = await page.evaluate(() => fetch("/dashboard/queues/mail/pause", {
      method: "POST", headers: { "content-type": "application/json", "x-perigee-dashboard": "1" }, body: "{}",
    }).then((r) => r.status));
    assert.equal(status, 403);
    assert.match(faults.pop(), /403/); // the browser says so, too
    await page.close();
    page = shown;
  });

  it("gives a page of another site nothing", async () => {
    const evil = await browser.newPage();
    await evil.goto(`${readonly.url}/hello`); // localhost as well, another port: the same site
    const tries = await evil.evaluate(async (admin) => {
      const outcome = async (run) => {
        try {
          const r = await run();
          return `${r.type} ${r.status}`;
        } catch (error) {
          return error.name;
        }
      };
      return [
        await outcome(() => fetch(`${admin}/dashboard/state`)),
        await outcome(() => fetch(`${admin}/dashboard/queues/mail/pause`, {
          method: "POST", headers: { "content-type": "application/json", "x-perigee-dashboard": "1" }, body: "{}",
        })),
        await outcome(() => fetch(`${admin}/dashboard/queues/mail/pause`, { method: "POST", mode: "no-cors", body: "{}" })),
        await new Promise((resolve) => {
          const source = new EventSource(`${admin}/dashboard/events`);
          source.onerror = () => resolve("refused");
          source.onmessage = () => resolve("heard");
        }),
      ];
    }, app.admin);
    assert.deepEqual(tries.slice(0, 2), ["TypeError", "TypeError"]);
    assert.ok(["TypeError", "opaque 0"].includes(tries[2]), tries[2]);
    assert.equal(tries[3], "refused");
    const { queues } = await fetch(`${app.admin}/dashboard/queues`).then((r) => r.json());
    assert.equal(queues[0].paused, false);
    await evil.close();
  });

  it("has loaded nothing from elsewhere, and raised nothing", () => {
    assert.deepEqual(faults, []);
  });
});
