// perigee.redis against servers that lie, stop reading, load, or lose their
// scripts: clear kinds of errors and never another's reply.
import assert from "node:assert/strict";
import net from "node:net";
import { test } from "node:test";
import { missing, setup } from "./redis_helpers.mjs";
import { until } from "./helpers.mjs";

/** A server of ours; serve(socket, words) gets each command. */
async function fake(t, serve) {
  const sockets = new Set();
  const server = net.createServer((socket) => {
    let rest = "";
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.setEncoding("latin1").on("data", (text) => {
      rest += text;
      for (;;) {
        const head = /^\*(\d+)\r\n/.exec(rest);
        const words = [];
        let at = head ? head[0].length : 0;
        for (let i = 0; head && i < Number(head[1]); i += 1) {
          const size = /^\$(\d+)\r\n/.exec(rest.slice(at, at + 20));
          const end = size ? at + size[0].length + Number(size[1]) : Infinity;
          if (rest.length < end + 2) {
            return;
          }
          words.push(rest.slice(at + size[0].length, end));
          at = end + 2;
        }
        if (!head) {
          return;
        }
        rest = rest.slice(at);
        serve(socket, words);
      }
    });
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.on("listening", resolve));
  t.after(() => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
  });
  return { url: `redis://127.0.0.1:${server.address().port}`, sockets };
}

const bulk = (text) => `$${text.length}\r\n${text}\r\n`;

test("garbage at every byte of the replies: an error, never another's reply", async (t) => {
  const whole = bulk("echo-1000").length; // all have this length
  let at = 0;
  let sent = 0;
  const redis = await fake(t, (socket, words) => {
    if (words[0] === "PING") {
      socket.left = 2 * whole + at; // bytes until the garbage
      socket.write("+PONG\r\n");
      return;
    }
    const reply = bulk(words[1]);
    if (socket.left === undefined || socket.left > reply.length) {
      socket.left -= reply.length;
      socket.write(reply);
    } else if (socket.left >= 0) {
      socket.write(reply.slice(0, socket.left));
      socket.write(Buffer.from([255]));
      socket.write(reply.slice(socket.left));
      socket.left = undefined; // the rest is right again
      at = (at + 1) % whole;
      sent += 1;
    }
  });
  const { run } = await setup(t, { redis, settings: { "redis.main.timeout": "5s" } });
  let right = 0;
  let failed = 0;
  await until(async () => {
    const [r, w, f] = await run(`
      local right, wrong, failed = 0, 0, 0
      local list = {}
      for i = 1, 40 do list[i] = i end
      task.map(list, function(i)
        local text = "echo-" .. 1000 + i
        local reply = r:echo(text)
        if reply == text then right = right + 1
        elseif reply == nil then failed = failed + 1
        else wrong = wrong + 1 end
        return true
      end)
      if failed > 0 then task.sleep(20) end
      return right, wrong, failed`);
    assert.equal(w, 0);
    right += r;
    failed += f;
    return sent > whole;
  }, { timeout_ms: 60_000, what: "garbage at each place" });
  t.diagnostic(JSON.stringify({ right, failed, sent }));
  assert.ok(right > 0 && failed > 0);
});

test("a server that reads no more: bounded, and other connections follow", async (t) => {
  let stuck = true;
  const redis = await fake(t, (socket, words) => {
    socket.write(words[0] === "PING" && words.length === 1 ? "+PONG\r\n" : "+OK\r\n");
    if (stuck && words[0] === "PING") {
      socket.pause();
    }
  });
  const { run } = await setup(t, { redis, settings: { "redis.main.timeout": "300ms" } });
  const [codes] = await run(`
    local big, codes, list = ("x"):rep(2e6), {}, {}
    for i = 1, 50 do list[i] = i end
    task.map(list, function()
      local _, err = r:set("k", big)
      codes[err.code] = (codes[err.code] or 0) + 1
      return true
    end)
    return codes`);
  t.diagnostic(JSON.stringify(codes));
  const overdue = (codes.ETIMEOUT ?? 0) + (codes.ETIMEDOUT ?? 0); // sent, or still waiting for a connection
  assert.ok(overdue > 0, JSON.stringify(codes));
  assert.ok(codes.queue_full > 0, JSON.stringify(codes)); // over 64 MB that wait
  stuck = false;
  await until(async () => (await run(`return r:set("k", 1)`))[0] === "OK");
});

test("LOADING is told at once, and ends by itself", async (t) => {
  let loading = true;
  const redis = await fake(t, (socket, words) => {
    socket.write(loading ? "-LOADING Redis is loading the dataset in memory\r\n"
      : words[0] === "PING" ? "+PONG\r\n" : bulk("value"));
  });
  const { run } = await setup(t, { redis });
  const [, first] = await run(`return r:get "a"`);
  assert.deepEqual([first.kind, first.code], ["unavailable", "LOADING"]);
  loading = false;
  await until(async () => (await run(`return r:get "a"`))[0] === "value");
});

test("the server's errors have kinds", { skip: missing }, async (t) => {
  const { run } = await setup(t);
  const kinds = {
    LOADING: "unavailable", READONLY: "unavailable", OOM: "unavailable", MISCONF: "unavailable",
    BUSY: "unavailable", MASTERDOWN: "unavailable", CLUSTERDOWN: "unavailable", TRYAGAIN: "unavailable",
    NOREPLICAS: "unavailable", NOSCRIPT: "not_found", NOGROUP: "not_found", NOAUTH: "unauthorized",
    NOPERM: "forbidden", WRONGTYPE: "conflict", BUSYGROUP: "conflict", CROSSSLOT: "invalid",
    ERR: "internal", MINE: "internal",
  };
  for (const [code, kind] of Object.entries(kinds)) {
    const [, err] = await run(`return r:eval("return redis.error_reply(ARGV[1])", 0, "${code} some words")`);
    assert.deepEqual([err.code, err.kind], [code, kind]);
    assert.match(err.message, /some words/);
  }
  // Of a real server: no memory, no disk, a replica.
  const [, oom] = await run(`
    r:config_set("maxmemory", 1) local _, err = r:set("a", "b") r:config_set("maxmemory", 0) return nil, err`);
  assert.deepEqual([oom.kind, oom.code], ["unavailable", "OOM"]);
  const [, readonly] = await run(`
    r:replicaof("127.0.0.1", 1) local _, err = r:set("a", "b") r:replicaof("no", "one") return nil, err`);
  assert.deepEqual([readonly.kind, readonly.code], ["unavailable", "READONLY"]);
});

test("scripts are known again after SCRIPT FLUSH, in use", { skip: missing }, async (t) => {
  const { run } = await setup(t);
  assert.deepEqual(await run(`
    local s = r:script "return KEYS[1] .. ARGV[1]"
    local wrong, list = 0, {}
    for i = 1, 3000 do list[i] = i end
    task.map(list, function(i)
      if i % 50 == 0 then r:script_flush() end
      if s({ "k" }, { i }) ~= "k" .. i then wrong = wrong + 1 end
      return true
    end, { concurrency = 100 })
    return wrong`), [0]);
});
