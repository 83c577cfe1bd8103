// One trace through Node's OpenTelemetry and Perigee, by fetch, there and back.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import test from "node:test";
import { collector } from "./collector.mjs";
import { ROOT, start, until } from "./helpers.mjs";

const ROUTE = `
  local http = require "perigee.http"
  router:get("/middle", function(req)
    return assert(http.get(req.query.at)):json()
  end)
`;

async function node_service(t, collector_url) {
  const child = spawn(process.execPath, [path.join(ROOT, "tests/integration/node_service.cjs"), collector_url], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill());
  const [text] = await once(child.stdout, "data");
  return `http://127.0.0.1:${String(text).trim()}`;
}

test("a Node service and Perigee share a trace, whoever asks whom", async (t) => {
  const to = await collector(t);
  const app = await start(t, { route: ROUTE, settings: { "trace.endpoint": `${to.url}/v1/traces`, "trace.batch_delay": "50ms" } });
  const node = await node_service(t, `${to.url}/v1/traces`);
  const at = encodeURIComponent(`${app.url}/middle?at=${encodeURIComponent(`${node}/end`)}`);
  const { traceparent } = await (await fetch(`${node}/start?at=${at}`)).json();

  // Two spans are Perigee's, three are Node's.
  await until(() => to.spans.length === 5, { timeout_ms: 30_000, what: "five spans" });
  const child_of = (id) => to.spans.find((s) => s.parent_id === id);
  const chain = [to.spans.find((s) => !s.parent_id)];
  while (child_of(chain.at(-1).span_id)) {
    chain.push(child_of(chain.at(-1).span_id));
  }
  assert.equal(new Set(to.spans.map((s) => s.trace_id)).size, 1);
  assert.deepEqual(chain.map((s) => [s.name, s.kind]), [["GET", 2], ["GET", 3], ["GET /middle", 2], ["GET", 3], ["GET", 2]]);
  assert.equal(chain[2].attributes["http.route"], "/middle");
  assert.equal(traceparent, `00-${chain[3].trace_id}-${chain[3].span_id}-01`);
});
