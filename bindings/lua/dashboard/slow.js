// The slowest requests and jobs, each as a waterfall of its spans.

import { byId, clock, duration, h, setText, show } from "./dom.js";

const SHOWN = 10;
const KINDS = { 1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer" };

// Parents before children, each level by its start.
function ordered(spans) {
  const below = new Map();
  spans.forEach((span, index) => {
    const parent = span.parent >= 0 && span.parent < spans.length && span.parent !== index ? span.parent : -1;
    below.set(parent, [...(below.get(parent) ?? []), index]);
  });
  const list = [];
  const seen = new Set();
  const walk = (parent, depth) => {
    for (const index of (below.get(parent) ?? []).sort((a, b) => spans[a].start_us - spans[b].start_us)) {
      if (!seen.has(index)) {
        seen.add(index);
        list.push({ ...spans[index], depth });
        walk(index, depth + 1);
      }
    }
  };
  walk(-1, 1);
  return list;
}

function bar(span, whole) {
  const element = h("span", { class: `span kind-${KINDS[span.kind] ?? "internal"} ${span.failed ? "failed" : ""}` });
  const left = whole > 0 ? (span.start_us / whole) * 100 : 0;
  element.style.left = `${Math.min(99.5, left).toFixed(2)}%`;
  element.style.width = `${Math.max(0.3, Math.min(100 - left, whole > 0 ? (span.took_us / whole) * 100 : 100)).toFixed(2)}%`;
  return element;
}

function spanRow(span, whole) {
  const name = h("span", { class: "span-name", title: span.detail }, span.name, " ",
    span.detail ? h("small", {}, span.detail) : null);
  name.style.paddingLeft = `${span.depth * 0.9}rem`;
  return h("li", { class: span.failed ? "failed" : null }, name,
    h("span", { class: "lane" }, bar(span, whole)),
    h("span", { class: "took" }, duration(span.took_us / 1e6)));
}

function waterfall(trace) {
  const root = { name: trace.name, detail: trace.detail, kind: trace.kind, start_us: 0, took_us: trace.took_us, failed: trace.failed, depth: 0 };
  const spans = ordered(trace.spans ?? []);
  return h("div", { class: "waterfall" },
    h("ol", {}, spanRow(root, trace.took_us), ...spans.map((span) => spanRow(span, trace.took_us))),
    trace.spans === undefined
      ? h("p", { class: "hint" }, "It was not traced. With ", h("code", {}, "trace = { enabled = true, exporter = \"none\" }"),
        " its parts are shown here, without any collector.") : null,
    trace.dropped > 0 ? h("p", { class: "hint" }, `${trace.dropped} more spans are not kept.`) : null,
    h("p", { class: "hint" }, trace.trace_id ? "trace " : "request ",
      h("button", {
        type: "button",
        class: "link",
        title: "Show its log lines",
        onclick() {
          const field = byId("log-filter");
          field.value = trace.trace_id ?? trace.request_id;
          field.dispatchEvent(new Event("input"));
          byId("log-title").scrollIntoView();
          field.focus();
        },
      }, trace.trace_id ?? trace.request_id)));
}

function item(trace, longest) {
  const length = h("i", {});
  length.style.width = `${Math.max(0.5, (trace.took_us / longest) * 100).toFixed(1)}%`;
  const details = h("details", {},
    h("summary", {},
      h("span", { class: "took" }, duration(trace.took_us / 1e6)),
      h("span", { class: `length ${trace.failed ? "failed" : ""}` }, length),
      h("span", { class: "name" }, trace.name, " ", h("small", {}, trace.detail)),
      h("span", { class: `badge ${trace.failed ? "bad" : ""}` },
        trace.status > 0 ? String(trace.status) : trace.failed ? "failed" : KINDS[trace.kind] ?? ""),
      h("time", {}, clock(trace.at))));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) {
      details.append(waterfall(trace));
    }
  });
  return { element: h("li", {}, details), length };
}

export function slowPart() {
  const list = byId("slow");
  const items = new Map();
  let all = false;
  let last = [];

  byId("slow-all").addEventListener("click", () => {
    all = !all;
    part.update(last);
  });

  const part = {
    update(traces) {
      last = traces;
      show(byId("slow-all"), traces.length > SHOWN);
      setText(byId("slow-all"), all ? "Show fewer" : `Show all ${traces.length}`);
      traces = all ? traces : traces.slice(0, SHOWN);
      const longest = traces[0]?.took_us ?? 1;
      const seen = new Set();
      traces.forEach((trace, index) => {
        const key = `${trace.trace_id ?? trace.request_id} ${trace.at} ${trace.name} ${trace.took_us}`;
        if (!items.has(key)) {
          items.set(key, item(trace, longest));
        }
        const { element, length } = items.get(key);
        seen.add(key);
        length.style.width = `${Math.max(0.5, (trace.took_us / longest) * 100).toFixed(1)}%`;
        if (list.children[index] !== element) {
          list.insertBefore(element, list.children[index] ?? null);
        }
      });
      for (const [key, { element }] of items) {
        if (!seen.has(key)) {
          element.remove();
          items.delete(key);
        }
      }
      show(list, traces.length > 0);
      show(byId("slow-empty"), traces.length === 0);
    },
  };
  return part;
}
