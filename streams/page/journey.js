// One person's touches and conversions in order of time. The token stays in its field and is sent in a header only.

import { fill, h } from "./dom.js";
import { money, modelName, placeName, stamp, typeName } from "./format.js";
import { ask } from "./live.js";
import { lang } from "./settings.js";
import { known, t } from "./words.js";

const inLanguage = (told, name) => (lang === "en" ? told[name] : told[`${name}_${lang}`]) || told[name];

export class JourneyExplorer {
  constructor(form, place) {
    this.place = place;
    this.person = h("input", { name: "person", required: true, maxlength: 200, autocapitalize: "off", spellcheck: "false" });
    this.token = h("input", { name: "token", type: "password", required: true, autocomplete: "off" });
    this.personLabel = h("span");
    this.tokenLabel = h("span");
    this.button = h("button", { type: "submit", class: "solid" });
    form.append(h("label", {}, this.personLabel, this.person), h("label", {}, this.tokenLabel, this.token), this.button);
    form.addEventListener("submit", (event) => { event.preventDefault(); this.find(); });
    this.found = null;
    this.translate();
  }

  translate() {
    this.personLabel.textContent = t("person");
    this.tokenLabel.textContent = t("token");
    this.button.textContent = t("show");
    this.person.placeholder = t("person_hint");
    if (this.found) this.render();
  }

  async find() {
    fill(this.place, h("p", { class: "note" }, t("looking")));
    try {
      this.found = await ask("journey", { person: this.person.value.trim() }, { Authorization: `Bearer ${this.token.value}` });
      this.render();
    } catch (error) {
      this.found = null;
      fill(this.place, h("p", { class: "problem", role: "alert" }, error.status ? error.message : t("lost")));
    }
  }

  model(model) {
    this.chosen = model;
    if (this.found) this.render();
  }

  render() {
    const { found } = this;
    const earned = new Map(); // touch to its credits under the chosen model
    for (const conversion of found.conversions) for (const credit of conversion.credits[this.chosen] || []) earned.set(credit.touch_id, [...(earned.get(credit.touch_id) || []), credit]);
    const steps = [...found.touches.map((touch) => ({ t: touch.t, touch })), ...found.conversions.map((conversion) => ({ t: conversion.t, conversion }))].sort((a, b) => a.t - b.t || (a.touch ? -1 : 1));
    fill(this.place, h("p", { class: "person" }, h("strong", {}, found.person), " — ", t("touches_n", { n: found.touches.length, m: found.conversions.length }), this.chosen ? ` · ${modelName(this.chosen)}` : ""),
      h("ol", { class: "steps" }, steps.map((step) => (step.touch ? this.touch(step.touch, earned) : this.conversion(step.conversion)))),
      h("div", { class: "sentences" }, found.conversions.map((conversion) => h("p", {}, inLanguage(conversion, "sentence"), (conversion.restatements || []).map((once) => h("span", { class: "muted" }, ` ${t("restated_by")} ${inLanguage(once, "why")}.`))))));
  }

  touch(touch, earned) {
    const credits = earned.get(touch.event_id) || [];
    return h("li", { class: `step ${credits.length ? "credited" : ""}` }, h("span", { class: "dot", "aria-hidden": "true" }),
      h("time", { datetime: touch.occurred_at }, stamp(touch.occurred_at)),
      h("span", {}, h("strong", {}, placeName(touch)), " ", h("span", { class: "muted" }, [touch.kind, touch.campaign !== "(none)" && touch.campaign, touch.taken_as !== "touch" && touch.taken_as].filter(Boolean).join(" · "))),
      credits.map((credit) => h("span", { class: "tag good" }, `${t("earned")} ${credit.percent}`)));
  }

  conversion(conversion) {
    const status = known(`status.${conversion.status}`) ? t(`status.${conversion.status}`) : conversion.status;
    return h("li", { class: "step converted" }, h("span", { class: "dot", "aria-hidden": "true" }), h("time", { datetime: conversion.occurred_at }, stamp(conversion.occurred_at)),
      h("span", {}, h("strong", {}, `${typeName(conversion.type)} ${conversion.name}`), " ", h("span", { class: "muted" }, status)), h("span", { class: "amount" }, money(conversion.net, this.found.currency)));
  }
}
