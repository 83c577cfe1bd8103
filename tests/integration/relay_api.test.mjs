// The management API: sources, subscriptions, lists, transforms, the token.
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { until } from "./helpers.mjs";
import { Relay } from "./relay.mjs";

const SECRET = "a secret nobody may see";

function problem(answer, status) {
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.type, /^application\/problem\+json/);
  assert.equal(answer.json.status, status);
  return answer.json;
}

describe("sources", () => {
  let relay;

  before(async () => {
    relay = await Relay.start();
  });
  after(() => relay?.stop());

  it("begin with none, as an empty list", async () => {
    const answer = await relay.get("/sources");
    assert.match(answer.text, /"items":\[\]/);
    assert.deepEqual(answer.json, { items: [], next: null });
  });

  it("are made, shown, changed and removed", async () => {
    const made = await relay.post("/sources",
      { name: "shop", kind: "generic", secret: SECRET, signature: { header: "X-Shop" } });
    assert.equal(made.status, 201, made.text);
    assert.equal(made.headers.get("location"), "/sources/shop");
    assert.deepEqual(made.json.signature, { header: "x-shop", encoding: "hex", prefix: "" });
    assert.equal(made.json.has_secret, true);
    assert.deepEqual((await relay.get("/sources/shop")).json, made.json);

    const changed = await relay.call("PATCH", "/sources/shop",
      { body: { signature: { encoding: "base64" }, tolerance_s: 60 } });
    assert.equal(changed.status, 200, changed.text);
    assert.deepEqual(changed.json.signature, { header: "x-shop", encoding: "base64", prefix: "" });
    assert.equal(changed.json.tolerance_s, 60);
    const unset = await relay.call("PATCH", "/sources/shop", { body: { tolerance_s: null } });
    assert.equal("tolerance_s" in unset.json, false);

    const removed = await relay.call("DELETE", "/sources/shop");
    assert.deepEqual([removed.status, removed.text], [204, ""]);
    problem(await relay.get("/sources/shop"), 404);
    problem(await relay.call("DELETE", "/sources/shop"), 404);
    problem(await relay.call("PATCH", "/sources/shop", { body: { tolerance_s: 1 } }), 404);
  });

  it("never show their secret", async () => {
    const made = await relay.post("/sources", { name: "quiet", kind: "github", secret: SECRET });
    const answers = [
      made,
      await relay.get("/sources/quiet"),
      await relay.get("/sources"),
      await relay.call("PATCH", "/sources/quiet", { body: { secret: `${SECRET} 2` } }),
    ];
    for (const answer of answers) {
      assert.ok(answer.status < 300, answer.text);
      assert.ok(!answer.text.includes(SECRET));
    }
    assert.ok(!JSON.stringify(relay.host.lines).includes(SECRET), "nor does the log");
  });

  it("are refused when they are malformed, each fault named", async () => {
    const answer = problem(await relay.post("/sources",
      { name: "Not A Name", kind: "gitlab", tolerance_s: 0, colour: "red" }), 400);
    const pointers = answer.errors.map((error) => error.pointer).sort();
    for (const pointer of ["/colour", "/kind", "/name", "/tolerance_s"]) {
      assert.ok(pointers.includes(pointer), `${pointer} in ${pointers}`);
    }
    problem(await relay.post("/sources", "{", { "content-type": "application/json" }), 400);
    problem(await relay.post("/sources", {}), 400);
    problem(await relay.call("PATCH", "/sources/quiet", { body: { name: "other" } }), 400);
    problem(await relay.call("PATCH", "/sources/quiet", { body: {} }), 400);
  });

  it("are refused when they make no sense", async () => {
    problem(await relay.post("/sources", { name: "a", kind: "github" }), 422);
    problem(await relay.post("/sources", { name: "a", kind: "none", secret: SECRET }), 422);
    problem(await relay.post("/sources",
      { name: "a", kind: "stripe", secret: SECRET, signature: { prefix: "x" } }), 422);
    problem(await relay.call("PATCH", "/sources/quiet", { body: { secret: null } }), 422);
  });

  it("have a name of their own", async () => {
    problem(await relay.post("/sources", { name: "quiet", kind: "none" }), 409);
  });

  it("stay while subscriptions use them", async () => {
    await relay.source({ name: "used", kind: "none" });
    const { id } = await relay.subscribe({ source: "used" });
    problem(await relay.call("DELETE", "/sources/used"), 409);
    assert.equal((await relay.call("DELETE", `/subscriptions/${id}`)).status, 204);
    assert.equal((await relay.call("DELETE", "/sources/used")).status, 204);
  });

  it("are listed by pages in the order of their names", async () => {
    for (const n of [3, 1, 5, 2, 4]) {
      await relay.source({ name: `page-${n}`, kind: "none" });
    }
    const first = await relay.get("/sources?limit=2&after=page");
    assert.deepEqual(first.json.items.map((each) => each.name), ["page-1", "page-2"]);
    assert.equal(first.json.next, "page-2");
    assert.equal(first.headers.get("link"), '</sources?limit=2&after=page-2>; rel="next"');
    const all = await relay.all("/sources", { limit: 2, after: "page" });
    assert.deepEqual(all.map((each) => each.name).filter((name) => name.startsWith("page-")),
      [1, 2, 3, 4, 5].map((n) => `page-${n}`));
    for (const query of ["limit=0", "limit=201", "limit=x", "nonsense=1", "after=%00"]) {
      problem(await relay.get(`/sources?${query}`), 400);
    }
  });

  it("answer 405 with what is allowed", async () => {
    const answer = await relay.call("PUT", "/sources/quiet", { body: {} });
    problem(answer, 405);
    const allowed = answer.headers.get("allow").split(/, */);
    for (const method of ["GET", "HEAD", "PATCH", "DELETE"]) {
      assert.ok(allowed.includes(method), `${method} in ${allowed}`);
    }
  });
});

describe("subscriptions", () => {
  let relay;

  before(async () => {
    relay = await Relay.start();
    await relay.source({ name: "open", kind: "none" });
  });
  after(() => relay?.stop());

  it("are made, shown, changed, listed and removed", async () => {
    const made = await relay.post("/subscriptions", {
      source: "open", target_url: "https://example.com/a?b=c", events: ["push", "issues.*"],
      transform: "slack_message",
    });
    assert.equal(made.status, 201, made.text);
    const at = `/subscriptions/${made.json.id}`;
    assert.equal(made.headers.get("location"), at);
    assert.equal(made.json.enabled, true);
    assert.deepEqual((await relay.get(at)).json, made.json);
    const changed = await relay.call("PATCH", at, { body: { enabled: false, transform: null } });
    assert.equal(changed.status, 200, changed.text);
    assert.deepEqual([changed.json.enabled, changed.json.transform], [false, null]);
    assert.deepEqual((await relay.get("/subscriptions?enabled=false")).json.items, [changed.json]);
    assert.deepEqual((await relay.get("/subscriptions?enabled=true")).json.items, []);
    assert.equal((await relay.call("DELETE", at)).status, 204);
    problem(await relay.get(at), 404);
    problem(await relay.call("DELETE", at), 404);
  });

  it("may have any form of scheme, host and port", async () => {
    for (const target_url of ["HTTP://127.0.0.1:65535/a", "hTTps://Example.com", "http://[::1]:1?a", "http://a:/"]) {
      const made = await relay.post("/subscriptions", { source: "open", target_url });
      assert.deepEqual([made.status, made.json.target_url], [201, target_url], made.text);
      assert.equal((await relay.call("DELETE", made.headers.get("location"))).status, 204);
    }
  });

  it("are refused when they are malformed", async () => {
    for (const target_url of ["ftp://a/b", "/relative", "http://", "http://u:p@host/", "https://a b/", `https://${"a".repeat(300)}/`,
      "http://a:65536/", "http://a:99999", "http://a:0/", "http://a:8o/", "http://[::1/"]) {
      problem(await relay.post("/subscriptions", { source: "open", target_url }), 400);
    }
    const target_url = "https://example.com/";
    for (const more of [{ events: [] }, { events: ["a b"] }, { events: "*" }, { transform: "../x" }]) {
      problem(await relay.post("/subscriptions", { source: "open", target_url, ...more }), 400);
    }
  });

  it("are refused when their source or transform does not exist", async () => {
    const target_url = "https://example.com/";
    problem(await relay.post("/subscriptions", { source: "nobody", target_url }), 422);
    problem(await relay.post("/subscriptions", { source: "open", target_url, transform: "no" }), 422);
  });

  it("get the events that they want, when enabled", async () => {
    await relay.source({ name: "filtered", kind: "none" });
    const wants = {};
    for (const [name, events] of Object.entries(
      { all: ["*"], a: ["a"], below: ["a.*"], b: ["b.c", "d"] })) {
      wants[name] = (await relay.subscribe({ source: "filtered", events })).id;
    }
    await relay.subscribe({ source: "filtered", enabled: false });
    const got = async (type) => {
      const taken = await relay.post("/in/filtered", "x", { "x-event-type": type });
      const list = (await relay.get(`/deliveries?event=${taken.json.id}`)).json.items;
      assert.equal(taken.json.deliveries, list.length);
      return Object.keys(wants).filter((name) =>
        list.some((each) => each.subscription_id === wants[name]));
    };
    assert.deepEqual(await got("a"), ["all", "a"]);
    assert.deepEqual(await got("a.b"), ["all", "a", "below"]);
    assert.deepEqual(await got("ab"), ["all"]);
    assert.deepEqual(await got("b"), ["all"]);
    assert.deepEqual(await got("b.c.d"), ["all", "b"]);
  });

  it("take their open deliveries with them", async () => {
    await relay.source({ name: "short", kind: "none" });
    const { id } = await relay.subscribe({ source: "short" });
    await relay.post("/in/short", "x");
    assert.equal((await relay.call("DELETE", `/subscriptions/${id}`)).status, 204);
    const list = (await relay.get(`/deliveries?subscription=${id}`)).json.items;
    assert.deepEqual(list.map((each) => each.status), ["cancelled"]);
  });
});

describe("lists of events", () => {
  let relay;
  const times = [];

  before(async () => {
    relay = await Relay.start();
    await relay.source({ name: "one", kind: "none" });
    await relay.source({ name: "two", kind: "none" });
    for (const [source, type] of [["one", "a"], ["one", "a.b"], ["two", "ab"], ["two", "a.c"]]) {
      const taken = await relay.post(`/in/${source}`, "x", { "x-event-type": type });
      times.push(taken.json.received_at_ms);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });
  after(() => relay?.stop());

  const types = async (query) =>
    (await relay.get(`/events?${query}`)).json.items.map((each) => each.type);

  it("are newest first, filtered by source, type and time", async () => {
    assert.deepEqual(await types(""), ["a.c", "ab", "a.b", "a"]);
    assert.deepEqual(await types("source=one"), ["a.b", "a"]);
    assert.deepEqual(await types("type=a"), ["a.c", "a.b", "a"]);
    assert.deepEqual(await types("type=a&source=two"), ["a.c"]);
    assert.deepEqual(await types(`since_ms=${times[1]}`), ["a.c", "ab", "a.b"]);
    assert.deepEqual(await types(`until_ms=${times[1]}`), ["a"]);
    assert.deepEqual(await types(`since_ms=${times[1]}&until_ms=${times[3]}`), ["ab", "a.b"]);
  });

  it("do not shift when events come in between pages", async () => {
    const first = await relay.get("/events?limit=2");
    await relay.post("/in/one", "x", { "x-event-type": "late" });
    const second = await relay.get(`/events?limit=2&after=${first.json.next}`);
    assert.deepEqual(second.json.items.map((each) => each.type), ["a.b", "a"]);
    assert.equal(second.json.next, null);
  });

  it("answer 404 for what is not there, 400 for what cannot be", async () => {
    problem(await relay.get("/events/00000000-0000-0000-0000-000000000000"), 404);
    problem(await relay.get("/events/x"), 404);
    problem(await relay.get("/deliveries/x"), 404);
    problem(await relay.get("/events?after=x"), 400);
    problem(await relay.get("/deliveries?status=lost"), 400);
  });
});

describe("transforms", () => {
  let relay;

  before(async () => {
    relay = await Relay.start({ settings: { "app.transforms.timeout": "1s" } });
    await relay.source({ name: "open", kind: "none" });
  });
  after(() => relay?.stop());

  const write = (name, text) =>
    writeFileSync(path.join(relay.dir, "scripts/transforms", `${name}.lua`), text);

  /** Makes the running host take the files as they are now. */
  async function reload(probe) {
    relay.host.signal("SIGHUP");
    await until(probe, { what: "the reload" });
  }

  async function result_of(body) {
    const taken = await relay.post("/in/open", body);
    assert.equal(taken.status, 202, taken.text);
    return until(async () => { // the sender waits for it, but not for ever
      const { deliveries } = (await relay.get(`/events/${taken.json.id}`)).json;
      assert.equal(deliveries.length, 1);
      return deliveries[0].status !== "new" && deliveries[0];
    }, { what: "the payload" });
  }

  async function with_transform(transform, test) {
    const { id } = await relay.subscribe({ source: "open", transform });
    try {
      await test();
    } finally {
      await relay.call("DELETE", `/subscriptions/${id}`);
    }
  }

  it("shape what is delivered", () => with_transform("slack_message", async () => {
    const delivery = await result_of(JSON.stringify({
      type: "issues.opened", repository: { full_name: "a/b" }, sender: { login: "x" },
      issue: { title: "Broken" },
    }));
    assert.equal(delivery.status, "pending");
    assert.deepEqual(delivery.payload, { text: "issues.opened in a/b by x: Broken" });
  }));

  it("may want nothing delivered", () => with_transform("main_branch_only", async () => {
    const skipped = await result_of('{"type":"push","ref":"refs/heads/other"}');
    assert.equal(skipped.status, "skipped");
    const passed = await result_of('{"type":"push","ref":"refs/heads/main","empty":[]}');
    assert.deepEqual(passed.payload, { type: "push", ref: "refs/heads/main", empty: [] });
  }));

  it("change while the relay runs; a failing one loses nothing", async () => {
    write("mine", 'return function(event) error("bad day") end\n');
    write("slow", 'local task = require "perigee.task"\n'
      + 'return function() task.sleep("5s") end\n');
    write("odd", "return function() return print end\n");
    await reload(async () => {
      const made = await relay.post("/subscriptions",
        { source: "open", target_url: "https://example.com/", transform: "odd", enabled: false });
      return made.status === 201;
    });
    await with_transform("odd", async () => {
      assert.equal((await result_of("{}")).status, "failed");
    });
    await with_transform("slow", async () => {
      const delivery = await result_of("{}");
      assert.equal(delivery.status, "failed");
      assert.match(delivery.error, /deadline|time/i);
    });
    await with_transform("mine", async () => {
      const failed = await result_of('{"n":1}');
      assert.equal(failed.status, "failed");
      assert.match(failed.error, /transforms\/mine\.lua:1: bad day/);

      write("mine", "return function(event) return { n = event.body.n + 1 } end\n");
      let mended;
      await reload(async () => {
        mended = await relay.post(`/deliveries/${failed.id}/retry`);
        return mended.status === 200 && mended.json.status === "pending";
      });
      assert.deepEqual(mended.json.payload, { n: 2 });
      assert.equal(mended.json.error, null);
      problem(await relay.post(`/deliveries/${failed.id}/retry`), 409);
    });
  });
});

describe("a slow transform", () => {
  let relay;

  before(async () => {
    relay = new Relay({ settings: { "app.intake.transforms_wait": "100ms" } });
    writeFileSync(path.join(relay.dir, "scripts/transforms/slow.lua"),
      'local task = require "perigee.task"\n'
      + 'return function()\n'
      + '  repeat task.sleep(5) until io.open "var/go"\n'
      + '  return { done = true }\n'
      + 'end\n');
    await relay.start();
    await relay.source({ name: "open", kind: "none" }, { transform: "slow" });
  });
  after(() => relay?.stop());

  const statuses = async () => (await relay.get("/deliveries")).json.items.map((each) => each.status);

  it("does not keep the sender waiting, and goes on", async () => {
    const taken = await relay.post("/in/open", "{}");
    assert.equal(taken.status, 202);
    assert.deepEqual(await statuses(), ["new"]);
    relay.host.write({ "var/go": "" });
    await until(async () => (await statuses()).join() === "pending", { what: "the payload" });
  });

  it("goes on when the sender hangs up", async () => {
    rmSync(path.join(relay.dir, "var/go"));
    const connection = await relay.host.connect();
    connection.write("POST /in/open HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    await until(async () => (await statuses()).length === 2, { what: "the event" });
    connection.end();
    relay.host.write({ "var/go": "" });
    await until(async () => (await statuses()).join() === "pending,pending", { what: "the payload" });
  });
});

describe("a relay with a token", () => {
  const token = "0123456789abcdef-token";
  let relay;

  before(async () => {
    relay = await Relay.start({ settings: { "app.token": token } });
  });
  after(() => relay?.stop());

  it("asks for it, but not from webhooks nor for the page", async () => {
    for (const target of ["/sources", "/subscriptions", "/events", "/deliveries"]) {
      const answer = await relay.get(target);
      problem(answer, 401);
      const wrong = await relay.get(target, { headers: { authorization: "Bearer no" } });
      problem(wrong, 401);
      const right = await relay.get(target, { headers: { authorization: `Bearer ${token}` } });
      assert.equal(right.status, 200, right.text);
    }
    assert.equal((await relay.get("/")).status, 200);
    problem(await relay.post("/in/nobody", "{}"), 404);
  });
});
