// For the tests of the HTTP client: servers that misbehave as told, and an
// application that sends what a test asks for.
import { once } from "node:events";
import net from "node:net";

import { start } from "./helpers.mjs";

/**
 * A raw TCP server: on_request(socket, text, n) for each request head that
 * comes, n counts them over all connections. {port, sockets, requests}.
 */
export async function upstream(t, on_request, { host = "127.0.0.1" } = {}) {
  const sockets = new Set();
  const state = { connections: 0, requests: 0, sockets };
  const server = net.createServer((socket) => {
    let text = "";
    state.connections += 1;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (data) => {
      text += data.toString("latin1");
      for (let at = text.indexOf("\r\n\r\n"); at >= 0; at = text.indexOf("\r\n\r\n")) {
        const head = text.slice(0, at + 4);
        text = text.slice(at + 4);
        state.requests += 1;
        on_request(socket, head, state.requests);
      }
    });
  });
  server.listen(0, host);
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    server.close();
  });
  state.port = server.address().port;
  return state;
}

// A handler that runs Lua text with `http`, `task` and `url` in reach.
const APP = `
  local http = require "perigee.http"
  local task = require "perigee.task"
  router:post("/run", function(req)
    local chunk = assert(loadstring(req:body()))
    setfenv(chunk, setmetatable({ http = http, task = task, req = req,
      fail = function(err)
        return { kind = err.kind, code = err.code, message = err.message }
      end,
      stats = function() return require("perigee.client").stats() end,
    }, { __index = _G }))
    return chunk()
  end, { timeout = "20s" })
`;

/** An application; app.run(lua) gives what the Lua text returns. */
export async function client_app(t, options = {}) {
  const app = await start(t, { route: APP, ...options });
  app.run = async (lua) => {
    const answer = await app.post("/run", lua, { timeout_ms: 20_000 });
    if (answer.json === undefined) {
      throw new Error(`${answer.status} ${answer.text}\n${app.printed()}`);
    }
    return answer.json;
  };
  /** The answer to a GET of that upstream: {status, body} or {kind, code, message}. */
  app.fetch = (port, opts = "") => app.run(`
    local res, err = http.request { url = "http://127.0.0.1:${port}/x", ${opts} }
    if not res then return fail(err) end
    return { status = res.status, body = res.body, headers = res.headers }
  `);
  return app;
}
