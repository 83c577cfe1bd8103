// The dashboard in docs/: each of its queries asks for what a host emits.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import test from "node:test";
import { ROOT, start, until } from "./helpers.mjs";

const APP = {
  "scripts/jobs/work.lua": `return { queue = "work", run = function() return 1 end }`,
  "scripts/routes/all.lua": `
    local cache = require("perigee.cache").new("things", { ttl = "1m" })
    local client = require "perigee.http"
    local queue = require "perigee.queue"
    local db = require("perigee.sqlite").get "main"
    return function(router)
      router:get("/all", function(req)
        cache:get("a", function() return 1 end)
        db:one "select 1"
        client.get(req.query.at)
        queue.get("work"):add("one", {})
        return {}
      end)
      router:get("/other", function() return {} end)
    end`,
};

function scrape(url) {
  return new Promise((resolve, reject) => {
    http.get(url, (res) => {
      let text = "";
      res.on("data", (part) => { text += part; }).on("end", () => resolve(text));
    }).on("error", reject);
  });
}

/** {name: labels} of the samples. */
function emitted(text) {
  const found = new Map();
  for (const line of text.split("\n").filter((l) => l && !l.startsWith("#"))) {
    const [, name, labels] = /^([\w:]+)(?:\{(.*)\})? /.exec(line);
    const names = found.get(name) ?? new Set();
    for (const [, label] of (labels ?? "").matchAll(/(\w+)="/g)) {
      names.add(label);
    }
    found.set(name, names);
  }
  return found;
}

test("the Grafana dashboard asks for what there is", async (t) => {
  const board = JSON.parse(readFileSync(path.join(ROOT, "docs/grafana.json"), "utf8"));
  const queries = board.panels.flatMap((p) => p.targets ?? []).map((target) => target.expr);
  assert.ok(queries.length > 25);
  const app = await start(t, { files: APP });
  const admin = (await app.line((l) => l.msg === "listening" && l.admin)).url;
  assert.equal((await app.get(`/all?at=${app.url}/other`)).status, 200);
  const names = queries.flatMap((q) => [...q.matchAll(/([a-z_]+)\{/g)].map(([, name]) => name));
  let all = new Map();
  await until(async () => {
    all = emitted(await scrape(`${admin}/metrics`));
    return names.every((name) => all.has(name));
  }, { timeout_ms: 30_000, what: `all of ${names}` }).catch(() => {}); // said below, one by one
  for (const query of queries) {
    for (const [, name, matchers] of query.matchAll(/([a-z_]+)\{([^}]*)\}/g)) {
      const labels = all.get(name);
      assert.ok(labels, `${name} is not emitted: ${query}`);
      const asked = [...matchers.matchAll(/(\w+)(?:=|!)/g)].map((m) => m[1]);
      const by = /by \(([^)]*)\)/.exec(query)?.[1].split(/,\s*/) ?? [];
      for (const label of [...asked, ...by]) {
        assert.ok(label === "instance" || labels.has(label), `${name} has no label ${label}: ${query}`);
      }
    }
  }
});
