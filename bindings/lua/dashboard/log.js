// The live log: the last lines of all workers, as they come.

import { byId, clockMs, h, setText, show } from "./dom.js";

const KEPT = 5000; // lines, to be filtered
const SHOWN = 500; // of them, that pass
const NAMES = { 10: "trace", 20: "debug", 30: "info", 40: "warn", 50: "error", 60: "fatal" };
const OWN = new Set(["level", "time", "pid", "hostname", "msg", "req", "res", "responseTime", "err", "v"]);
const BRIEF_MAX = 160;

/** A line of the log; one that is cut or odd is shown as it is. */
export function parse(text) {
  try {
    const line = JSON.parse(text);
    if (line !== null && typeof line === "object") {
      return { time: Number(line.time) || 0, level: Number(line.level) || 30, pid: line.pid, msg: String(line.msg ?? ""), line, text };
    }
  } catch {
    // it is longer than what is sent of one
  }
  return { time: Date.now(), level: 30, pid: "", msg: text, line: null, text };
}

function brief({ line, msg }) {
  if (line === null) {
    return "";
  }
  if (line.req !== undefined && line.req !== null) {
    const status = line.res?.statusCode;
    const took = line.responseTime;
    return `${line.req.method} ${line.req.url}${status === undefined || status === null ? "" : ` → ${status}`}${typeof took === "number" ? ` in ${took < 10 ? took.toFixed(1) : Math.round(took)} ms` : ""}`;
  }
  const rest = Object.entries(line).filter(([key]) => !OWN.has(key))
    .map(([key, value]) => `${key}=${typeof value === "object" ? JSON.stringify(value) : value}`).join(" ");
  const err = line.err?.message !== undefined && !msg.includes(line.err.message) ? `${line.err.message} ` : "";
  const text = err + rest;
  return text.length > BRIEF_MAX ? `${text.slice(0, BRIEF_MAX)}…` : text;
}

function entryElement(entry) {
  const level = NAMES[entry.level] ?? String(entry.level);
  const more = h("pre", { class: "code" });
  const details = h("details", {},
    h("summary", {},
      h("time", {}, clockMs(entry.time)),
      h("span", { class: `level of-${level}` }, level),
      h("span", { class: "pid" }, String(entry.pid ?? "")),
      h("span", { class: "msg" }, entry.msg),
      h("span", { class: "brief" }, brief(entry))),
    more);
  details.addEventListener("toggle", () => {
    if (details.open && more.textContent === "") {
      const stack = entry.line?.err?.stack;
      more.textContent = entry.line === null ? entry.text
        : JSON.stringify(entry.line, null, 2) + (typeof stack === "string" ? `\n\n${stack}` : "");
    }
  });
  return h("li", {}, details);
}

export function logPart() {
  const list = byId("log");
  const filter = { level: 0, text: "" };
  let entries = []; // by time
  let shown = []; // of them
  let waiting = []; // while it is paused
  let paused = false;
  let left = 0;

  const passes = (entry) => entry.level >= filter.level
    && (filter.text === "" || entry.text.toLowerCase().includes(filter.text));

  const element = (entry) => {
    entry.element ??= entryElement(entry);
    return entry.element;
  };

  function toEnd() {
    list.scrollTop = list.scrollHeight;
  }

  function refilter() {
    shown = entries.filter(passes).slice(-SHOWN);
    list.replaceChildren(...shown.map(element));
    toEnd();
  }

  function note() {
    setText(byId("log-note"), [
      left > 0 ? `${left} lines came too fast to be shown.` : "",
      waiting.length > 0 ? `${waiting.length} lines wait.` : "",
    ].filter(Boolean).join(" "));
  }

  // Workers' lines come one ring after the other: each goes to its time.
  function insert(into, entry) {
    let at = into.length;
    while (at > 0 && into[at - 1].time > entry.time) {
      at--;
    }
    into.splice(at, 0, entry);
    return into[at + 1];
  }

  function append(fresh) {
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
    for (const entry of fresh) {
      insert(entries, entry);
    }
    for (const entry of fresh.filter(passes).slice(-SHOWN)) {
      const after = insert(shown, entry);
      list.insertBefore(element(entry), after === undefined ? null : after.element);
    }
    while (shown.length > SHOWN) {
      shown.shift().element.remove();
    }
    entries.splice(0, Math.max(0, entries.length - KEPT));
    if (atEnd) {
      toEnd();
    }
  }

  byId("log-level").addEventListener("change", (event) => {
    filter.level = Number(event.target.value);
    refilter();
  });
  byId("log-filter").addEventListener("input", (event) => {
    filter.text = event.target.value.trim().toLowerCase();
    refilter();
  });
  byId("log-pause").addEventListener("click", (event) => {
    paused = !paused;
    event.target.setAttribute("aria-pressed", String(paused));
    setText(event.target, paused ? "Go on" : "Pause");
    if (!paused) {
      append(waiting);
      waiting = [];
    }
    note();
  });
  byId("log-clear").addEventListener("click", () => {
    entries = [];
    waiting = [];
    left = 0;
    refilter();
    note();
  });

  return {
    add({ lines, skipped }) {
      const fresh = lines.map(parse);
      left += skipped;
      if (paused) {
        waiting = [...waiting, ...fresh].slice(-KEPT);
      } else {
        append(fresh);
      }
      note();
    },
    /** What comes next begins with lines that are here already. */
    restart() {
      entries = [];
      refilter();
    },
    note(text) {
      setText(byId("log-note"), text);
      show(byId("log-note"), true);
    },
  };
}
