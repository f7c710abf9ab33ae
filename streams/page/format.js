// Numbers, times and names for people. Values come as decimal strings; what is undefined is absent and shown as a dash.

import { lang } from "./settings.js";
import { MODELS, t } from "./words.js";

export const NONE = "–";
const cache = new Map();
const locale = () => (lang === "fr" ? "fr-FR" : "en-GB");

function number(options) {
  const key = locale() + JSON.stringify(options);
  if (!cache.has(key)) cache.set(key, new Intl.NumberFormat(locale(), options));
  return cache.get(key);
}

/** An amount of money: cents below a thousand, whole units above. */
export function money(value, currency) {
  if (value === undefined || value === null) return NONE;
  const digits = Math.abs(value) >= 1000 ? 0 : 2;
  return number({ style: "currency", currency, minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

export function count(value, digits = 0) {
  if (value === undefined || value === null) return NONE;
  return number({ maximumFractionDigits: digits }).format(value);
}

export function percent(value, digits = 1) {
  if (value === undefined || value === null) return NONE;
  return number({ style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

export function signedPercent(value) {
  return number({ style: "percent", maximumFractionDigits: Math.abs(value) < 0.1 ? 1 : 0, signDisplay: "exceptZero" }).format(value);
}

export function times(value) {
  return value === undefined || value === null ? NONE : `${number({ minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(value)}×`;
}

export function compact(value) {
  return number({ notation: "compact", maximumFractionDigits: 1 }).format(value);
}

const clock = (options, zone) => new Intl.DateTimeFormat(locale(), { ...options, timeZone: zone });

export function time(seconds, zone) {
  return clock({ hour: "2-digit", minute: "2-digit", second: "2-digit" }, zone).format(seconds * 1000);
}

/** Day and time; the day alone is left out when it is today's. */
export function moment(seconds, zone, now = Date.now() / 1000) {
  const day = (at) => clock({ year: "numeric", month: "2-digit", day: "2-digit" }, zone).format(at * 1000);
  const options = { hour: "2-digit", minute: "2-digit" };
  return clock(day(seconds) === day(now) ? options : { day: "numeric", month: "short", ...options }, zone).format(seconds * 1000);
}

export function stamp(text, zone) {
  return clock({ day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" }, zone).format(new Date(text));
}

export function day(seconds, zone) {
  return clock({ day: "numeric", month: "short" }, zone).format(seconds * 1000);
}

export function weekday(seconds, zone) {
  return clock({ weekday: "short", day: "numeric", month: "short" }, zone).format(seconds * 1000);
}

export const modelName = (model) => MODELS[lang][model] || model;
export const typeName = (type) => (type === "purchase" ? t("purchase") : type);
export const placeName = (item) => (item.unattributed ? t("unattributed") : item.network && item.network !== "(none)" ? item.network : item.channel);

/** The metrics shown: how each is written, and whether more of it is better (1), worse (-1) or neither. */
export const METRICS = {
  attributed_conversions: { write: (v) => count(v, 1), good: 1 },
  attributed_revenue: { write: money, good: 1 },
  cost: { write: money, good: 0 },
  cpa: { write: money, good: -1 },
  roas_ratio: { write: times, good: 1 },
  roi_on_revenue_ratio: { write: (v) => percent(v), good: 1 },
};
