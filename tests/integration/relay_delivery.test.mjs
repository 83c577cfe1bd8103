// The relay delivers: to receivers that take it, fail, wait, and are gone.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import { after, before, describe, it } from "node:test";
import { until } from "./helpers.mjs";
import { Relay } from "./relay.mjs";

// Quick attempts, and few of them.
const SETTINGS = {
  "app.delivery.attempts": 3,
  "app.delivery.backoff": "100ms",
  "app.delivery.timeout": "1s",
  "app.delivery.breaker.failures": 1000,
};

/** A target: answers as told, and keeps what it got. */
async function receiver(answer = (_, res) => res.end("thanks")) {
  const got = [];
  const state = { got, answer };
  const server = http.createServer((req, res) => {
    const chunks = [];
    req.on("data", (chunk) => chunks.push(chunk));
    req.on("end", () => {
      const body = Buffer.concat(chunks).toString();
      got.push({ path: req.url, headers: req.headers, body, at: Date.now() });
      state.answer(req, res, got.length);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  state.url = `http://127.0.0.1:${server.address().port}`;
  state.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return state;
}

/** As a receiver checks it: https://www.standardwebhooks.com. */
function is_signed(message, secret) {
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const { "webhook-id": id, "webhook-timestamp": time, "webhook-signature": signature } = message.headers;
  const expected = createHmac("sha256", key).update(`${id}.${time}.${message.body}`).digest("base64");
  return signature.split(" ").includes(`v1,${expected}`) && Math.abs(Date.now() / 1000 - Number(time)) < 60;
}

describe("deliveries", () => {
  let relay;
  const receivers = [];
  let number = 0;

  async function target(answer) {
    const made = await receiver(answer);
    receivers.push(made);
    return made;
  }

  /** A source of its own with a subscription; an event to it. */
  async function send(to, { subscription = {}, body = { type: "order.created", n: 1 } } = {}) {
    number += 1;
    const name = `s${number}`;
    const made = await relay.source({ name, kind: "none" }, { target_url: `${to.url}/hook`, ...subscription });
    const receipt = await relay.post(`/in/${name}`, body);
    assert.equal(receipt.status, 202, receipt.text);
    return { name, subscription: made, event: receipt.json.id };
  }

  async function delivery(event) {
    const list = await relay.get(`/deliveries?event=${event}`);
    return list.json.items[0];
  }

  /** The delivery of an event, in full, once it has that status. */
  async function settled(event, status) {
    const one = await until(async () => {
      const found = await delivery(event);
      return found?.status === status && found;
    }, { what: status, timeout_ms: 30_000 });
    return (await relay.get(`/deliveries/${one.id}`)).json;
  }

  before(async () => {
    relay = await Relay.start({ workers: 2, settings: SETTINGS });
  });
  after(async () => {
    receivers.forEach((one) => one.close());
    await relay?.stop();
  });

  it("takes a target's word that it has it, whatever becomes of the rest of its answer", async () => {
    const silent = await target((_, res) => {
      res.writeHead(200, { "content-encoding": "gzip" });
      res.write("part");
    });
    const { event } = await send(silent);
    const one = await settled(event, "delivered");
    assert.deepEqual([one.attempts, one.log[0].response_status, one.log[0].response_body], [1, 200, "part"]);
  });

  it("arrive as the event came, signed", async () => {
    const to = await target();
    const sent = await send(to, { body: { type: "order.created", n: 1 } });
    const seen = await settled(sent.event, "delivered");
    assert.equal(to.got.length, 1);
    const [message] = to.got;
    assert.equal(message.path, "/hook");
    assert.equal(message.body, '{"type":"order.created","n":1}');
    assert.equal(message.headers["content-type"], "application/json");
    assert.equal(message.headers["webhook-id"], seen.id);
    assert.equal(message.headers["x-relay-event"], "order.created");
    const at = `/subscriptions/${sent.subscription.id}`;
    const { secret } = (await relay.get(`${at}/secret`)).json;
    assert.match(secret, /^whsec_/);
    assert.ok(is_signed(message, secret));
    assert.equal(seen.attempts, 1);
    assert.equal(seen.response_status, 200);
    assert.equal(seen.log.length, 1);
    assert.equal(seen.log[0].response_body, "thanks");
    assert.equal("secret" in (await relay.get(at)).json, false);
    const fresh = (await relay.post(`${at}/secret/rotate`)).json.secret;
    assert.notEqual(fresh, secret);
    assert.equal((await relay.get(`${at}/secret`)).json.secret, fresh);
  });

  it("are signed with a secret of the receiver's, where it has one", async () => {
    const to = await target();
    const secret = `whsec_${Buffer.from("thirty-two bytes of a secret....").toString("base64")}`;
    const sent = await send(to, { subscription: { secret } });
    await settled(sent.event, "delivered");
    assert.ok(is_signed(to.got[0], secret));
    const refused = await relay.post("/subscriptions", { source: sent.name, target_url: to.url, secret: "whsec_short" });
    assert.equal(refused.status, 400);
  });

  it("carry what a transform made of it", async () => {
    const to = await target();
    const sent = await send(to, { subscription: { transform: "envelope" } });
    await settled(sent.event, "delivered");
    const seen = JSON.parse(to.got[0].body);
    assert.equal(seen.type ?? seen.event?.type ?? seen.data?.type, "order.created");
    assert.equal(to.got[0].headers["content-type"], "application/json");
  });

  it("fan out to every subscription", async () => {
    const [a, b] = [await target(), await target()];
    const sent = await send(a);
    await relay.subscribe({ source: sent.name, target_url: b.url, events: ["order"] });
    await relay.subscribe({ source: sent.name, target_url: b.url, events: ["other"] });
    const receipt = await relay.post(`/in/${sent.name}`, { type: "order.paid" });
    await until(async () => {
      const list = await relay.all("/deliveries", { event: receipt.json.id, status: "delivered" });
      return list.length === 2;
    }, { what: "both" });
    assert.equal(b.got.length, 1);
  });

  it("are tried again, with the same id, until they are taken", async () => {
    const to = await target((_, res, n) => {
      res.statusCode = n < 3 ? 503 : 200;
      res.end(`attempt ${n}`);
    });
    const sent = await send(to);
    const seen = await settled(sent.event, "delivered");
    assert.equal(seen.attempts, 3);
    assert.deepEqual(seen.log.map((one) => one.response_status), [503, 503, 200]);
    assert.equal(seen.log[0].error, "the target answered 503");
    assert.equal(new Set(to.got.map((one) => one.headers["webhook-id"])).size, 1);
  });

  it("wait for as long as the target asks, within limits", async () => {
    const at = Math.floor(Date.now() / 1000) + 1800;
    const cases = [
      { status: 503, asks: "600", from: 600, to: 660 },
      { status: 429, asks: new Date(at * 1000).toUTCString(), from: 1740, to: 1800 },
      { status: 503, asks: "999999999999999999999", from: 3600, to: 3660 },
      { status: 500, asks: "600", from: 0, to: 60 },
      { status: 503, asks: "soon", from: 0, to: 60 },
    ];
    for (const { status, asks, from, to: most } of cases) {
      const to = await target((_, res) => {
        res.writeHead(status, { "retry-after": asks });
        res.end();
      });
      const sent = await send(to);
      const seen = await until(async () => {
        const one = await delivery(sent.event);
        return one?.attempts > 0 && (await relay.get(`/deliveries/${one.id}`)).json;
      }, { what: "an attempt" });
      const pause_s = (seen.next_attempt_at_ms - seen.log[0].started_at_ms) / 1000;
      assert.ok(from <= pause_s && pause_s <= most, `${status}, ${asks}: ${pause_s}`);
    }
  });

  it("are made again when the time that the target asked for is over", async () => {
    const to = await target((_, res, n) => {
      res.writeHead(n === 1 ? 429 : 200, { "retry-after": "1" });
      res.end();
    });
    const seen = await settled((await send(to)).event, "delivered");
    assert.deepEqual(seen.log.map((one) => one.response_status), [429, 200]);
    assert.ok(to.got[1].at - to.got[0].at >= 900, "not before");
  });

  it("become dead letters in the end, and are replayed", async () => {
    const to = await target((_, res) => {
      res.statusCode = 500;
      res.end("no");
    });
    const sent = await send(to);
    const dead = await settled(sent.event, "dead");
    assert.equal(dead.attempts, 3);
    assert.equal(dead.error, "the target answered 500");
    to.answer = (_, res) => res.end("at last");
    const replayed = await relay.post(`/deliveries/${dead.id}/replay`);
    assert.equal(replayed.status, 200, replayed.text);
    const seen = await settled(sent.event, "delivered");
    assert.equal(seen.attempts, 4);
    assert.equal(seen.log.length, 4);
    assert.equal(seen.error, null);
  });

  it("are replayed all at once, by source or subscription", async () => {
    const to = await target((_, res) => {
      res.statusCode = 410;
      res.end();
    });
    const sent = await send(to);
    const more = await relay.post(`/in/${sent.name}`, { type: "order.paid" });
    for (const event of [sent.event, more.json.id]) {
      assert.equal((await settled(event, "dead")).attempts, 1, "410 is final");
    }
    to.answer = (_, res) => res.end();
    const answer = await relay.post("/deliveries/replay", { subscription: sent.subscription.id });
    assert.deepEqual(answer.json, { replayed: 2 });
    await settled(sent.event, "delivered");
    await settled(more.json.id, "delivered");
    assert.deepEqual((await relay.post("/deliveries/replay", { source: sent.name })).json, { replayed: 0 });
  });

  it("say what was wrong: silence, a closed port, a host that is not allowed", async () => {
    const silent = await target(() => {});
    const sent = await send(silent);
    const gone = await receiver();
    gone.close();
    const refused = await send(gone);
    const elsewhere = await send({ url: "http://127.0.0.2:9" });
    assert.match((await settled(sent.event, "dead")).error, /time|deadline/);
    const first = (await settled(refused.event, "dead")).log[0];
    assert.match(first.error, /refused|ECONNREFUSED/i);
    assert.equal(first.response_status, null);
    assert.match((await settled(elsewhere.event, "dead")).error, /does not allow/);
  });

  it("of a removed subscription are cancelled", async () => {
    const to = await target((_, res) => {
      res.statusCode = 503;
      res.end();
    });
    const sent = await send(to);
    await until(() => to.got.length > 0, { what: "an attempt" });
    await relay.call("DELETE", `/subscriptions/${sent.subscription.id}`);
    const seen = await until(async () => {
      const one = await delivery(sent.event);
      return ["cancelled", "dead"].includes(one.status) && one;
    }, { what: "the end" });
    assert.equal(seen.status, "cancelled");
  });

  it("are told live", async () => {
    const stop = new AbortController();
    const stream = await fetch(`${relay.url}/live`, { signal: stop.signal });
    assert.match(stream.headers.get("content-type"), /^text\/event-stream/);
    let text = "";
    const reading = (async () => {
      for await (const chunk of stream.body) {
        text += Buffer.from(chunk).toString();
      }
    })().catch(() => {});
    await until(() => text.includes("event: alive"), { what: "a sign of life" });
    const to = await target();
    const sent = await send(to);
    await until(() => text.includes("event: event") && text.includes(sent.event), { what: "the event" });
    await until(() => text.includes('"delivered"'), { what: "the delivery" });
    stop.abort();
    await reading;
  });

  it("survive kill -9 of the relay", async () => {
    const to = await target((_, res) => {
      res.statusCode = 503;
      res.end();
    });
    const sent = await send(to);
    await until(() => to.got.length > 0, { what: "an attempt" });
    await relay.kill();
    to.answer = (_, res) => res.end("back");
    await relay.start();
    await settled(sent.event, "delivered");
  });
});
