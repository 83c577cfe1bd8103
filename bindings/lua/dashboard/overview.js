// The tiles on top, and the routes.

import { sparkline } from "./chart.js";
import { bytes, byId, count, h, keyedTable, percent, quantileText, rate, setClass, setText, show } from "./dom.js";
import { lagOf, routesBetween, total } from "./model.js";

const ROUTES_SHOWN = 12;
const SLOW_LAG_S = 0.05;

const TILES = [
  { id: "rate", title: "Requests / s", curve: "rate" },
  { id: "errors", title: "Errors (5xx)", curve: "errors" },
  { id: "p50", title: "Median", curve: "p50" },
  { id: "p99", title: "99th percentile", curve: "p99" },
  { id: "active", title: "In flight", curve: "active" },
  { id: "lag", title: "Loop lag, p99", curve: "lag" },
  { id: "memory", title: "Memory", curve: "memory" },
];

function makeTiles() {
  const tiles = {};
  byId("tiles").replaceChildren(...TILES.map((tile) => {
    const value = h("p", { class: "value" }, "–");
    const note = h("p", { class: "note" });
    const spark = sparkline(`${tile.title}, two minutes`);
    const element = h("div", { class: "card tile", "data-tile": tile.id }, h("h3", {}, tile.title), value, note, spark.element);
    tiles[tile.id] = { element, value, note, spark };
    return element;
  }));
  return tiles;
}

const SORTS = {
  route: (a, b) => a.route.localeCompare(b.route) || a.method.localeCompare(b.method),
  rate: (a, b) => b.rate - a.rate || b.total - a.total,
  errors: (a, b) => b.failed - a.failed || b.errors - a.errors || b.total - a.total,
  p50: (a, b) => (b.p50 ?? -1) - (a.p50 ?? -1),
  p99: (a, b) => (b.p99 ?? -1) - (a.p99 ?? -1),
  total: (a, b) => b.total - a.total,
};

function errorCell(route, td) {
  setClass(td, `number ${route.failed > 0 ? "bad" : ""}`);
  const others = route.refused + route.aborted;
  td.title = route.requests === 0 ? "" : `${route.failed} of 5xx, ${route.refused} of 4xx, ${route.aborted} aborted, of ${route.requests}`;
  return route.requests === 0 ? "–" : route.failed === 0 && others > 0 ? "0 %" : percent(route.errors);
}

function routeCell(route, td) {
  if (td.childNodes.length === 0) {
    td.append(h("span", { class: "method" }, route.method || "?"), " ",
      route.route === "" ? h("em", {}, "no route") : h("code", {}, route.route));
  }
}

const COLUMNS = [
  { title: "Route", sort: "route", cell: routeCell },
  { title: "Rate / s", number: true, sort: "rate", cell: (route) => rate(route.rate) },
  { title: "Errors", number: true, sort: "errors", cell: errorCell },
  { title: "p50", number: true, sort: "p50", cell: (route) => quantileText(route.p50, route.bounds) },
  { title: "p99", number: true, sort: "p99", cell: (route) => quantileText(route.p99, route.bounds) },
  { title: "Since start", number: true, sort: "total", cell: (route) => count(route.total) },
];

export function overview() {
  const tiles = makeTiles();
  let sorted = "total";
  let all = false;
  let last = null;

  const table = keyedTable(byId("routes"), COLUMNS, {
    key: (route) => route.key,
    onSort(column) {
      sorted = column.sort;
      showRoutes(last);
    },
  });

  function showRoutes(routes) {
    COLUMNS.forEach((column, i) => {
      if (column.sort === sorted) {
        table.heads[i].setAttribute("aria-sort", column.sort === "route" ? "ascending" : "descending");
      } else {
        table.heads[i].removeAttribute("aria-sort");
      }
    });
    const list = [...routes].sort(SORTS[sorted]);
    table.update(all ? list : list.slice(0, ROUTES_SHOWN));
    show(byId("routes-empty"), list.length === 0);
    show(byId("routes-all"), list.length > ROUTES_SHOWN);
    setText(byId("routes-all"), all ? "Show fewer" : `Show all ${list.length}`);
  }

  byId("routes-all").addEventListener("click", () => {
    all = !all;
    showRoutes(last);
  });

  function showTile(id, value, note, bad = false) {
    setText(tiles[id].value, value);
    setText(tiles[id].note, note);
    tiles[id].element.classList.toggle("bad", bad);
  }

  return {
    update(history) {
      const { now, before } = history;
      const routes = routesBetween(now, before);
      const sum = total(routes, now.bounds, history.seconds);
      const { workers } = now.status;
      const open = workers.reduce((n, worker) => n + worker.connections, 0);
      const active = workers.reduce((n, worker) => n + worker.active, 0);
      const lag = lagOf(now, before);
      last = routes;
      showTile("rate", rate(sum.rate), `${count(now.requests)} since the start`);
      showTile("errors", sum.requests === 0 ? "–" : percent(sum.errors),
        sum.requests === 0 ? "no requests" : `${count(sum.failed)} failed, ${count(sum.refused)} of 4xx`, sum.failed > 0);
      showTile("p50", quantileText(sum.p50, now.bounds), "of all routes");
      showTile("p99", quantileText(sum.p99, now.bounds), "of all routes");
      showTile("active", count(active), `${count(open)} connection${open === 1 ? "" : "s"}`);
      showTile("lag", quantileText(lag?.p99, lag?.bounds), "of all workers", (lag?.p99 ?? 0) > SLOW_LAG_S);
      showTile("memory", bytes(workers.reduce((n, worker) => n + worker.rss, 0)), `${workers.length} worker${workers.length === 1 ? "" : "s"}`);
      for (const tile of TILES) {
        tiles[tile.id].spark.set(history.curves[tile.curve]);
      }
      showRoutes(routes);
    },
  };
}
