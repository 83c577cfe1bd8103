// Elements from text. Everything goes through textContent and attributes that
// hold no code, so what a webhook carries is always text.

export const byId = (id) => document.getElementById(id);

/** h("a", { class: "x", onclick: fn }, "text", child, ...) */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) {
      element.addEventListener(key.slice(2), value);
    } else if (value !== undefined && value !== false) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function time(ms) {
  const date = new Date(ms);
  const today = date.toDateString() === new Date().toDateString();
  return h("time", { datetime: date.toISOString(), title: date.toISOString() },
    (today ? clock : calendar).format(date));
}

export function size(bytes) {
  if (bytes < 1024) {
    return `${bytes} B`;
  }
  return bytes < 1048576 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1048576).toFixed(1)} MB`;
}

export const pretty = (value) => JSON.stringify(value, null, 2);
