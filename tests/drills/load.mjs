// Load for the drills: keep-alive connections, one request at a time on each,
// every answer looked at.
import net from "node:net";

/**
 * Starts connections that ask for path until stop(). What happened is in
 * counts: {answered, wrong, lost, refused, reconnects}: `lost` are requests that were
 * sent and got no whole answer, `refused` connections that could not be made.
 * seen(ms) is told how long each answer took; pause_ms is between an answer and
 * the next request. Idle connections that the server closes are made anew, and are no failure.
 */
export function load(port, { connections = 32, path = "/", expect = () => true, seen = () => {}, pause_ms = 0 } = {}) {
  const counts = { answered: 0, wrong: 0, lost: 0, refused: 0, reconnects: 0, slowest_ms: 0 };
  const samples = []; // of what was wrong
  const request = `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n\r\n`;
  let stopping = false;
  const open = new Set();
  const ended = [];

  function connect() {
    const socket = net.connect({ port, host: "127.0.0.1" });
    let data = "";
    let asked_at = 0; // 0: no request is out
    let resolve;
    const gone = new Promise((r) => { resolve = r; });
    ended.push(gone);
    open.add(socket);
    socket.setNoDelay(true);
    const ask = () => {
      if (stopping || socket.destroyed) {
        socket.destroy();
        return;
      }
      asked_at = performance.now();
      socket.write(request);
    };
    socket.on("connect", ask);
    socket.on("data", (chunk) => {
      data += chunk.toString("latin1");
      const end = data.indexOf("\r\n\r\n");
      if (end < 0) {
        return;
      }
      const length = Number(/content-length: (\d+)/i.exec(data)?.[1] ?? 0);
      if (data.length < end + 4 + length) {
        return;
      }
      const body = data.slice(end + 4, end + 4 + length);
      const status = Number(data.slice(9, 12));
      const closes = /\r\nconnection: close/i.test(data.slice(0, end));
      data = data.slice(end + 4 + length);
      const took_ms = performance.now() - asked_at;
      counts.slowest_ms = Math.max(counts.slowest_ms, took_ms);
      seen(took_ms);
      asked_at = 0;
      if (status === 200 && expect(body)) {
        counts.answered += 1;
      } else {
        counts.wrong += 1;
        if (samples.length < 5) {
          samples.push(`${status} ${body.slice(0, 200)}`);
        }
      }
      if (closes) {
        socket.destroy();
      } else if (pause_ms > 0) {
        setTimeout(ask, pause_ms);
      } else {
        ask();
      }
    });
    let connected = false;
    socket.on("connect", () => { connected = true; });
    socket.on("error", () => {});
    socket.on("close", () => {
      open.delete(socket);
      if (!stopping) {
        if (!connected) {
          counts.refused += 1;
        } else if (asked_at !== 0) {
          counts.lost += 1;
        } else {
          counts.reconnects += 1;
        }
        setTimeout(connect, connected ? 0 : 5);
      }
      resolve();
    });
  }

  for (let i = 0; i < connections; i += 1) {
    connect();
  }
  return {
    counts,
    samples,
    /** Ends after the requests that are out. */
    async stop() {
      stopping = true;
      const timer = setTimeout(() => open.forEach((s) => s.destroy()), 5000);
      await Promise.all(ended);
      clearTimeout(timer);
      return counts;
    },
  };
}
