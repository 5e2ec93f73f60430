// Helpers that build elements from text and nodes, never from markup.

import { label, text } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; a string child becomes text. */
export function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  created.append(...children);
  return created;
}

/** A picture from the icon sheet. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "use"));
  svg.firstChild.setAttribute("href", `web/icons.svg#${name}`);
  return svg;
}

/** Shows another icon in a button made by `iconButton` or written in the page. */
export function setIcon(button, name) {
  button.querySelector("use").setAttribute("href", `web/icons.svg#${name}`);
}

/** A button with an icon, named by the string `key`. */
export function iconButton(name, key, onClick) {
  const button = element("button", { type: "button", class: "icon-button small", "data-label": key }, icon(name));
  label(button, text(key));
  button.addEventListener("click", onClick);
  return button;
}

/** An element whose content is the string `key` in the current language. */
export function words(tag, key, attributes = {}) {
  return element(tag, { ...attributes, "data-text": key }, text(key));
}

/** Says `message` to screen readers. */
export function announce(message) {
  const region = document.getElementById("announcer");
  region.textContent = "";
  // A change in a later task is announced even when the words are the same.
  setTimeout(() => (region.textContent = message), 50);
}
