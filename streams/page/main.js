// The live page: asks when the worker says that there is news, and shows what it got.

import { ChannelTable } from "./board.js";
import { Trend } from "./charts.js";
import { $, fill, h, text } from "./dom.js";
import { modelName, time, typeName } from "./format.js";
import { JourneyExplorer } from "./journey.js";
import { ask, listen } from "./live.js";
import { describeSelection, showAlerts, showAsOf, showClaims, showFiring, showGoals, showKpis } from "./panels.js";
import { forgetWanted, lang, nextTheme, setLang, theme, want, wanted } from "./settings.js";
import { t } from "./words.js";

const page = { data: null, pulse: null, lost: null, asked: 0, shown: null };
const board = new ChannelTable($("board"));
const trend = new Trend($("trend"));
const journey = new JourneyExplorer($("journey-form"), $("journey"));

async function load() {
  const asked = (page.asked += 1);
  const query = { ...wanted };
  try {
    const data = await ask("overview", query);
    if (asked !== page.asked) return; // something else was chosen meanwhile
    page.data = data;
    page.query = query;
    render();
  } catch (error) {
    if (asked !== page.asked || !error.status) return; // the line tells when nobody answers
    if (error.status === 400 && Object.keys(wanted).length) { forgetWanted(); load(); return; }
    page.data = null;
    render();
  }
}

function choose(name, value) {
  want(name, value);
  load();
}

function render() {
  const { data } = page;
  renderLine();
  $("figures").hidden = !data;
  $("controls").hidden = !data;
  renderEmpty();
  if (!data) { fill($("firing")); return; }
  renderControls();
  showFiring($("firing"), data);
  showKpis($("kpis"), data);
  const drawn = JSON.stringify([data.days.attributed_revenue, data.days.cost, lang, theme, matchMedia("(prefers-color-scheme: dark)").matches]);
  if (drawn !== page.drawn) trend.draw(data.days, data.as_of, data.time_zone, data.currency);
  page.drawn = drawn;
  text($("channels-note"), describeSelection(data));
  board.show(data, page.query);
  showClaims($("claims-card"), $("claims-note"), $("claims"), data);
  showGoals($("goals"), data);
  showAlerts($("alerts"), data);
  journey.model(data.selection.model);
  document.documentElement.dataset.version = data.version; // for those who wait for a change
}

/** Connection, freshness and what the worker complains of. */
function renderLine() {
  const { data, pulse, lost } = page;
  const state = lost !== null ? "lost" : pulse ? "live" : "connecting";
  $("live").className = `live is-${state}`;
  fill($("live"), h("span", { class: "dot", "aria-hidden": "true" }), t(state));
  document.body.classList.toggle("stale", lost !== null);
  const notes = [];
  if (lost !== null) notes.push(data ? t("lost_notice", { time: time(data.as_of, data.time_zone), seconds: lost }) : t("lost_notice_empty", { seconds: lost }));
  else if (pulse?.problems.length) notes.push(`${t("problems")} ${pulse.problems.join("; ")}`);
  $("notice").hidden = !notes.length;
  if ($("notice").textContent !== notes.join(" ")) $("notice").textContent = notes.join(" ");
  showAsOf($("asof"), data, pulse);
}

function renderEmpty() {
  const place = $("empty");
  place.hidden = Boolean(page.data) || !page.pulse;
  if (place.hidden) return;
  const led = page.pulse.leader;
  fill(place, h("img", { src: "page/icon.svg", alt: "", width: 44, height: 44 }), h("h2", {}, t(led ? "empty_title" : "not_leader_title")), h("p", {}, t(led ? "empty" : "not_leader")),
    led && h("p", { class: "note" }, t("empty_try")), led && h("pre", {}, "parcours publish events.jsonl"));
}

function renderControls() {
  const { choices, selection } = page.data;
  const segments = (name, values, label, help) => h("fieldset", {}, h("legend", {}, t(name)), h("div", { class: "segments" }, values.map((value) =>
    h("button", { type: "button", "data-key": `${name}-${value}`, "aria-pressed": String(selection[name] === value), title: help ? help(value) : null, onclick: () => choose(name, value) }, label(value)))));
  const select = (name, values, label) => h("label", {}, h("span", {}, t(name)), h("select", { "data-key": name, name, onchange: (event) => choose(name, event.target.value) },
    values.map((value) => h("option", { value, selected: value === selection[name] }, label(value)))));
  // Left alone while a list is open: to replace it would close it.
  if (document.activeElement?.tagName === "SELECT" && $("controls").contains(document.activeElement) && page.shown === JSON.stringify([choices, selection, lang])) return;
  page.shown = JSON.stringify([choices, selection, lang]);
  fill($("controls"),
    segments("window", choices.window, (value) => t(`window.${value}`)),
    segments("basis", choices.basis, (value) => t(`basis.${value}`), (value) => t(`basis.${value}.help`)),
    select("model", choices.model, modelName),
    choices.conversion.length > 1 && select("conversion", choices.conversion, typeName));
}

function translate() {
  document.documentElement.lang = lang;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-label]")) if (element.id) element.setAttribute("aria-label", t(element.dataset.label));
  for (const button of $("languages").children) button.setAttribute("aria-pressed", String(button.dataset.lang === lang));
  $("theme").textContent = t(`theme_${theme}`);
  const [before, after] = t("foot").split("{metrics}");
  fill($("foot"), before, h("a", { href: "metrics" }, "/metrics"), after);
  journey.translate();
  board.detail = null;
}

function paint() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

$("languages").addEventListener("click", (event) => {
  if (!event.target.dataset.lang) return;
  setLang(event.target.dataset.lang);
  translate();
  render();
});
$("theme").addEventListener("click", () => {
  nextTheme();
  paint();
  translate();
  render();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.data && render());
$("controls").addEventListener("submit", (event) => event.preventDefault());

paint();
translate();
renderLine();
listen(
  (pulse) => {
    const news = page.lost !== null || !page.pulse || pulse.version !== page.pulse.version || pulse.states !== page.pulse.states || pulse.leader !== page.pulse.leader;
    page.pulse = pulse;
    page.lost = null;
    if (pulse.version === null) page.data = null;
    if (news && pulse.version !== null) load();
    else if (news || !page.data) render();
    else renderLine();
  },
  (seconds) => {
    page.lost = seconds;
    renderLine();
  },
);
