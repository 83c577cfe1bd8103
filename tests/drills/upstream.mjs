#!/usr/bin/env node
// Upstreams that misbehave, 100 requests at a time to each: every one fails with
// a kind that says so, in bounded memory, while another route serves on and a
// good upstream's answers go to whom they are meant for.
import net from "node:net";
import { once } from "node:events";
import zlib from "node:zlib";
import { host, pss, report, sleep, status } from "./drill.mjs";
import { load } from "./load.mjs";

const AT_ONCE = 100;
const TIMEOUT_MS = 1000;
const BODY_MAX = 1 << 20;
const OK = "HTTP/1.1 200 OK\r\n";

// Writes again and again as fast as it is read, until the other side has gone.
function endlessly(socket, bytes) {
  const more = () => {
    while (!socket.destroyed && socket.write(bytes)) {
      // until it must wait
    }
  };
  socket.on("drain", more);
  more();
}

const bomb = zlib.gzipSync(Buffer.alloc(64 << 20));
const KB = "x".repeat(1000);

// name: [what it does with a request, the codes a caller may see]
const CASES = {
  "accepts and stays silent": [() => {}, ["timeout"]],
  "drips a byte every 50 ms": [(s) => {
    s.write(`${OK}Content-Length: 100000\r\n\r\n`);
    const timer = setInterval(() => s.write("x"), 50);
    s.on("close", () => clearInterval(timer));
  }, ["timeout"]],
  "closes without an answer": [(s) => s.end(), ["ECONNRESET"]],
  "resets": [(s) => s.resetAndDestroy(), ["ECONNRESET"]],
  "cuts in the head": [(s) => s.end(`${OK}Content-Le`), ["ECONNRESET"]],
  "cuts in the body": [(s) => s.end(`${OK}Content-Length: 10\r\n\r\nabc`), ["ECONNRESET"]],
  "cuts in a chunk": [(s) => s.end(`${OK}Transfer-Encoding: chunked\r\n\r\na\r\nabc`), ["ECONNRESET"]],
  "cuts between chunks": [(s) => s.end(`${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`), ["ECONNRESET"]],
  "sends endless headers": [(s) => { s.write(OK); endlessly(s, `X-More: ${KB}\r\n`); }, ["bad_response"]],
  "sends an endless header": [(s) => { s.write(`${OK}X-More: `); endlessly(s, KB); }, ["bad_response"]],
  "sends an endless status line": [(s) => { s.write("HTTP/1.1 200 "); endlessly(s, KB); }, ["bad_response"]],
  "sends 1xx without end": [(s) => endlessly(s, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), ["bad_response"]],
  "sends endless trailers": [(s) => { s.write(`${OK}Transfer-Encoding: chunked\r\n\r\n0\r\n`); endlessly(s, `X: ${KB}\r\n`); }, ["bad_response"]],
  "sends an endless chunk extension": [(s) => { s.write(`${OK}Transfer-Encoding: chunked\r\n\r\n1;a=`); endlessly(s, KB); }, ["bad_response"]],
  "sends an endless body": [(s) => { s.write(`${OK}\r\n`); endlessly(s, KB); }, ["body_max"]],
  "sends endless chunks": [(s) => { s.write(`${OK}Transfer-Encoding: chunked\r\n\r\n`); endlessly(s, `3e8\r\n${KB}\r\n`); }, ["body_max"]],
  "claims a huge body": [(s) => s.write(`${OK}Content-Length: 99999999999999999\r\n\r\n`), ["body_max"]],
  "sends a zip bomb": [(s) => s.write(Buffer.concat([Buffer.from(`${OK}Content-Encoding: gzip\r\nContent-Length: ${bomb.length}\r\n\r\n`), bomb])), ["body_max"]],
  "sends garbage": [(s) => s.write(Buffer.from(Array.from({ length: 500 }, (_, i) => (i * 7) & 255))), ["bad_response"]],
  "sends two lengths": [(s) => s.write(`${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`), ["bad_response"]],
};

async function upstream(on_request) {
  const sockets = new Set();
  const server = net.createServer((socket) => {
    let text = "";
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (data) => {
      text += data.toString("latin1");
      for (let at = text.indexOf("\r\n\r\n"); at >= 0; at = text.indexOf("\r\n\r\n")) {
        on_request(socket, text.slice(0, at + 4));
        text = text.slice(at + 4);
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: server.address().port,
    close: () => {
      sockets.forEach((socket) => socket.destroy());
      server.close();
    },
  };
}

const echo = (socket, head, times = 1) => {
  const path = head.split(" ")[1];
  socket.write(`${OK}Content-Length: ${path.length}\r\n\r\n${path}`.repeat(times));
};

const app = await host({
  "scripts/routes/a.lua": `
    local http = require "perigee.http"
    local task = require "perigee.task"
    -- { outcome = how many }
    local function many(port, count, opts)
      local numbers, seen = {}, {}
      for i = 1, count do numbers[i] = i end
      task.map(numbers, function(i)
        local path = "/" .. port .. "/" .. i
        local res, err = http.get("http://127.0.0.1:" .. port .. path, opts)
        local what = err and err.kind .. " " .. err.code
          or res.body == path and "right" or "wrong"
        seen[what] = (seen[what] or 0) + 1
        return true
      end)
      return seen
    end
    return function(router)
      router:get("/", function() return "serving" end)
      router:get("/many/:port", function(req)
        return many(req.params.port, ${AT_ONCE}, { timeout = ${TIMEOUT_MS}, body_max = ${BODY_MAX} })
      end)
    end`,
}, { workers: 1 });

const work = load(app.port, { connections: 4 });
const good = await upstream((socket, head) => echo(socket, head));
const get = async (port) => (await app.get(`/many/${port}`)).json;
const pid = (await status(app)).workers[0].pid;
await get(good.port);
const before_kb = pss(pid);
const figures = {};
const checks = {};
let most_kb = 0;
let misdirected = 0;

for (const [name, [misbehave, codes]] of Object.entries(CASES)) {
  const bad = await upstream(misbehave);
  const watch = setInterval(() => { most_kb = Math.max(most_kb, pss(pid)); }, 10);
  const begun = performance.now();
  const [seen, right] = await Promise.all([get(bad.port), get(good.port)]);
  figures[name] = `${Object.entries(seen).map(([what, n]) => `${n} ${what}`).join(", ")}; ${(performance.now() - begun).toFixed(0)} ms`;
  clearInterval(watch);
  checks[name] = Object.keys(seen).every((what) => codes.some((code) => what.endsWith(` ${code}`)));
  misdirected += AT_ONCE - (right.right ?? 0);
  bad.close();
}

const twice = await upstream((socket, head) => echo(socket, head, 2));
const answered = await get(twice.port);
const again = await get(twice.port);
figures["answers twice"] = `${Object.entries(again).map(([what, n]) => `${n} ${what}`).join(", ")}`;
twice.close();

await sleep(300);
const counts = await work.stop();
const after_kb = pss(pid);
const how = await app.end();
good.close();
report(`upstreams that misbehave: ${Object.keys(CASES).length + 1} ways, ${AT_ONCE} requests each`, {
  ...figures,
  "another route: answers": counts.answered,
  "another route: slowest (ms)": counts.slowest_ms.toFixed(0),
  "PSS before, most, after (KB)": `${before_kb} ${most_kb} ${after_kb}`,
}, {
  "every failure has its code": Object.values(checks).every(Boolean),
  "no answer to the wrong caller": misdirected === 0 && !answered.wrong && !again.wrong,
  "memory bounded: 100 bodies of body_max, and some": most_kb - before_kb < (AT_ONCE * BODY_MAX * 2.5) / 1024,
  "another route loses nothing": counts.lost + counts.wrong + counts.refused === 0,
  "graceful end": how.code === 0,
});
for (const [name, holds] of Object.entries(checks)) {
  if (!holds) {
    console.log(`  FAILED ${name}`);
  }
}
