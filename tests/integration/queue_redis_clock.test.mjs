// What jobs write down of time where the server is far away: a worker that waits
// goes by the server's clock, which it knows by how late a reply came.
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { test } from "node:test";
import { start, until } from "./helpers.mjs";
import { RedisServer, missing } from "./redis_server.mjs";

const LATE_MS = 300;

/** The port of a way to a server on which the reply to a connection's naming is late. */
async function late_way(t, port) {
  const sockets = new Set();
  const proxy = net.createServer((near) => {
    const far = net.connect(port, "127.0.0.1");
    let late_ms = 0;
    for (const [from, to] of [[near, far], [far, near]]) {
      sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    }
    near.on("data", (data) => {
      late_ms = data.includes("SETNAME") ? LATE_MS : late_ms;
      far.write(data);
    });
    far.on("data", (data) => {
      setTimeout(() => near.write(data), late_ms);
      late_ms = 0;
    });
  }).listen(0, "127.0.0.1");
  t.after(() => {
    proxy.close();
    sockets.forEach((socket) => socket.destroy());
  });
  await once(proxy, "listening");
  return proxy.address().port;
}

test("a short job does not end before it began", { skip: missing }, async (t) => {
  const redis = await RedisServer.start(t);
  const port = await late_way(t, redis.port);
  const app = await start(t, {
    route: `router:post("/", function()
      assert(require("perigee.queue").get("jobs"):add("x"))
      return 204
    end)`,
    files: { "scripts/jobs/one.lua": `return { queue = "jobs", run = function() end }` },
    settings: { "queue.driver": "redis", "redis.main.url": `redis://127.0.0.1:${port}` },
  });
  await until(async () => (await redis.ask("CLIENT LIST")).includes("cmd=bzpopmin"));
  await app.post("/");
  await until(async () => (await redis.ask("ZCARD bull:jobs:completed")).startsWith(":1"));
  const [began, ended] = (await redis.ask("HMGET bull:jobs:1 processedOn finishedOn")).match(/\d{13}/g).map(Number);
  assert.ok(ended >= began, `it began ${began - ended} ms after its end`);
});
