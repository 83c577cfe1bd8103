// Webhooks come in: signatures, repeats, races, and what survives kill -9.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { Relay, github, hmac, stripe } from "./relay.mjs";

const SECRET = "whsec_0123456789abcdef";
const now_s = () => Math.floor(Date.now() / 1000);

describe("intake", () => {
  let relay;

  before(async () => {
    relay = await Relay.start({ workers: 2, settings: { "app.intake.body_max": "100kb" } });
    await relay.source({ name: "github", kind: "github", secret: SECRET }, {});
    await relay.source({ name: "stripe", kind: "stripe", secret: SECRET }, {});
    await relay.source({ name: "patient", kind: "stripe", secret: SECRET, tolerance_s: 4000 });
    await relay.source({ name: "open", kind: "none" }, {});
    await relay.source({ name: "hex", kind: "generic", secret: SECRET });
    await relay.source({
      name: "base64",
      kind: "generic",
      secret: SECRET,
      signature: { header: "X-Shop-Hmac", encoding: "base64", prefix: "v1=" },
    });
  });

  after(() => relay?.stop());

  const count = async (source) => (await relay.all("/events", { source })).length;

  async function refused(answer, status) {
    assert.equal(answer.status, status, answer.text);
    assert.match(answer.type, /^application\/problem\+json/);
    assert.equal(answer.json.status, status);
    assert.ok(answer.json.request_id);
  }

  describe("GitHub's signature", () => {
    const body = '{"action":"opened","number":1}';

    it("is taken when it is right", async () => {
      const answer = await relay.post("/in/github", body, github(SECRET, body, "pull_request"));
      assert.equal(answer.status, 202, answer.text);
      assert.equal(answer.json.type, "pull_request.opened");
      assert.equal(answer.json.source, "github");
      assert.equal(answer.headers.get("location"), `/events/${answer.json.id}`);
    });

    const wrong = {
      "of another secret": (headers) => ({ ...headers, ...github("another", body, "push") }),
      "missing": ({ "x-hub-signature-256": _, ...headers }) => headers,
      "empty": (headers) => ({ ...headers, "x-hub-signature-256": "" }),
      "without its prefix": (headers) => ({ ...headers, "x-hub-signature-256": hmac(SECRET, body) }),
      "SHA-1": (headers) => ({ ...headers, "x-hub-signature-256": "sha1=0123456789" }),
      "cut short": (headers) => ({
        ...headers, "x-hub-signature-256": headers["x-hub-signature-256"].slice(0, -2),
      }),
      "no hex": (headers) => ({ ...headers, "x-hub-signature-256": `sha256=${"z".repeat(64)}` }),
    };
    for (const [name, change] of Object.entries(wrong)) {
      it(`is refused when ${name}`, async () => {
        const before_count = await count("github");
        await refused(await relay.post("/in/github", body, change(github(SECRET, body, "push"))), 401);
        assert.equal(await count("github"), before_count);
      });
    }

    it("is refused when the body was changed", async () => {
      const headers = github(SECRET, body, "push");
      await refused(await relay.post("/in/github", body.replace("1", "2"), headers), 401);
    });

    it("does not make a malformed body acceptable", async () => {
      await refused(await relay.post("/in/github", "{", github(SECRET, "{", "push")), 400);
    });

    it("is of every byte, whatever the bytes are", async () => {
      const odd = '{"a":"\u0000é😀", "b" : [ ] ,"c":1e21}\n';
      const answer = await relay.post("/in/github", odd, github(SECRET, odd, "push"));
      assert.equal(answer.status, 400, "a raw NUL is no JSON");
      const fine = '{"a":"\\u0000é😀", "b" : [ ] ,"c":1e21, "d": {}}\n';
      const taken = await relay.post("/in/github", fine, github(SECRET, fine, "push"));
      assert.equal(taken.status, 202, taken.text);
      const event = await relay.get(`/events/${taken.json.id}`);
      assert.deepEqual(event.json.body, JSON.parse(fine));
      assert.equal((await relay.get(`/events/${taken.json.id}/body`)).text, fine);
    });
  });

  describe("Stripe's signature", () => {
    const event = () => JSON.stringify({ id: `evt_${randomUUID()}`, type: "invoice.paid" });

    it("is taken when it is right", async () => {
      const body = event();
      const answer = await relay.post("/in/stripe", body, stripe(SECRET, body));
      assert.equal(answer.status, 202, answer.text);
      assert.equal(answer.json.type, "invoice.paid");
    });

    it("may be any of several v1", async () => {
      const body = event();
      const headers = stripe(SECRET, body, { before: `v1=${"0".repeat(64)},v0=abc,` });
      assert.equal((await relay.post("/in/stripe", body, headers)).status, 202);
    });

    it("is refused when too old or too new", async () => {
      for (const offset of [-301 - 5, 301 + 5]) {
        const body = event();
        const headers = stripe(SECRET, body, { time_s: now_s() + offset });
        await refused(await relay.post("/in/stripe", body, headers), 401);
      }
    });

    it("may be as old as the source says", async () => {
      const body = event();
      const headers = stripe(SECRET, body, { time_s: now_s() - 3900 });
      assert.equal((await relay.post("/in/patient", body, headers)).status, 202);
      const late = stripe(SECRET, body, { time_s: now_s() - 4100 });
      await refused(await relay.post("/in/patient", body, late), 401);
    });

    it("is refused without a time, a v1, or with another time", async () => {
      const body = event();
      const time_s = now_s();
      const right = hmac(SECRET, `${time_s}.${body}`);
      for (const header of [`v1=${right}`, `t=${time_s}`, `t=${time_s},v0=${right}`,
        `t=${time_s + 1},v1=${right}`, `t=x,v1=${right}`, ",,,", "t=,v1="]) {
        await refused(await relay.post("/in/stripe", body, { "stripe-signature": header }), 401);
      }
    });

    it("lets an event in once, though a repeat has another body", async () => {
      const id = `evt_${randomUUID()}`;
      const bodies = [1, 0].map((pending_webhooks) =>
        JSON.stringify({ id, type: "charge.failed", pending_webhooks }));
      const [first, second] = [
        await relay.post("/in/stripe", bodies[0], stripe(SECRET, bodies[0])),
        await relay.post("/in/stripe", bodies[1], stripe(SECRET, bodies[1])),
      ];
      assert.deepEqual([first.status, second.status], [202, 202]);
      assert.equal(second.text, first.text);
      assert.equal(second.headers.get("idempotency-replayed"), "true");
    });
  });

  describe("a generic signature", () => {
    const body = '{"type":"order.created"}';

    it("is hex in x-signature unless told", async () => {
      assert.equal((await relay.post("/in/hex", body, { "x-signature": hmac(SECRET, body) })).status, 202);
      await refused(await relay.post("/in/hex", body, { "x-signature": hmac("no", body) }), 401);
      await refused(await relay.post("/in/hex", body, {}), 401);
    });

    it("may be base64 in a header of one's own, after a prefix", async () => {
      const right = hmac(SECRET, body, "base64");
      assert.equal((await relay.post("/in/base64", body, { "x-shop-hmac": `v1=${right}` })).status, 202);
      await refused(await relay.post("/in/base64", body, { "x-shop-hmac": right }), 401);
      await refused(await relay.post("/in/base64", body, { "x-shop-hmac": "v1=!!" }), 401);
    });
  });

  describe("a source without signatures", () => {
    it("takes what is no JSON, byte for byte", async () => {
      const bytes = Buffer.from([0, 255, 13, 10, 128, 60]);
      const answer = await relay.post("/in/open", bytes, { "x-event-type": "blob" });
      assert.equal(answer.status, 202, answer.text);
      const event = (await relay.get(`/events/${answer.json.id}`)).json;
      assert.equal(event.body_base64, bytes.toString("base64"));
      assert.equal(event.type, "blob");
    });

    it("takes an empty body", async () => {
      const answer = await relay.post("/in/open", undefined, {});
      assert.equal(answer.status, 202, answer.text);
      assert.equal(answer.json.type, "unknown");
    });
  });

  it("knows its sources: 404, 405, 413", async () => {
    await refused(await relay.post("/in/nobody", "{}"), 404);
    await refused(await relay.get("/in/open"), 405);
    await refused(await relay.post("/in/open", "x".repeat(100 * 1024 + 1)), 413);
    assert.equal((await relay.post("/in/open", "x".repeat(100 * 1024))).status, 202);
  });

  describe("a repeat", () => {
    it("with the same Idempotency-Key is answered as the first", async () => {
      const key = randomUUID();
      const headers = { "idempotency-key": `"${key}"`, "x-event-type": "once" };
      const first = await relay.post("/in/open", "one", headers);
      const before_count = await count("open");
      const second = await relay.post("/in/open", "one", headers);
      const bare = await relay.post("/in/open", "one", { ...headers, "idempotency-key": key });
      assert.deepEqual([first.status, second.status, bare.status], [202, 202, 202]);
      assert.equal(second.text, first.text);
      assert.equal(bare.text, first.text);
      assert.equal(second.headers.get("location"), first.headers.get("location"));
      assert.equal(first.headers.get("idempotency-replayed"), null);
      assert.equal(second.headers.get("idempotency-replayed"), "true");
      assert.equal(await count("open"), before_count);
    });

    it("with another body is refused", async () => {
      const headers = { "idempotency-key": `"${randomUUID()}"` };
      assert.equal((await relay.post("/in/open", "one", headers)).status, 202);
      await refused(await relay.post("/in/open", "two", headers), 422);
      assert.equal((await relay.post("/in/open", "one", headers)).status, 202);
    });

    it("at another source is no repeat", async () => {
      const body = '{"type":"a"}';
      const headers = { "idempotency-key": `"${randomUUID()}"`, "x-signature": hmac(SECRET, body) };
      const first = await relay.post("/in/open", body, headers);
      const second = await relay.post("/in/hex", body, headers);
      assert.notEqual(second.json.id, first.json.id);
    });

    it("needs a sane key", async () => {
      for (const key of ['""', "a b", "x".repeat(300)]) {
        await refused(await relay.post("/in/open", "x", { "idempotency-key": key }), 400);
      }
    });

    it("is known by GitHub's delivery id, whatever its key", async () => {
      const delivery = randomUUID();
      const headers = github(SECRET, '{"n":1}', "push", delivery);
      const first = await relay.post("/in/github", '{"n":1}', headers);
      const second = await relay.post("/in/github", '{"n":1}',
        { ...headers, "idempotency-key": `"${randomUUID()}"` });
      assert.equal(first.status, 202, first.text);
      assert.equal(second.text, first.text);
      const other = await relay.post("/in/github", '{"n":2}', github(SECRET, '{"n":2}', "push", delivery));
      await refused(other, 422);
    });

    it("comes at the same time, at any worker, and has one effect", async () => {
      for (let round = 0; round < 5; round++) {
        const headers = { "idempotency-key": `"${randomUUID()}"`, connection: "close" };
        const body = `{"type":"race","round":${round}}`;
        const answers = await Promise.all(Array.from({ length: 16 }, () =>
          relay.post("/in/open", body, headers)));
        assert.deepEqual(answers.map((each) => each.status), answers.map(() => 202),
          answers.map((each) => each.text).join("\n"));
        assert.equal(new Set(answers.map((each) => each.text)).size, 1);
        const replays = answers.filter((each) => each.headers.get("idempotency-replayed"));
        assert.equal(replays.length, answers.length - 1);
      }
      const races = await relay.all("/events", { type: "race" });
      assert.equal(races.length, 5);
      const deliveries = await relay.all("/deliveries", { source: "open" });
      assert.equal(deliveries.filter((each) => each.event_type === "race").length, 5);
    });

    it("comes at the same time with another body: one is taken", async () => {
      const headers = { "idempotency-key": `"${randomUUID()}"` };
      const answers = await Promise.all(["one", "two", "three", "four"].map((body) =>
        relay.post("/in/open", body, headers)));
      assert.deepEqual(answers.map((each) => each.status).sort(), [202, 422, 422, 422]);
    });
  });
});

describe("durability", () => {
  it("keeps every event that was answered 202 over kill -9", async () => {
    const relay = await Relay.start({ workers: 2 });
    try {
      await relay.source({ name: "open", kind: "none" }, { transform: "envelope" });
      const accepted = [];
      let stopped = false;
      const senders = Array.from({ length: 8 }, async (_, sender) => {
        for (let n = 0; !stopped; n++) {
          try {
            const answer = await relay.post("/in/open", `{"type":"load","sender":${sender},"n":${n}}`);
            if (answer.status === 202) {
              accepted.push(answer.json.id);
            }
          } catch {
            return; // it is dead
          }
        }
      });
      while (accepted.length < 200) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await relay.kill();
      stopped = true;
      await Promise.all(senders);

      await relay.start();
      const events = new Set((await relay.all("/events", { limit: 200 })).map((each) => each.id));
      assert.deepEqual(accepted.filter((id) => !events.has(id)), []);
      const deliveries = await relay.all("/deliveries", { limit: 200 });
      const delivered = new Set(deliveries.map((each) => each.event_id));
      assert.deepEqual(accepted.filter((id) => !delivered.has(id)), []);
    } finally {
      await relay.stop();
    }
  });
});
