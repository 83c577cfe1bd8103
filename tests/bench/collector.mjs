#!/usr/bin/env node
// A collector's stand-in that costs next to nothing: reads requests of a known
// length, throws them away, answers 200. Prints its port.
import net from "node:net";

const ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

const server = net.createServer((socket) => {
  let head = "";
  let left = 0; // of a body
  socket.on("error", () => {});
  socket.on("data", (data) => {
    while (data.length > 0) {
      if (left > 0) {
        const taken = Math.min(left, data.length);
        left -= taken;
        data = data.subarray(taken);
      } else {
        const before = head.length;
        head += data.toString("latin1", 0, 4096);
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) {
          return;
        }
        left = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
        data = data.subarray(end + 4 - before);
        head = "";
      }
      if (left === 0) {
        socket.write(ANSWER);
      }
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
