// Questions to the host. A refusal is an Error with the host's own words.

async function answer(response) {
  const text = await response.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // the status says enough
  }
  if (!response.ok) {
    throw new Error(body?.detail || body?.title || `The host answered ${response.status}.`);
  }
  return body;
}

export async function get(path) {
  return answer(await fetch(`/dashboard${path}`, { cache: "no-store" }));
}

/** The header is one that no other site may send. */
export async function post(path) {
  return answer(await fetch(`/dashboard${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-perigee-dashboard": "1" },
    body: "{}",
  }));
}

export const path = (...parts) => parts.map((part) => `/${encodeURIComponent(part)}`).join("");
