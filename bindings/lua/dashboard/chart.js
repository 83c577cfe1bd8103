// Curves of the last two minutes.

import { svg } from "./dom.js";

const POINTS = 120;

/** A curve that fills its box; set(values) draws it. */
export function sparkline(label) {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line", "vector-effect": "non-scaling-stroke" });
  const element = svg("svg", {
    class: "spark", viewBox: `0 0 ${POINTS} 30`, preserveAspectRatio: "none", role: "img", "aria-label": label,
  }, area, line);
  return {
    element,
    set(values) {
      const shown = values.slice(-POINTS);
      const top = Math.max(...shown, 0);
      if (shown.length < 2 || top === 0) {
        line.setAttribute("d", shown.length < 2 ? "" : `M${POINTS - shown.length} 29.5H${POINTS}`);
        area.setAttribute("d", "");
        return;
      }
      const left = POINTS - shown.length;
      const points = shown.map((value, i) =>
        `${(left + (i * POINTS - i * left) / (shown.length - 1)).toFixed(2)} ${(29 - (value / top) * 27).toFixed(2)}`);
      line.setAttribute("d", `M${points.join("L")}`);
      area.setAttribute("d", `M${points.join("L")}L${POINTS} 30L${left} 30Z`);
    },
  };
}
