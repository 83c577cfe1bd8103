// A proxy in front of a Redis, in a thread of its own: slow, lying or stuck when
// told so.
import { once } from "node:events";
import net from "node:net";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { fileURLToPath } from "node:url";

const GARBAGE = Buffer.from([255]);

/** {port, mode(name), end()}; MODES has the names. */
export async function proxy(port) {
  const thread = new Worker(fileURLToPath(import.meta.url), { workerData: { port } });
  const [listening] = await once(thread, "message");
  return {
    port: listening,
    mode: (name) => thread.postMessage(name),
    end: () => thread.terminate(),
  };
}

// What becomes of a chunk of replies.
const MODES = {
  pass: (link, chunk) => link.client.write(chunk),
  slow: (link, chunk) => {
    link.late.push(chunk);
    setTimeout(() => link.late.length > 0 && link.client.write(link.late.shift()), 2000);
  },
  // A byte too many, again and again, at other places on each connection.
  garbage: (link, chunk) => {
    let from = 0;
    for (; link.next - link.sent <= chunk.length; link.next += 97) {
      const at = link.next - link.sent;
      link.client.write(Buffer.concat([chunk.subarray(from, at), GARBAGE]));
      from = at;
    }
    link.client.write(chunk.subarray(from));
    link.sent += chunk.length;
  },
  stuck: (link, chunk) => link.client.write(chunk),
};

function set_mode(link, name) {
  // Nobody reads: the window closes.
  link.client[name === "stuck" ? "pause" : "resume"]();
  link.late.splice(0).forEach((chunk) => link.client.write(chunk));
  link.next = link.sent + link.number % 97;
}

function serve() {
  const links = new Set();
  let mode = "pass";
  let count = 0;
  const server = net.createServer((client) => {
    const link = { client, redis: net.connect(workerData.port, "127.0.0.1"), number: count, sent: 0, late: [] };
    count += 1;
    links.add(link);
    set_mode(link, mode);
    const end = () => {
      links.delete(link);
      client.destroy();
      link.redis.destroy();
    };
    for (const socket of [client, link.redis]) {
      socket.setNoDelay(true);
      socket.on("error", end);
      socket.on("close", end);
    }
    client.on("data", (chunk) => link.redis.write(chunk));
    link.redis.on("data", (chunk) => MODES[mode](link, chunk));
  });
  parentPort.on("message", (name) => {
    mode = name;
    links.forEach((link) => set_mode(link, name));
  });
  server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
}

if (!isMainThread && workerData?.port) {
  serve();
}
