// The table of channels and networks, and what opens under a row: its campaigns, and the same under each model.

import { numbers, spark, Trend } from "./charts.js";
import { fill, h, text } from "./dom.js";
import { METRICS, NONE, count, modelName, placeName } from "./format.js";
import { ask } from "./live.js";
import { t } from "./words.js";

const COLUMNS = Object.keys(METRICS);
const PAGE = 25;

export class ChannelTable {
  constructor(table) {
    this.table = table;
    this.sort = { by: "attributed_revenue", down: true };
    this.open = null; // key of the open row
    this.rows = new Map();
    this.detail = null;
    this.head = h("thead");
    this.body = h("tbody");
    this.foot = h("tfoot");
    table.replaceChildren(this.head, this.body, this.foot);
  }

  /** `data` as /api/overview gives it; `query` what it was asked with. */
  show(data, query) {
    this.data = data;
    this.query = query;
    this.render();
    if (this.open) this.loadDetail();
  }

  render() {
    const { data } = this;
    this.renderHead();
    const rows = [...data.channels].sort((a, b) => this.compare(a, b));
    const top = Math.max(...rows.filter((row) => !row.unattributed).map((row) => Number(row.values.attributed_revenue || 0)), 0);
    const seen = new Set();
    const elements = [];
    for (const item of rows) {
      const key = JSON.stringify([item.channel, item.network]);
      seen.add(key);
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, (row = this.newRow(key, item)));
      this.update(row, item, top);
      elements.push(row.element);
      if (key === this.open) elements.push(this.detailRow(item));
    }
    for (const key of [...this.rows.keys()]) if (!seen.has(key)) this.rows.delete(key);
    if (!seen.has(this.open)) this.open = null;
    this.place(elements);
    this.renderFoot();
  }

  /** Puts rows in order, and moves none that stands where it should: that would take the focus away. */
  place(elements) {
    const focused = document.activeElement;
    const wanted = new Set(elements);
    for (const child of [...this.body.children]) if (!wanted.has(child)) child.remove();
    elements.forEach((element, i) => {
      if (this.body.children[i] !== element) this.body.insertBefore(element, this.body.children[i] || null);
    });
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({ preventScroll: true });
  }

  compare(a, b) {
    if (!a.unattributed !== !b.unattributed) return a.unattributed ? 1 : -1; // always last: it is no channel
    const { by, down } = this.sort;
    if (by === "channel") return (down ? -1 : 1) * a.channel.localeCompare(b.channel) || a.network.localeCompare(b.network);
    const [x, y] = [a.values[by], b.values[by]].map((value) => (value === undefined ? null : Number(value)));
    if (x === y) return a.channel.localeCompare(b.channel) || a.network.localeCompare(b.network);
    if (x === null || y === null) return x === null ? 1 : -1; // undefined is neither most nor least
    return down ? y - x : x - y;
  }

  renderHead() {
    const column = (by, label, help) => {
      const sorted = this.sort.by === by;
      return h("th", { scope: "col", class: by === "channel" ? "name" : "number", "aria-sort": sorted ? (this.sort.down ? "descending" : "ascending") : "none" },
        h("button", { type: "button", "data-key": `sort-${by}`, title: help, onclick: () => this.sortBy(by) }, label, h("span", { class: "arrow", "aria-hidden": "true" }, sorted ? (this.sort.down ? "↓" : "↑") : "")));
    };
    fill(this.head, h("tr", {}, column("channel", t("channel")), COLUMNS.map((name) => column(name, t(name), t(`help.${name}`))),
      h("th", { scope: "col", class: "trend-cell" }, t("trend_column"))));
  }

  sortBy(by) {
    this.sort = { by, down: this.sort.by === by ? !this.sort.down : by !== "channel" };
    this.render();
  }

  newRow(key, item) {
    const toggle = h("button", { type: "button", class: "toggle", "aria-expanded": "false", onclick: () => this.toggle(key) },
      h("span", { class: "chevron", "aria-hidden": "true" }), h("span", { class: "place" }), h("span", { class: "channel" }));
    const cells = Object.fromEntries(COLUMNS.map((name) => [name, h("td", { class: "number" }, h("span", {}))]));
    const bar = h("span", { class: "bar" });
    cells.attributed_revenue.append(bar);
    const trend = h("td", { class: "trend-cell" });
    const element = h("tr", { class: item.unattributed ? "nobody" : "" }, h("th", { scope: "row", class: "name" }, toggle), Object.values(cells), trend);
    return { element, toggle, cells, bar, trend, drawn: "" };
  }

  update(row, item, top) {
    const [, place, channel] = row.toggle.children;
    text(place, placeName(item));
    text(channel, item.unattributed || placeName(item) === item.channel ? "" : item.channel);
    row.toggle.setAttribute("aria-expanded", String(this.open === JSON.stringify([item.channel, item.network])));
    row.toggle.title = [item.channel, item.network].join(" · ");
    row.toggle.setAttribute("aria-label", `${t("details", { name: [...new Set([item.channel, placeName(item)])].join(" · ") })}`);
    const revenue = Number(item.values.attributed_revenue || 0);
    row.bar.style.width = !item.unattributed && top > 0 ? `${Math.max(0, (revenue / top) * 84)}px` : "0";
    for (const name of COLUMNS) {
      const value = item.values[name];
      const cell = row.cells[name];
      cell.dataset.label = t(name);
      const before = cell.dataset.value;
      text(cell.firstChild, METRICS[name].write(value, this.data.currency));
      cell.classList.toggle("none", value === undefined);
      cell.classList.toggle("bad", name === "roi_on_revenue_ratio" && Number(value) < 0);
      if (value === undefined) delete cell.dataset.value;
      else cell.dataset.value = value;
      if (before !== undefined && before !== cell.dataset.value) moved(cell);
    }
    const days = JSON.stringify(item.days.attributed_revenue || []);
    if (row.drawn !== days) {
      row.trend.replaceChildren(spark(numbers(item.days.attributed_revenue), `${t("attributed_revenue")}, ${t("trend_column")}`));
      row.drawn = days;
    }
  }

  renderFoot() {
    const { data } = this;
    fill(this.foot, h("tr", {}, h("th", { scope: "row", class: "name" }, t("total")), COLUMNS.map((name) =>
      h("td", { class: "number", "data-label": t(name), "data-value": data.total[name] ?? null }, METRICS[name].write(data.total[name], data.currency))),
      h("td", { class: "trend-cell" }, spark(numbers(data.days.attributed_revenue), t("trend_column")))));
  }

  toggle(key) {
    this.open = this.open === key ? null : key;
    this.detail = null;
    this.render();
    if (this.open) this.loadDetail();
  }

  detailRow(item) {
    if (!this.detail) this.detail = new Detail();
    this.detail.label(item);
    return this.detail.element;
  }

  async loadDetail() {
    const [channel, network] = JSON.parse(this.open);
    const { open, detail, data } = this;
    try {
      const found = await ask("channel", { ...this.query, channel, network });
      const item = data.channels.find((row) => row.channel === channel && row.network === network);
      if (this.open === open && this.detail === detail && item) detail.show(found, item, data);
    } catch (error) {
      if (error.status) detail.failed(error.message);
    }
  }
}

class Detail {
  constructor() {
    this.limit = PAGE;
    this.wanted = "";
    this.trend = h("div", { class: "trend" });
    this.chart = new Trend(this.trend, 170);
    this.models = h("div", { class: "models" });
    this.note = h("span", { class: "note" });
    this.search = h("input", { type: "search", "aria-label": t("filter"), placeholder: t("filter"), oninput: () => this.filter() });
    this.list = h("div");
    this.section = h("section", { class: "detail" },
      h("div", { class: "detail-top" }, h("div", {}, h("h3", { "data-t": "trend" }, t("trend")), this.trend), h("div", {}, h("h3", {}, t("by_model")), this.models)),
      h("div", { class: "campaigns-head" }, h("h3", {}, t("campaigns")), this.search, this.note), this.list);
    this.element = h("tr", { class: "detail-row" }, h("td", { colspan: COLUMNS.length + 2 }, this.section));
  }

  label(item) { this.section.setAttribute("aria-label", placeName(item)); }

  failed(message) { fill(this.list, h("p", { class: "note" }, message)); }

  show(found, item, data) {
    this.found = found;
    this.data = data;
    this.chart.draw(item.days, data.as_of, data.time_zone, data.currency);
    const entries = Object.entries(found.models);
    const top = Math.max(...entries.map(([, values]) => Number(values.attributed_revenue || values.attributed_conversions || 0)), 0);
    fill(this.models, entries.map(([model, values]) => {
      const bar = h("span", { class: "model-bar" });
      bar.style.width = top > 0 ? `${(Number(values.attributed_revenue || values.attributed_conversions || 0) / top) * 100}%` : "0";
      return h("div", { class: `model ${model === found.selection.model ? "chosen" : ""}` }, h("span", { class: "model-name" }, modelName(model)), h("span", { class: "model-track" }, bar),
        h("span", { class: "number" }, METRICS.attributed_revenue.write(values.attributed_revenue, data.currency)),
        h("span", { class: "number muted" }, count(values.attributed_conversions, 1)));
    }));
    this.search.hidden = found.campaigns.length <= 5;
    this.list_();
  }

  filter() {
    this.wanted = this.search.value.toLocaleLowerCase();
    this.limit = PAGE;
    this.list_();
  }

  list_() {
    const { found, data } = this;
    if (!found.campaigns_exported) { fill(this.list, h("p", { class: "note" }, t("campaigns_elsewhere"))); text(this.note, ""); return; }
    const weight = (row) => [Number(row.values.attributed_revenue || 0), Number(row.values.cost || 0)];
    const all = found.campaigns.filter((row) => row.campaign.toLocaleLowerCase().includes(this.wanted))
      .sort((a, b) => weight(b)[0] - weight(a)[0] || weight(b)[1] - weight(a)[1] || a.campaign.localeCompare(b.campaign));
    if (!found.campaigns.length) { fill(this.list, h("p", { class: "note" }, t("no_campaigns"))); return; }
    const shown = all.slice(0, this.limit);
    text(this.note, t("shown_of", { n: count(shown.length), of: count(found.campaigns.length) }));
    fill(this.list, h("table", { class: "campaigns" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "name" }, t("campaign")), COLUMNS.map((name) => h("th", { scope: "col", class: "number" }, t(name))))),
      h("tbody", {}, shown.map((row) => h("tr", {}, h("th", { scope: "row", class: "name", title: row.campaign }, row.campaign === "(none)" ? NONE : row.campaign),
        COLUMNS.map((name) => h("td", { class: `number${row.values[name] === undefined ? " none" : ""}${name === "roi_on_revenue_ratio" && Number(row.values[name]) < 0 ? " bad" : ""}`, "data-label": t(name), "data-value": row.values[name] ?? null }, METRICS[name].write(row.values[name], data.currency))))))),
    all.length > shown.length && h("button", { type: "button", class: "quiet more", "data-key": "more", onclick: () => { this.limit *= 4; this.list_(); } }, t("more")));
  }
}

/** A number that has just changed is lit for a moment. */
function moved(cell) {
  cell.classList.remove("moved");
  void cell.offsetWidth; // starts the animation again
  cell.classList.add("moved");
}
