// What the reader has chosen: the selection is in the address, so that it can be sent to someone; language and theme are kept here.

const NAMES = ["window", "basis", "model", "conversion"];
const kept = (name) => { try { return localStorage.getItem(`parcours.${name}`); } catch { return null; } };
const keep = (name, value) => { try { localStorage.setItem(`parcours.${name}`, value); } catch { /* private mode: for this visit only */ } };

const address = new URLSearchParams(location.search);
export const wanted = Object.fromEntries(NAMES.filter((name) => address.get(name)).map((name) => [name, address.get(name)]));

export function want(name, value) {
  wanted[name] = value;
  address.set(name, value);
  history.replaceState(null, "", `${location.pathname}?${address}${location.hash}`);
}

export function forgetWanted() {
  for (const name of NAMES) { delete wanted[name]; address.delete(name); }
  history.replaceState(null, "", `${location.pathname}${address.size ? `?${address}` : ""}${location.hash}`);
}

const languages = ["en", "fr"];
const spoken = (navigator.languages || []).map((name) => name.slice(0, 2)).find((name) => languages.includes(name));
export let lang = [address.get("lang"), kept("lang"), spoken].find((name) => languages.includes(name)) || "en";
export function setLang(name) { lang = name; keep("lang", name); }

const themes = ["auto", "light", "dark"];
export let theme = [address.get("theme"), kept("theme")].find((name) => themes.includes(name)) || "auto";
export function nextTheme() {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  keep("theme", theme);
}
