// Caches, dictionaries, breakers and the like, calls to others.

import { bytes, byId, count, h, keyedTable, percent, quantileText, rate, setClass, setText, show } from "./dom.js";
import { callsBetween, countersBetween } from "./model.js";

// Caches

function cachesOf(history) {
  const caches = new Map();
  for (const { labels, value, grown } of countersBetween(history.now, history.before, "perigee_cache_requests_total")) {
    const key = `${labels.cache} ${labels.level}`;
    const cache = caches.get(key) ?? { key, name: labels.cache, level: labels.level, asked: 0, hits: 0, ever: 0, everHits: 0 };
    const hit = labels.result !== "miss" && labels.result !== "error";
    cache.asked += grown;
    cache.ever += value;
    cache.hits += hit ? grown : 0;
    cache.everHits += hit ? value : 0;
    caches.set(key, cache);
  }
  return [...caches.values()].sort((a, b) => a.key.localeCompare(b.key));
}

/** A bar with its number. */
function meter(td, part, text, bad = false) {
  if (td.childNodes.length === 0) {
    td.append(h("span", { class: "meter" }, h("i", {})), h("span", { class: "meter-text" }));
  }
  td.firstChild.classList.toggle("bad", bad);
  td.firstChild.firstChild.style.width = `${Math.min(100, Math.max(0, part * 100)).toFixed(1)}%`;
  setText(td.lastChild, text);
}

const CACHES = [
  { title: "Cache", cell: (cache) => cache.name },
  { title: "Level", cell: (cache) => cache.level },
  { title: "Asked / s", number: true, cell: (cache) => rate(cache.rate) },
  {
    title: "Hits",
    cell(cache, td) {
      const recent = cache.asked > 0;
      const part = recent ? cache.hits / cache.asked : cache.ever > 0 ? cache.everHits / cache.ever : 0;
      td.title = recent ? "of the last ten seconds" : "since the start";
      meter(td, part, percent(part));
    },
  },
  { title: "Since start", number: true, cell: (cache) => count(cache.ever) },
];

// Dictionaries

const SHARED = [
  { title: "Dictionary", cell: (dict) => dict.name },
  {
    title: "Used",
    cell(dict, td) {
      const part = dict.size > 0 ? dict.used / dict.size : 0;
      meter(td, part, `${bytes(dict.used)} of ${bytes(dict.size)}`, part > 0.9);
    },
  },
  { title: "Entries", number: true, cell: (dict) => count(dict.items) },
  { title: "Evicted", number: true, cell: (dict) => count(dict.evicted) },
  { title: "Expired", number: true, cell: (dict) => count(dict.expired) },
];

// Breakers, bulkheads, limiters

function guardsOf(status) {
  const breakers = status.breakers.map((breaker) => ({
    key: `breaker ${breaker.name}`,
    kind: "breaker",
    name: breaker.name,
    state: breaker.state.replace("_", " "),
    tone: { closed: "good", open: "bad", half_open: "warn" }[breaker.state] ?? "",
    text: `opened ${count(breaker.opened)} time${breaker.opened === 1 ? "" : "s"}, ${count(breaker.refused)} refused`,
  }));
  const bulkheads = new Map();
  for (const series of status.bulkheads) {
    bulkheads.set(series.bulkhead, { ...bulkheads.get(series.bulkhead), [series.state]: series.value });
  }
  const limiters = new Map();
  for (const series of status.limiters) {
    limiters.set(series.limiter, { ...limiters.get(series.limiter), [series.result]: series.value });
  }
  return [
    ...breakers,
    ...[...bulkheads].map(([name, state]) => ({
      key: `bulkhead ${name}`,
      kind: "bulkhead",
      name,
      state: (state.waiting ?? 0) > 0 ? "queueing" : "free",
      tone: (state.waiting ?? 0) > 0 ? "warn" : "good",
      text: `${count(state.active ?? 0)} inside, ${count(state.waiting ?? 0)} waiting`,
    })),
    ...[...limiters].map(([name, state]) => ({
      key: `limiter ${name}`,
      kind: "limiter",
      name,
      state: (state.redis_away ?? 0) > 0 ? "without redis" : "limits",
      tone: (state.redis_away ?? 0) > 0 ? "warn" : "",
      text: `${count(state.allowed ?? 0)} allowed, ${count(state.limited ?? 0)} limited`,
    })),
  ];
}

function badgeCell(guard, td) {
  if (td.childNodes.length === 0) {
    td.append(h("span", {}));
  }
  setClass(td.firstChild, `badge ${guard.tone}`);
  setText(td.firstChild, guard.state);
}

const GUARDS = [
  { title: "Name", cell: (guard) => guard.name },
  { title: "Kind", cell: (guard) => guard.kind },
  { title: "State", cell: badgeCell },
  { title: "What it did", cell: (guard) => guard.text },
];

// Calls, and the connections that they go over

const NO_CALLS = { calls: 0, failed: 0, errors: 0, ever: 0, rate: 0, p50: null, p99: null, bounds: [] };

function withPools(calls, pools) {
  const rows = new Map(calls.map((call) => [`${call.kind} ${call.name}`, call]));
  for (const pool of pools) {
    const key = `${pool.kind} ${pool.name}`;
    rows.set(key, { ...(rows.get(key) ?? { ...NO_CALLS, key, kind: pool.kind, name: pool.name }), pool });
  }
  return [...rows.values()];
}

function callsOf({ now, before }) {
  const list = [
    ...callsBetween(now, before, "db_client_operation_duration_seconds",
      (labels) => `${labels.db_system_name} ${labels.db_namespace}`)
      .map((call) => ({ ...call, kind: call.labels.db_system_name, name: call.labels.db_namespace })),
    ...callsBetween(now, before, "http_client_request_duration_seconds",
      (labels) => `http ${labels.server_address}:${labels.server_port}`)
      .map((call) => ({ ...call, kind: call.labels.url_scheme, name: `${call.labels.server_address}:${call.labels.server_port}` })),
  ];
  return withPools(list.filter((call) => call.ever > 0), now.status.pools).sort((a, b) => b.ever - a.ever);
}

const CALLS = [
  { title: "To", cell: (call) => call.name },
  { title: "Kind", cell: (call) => call.kind },
  { title: "Rate / s", number: true, cell: (call) => rate(call.rate) },
  {
    title: "Errors",
    number: true,
    cell(call, td) {
      setClass(td, `number ${call.failed > 0 ? "bad" : ""}`);
      return call.calls === 0 ? "–" : percent(call.errors);
    },
  },
  { title: "p50", number: true, cell: (call) => quantileText(call.p50, call.bounds) },
  { title: "p99", number: true, cell: (call) => quantileText(call.p99, call.bounds) },
  { title: "Since start", number: true, cell: (call) => count(call.ever) },
  { title: "Connections in use", number: true, cell: (call) => count(call.pool?.used ?? 0) },
  { title: "Idle", number: true, cell: (call) => count(call.pool?.idle ?? 0) },
  { title: "Waiting", number: true, cell: (call) => count(call.pool?.waiting ?? 0) },
];

export function dataParts() {
  const tables = {
    caches: keyedTable(byId("caches"), CACHES, { key: (each) => each.key }),
    shared: keyedTable(byId("shared"), SHARED, { key: (each) => each.name }),
    breakers: keyedTable(byId("breakers"), GUARDS, { key: (each) => each.key }),
    pools: keyedTable(byId("pools"), CALLS, { key: (each) => each.key }),
  };

  function fill(name, list) {
    tables[name].update(list);
    show(byId(`${name}-empty`), list.length === 0);
  }

  return {
    update(history) {
      const { now, seconds } = history;
      fill("caches", cachesOf(history).map((cache) => ({ ...cache, rate: seconds > 0 ? cache.asked / seconds : 0 })));
      fill("shared", now.status.shared);
      fill("breakers", guardsOf(now.status));
      fill("pools", callsOf(history));
    },
  };
}
