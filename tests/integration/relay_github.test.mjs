// Every example payload of @octokit/webhooks-examples goes through the relay,
// signed as GitHub signs it, and comes out equal.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";
import { pool } from "../tools/proc.mjs";
import { until } from "./helpers.mjs";
import { Relay, github } from "./relay.mjs";

const definitions = createRequire(import.meta.url)("@octokit/webhooks-examples");
const SECRET = "a secret that GitHub knows";

describe("GitHub's example payloads", () => {
  let relay;
  let taken;

  before(async () => {
    relay = await Relay.start({ workers: 2 });
    await relay.source({ name: "github", kind: "github", secret: SECRET },
      { transform: "envelope" });
    for (const transform of ["slack_message", "main_branch_only"]) {
      await relay.subscribe({ source: "github", transform });
    }
    const payloads = definitions.flatMap(({ name, examples }) =>
      examples.map((payload) => ({ name, payload })));
    taken = await pool(payloads, async ({ name, payload }) => {
      const body = JSON.stringify(payload);
      const delivery = randomUUID();
      const answer = await relay.post("/in/github", body,
        github(SECRET, body, name, delivery));
      return { name, payload, body, delivery, answer };
    }, 40);
  });

  after(() => relay?.stop());

  it("has some hundred of them", () => {
    assert.ok(taken.length > 300, `${taken.length} examples`);
  });

  for (const { name, examples } of definitions) {
    it(`${name}: ${examples.length} come out equal`, async () => {
      const mine = taken.filter((each) => each.name === name);
      assert.equal(mine.length, examples.length);
      for (const { payload, body, delivery, answer } of mine) {
        assert.equal(answer.status, 202, answer.text);
        const event = await until(async () => { // one whose transforms took long has its payload later
          const { json } = await relay.get(answer.headers.get("location"));
          return json.deliveries.every((each) => each.status !== "new") && json;
        }, { what: "the payloads" });
        const action = typeof payload.action === "string" ? `.${payload.action}` : "";
        assert.equal(event.type, name + action);
        assert.equal(event.provider_id, delivery);
        assert.equal(event.size, Buffer.byteLength(body));
        assert.deepEqual(event.body, payload);
        const raw = await relay.get(`/events/${event.id}/body`);
        assert.equal(raw.text, body);
        assert.deepEqual(event.deliveries.filter((each) => each.status === "failed"), []);
        const delivered = Object.fromEntries(
          event.deliveries.map((each) => [each.transform, each]));
        assert.deepEqual(delivered.envelope.payload.data, payload);
        assert.ok(delivered.slack_message.payload.text.startsWith(event.type));
        const main = payload.ref === `refs/heads/${payload.repository?.default_branch}`;
        assert.equal(delivered.main_branch_only.status,
          name === "push" && main ? "pending" : "skipped");
      }
    });
  }

  it("are listed once each, by pages", async () => {
    const listed = await relay.all("/events", { limit: 37 });
    assert.equal(listed.length, taken.length);
    assert.deepEqual(new Set(listed.map((event) => event.id)),
      new Set(taken.map(({ answer }) => answer.json.id)));
    const ids = listed.map((event) => event.id);
    assert.deepEqual(ids, [...ids].sort().reverse());
  });
});
