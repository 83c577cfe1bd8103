// The relay's API, as the page uses it.

const TOKEN = "relay-token";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

async function call(method, path, query = {}, body = undefined) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) {
    if (value !== "" && value !== undefined) {
      url.searchParams.set(name, value);
    }
  }
  const token = sessionStorage.getItem(TOKEN);
  const response = await fetch(url, {
    method,
    headers: {
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...(body ? { "content-type": "application/json" } : {}),
    },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(10000),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new ApiError(response.status, answer.detail ?? answer.title ?? response.statusText);
  }
  return answer;
}

export const sources = () => call("GET", "/sources", { limit: 100 });
export const subscriptions = () => call("GET", "/subscriptions", { limit: 100 });
export const events = (query) => call("GET", "/events", query);
export const event = (id) => call("GET", `/events/${encodeURIComponent(id)}`);
export const deliveries = (query) => call("GET", "/deliveries", query);
export const retry = (id) => call("POST", `/deliveries/${encodeURIComponent(id)}/retry`);
export const replayAll = (filter) => call("POST", "/deliveries/replay", {}, filter);

/**
 * What happens, as it happens: tell() is called for each message until the
 * signal aborts or the stream ends. (EventSource could not send the token.)
 */
export async function live(tell, signal) {
  const token = sessionStorage.getItem(TOKEN);
  const response = await fetch("/live", {
    headers: token ? { authorization: `Bearer ${token}` } : {},
    signal,
  });
  if (!response.ok) {
    throw new ApiError(response.status, response.statusText);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    text += value;
    const end = text.lastIndexOf("\n\n");
    if (end >= 0) {
      for (const message of text.slice(0, end).split("\n\n")) {
        tell(/^event: ?(.*)$/m.exec(message)?.[1] ?? "message");
      }
      text = text.slice(end + 2);
    }
  }
}
