// The flame graph on a button: stacks come as text, "a;b;c 12" a line.

import { post } from "./api.js";
import { byId, h, percent, setClass, setText } from "./dom.js";

const ROW_REM = 1.3;
const NARROWEST = 0.002; // of the width; the rest would not be seen
const HUES = 24;

export function tree(text) {
  const root = { name: "all", value: 0, children: new Map() };
  for (const line of text.split("\n")) {
    const at = line.lastIndexOf(" ");
    const value = Number(line.slice(at + 1));
    if (at <= 0 || !(value > 0)) {
      continue;
    }
    let node = root;
    node.value += value;
    for (const name of line.slice(0, at).split(";")) {
      if (!node.children.has(name)) {
        node.children.set(name, { name, value: 0, children: new Map(), parent: node });
      }
      node = node.children.get(name);
      node.value += value;
    }
  }
  return root;
}

// The same function has the same colour each time.
function colour(name) {
  let hash = 7;
  for (const c of name) {
    hash = (hash * 31 + c.codePointAt(0)) % 997;
  }
  return `hsl(${18 + (hash % HUES) * 1.6} ${70 + (hash % 3) * 8}% ${66 + (hash % 5) * 3}%)`;
}

function draw(body, root, focus) {
  const boxes = [];
  let depth = 0;
  function box(node, left, width, row) {
    const element = h("button", {
      type: "button",
      title: `${node.name}: ${percent(node.value / root.value)}`,
      onclick: () => draw(body, root, node),
    }, node.name);
    element.style.left = `${(left * 100).toFixed(3)}%`;
    element.style.width = `${(width * 100).toFixed(3)}%`;
    element.style.top = `${row * ROW_REM}rem`;
    element.style.background = colour(node.name);
    boxes.push(element);
    depth = Math.max(depth, row + 1);
  }
  function place(node, left, width, row) {
    if (width < NARROWEST) {
      return;
    }
    box(node, left, width, row);
    let at = left;
    for (const child of [...node.children.values()].sort((a, b) => a.name.localeCompare(b.name))) {
      const part = (child.value / node.value) * width;
      place(child, at, part, row + 1);
      at += part;
    }
  }
  const above = [];
  for (let node = focus.parent; node !== undefined; node = node.parent) {
    above.unshift(node);
  }
  above.forEach((node, row) => box(node, 0, 1, row));
  place(focus, 0, 1, above.length);
  body.style.height = `${depth * ROW_REM}rem`;
  body.replaceChildren(...boxes);
}

export function flame() {
  const dialog = byId("flame-dialog");
  const button = byId("flame-start");
  const body = byId("flame-body");

  function say(text, bad = false) {
    setText(byId("flame-note"), text);
    setClass(byId("flame-note"), `hint ${bad ? "bad" : ""}`);
  }

  async function take() {
    const seconds = byId("flame-seconds").value;
    button.disabled = true;
    say(`Looking for ${seconds} seconds…`);
    try {
      const { summary, stacks } = await post(`/profile?kind=${byId("flame-kind").value}&seconds=${seconds}`);
      const root = tree(stacks);
      say(root.value > 0 ? summary : `${summary}: nothing was seen, the workers were idle.`);
      if (root.value > 0) {
        draw(body, root, root);
      } else {
        body.replaceChildren();
      }
    } catch (error) {
      say(error.message, true);
    } finally {
      button.disabled = false;
    }
  }

  byId("flame").addEventListener("click", () => dialog.showModal());
  byId("flame-close").addEventListener("click", () => dialog.close());
  button.addEventListener("click", take);
}
