// The page at /: sources, recent events, and what became of them.

import * as api from "./api.js";
import { byId, h, pretty, size, time } from "./dom.js";

const REFRESH_MS = 2000; // while nothing is told live
const SLOW_MS = 15000; // while it is: for what was missed
const TOLD_MS = 150; // several messages make one refresh
const DEAD_SHOWN = 100;
const PAGE = 25;
const PAYLOAD_SHOWN = 20000; // characters; the rest is a download away

const shown = new Map(); // event id -> its row
const filter = { source: "", type: "" };
let older = null; // cursor of the page after what is shown
let paused = false;
let epoch = 0; // grows when the filter changes: answers to older questions are void
let timer;

function setState(state, text) {
  const element = byId("state");
  if (element.dataset.state !== state || element.textContent !== text) {
    element.dataset.state = state;
    element.textContent = text;
  }
}

// Sources

function sourceCard(source, subscriptions) {
  const mine = subscriptions.filter((each) => each.source === source.name);
  return h("li", { class: "card" },
    h("h3", {}, source.name, " ", h("span", { class: "kind" }, source.kind)),
    h("code", {}, source.url),
    h("ul", { class: "targets" }, ...mine.map((each) =>
      h("li", { class: each.enabled ? "" : "off" },
        h("span", { class: "target" }, each.target_url),
        h("small", {}, each.events.join(", "),
          each.transform ? ` → ${each.transform}` : "",
          each.enabled ? "" : " (off)")))),
    mine.length === 0 ? h("small", {}, "no subscriptions") : null);
}

const HOW = `curl -X POST ${location.origin}/sources \\
  -H 'content-type: application/json' \\
  -d '{"name":"demo","kind":"none"}'
curl -X POST ${location.origin}/in/demo \\
  -H 'content-type: application/json' \\
  -d '{"type":"hello","who":"world"}'`;

let sourcesSeen = "";

function showSources(sources, subscriptions) {
  const key = JSON.stringify([sources, subscriptions]);
  if (key === sourcesSeen) {
    return; // a rebuilt list would lose a reader's selection
  }
  sourcesSeen = key;
  byId("sources").replaceChildren(
    ...sources.map((source) => sourceCard(source, subscriptions)));
  byId("no-sources").hidden = sources.length > 0;
  byId("no-sources-how").hidden = sources.length > 0;
  byId("no-sources-how").textContent = HOW;
  const select = byId("filter-source");
  select.replaceChildren(h("option", { value: "" }, "all"),
    ...sources.map((source) => h("option", { value: source.name }, source.name)));
  select.value = filter.source;
}

// Deliveries

// Dead letters

async function showDead() {
  const dead = await api.deliveries({ status: "dead", source: filter.source, limit: DEAD_SHOWN });
  const count = dead.items.length;
  byId("dead").hidden = count === 0;
  const many = dead.next === null ? String(count) : `${count} or more`;
  byId("dead-count").textContent = `${many} ${count === 1 ? "delivery was" : "deliveries were"}`;
}

const badge = (status, count) =>
  h("span", { class: `badge ${status}` }, count > 1 ? `${count} ${status}` : status);

function summary(deliveries, total) {
  const counts = new Map();
  for (const delivery of deliveries) {
    counts.set(delivery.status, (counts.get(delivery.status) ?? 0) + 1);
  }
  if (counts.size === 0) {
    return [h("span", { class: "muted" }, total === 0 ? "none" : String(total))];
  }
  const names = [...new Set(deliveries.map((each) => each.transform).filter(Boolean))];
  return [
    ...[...counts].map(([status, count]) => badge(status, count)),
    names.length > 0 ? h("small", {}, names.join(", ")) : "",
  ];
}

function clip(text) {
  return text.length > PAYLOAD_SHOWN ? `${text.slice(0, PAYLOAD_SHOWN)}\n…` : text;
}

const AGAIN = {
  dead: "Send again", delivered: "Send again", failed: "Run again", skipped: "Run again",
};

function attemptItem(attempt) {
  return h("li", {},
    time(attempt.started_at_ms), ` ${attempt.response_status ?? "no answer"}, ${attempt.duration_ms} ms`,
    attempt.error ? `: ${attempt.error}` : "",
    attempt.response_body ? h("small", {}, ` “${attempt.response_body.slice(0, 200)}”`) : null);
}

function deliveryItem(delivery, refresh) {
  const again = AGAIN[delivery.status];
  return h("li", { class: "delivery" },
    h("p", {}, badge(delivery.status, 1), " ",
      h("span", { class: "target" }, delivery.target_url), " ",
      delivery.transform ? h("small", {}, `transform ${delivery.transform}`) : null,
      again ? h("button", {
        type: "button",
        onclick: async (click) => {
          click.target.disabled = true;
          await api.retry(delivery.id).catch((error) => setState("error", error.message));
          refresh();
        },
      }, again) : null,
      delivery.next_attempt_at_ms
        ? h("small", {}, "next attempt by ", time(delivery.next_attempt_at_ms)) : null),
    delivery.log?.length > 0
      ? h("ol", { class: "log" }, ...delivery.log.map(attemptItem)) : null,
    delivery.error ? h("pre", { class: "code error" }, delivery.error) : null,
    delivery.payload !== undefined
      ? h("pre", { class: "code" }, clip(pretty(delivery.payload))) : null);
}

// Events

async function fillDetails(cell, id) {
  try {
    const event = await api.event(id);
    const body = event.body_base64 ?? pretty(event.body);
    cell.replaceChildren(
      h("h3", {}, "Deliveries"),
      event.deliveries.length > 0
        ? h("ul", { class: "deliveries" }, ...event.deliveries.map((delivery) =>
          deliveryItem(delivery, () => fillDetails(cell, id))))
        : h("p", { class: "muted" }, "No subscription wanted it."),
      h("h3", {}, event.body_base64 === undefined ? "Body" : "Body (base64)"),
      h("pre", { class: "code body" }, clip(body)));
  } catch (error) {
    cell.replaceChildren(h("p", { class: "error" }, error.message));
  }
}

function toggle(row, id) {
  const open = row.button.getAttribute("aria-expanded") === "true";
  row.button.setAttribute("aria-expanded", String(!open));
  row.details.hidden = open;
  if (!open) {
    fillDetails(row.details.firstChild, id);
  }
}

function eventRow(event) {
  const id = `details-${event.id}`;
  const row = {};
  row.button = h("button", {
    type: "button",
    class: "event",
    "aria-expanded": "false",
    "aria-controls": id,
    onclick: () => toggle(row, event.id),
  }, event.type);
  row.deliveries = h("td", { class: "badges" });
  row.main = h("tr", { "data-event": event.id },
    h("td", {}, time(event.received_at_ms)),
    h("td", {}, event.source),
    h("td", {}, row.button),
    row.deliveries,
    h("td", { class: "number" }, size(event.size)));
  row.details = h("tr", { id, class: "details" }, h("td", { colspan: "5" }, "…"));
  row.details.hidden = true;
  return row;
}

function rowOf(event) {
  if (!shown.has(event.id)) {
    shown.set(event.id, eventRow(event));
  }
  return shown.get(event.id);
}

function showDeliveries(row, event, deliveries) {
  const key = JSON.stringify(deliveries.map((each) => [each.id, each.status, each.attempts]));
  if (row.seen !== key) {
    const first = row.seen === undefined;
    row.seen = key;
    row.deliveries.replaceChildren(...summary(deliveries, event.deliveries));
    if (!first && !row.details.hidden) {
      fillDetails(row.details.firstChild, event.id);
    }
  }
}

function byEvent(deliveries) {
  const groups = new Map();
  for (const delivery of deliveries) {
    const group = groups.get(delivery.event_id) ?? [];
    group.push(delivery);
    groups.set(delivery.event_id, group);
  }
  return groups;
}

/** Puts new rows above (or older ones below) without touching those there. */
function showEvents(events, deliveries, below) {
  const body = byId("events");
  const groups = byEvent(deliveries);
  let before = below ? null : body.firstChild;
  for (const event of events) {
    const known = shown.has(event.id);
    const row = rowOf(event);
    if (!known) {
      body.insertBefore(row.main, before);
      body.insertBefore(row.details, before);
    } else if (!below) {
      before = row.details.nextSibling;
    }
    showDeliveries(row, event, groups.get(event.id) ?? []);
  }
  byId("no-events").hidden = shown.size > 0;
}

async function load(after) {
  const asked = epoch;
  const [events, deliveries] = await Promise.all([
    api.events({ ...filter, limit: PAGE, after }),
    api.deliveries({ source: filter.source, limit: 200 }),
  ]);
  if (asked !== epoch) {
    return;
  }
  showEvents(events.items, deliveries.items, after !== undefined);
  if (after !== undefined || older === null) {
    older = events.next;
    byId("more").hidden = older === null;
  }
}

// The loop

async function refresh() {
  clearTimeout(timer);
  try {
    const [sources, subscriptions] = await Promise.all([api.sources(), api.subscriptions()]);
    showSources(sources.items, subscriptions.items);
    await Promise.all([load(), showDead()]);
    setState(paused ? "paused" : "live", paused ? "Paused" : "Live");
    byId("token-form").hidden = true;
    if (!paused && !document.hidden) {
      listen();
    }
  } catch (error) {
    if (error.status === 401) {
      byId("token-form").hidden = false;
      setState("error", "A token is needed");
    } else {
      setState("error", error.status ? error.message : "The relay does not answer");
    }
  }
  schedule();
}

function schedule() {
  clearTimeout(timer);
  if (!paused && !document.hidden) {
    timer = setTimeout(refresh, told ? SLOW_MS : REFRESH_MS);
  }
}

// What is told live is looked up soon; while nobody tells, it is asked for.

let told; // aborts the stream; undefined: there is none
let soon;

function onTold(kind) {
  if (kind !== "alive" && !paused && soon === undefined) {
    soon = setTimeout(() => {
      soon = undefined;
      refresh();
    }, TOLD_MS);
  }
}

async function listen() {
  if (told) {
    return;
  }
  const stop = new AbortController();
  told = stop;
  try {
    await api.live(onTold, stop.signal);
  } catch {
    // refresh() says what is wrong
  }
  if (told === stop) {
    told = undefined;
    schedule();
  }
}

function hush() {
  told?.abort();
  told = undefined;
}

function startOver() {
  epoch += 1;
  shown.clear();
  older = null;
  byId("events").replaceChildren();
  refresh();
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  if (paused) {
    clearTimeout(timer);
    hush();
    setState("paused", "Paused");
  } else {
    refresh();
  }
});

byId("filter-source").addEventListener("change", (change) => {
  filter.source = change.target.value;
  startOver();
});

byId("filter-type").addEventListener("change", (change) => {
  filter.type = change.target.value.trim();
  startOver();
});

byId("more").addEventListener("click", () => {
  load(older).catch((error) => setState("error", error.message));
});

byId("token-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  api.setToken(byId("token").value);
  startOver();
});

byId("replay-all").addEventListener("click", async (click) => {
  click.target.disabled = true;
  const wanted = filter.source === "" ? {} : { source: filter.source };
  await api.replayAll(wanted).catch((error) => setState("error", error.message));
  click.target.disabled = false;
  refresh();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    hush();
  } else if (!paused) {
    refresh();
  }
});

refresh();
