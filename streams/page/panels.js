// How current the figures are, the key figures, goals and alerts.

import { numbers, spark } from "./charts.js";
import { fill, h } from "./dom.js";
import { METRICS, NONE, count, modelName, moment, money, percent, placeName, signedPercent, time, typeName } from "./format.js";
import { known, t } from "./words.js";

const fact = (label, value, ...more) => h("div", { class: "fact" }, h("dt", {}, label), h("dd", {}, value, ...more));
const MATURE = 0.8;

export function showAsOf(place, data, pulse) {
  const facts = [];
  if (data) facts.push(fact(t("as_of"), h("time", { datetime: new Date(data.as_of * 1000).toISOString() }, time(data.as_of, data.time_zone))));
  if (data) {
    const through = data.cost_through;
    const behind = (through.behind || []).filter((item) => item.t < through.latest).slice(0, 5);
    const name = (item) => [item.network, item.campaign].filter((part) => part && part !== "(none)").join(" · ") || item.channel;
    facts.push(fact(t("cost_through"), through.earliest === undefined ? t("cost_unknown") : through.earliest >= data.as_of ? t("now") : moment(through.earliest, data.time_zone, data.as_of),
      behind.length > 0 && h("details", {}, h("summary", { "data-key": "behind", "aria-label": t("behind") }, `${count(behind.length)}…`),
        h("div", { class: "pop" }, h("p", {}, t("behind")), h("ul", {}, behind.map((item) => h("li", {}, name(item), " ", h("span", { class: "muted" }, moment(item.t, data.time_zone, data.as_of)))))))));
  }
  if (pulse && pulse.lag !== null && pulse.lag !== undefined) facts.push(fact(t("lag"), t(pulse.lag === 1 ? "record" : "records", { n: count(pulse.lag) })));
  if (data) {
    const nobody = data.channels.filter((row) => row.unattributed).reduce((sum, row) => sum + Number(row.values.attributed_conversions || 0), 0);
    const all = nobody + Number(data.total.attributed_conversions || 0);
    facts.push(fact(t("unattributed_share"), all > 0 ? percent(nobody / all) : NONE,
      h("details", {}, h("summary", { "data-key": "why", "aria-label": t("unattributed_why") }, "?"), h("div", { class: "pop" }, h("p", {}, t("unattributed_why")), why(data.unattributed)))));
  }
  const open = [...place.querySelectorAll("details[open] > summary")].map((summary) => summary.dataset.key);
  fill(place, h("dl", {}, facts));
  for (const summary of place.querySelectorAll("summary")) if (open.includes(summary.dataset.key)) summary.parentElement.open = true;
}

/** Why conversions are unattributed: the most frequent reason first. */
function why(reasons) {
  const found = Object.entries(reasons).sort((a, b) => b[1] - a[1]);
  return found.length > 0 && h("ul", {}, found.map(([reason, n]) => h("li", { "data-reason": reason, "data-value": n }, count(n), " ", t(`reason.${reason}`))));
}

/** A metric's values by day. The worker exports no ROI of a day: it is made of those whose ROAS it has, for then their cost is known. */
function daily(days, name) {
  if (name !== "roi_on_revenue_ratio") return numbers(days[name]);
  const [revenue, cost] = [numbers(days.attributed_revenue), numbers(days.cost)];
  return numbers(days.roas_ratio).map((roas, i) => (roas === null || !cost[i] ? null : (revenue[i] - cost[i]) / cost[i]));
}

export function showKpis(place, data) {
  const period = ["previous", "week_earlier", ...Object.keys(data.baseline)].find((name) => name in data.baseline);
  const before = data.baseline[period] || {};
  fill(place, Object.entries(METRICS).map(([name, metric]) => {
    const value = data.total[name];
    const was = before[name];
    let change = null;
    if (value !== undefined && was !== undefined && Number(was) !== 0) {
      const by = (Number(value) - Number(was)) / Math.abs(Number(was));
      const tone = Math.abs(by) < 0.005 || !metric.good ? "" : by * metric.good > 0 ? "good" : "bad";
      const label = known(`vs.${period}`) ? t(`vs.${period}`) : period;
      change = h("span", { class: `change ${tone}`, title: label }, signedPercent(by), h("span", { class: "versus" }, ` ${label}`));
    }
    return h("div", { class: "kpi", title: t(`help.${name}`) }, h("h2", {}, t(name)), h("p", { class: "figure", "data-metric": name, "data-value": value ?? null }, metric.write(value, data.currency)),
      h("p", { class: "beside" }, change), daily(data.days, name).length ? spark(daily(data.days, name), `${t(name)}, ${t("trend_column")}`, { width: 140, height: 32 }) : h("span", { class: "spark-none" }));
  }), immature(data));
}

function immature(data) {
  const maturity = data.total.maturity_ratio;
  if (data.selection.basis !== "touch" || maturity === undefined || Number(maturity) >= MATURE) return null;
  return h("p", { class: "immature" }, t("immature", { percent: percent(maturity, 0) }));
}

const scope = (labels) => [labels.channel, labels.network, labels.campaign].filter((part) => part && part !== "(none)").join(" · ") || t("everywhere");

/** The value of a metric named by a rule or a goal, as that metric is written. */
function written(metric, value, currency) {
  if (value === undefined) return NONE;
  const name = metric in METRICS ? metric : `${metric}_ratio` in METRICS ? `${metric}_ratio` : null;
  if (name) return METRICS[name].write(value, currency);
  if (/cpl|cac|cpc|cpm|aov|revenue|cost|margin|cpa/.test(metric || "")) return money(value, currency);
  return /ratio|rate|share|ctr/.test(metric || "") ? percent(value) : count(value, 2);
}

const isFiring = (alert) => Number(alert.active) > 0;

export function showFiring(place, data) {
  const firing = data.alerts.filter(isFiring);
  const label = firing.length === 1 ? t("firing_1") : t("firing_n", { n: count(firing.length) });
  fill(place, firing.length > 0 && h("a", { class: "firing", href: "#alerts-title", "data-key": "firing" }, h("span", { class: "dot", "aria-hidden": "true" }), h("strong", {}, label),
    h("span", {}, firing.slice(0, 3).map((alert) => `${alert.labels.rule} (${scope(alert.labels)})`).join(", "))));
}

export function showAlerts(place, data) {
  const alerts = [...data.alerts].sort((a, b) => isFiring(b) - isFiring(a) || String(a.labels.rule).localeCompare(String(b.labels.rule)));
  if (!alerts.length) { fill(place, h("p", { class: "note" }, t("no_alerts"))); return; }
  const firing = alerts.filter(isFiring);
  const undecided = alerts.filter((alert) => !isFiring(alert) && Number(alert.unknown) > 0);
  const line = (alert, word, kind) => h("li", { class: `state ${kind}` }, h("span", { class: "dot", "aria-hidden": "true" }),
    h("div", {}, h("p", {}, h("strong", {}, alert.labels.rule || ""), " ", h("span", { class: "tag" }, word), alert.labels.severity && h("span", { class: "tag quiet-tag" }, alert.labels.severity)),
      h("p", { class: "note" }, scope(alert.labels), alert.value !== undefined && [" — ", t("alert_value", { value: written(alert.metric, alert.value, data.currency), threshold: written(alert.metric, alert.threshold, data.currency) })].join(""))));
  fill(place, !firing.length && !undecided.length && h("p", { class: "calm" }, t("quiet")),
    data.undecided.length > 0 && h("p", { class: "note" }, t("undecided", { why: data.undecided.map((name) => (known(`problem.${name}`) ? t(`problem.${name}`) : name)).join(", ") })), h("ul", { class: "states" }, firing.map((alert) => line(alert, t("firing"), "bad")), undecided.map((alert) => line(alert, t("unknown"), "unsure"))));
}

export function showGoals(place, data) {
  if (!data.goals.length) { fill(place, h("p", { class: "note" }, t("no_goals"))); return; }
  fill(place, h("ul", { class: "goals" }, data.goals.map((goal) => {
    const way = Number(goal.progress_ratio ?? 0);
    const due = Number(goal.expected_ratio ?? 0);
    const on = goal.on_track;
    const bar = h("span", { class: "goal-bar" });
    bar.style.width = `${Math.min(100, Math.max(0, way * 100))}%`;
    const mark = h("span", { class: "goal-due", title: t("expected_now", { percent: percent(due, 0) }) });
    mark.style.left = `${Math.min(100, Math.max(0, due * 100))}%`;
    const name = goal.labels.goal || "";
    return h("li", { class: "goal" }, h("p", {}, h("strong", {}, name), " ", on !== undefined && h("span", { class: `tag ${Number(on) ? "good" : "bad"}` }, t(Number(on) ? "on_track" : "off_track"))),
      h("div", { class: "goal-track", role: "img", "aria-label": t("reached", { percent: percent(way, 0) }) }, bar, mark),
      h("p", { class: "note" }, [
        goal.value !== undefined && t("goal_value", { value: written(goal.metric, goal.value, data.currency), target: written(goal.metric, goal.target, data.currency) }),
        t("reached", { percent: percent(way, 0) }), t("expected_now", { percent: percent(due, 0) }),
      ].filter(Boolean).join(" · ")));
  })));
}

/** What networks claim of themselves beside what is credited here; hidden where there are no claims. */
export function showClaims(card, note, place, data) {
  card.hidden = !data.claims.length;
  if (card.hidden) { fill(place); return; }
  fill(note, t("claims_note", { model: modelName(data.choices.headline[0]), window: t(`window.${data.selection.window}`).toLocaleLowerCase() }));
  const kinds = [["conversions", "attributed_conversions", (value) => count(value, 1)], ["value", "attributed_revenue", (value) => money(value, data.currency)]];
  const parts = ["claimed", "credited", "difference"];
  const order = [...data.claims].sort((a, b) => Number(b.conversions?.claimed || 0) - Number(a.conversions?.claimed || 0));
  const head = (name, label, span) => h("th", { scope: span ? "colgroup" : "col", class: span ? "group" : "number", colspan: span || null }, label);
  const cell = (item, [kind, , write], part) => {
    const value = item[kind]?.[part];
    return h("td", { class: `number${value === undefined ? " none" : ""}`, "data-value": value ?? null }, part === "difference" && Number(value) > 0 ? "+" : "", value === undefined ? NONE : write(value));
  };
  fill(place, h("table", { class: "claims" },
    h("thead", {}, h("tr", {}, h("th", { class: "name", rowspan: 2, scope: "col" }, t("channel")), kinds.map(([kind, label]) => head(kind, t(label), parts.length))),
      h("tr", {}, kinds.flatMap(([kind]) => parts.map((part) => head(kind, t(`claims.${part}`)))))),
    h("tbody", {}, order.map((item) => h("tr", {}, h("th", { scope: "row", class: "name", title: `${item.channel} · ${item.network}` }, placeName(item), " ", h("span", { class: "muted" }, item.channel)),
      kinds.flatMap((kind) => parts.map((part) => cell(item, kind, part))))))));
}

export function describeSelection(data) {
  const { model, window, conversion } = data.selection;
  const of = conversion === "purchase" ? "" : ` · ${typeName(conversion)}`;
  return t("channels_note", { model: modelName(model) + of, window: t(`window.${window}`).toLocaleLowerCase() });
}
