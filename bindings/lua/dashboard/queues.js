// Queues: how many jobs there are, which ones, and what can be done with them.

import { get, path, post } from "./api.js";
import { byId, count, h, keyedTable, pretty, quantileText, rate, setText, show, time } from "./dom.js";
import { callsBetween } from "./model.js";

const EVERY_MS = 2000;
const STATES = ["waiting", "prioritized", "active", "delayed", "waiting_children", "paused", "completed", "failed"];
const COUNTED = ["waiting", "active", "delayed", "completed", "failed"];

let writable = false;

const waitingOf = (counts) => counts.waiting + counts.prioritized + counts.paused + counts.waiting_children;

function failure(error) {
  setText(byId("queues-error"), error === null ? "" : error.message);
  show(byId("queues-error"), error !== null);
}

// Buttons that change something

function act(text, run, { title } = {}) {
  const button = h("button", {
    type: "button",
    class: "act",
    disabled: !writable,
    title: writable ? title : "The dashboard is read-only here: admin.dashboard.write",
    async onclick() {
      button.disabled = true;
      try {
        await run();
        failure(null);
      } catch (error) {
        failure(error);
      } finally {
        button.disabled = !writable;
      }
    },
  }, text);
  return button;
}

// The jobs of one queue

function browser(panel, refresh) {
  let queue = null;
  let state = "waiting";
  let from = 0;
  let open = null; // id of the job that is shown
  let asked = 0;
  let seen = "";
  let detailsSeen = "";
  const details = h("td", { colspan: "6", "aria-live": "polite" });
  const detailsRow = h("tr", { class: "details" }, details);

  function close() {
    queue = null;
    show(panel, false);
  }

  async function load() {
    const mine = ++asked;
    const told = await get(`/queues${path(queue)}?state=${state}&from=${from}`);
    const job = open === null ? null : await get(`/queues${path(queue, open)}`).catch(() => null);
    if (mine === asked && queue !== null) {
      draw(told);
      drawJob(job);
    }
  }

  const reload = () => load().then(refresh).catch(failure);

  function tab(name, counts) {
    return h("button", {
      type: "button",
      role: "tab",
      "aria-selected": String(name === state),
      onclick() {
        state = name;
        from = 0;
        open = null;
        seen = "";
        load().catch(failure);
      },
    }, name.replace("_", " "), " ", h("b", {}, count(counts[name] ?? 0)));
  }

  function row(job) {
    return h("tr", { "data-job": job.id },
      h("td", {}, h("button", {
        type: "button",
        class: "link",
        "aria-expanded": String(job.id === open),
        onclick() {
          open = open === job.id ? null : job.id;
          seen = "";
          load().catch(failure);
        },
      }, job.id)),
      h("td", {}, job.name),
      h("td", { class: "number" }, String(job.attempts)),
      h("td", {}, time(job.finished_on ?? job.processed_on ?? job.timestamp)),
      h("td", { class: "failure" }, job.failure ?? ""),
      h("td", { class: "acts" },
        state === "failed" || state === "completed"
          ? act("Run again", async () => { await post(`/queues${path(queue, job.id)}/retry`); reload(); }) : null,
        state === "delayed"
          ? act("Run now", async () => { await post(`/queues${path(queue, job.id)}/promote`); reload(); }) : null,
        state !== "active"
          ? act("Remove", async () => { await post(`/queues${path(queue, job.id)}/remove`); reload(); }) : null));
  }

  function draw(told) {
    const key = JSON.stringify([told, writable, open]);
    if (key === seen) {
      return;
    }
    seen = key;
    const focus = document.activeElement?.closest?.("#browser [role=tab]")?.textContent;
    panel.replaceChildren(
      h("div", { class: "row" }, h("h3", {}, told.name),
        state === "failed" && told.jobs.length > 0
          ? act("Run all failed again", async () => { await post(`/queues${path(queue)}/retry`); reload(); }) : null,
        h("button", { type: "button", onclick: close }, "Close")),
      h("div", { class: "tabs", role: "tablist", "aria-label": "State" }, ...STATES.map((name) => tab(name, told.counts))),
      told.jobs.length === 0 ? h("p", { class: "empty" }, `No job is ${state.replace("_", " ")}.`)
        : h("div", { class: "scroll" }, h("table", {},
          h("thead", {}, h("tr", {}, ...["Job", "Name", "Attempts", "When", "Failure", ""].map((title, i) =>
            h("th", { scope: "col", class: i === 2 ? "number" : null }, title)))),
          h("tbody", {}, ...told.jobs.flatMap((job) => (job.id === open ? [row(job), detailsRow] : [row(job)]))))),
      h("p", { class: "pager" },
        from > 0 ? h("button", { type: "button", onclick() { from = Math.max(0, from - 25); load().catch(failure); } }, "Back") : null,
        told.more ? h("button", { type: "button", onclick() { from += 25; load().catch(failure); } }, "More") : null));
    if (focus !== undefined) {
      panel.querySelector("[role=tab][aria-selected=true]")?.focus();
    }
  }

  function part(title, text) {
    return text === undefined || text === null || text === "" ? []
      : [h("h4", {}, title), h("pre", { class: "code" }, pretty(text))];
  }

  function drawJob(job) {
    const key = JSON.stringify(job);
    if (key === detailsSeen) {
      return;
    }
    detailsSeen = key;
    details.replaceChildren(...(job === null ? [] : [
      h("h4", {}, `${job.name} ${job.id}`, " ", h("span", { class: "badge" }, job.state)),
      ...part("Failure", job.failure), ...part("Data", job.data), ...part("Options", job.opts),
      ...part("Progress", job.progress === "0" ? null : job.progress), ...part("Result", job.result),
      ...part("Log", job.logs.join("\n")), ...part("Stack", job.stacktrace.join("\n\n")),
    ]));
  }

  return {
    open(name, which) {
      queue = name;
      state = which;
      from = 0;
      open = null;
      seen = "";
      show(panel, true);
      load().then(() => panel.scrollIntoView({ block: "nearest" })).catch(failure);
    },
    refresh: () => (queue === null ? undefined : load().catch(() => {})),
  };
}

export function queuesPart() {
  let last = [];
  let rates = new Map();
  let busy = false;
  let shownWritable = null;
  const jobs = browser(byId("browser"), () => poll());

  function countCell(state) {
    return (queue, td) => {
      const n = state === "waiting" ? waitingOf(queue.counts) : queue.counts[state];
      if (td.childNodes.length === 0) {
        td.append(h("button", {
          type: "button",
          class: "link",
          "data-state": state,
          onclick: () => jobs.open(queue.name, state === "waiting" && queue.paused ? "paused" : state),
        }));
      }
      setText(td.firstChild, count(n));
      td.classList.toggle("bad", state === "failed" && n > 0);
    };
  }

  function actCell(queue, td) {
    const key = `${queue.paused} ${writable}`;
    if (td.dataset.key !== key) {
      td.dataset.key = key;
      const focused = td.contains(document.activeElement);
      td.replaceChildren(
        h("button", { type: "button", onclick: () => jobs.open(queue.name, "waiting") }, "Browse"),
        act(queue.paused ? "Resume" : "Pause", async () => {
          await post(`/queues${path(queue.name)}/${queue.paused ? "resume" : "pause"}`);
          await poll();
        }));
      if (focused) {
        td.lastChild.focus();
      }
    }
  }

  const columns = [
    {
      title: "Queue",
      cell(queue, td) {
        if (td.childNodes.length === 0) {
          td.append(h("span", {}, queue.name), " ", h("span", { class: "badge warn" }, "paused"));
        }
        show(td.lastChild, queue.paused);
      },
    },
    ...COUNTED.map((state) => ({ title: state[0].toUpperCase() + state.slice(1), number: true, cell: countCell(state) })),
    { title: "Done / s", number: true, cell: (queue) => rate(rates.get(queue.name)?.rate ?? 0) },
    { title: "p99", number: true, cell: (queue) => quantileText(rates.get(queue.name)?.p99, rates.get(queue.name)?.bounds) },
    { title: "", cell: actCell },
  ];
  const table = keyedTable(byId("queues"), columns, { key: (queue) => queue.name });

  function draw() {
    table.update(last);
    show(byId("queues-empty"), last.length === 0);
  }

  async function poll() {
    if (busy || document.hidden) {
      return;
    }
    busy = true;
    try {
      last = (await get("/queues")).queues;
      draw();
    } catch (error) {
      failure(error);
    } finally {
      busy = false;
    }
  }

  poll();
  setInterval(() => poll().then(() => jobs.refresh()), EVERY_MS);

  return {
    update({ now, before }) {
      writable = now.write;
      rates = new Map(callsBetween(now, before, "messaging_process_duration_seconds",
        (labels) => labels.messaging_destination_name).map((each) => [each.key, each]));
      if (shownWritable !== writable) {
        shownWritable = writable;
        setText(byId("queues-mode"), writable ? "" : "read-only: admin.dashboard.write is not set");
      }
      draw();
    },
  };
}
