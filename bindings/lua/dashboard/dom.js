// Elements, and words for numbers. What comes from the host becomes text nodes
// and nothing else.

export const byId = (id) => document.getElementById(id);

/** h("a", { href: "/" }, "text", h("b", {}, "more")) */
export function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) {
      element.addEventListener(key.slice(2), value);
    } else if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Touches the page only where something has changed. */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

export function setClass(element, name) {
  if (element.className !== name) {
    element.className = name;
  }
}

export function show(element, visible) {
  element.hidden = !visible;
}

// Words for numbers

export function count(n) {
  if (n < 1000) {
    return String(Math.round(n));
  }
  if (n < 1e6) {
    return n < 1e4 ? `${(n / 1e3).toFixed(1)} k` : `${Math.round(n / 1e3)} k`;
  }
  return n < 1e9 ? `${(n / 1e6).toFixed(1)} M` : `${(n / 1e9).toFixed(1)} G`;
}

export function rate(n) {
  return n === 0 ? "0" : n < 0.095 ? "< 0.1" : n < 10 ? n.toFixed(1) : count(n);
}

export function percent(part) {
  return part === 0 ? "0 %" : part < 0.001 ? "< 0.1 %"
    : part < 0.0995 ? `${(part * 100).toFixed(1)} %` : `${Math.round(part * 100)} %`;
}

/** Seconds. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) {
    return "–";
  }
  const ms = seconds * 1000;
  if (ms < 1) {
    return `${Math.round(ms * 1000)} µs`;
  }
  if (ms < 1000) {
    return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
  }
  return seconds < 100 ? `${seconds.toFixed(seconds < 10 ? 2 : 1)} s` : span(seconds);
}

/** A quantile, as far as the buckets that it comes from can tell. */
export function quantileText(seconds, bounds) {
  if (seconds === null || seconds === undefined || bounds === undefined || bounds.length === 0) {
    return "–";
  }
  return seconds <= bounds[0] ? `< ${duration(bounds[0])}`
    : seconds >= bounds.at(-1) ? `> ${duration(bounds.at(-1))}` : duration(seconds);
}

/** How long something has been: "3 h 12 m". */
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) {
    return `${s} s`;
  }
  if (s < 3600) {
    return `${Math.floor(s / 60)} m ${s % 60} s`;
  }
  return s < 86400 ? `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} m`
    : `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

export function bytes(n) {
  return n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(n < 10240 ? 1 : 0)} KB`
    : n < 1073741824 ? `${(n / 1048576).toFixed(n < 10485760 ? 1 : 0)} MB`
      : `${(n / 1073741824).toFixed(1)} GB`;
}

const pad = (n, width = 2) => String(n).padStart(width, "0");

export function clock(ms) {
  const d = new Date(ms);
  return `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}

export function clockMs(ms) {
  return `${clock(ms)}.${pad(new Date(ms).getMilliseconds(), 3)}`;
}

export function time(ms) {
  const date = new Date(ms);
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, clock(ms));
}

/** JSON for people; what is none stays as it is. */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/**
 * A table whose rows are kept by a key, so that nothing jumps: columns
 * [{ title, number, sort, cell(row, td, seen) }]; gives update(rows).
 */
export function keyedTable(table, columns, { key, onSort } = {}) {
  const body = h("tbody", {});
  const rows = new Map();
  const heads = columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : null },
    column.sort && onSort
      ? h("button", { type: "button", class: "sort", onclick: () => onSort(column) }, column.title)
      : column.title));
  table.replaceChildren(h("thead", {}, h("tr", {}, ...heads)), body);

  function rowOf(id) {
    if (!rows.has(id)) {
      const cells = columns.map((column) => h("td", { class: column.number ? "number" : null }));
      rows.set(id, { tr: h("tr", {}, ...cells), cells });
    }
    return rows.get(id);
  }

  return {
    heads,
    rows,
    update(list) {
      const seen = new Set();
      list.forEach((data, index) => {
        const id = key(data);
        const row = rowOf(id);
        seen.add(id);
        columns.forEach((column, at) => {
          const value = column.cell(data, row.cells[at]);
          if (typeof value === "string") {
            setText(row.cells[at], value);
          }
        });
        if (body.children[index] !== row.tr) {
          body.insertBefore(row.tr, body.children[index] ?? null);
        }
      });
      for (const [id, row] of rows) {
        if (!seen.has(id)) {
          row.tr.remove();
          rows.delete(id);
        }
      }
      table.hidden = list.length === 0;
      table.parentElement.hidden = list.length === 0;
    },
  };
}
