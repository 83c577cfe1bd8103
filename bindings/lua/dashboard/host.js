// Workers, generations and reloads.

import { bytes, byId, count, h, keyedTable, quantileText, rate, setClass, setText, span, time } from "./dom.js";
import { callsBetween } from "./model.js";

function badge(state) {
  const good = { serving: "good", ready: "warn", starting: "warn", draining: "warn" };
  return `badge ${good[state] ?? "bad"}`;
}

function stateCell(worker, td) {
  if (td.childNodes.length === 0) {
    td.append(h("span", {}));
  }
  setClass(td.firstChild, badge(worker.state));
  setText(td.firstChild, worker.state);
}

const COLUMNS = [
  { title: "Worker", cell: (worker) => String(worker.slot) },
  { title: "Process", number: true, cell: (worker) => String(worker.pid) },
  { title: "State", cell: stateCell },
  { title: "Generation", number: true, cell: (worker) => String(worker.generation) },
  { title: "Requests / s", number: true, cell: (worker) => rate(worker.rate) },
  { title: "In flight", number: true, cell: (worker) => count(worker.active) },
  { title: "Connections", number: true, cell: (worker) => count(worker.connections) },
  { title: "Loop lag, p99", number: true, cell: (worker) => quantileText(worker.lag?.p99, worker.lag?.bounds) },
  { title: "Lua heap", number: true, cell: (worker) => (worker.heap === undefined ? "–" : bytes(Math.round(worker.heap))) },
  { title: "Memory", number: true, cell: (worker) => bytes(worker.rss) },
  { title: "Restarts", number: true, cell: (worker) => count(worker.restarts) },
  { title: "Up", number: true, cell: (worker) => span(worker.up) },
];

// Metrics name a worker by its record, which is its slot as long as it has not
// been replaced while it still drained.
function workersOf(history) {
  const { now, before } = history;
  const old = new Map(before.status.workers.map((worker) => [worker.pid, worker]));
  const lag = new Map(callsBetween(now, before, "perigee_eventloop_lag_seconds", (labels) => labels.worker)
    .map((each) => [each.key, each]));
  const heap = new Map((now.metrics.perigee_lua_heap_bytes ?? []).map((each) => [each.labels.worker, each.value]));
  return now.status.workers.map((worker) => ({
    ...worker,
    rate: history.seconds > 0 && old.has(worker.pid)
      ? Math.max(0, worker.requests - old.get(worker.pid).requests) / history.seconds : 0,
    lag: lag.get(String(worker.record)),
    heap: heap.get(String(worker.record)),
    up: (now.at - worker.started) / 1000,
  })).sort((a, b) => a.slot - b.slot || a.pid - b.pid);
}

// What a refusal says: its first line leads, the places in it are marked.
const PLACE = /((?:scripts|config)\/[\w./-]+\.lua:\d+)/;

function reason(text) {
  const parts = text.trim().split(PLACE);
  return h("pre", { class: "code reason" }, ...parts.map((part, i) =>
    (i % 2 === 1 ? h("mark", {}, part) : part)));
}

function outcome(reload) {
  const ok = reload.reason === null;
  return h("li", { class: ok ? "good" : "bad" },
    time(reload.at), " ",
    h("span", { class: `badge ${ok ? "good" : "bad"}` }, ok ? `generation ${reload.generation}` : "refused"),
    h("small", {}, ` ${reload.cause}, ${reload.took_ms} ms`));
}

export function hostParts() {
  const table = keyedTable(byId("workers"), COLUMNS, { key: (worker) => worker.pid });
  const generation = h("p", { class: "value" }, "–");
  const up = h("p", { class: "note" });
  const details = h("div", {});
  let seen = "";

  byId("code").append(h("div", { class: "row even" }, h("div", {}, h("h3", {}, "Generation"), generation, up)), details);

  function showReloads({ ok, refused, last }) {
    const key = JSON.stringify([ok, refused, last]);
    if (key === seen) {
      return; // a rebuilt list would lose a reader's selection
    }
    seen = key;
    const fault = last.find((reload) => reload.reason !== null);
    const stands = fault !== undefined && fault === last[0];
    details.replaceChildren(
      h("p", { class: "hint" }, last.length === 0 ? "It has not been reloaded."
        : `${ok} reload${ok === 1 ? "" : "s"}, ${refused} refused.`),
      fault === undefined ? "" : h("div", { class: `fault ${stands ? "stands" : ""}`, id: "last-refusal" },
        h("h3", {}, stands ? "Refused: the old code serves" : "The last refusal"), reason(fault.reason)),
      last.length === 0 ? "" : h("ol", { class: "reloads" }, ...last.slice(0, 5).map(outcome)));
  }

  return {
    update(history) {
      const { now } = history;
      table.update(workersOf(history));
      setText(generation, String(now.status.generation));
      setText(up, `up ${span(now.status.uptime)}, ${now.status.workers.filter((w) => w.state === "serving").length} of ${now.workers_wanted} workers serve`);
      showReloads(now.reloads);
    },
  };
}
