// Numbers of two moments become rates and quantiles. Knows nothing of the page.

const WINDOW_MS = 10000;
const KEPT = 130; // points of a curve, one a second

/** The quantile of counts in buckets, in seconds; null where there is none. */
export function quantile(bounds, counts, q) {
  const total = counts.reduce((sum, n) => sum + n, 0);
  if (total <= 0) {
    return null;
  }
  const wanted = q * total;
  let below = 0;
  for (let i = 0; i < bounds.length; i++) {
    if (below + counts[i] >= wanted && counts[i] > 0) {
      const low = i === 0 ? 0 : bounds[i - 1];
      return low + (bounds[i] - low) * ((wanted - below) / counts[i]);
    }
    below += counts[i];
  }
  return bounds.at(-1) ?? null; // that much, or more
}

const grown = (now, before) => Math.max(0, now - (before ?? 0));

export function added(now, before) {
  return now.map((n, i) => grown(n, before?.[i]));
}

const routeKey = (route) => `${route.method} ${route.route}`;

function index(list, key) {
  return new Map(list.map((each) => [key(each), each]));
}

/** What happened between two states: per second, and quantiles. */
export function routesBetween(now, before) {
  const seconds = (now.monotonic_ms - before.monotonic_ms) / 1000;
  const old = index(before.routes, routeKey);
  return now.routes.map((route) => {
    const was = old.get(routeKey(route));
    const counts = added(route.counts, was?.counts);
    const requests = grown(route.total, was?.total);
    const failed = grown(route.server_errors, was?.server_errors);
    const refused = grown(route.client_errors, was?.client_errors);
    const aborted = grown(route.aborted, was?.aborted);
    return {
      key: routeKey(route),
      method: route.method,
      bounds: now.bounds,
      route: route.route,
      total: route.total,
      requests,
      failed,
      refused,
      aborted,
      counts,
      rate: seconds > 0 ? requests / seconds : 0,
      errors: requests > 0 ? failed / requests : 0,
      p50: quantile(now.bounds, counts, 0.5),
      p99: quantile(now.bounds, counts, 0.99),
    };
  });
}

/** All routes as one. */
export function total(routes, bounds, seconds) {
  const counts = routes.reduce((sum, route) => route.counts.map((n, i) => n + (sum[i] ?? 0)), []);
  const sum = (key) => routes.reduce((all, route) => all + route[key], 0);
  const requests = sum("requests");
  return {
    rate: seconds > 0 ? requests / seconds : 0,
    requests,
    failed: sum("failed"),
    refused: sum("refused"),
    errors: requests > 0 ? sum("failed") / requests : 0,
    p50: quantile(bounds, counts, 0.5),
    p99: quantile(bounds, counts, 0.99),
  };
}

const seriesKey = (series) => JSON.stringify(series.labels);

/** Series of a histogram between two states, those of one key (of the labels) added up. */
export function callsBetween(now, before, name, groupOf) {
  const seconds = (now.monotonic_ms - before.monotonic_ms) / 1000;
  const old = index(before.metrics[name] ?? [], seriesKey);
  const groups = new Map();
  for (const series of now.metrics[name] ?? []) {
    const key = groupOf(series.labels);
    const group = groups.get(key) ?? { key, labels: series.labels, calls: 0, failed: 0, ever: 0, bounds: series.bounds, counts: [] };
    const counts = added(series.counts, old.get(seriesKey(series))?.counts);
    const calls = counts.reduce((sum, n) => sum + n, 0);
    group.calls += calls;
    group.ever += series.counts.reduce((sum, n) => sum + n, 0);
    group.failed += series.labels.error_type ? calls : 0;
    group.counts = counts.map((n, i) => n + (group.counts[i] ?? 0));
    groups.set(key, group);
  }
  return [...groups.values()].map((group) => ({
    ...group,
    rate: seconds > 0 ? group.calls / seconds : 0,
    errors: group.calls > 0 ? group.failed / group.calls : 0,
    p50: quantile(group.bounds, group.counts, 0.5),
    p99: quantile(group.bounds, group.counts, 0.99),
  }));
}

/** How much each series of a counter has grown: [{ labels, value, grown }]. */
export function countersBetween(now, before, name) {
  const old = index(before.metrics[name] ?? [], seriesKey);
  return (now.metrics[name] ?? []).map((series) => ({
    labels: series.labels,
    value: series.value,
    grown: grown(series.value, old.get(seriesKey(series))?.value),
  }));
}

/** States of the last while, and curves of what they say. */
export class History {
  states = [];
  curves = { rate: [], errors: [], p50: [], p99: [], active: [], lag: [], memory: [] };

  add(state) {
    const last = this.states.at(-1);
    if (last && (last.status.pid !== state.status.pid || last.monotonic_ms >= state.monotonic_ms)) {
      this.states = []; // another host: what it counted begins anew
    }
    this.states.push(state);
    while (this.states.length > 2 && state.monotonic_ms - this.states[1].monotonic_ms >= WINDOW_MS) {
      this.states.shift();
    }
    if (this.states.length > 1) {
      this.#extend(this.states.at(-2), state);
    }
  }

  get now() {
    return this.states.at(-1);
  }

  get before() {
    return this.states[0];
  }

  get seconds() {
    return (this.now.monotonic_ms - this.before.monotonic_ms) / 1000;
  }

  #extend(before, now) {
    const seconds = (now.monotonic_ms - before.monotonic_ms) / 1000;
    const all = total(routesBetween(now, before), now.bounds, seconds);
    const workers = now.status.workers;
    const point = {
      rate: all.rate,
      errors: all.errors,
      p50: all.p50 ?? 0,
      p99: all.p99 ?? 0,
      active: workers.reduce((sum, worker) => sum + worker.active, 0),
      lag: lagOf(now, before)?.p99 ?? 0,
      memory: workers.reduce((sum, worker) => sum + worker.rss, 0),
    };
    for (const [name, curve] of Object.entries(this.curves)) {
      curve.push(point[name]);
      if (curve.length > KEPT) {
        curve.shift();
      }
    }
  }
}

/** The loops' lag of all workers together. */
export function lagOf(now, before) {
  return callsBetween(now, before, "perigee_eventloop_lag_seconds", () => "all")[0] ?? null;
}
