// Sparklines as small SVGs; the daily chart by uPlot.

import { fill, h, svg } from "./dom.js";
import { compact, day, money, weekday } from "./format.js";
import { t } from "./words.js";

const WIDTH = 96;
const HEIGHT = 24;

/** A line without axes over values of which some may be absent (null); nothing when fewer than two are there. */
export function spark(values, label, { width = WIDTH, height = HEIGHT } = {}) {
  const there = values.filter((value) => value !== null);
  if (there.length < 2) return h("span", { class: "spark-none" });
  const low = Math.min(0, ...there);
  const high = Math.max(...there);
  const x = (i) => (2 + (i * (width - 4)) / (values.length - 1)).toFixed(1);
  const y = (value) => (height - 3 - ((value - low) / (high - low || 1)) * (height - 6)).toFixed(1);
  let path = "";
  let pen = "M";
  values.forEach((value, i) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${x(i)} ${y(value)}`;
    pen = "L";
  });
  const last = values.length - 1 - [...values].reverse().findIndex((value) => value !== null);
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, preserveAspectRatio: "none" },
    svg("path", { d: path, "vector-effect": "non-scaling-stroke" }),
    svg("circle", { cx: x(last), cy: y(values[last]), r: 1.8 }));
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The daily chart of revenue and cost in `place`, redrawn when its width changes. `days` are decimal strings by metric, the oldest first. */
export class Trend {
  constructor(place, height = 220) {
    this.place = place;
    this.height = height;
    this.plot = null;
    new ResizeObserver(() => this.plot && this.plot.setSize({ width: Math.max(240, place.clientWidth), height })).observe(place);
  }

  draw(days, asOf, zone, currency) {
    const revenue = numbers(days.attributed_revenue);
    const cost = numbers(days.cost);
    const length = Math.max(revenue.length, cost.length);
    this.plot?.destroy();
    this.plot = null;
    if (length < 2) {
      this.place.replaceChildren(h("p", { class: "note" }, t("no_days")));
      return;
    }
    const at = (i) => asOf - (length - 1 - i) * 86400;
    const x = Array.from({ length }, (_, i) => i);
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const legend = h("p", { class: "legend" });
    // Without a pointer over it the chart tells today's figures.
    this.tell = (i) => {
      const of = i ?? length - 1;
      fill(legend, h("span", { class: "when" }, weekday(at(of), zone)), h("span", { class: "key revenue" }, t("attributed_revenue")), h("span", {}, money(revenue[of], currency)),
        h("span", { class: "key cost" }, t("cost")), h("span", {}, money(cost[of], currency)));
    };
    this.place.replaceChildren(legend);
    this.plot = new window.uPlot({
      width: Math.max(240, this.place.clientWidth),
      height: this.height,
      scales: { x: { time: false }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.08] } },
      cursor: { points: { size: 7 }, drag: { x: false, y: false } },
      legend: { show: false },
      hooks: { setCursor: [(plot) => this.tell(plot.cursor.idx)] },
      series: [
        {},
        { stroke: colour("--accent"), width: 2, fill: colour("--accent-wash"), points: { show: false } },
        { stroke: colour("--cost"), width: 2, points: { show: false } },
      ],
      axes: [
        { ...axis, grid: { show: false }, space: 70, size: 30, values: (_, ticks) => ticks.map((i) => (Number.isInteger(i) ? day(at(i), zone) : "")) },
        { ...axis, size: 52, values: (_, ticks) => ticks.map((value) => compact(value)) },
      ],
    }, [x, padded(revenue, length), padded(cost, length)], this.place);
    this.tell(null);
    this.place.querySelector("canvas")?.setAttribute("aria-label", t("trend"));
    this.place.querySelector("canvas")?.setAttribute("role", "img");
  }
}

export const numbers = (values) => (values || []).map((value) => (value === null ? null : Number(value)));
const padded = (values, length) => (values.length ? values : Array(length).fill(null));
