// The dashboard: follows /dashboard/events and hands what comes to the parts of
// the page.

import { byId, setText, show, h } from "./dom.js";
import { History } from "./model.js";
import { flame } from "./flame.js";
import { hostParts } from "./host.js";
import { dataParts } from "./data.js";
import { logPart } from "./log.js";
import { overview } from "./overview.js";
import { queuesPart } from "./queues.js";
import { slowPart } from "./slow.js";

const SILENT_MS = 5000; // the host tells something each second

const history = new History();
const parts = [overview(), hostParts(), dataParts()];
const queues = queuesPart();
const log = logPart();
const slow = slowPart();
let heard = 0;

flame();

function setState(state, text) {
  const element = byId("state");
  if (element.dataset.state !== state || element.textContent !== text) {
    element.dataset.state = state;
    element.textContent = text;
  }
}

function showHost(state) {
  const { dir, env, version } = state.status;
  const name = dir.split("/").filter(Boolean).at(-1) ?? dir;
  setText(byId("app-name"), name);
  byId("app-name").title = `${dir}, perigee ${version}`;
  document.title = `${name}: Perigee dashboard`;
  setText(byId("env"), env);
  show(byId("env"), true);
  const bad = state.status.health.filter((check) => check.status !== "pass");
  byId("health").replaceChildren(...bad.map((check) =>
    h("li", { class: check.status }, h("strong", {}, check.name), " ", check.detail || check.status)));
  show(byId("health"), bad.length > 0);
}

function onState(state) {
  history.add(state);
  showHost(state);
  for (const part of parts) {
    part.update(history);
  }
  queues.update(history);
  setState(state.status.state === "running" ? "live" : "warn",
    state.status.state === "running" ? "Live" : state.status.state);
}

function follow() {
  const source = new EventSource("/dashboard/events");
  const on = (name, take) => source.addEventListener(name, (event) => {
    heard = Date.now();
    take(JSON.parse(event.data));
  });
  on("state", onState);
  on("log", (told) => log.add(told));
  on("slow", (told) => slow.update(told.slow));
  on("missed", (told) => log.note(`${told.events} updates were left out: this page was too slow.`));
  source.addEventListener("open", () => log.restart());
  source.addEventListener("error", () => {
    setState("error", "No answer, trying again…");
    if (source.readyState === EventSource.CLOSED) { // it was refused
      setTimeout(follow, 5000);
    }
  });
}

setInterval(() => {
  if (heard > 0 && Date.now() - heard > SILENT_MS) {
    setState("error", "No answer, trying again…");
  }
}, 1000);

follow();
