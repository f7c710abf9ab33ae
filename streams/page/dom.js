// Elements are made of text and other elements only, never of markup: names come from events and are hostile.

/** An element. `props`: attributes by name; `on…` a listener; `class`, `data-…`, `aria-…` as in HTML; false and null are left out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An SVG element. */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

export const $ = (id) => document.getElementById(id);

/** Sets text only when it differs; true when it did. */
export function text(element, value) {
  if (element.textContent === value) return false;
  element.textContent = value;
  return true;
}

/** Replaces the children and keeps the focus on the element that has the same `data-key`. */
export function fill(parent, ...children) {
  const key = parent.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  parent.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  if (key) [...parent.querySelectorAll("[data-key]")].find((child) => child.dataset.key === key)?.focus({ preventScroll: true });
}
