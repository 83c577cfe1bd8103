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

async function call(method, path, query = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) {
    if (value !== "" && value !== undefined) {
      url.searchParams.set(name, value);
    }
  }
  const token = sessionStorage.getItem(TOKEN);
  const response = await fetch(url, {
    method,
    headers: token ? { authorization: `Bearer ${token}` } : {},
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
