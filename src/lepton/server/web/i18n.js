// The page's language: English or Chinese, from the browser at first, then as the user chose.

import { remembered } from "./store.js";
import { strings } from "./strings.js";

const listeners = [];
let language = initialLanguage();

function initialLanguage() {
  const chosen = remembered.get("language", null);
  if (Object.hasOwn(strings, chosen)) return chosen;
  const preferred = (navigator.languages ?? [navigator.language]).map((tag) => tag.slice(0, 2));
  return preferred.find((tag) => Object.hasOwn(strings, tag)) ?? "en";
}

/** The words for `key`, with `{name}` replaced from `values`. */
export function text(key, values = {}) {
  const words = strings[language][key];
  return typeof words === "string" ? words.replace(/\{(\w+)\}/g, (_, name) => values[name]) : words;
}

/** A number written the way the language writes it. */
export function number(value, digits = 0) {
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(strings[language].htmlLanguage, options).format(value);
}

/**
 * Fills the elements in `root` that name their words: `data-text` (content), `data-label` (name and
 * tooltip), `data-name` (name only), `data-placeholder`.
 */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
  for (const element of root.querySelectorAll("[data-label]")) label(element, text(element.dataset.label));
  for (const element of root.querySelectorAll("[data-name]")) {
    element.setAttribute("aria-label", text(element.dataset.name));
  }
  for (const element of root.querySelectorAll("[data-placeholder]")) {
    element.placeholder = text(element.dataset.placeholder);
  }
}

/** Gives a control without words its name and tooltip. */
export function label(element, words) {
  element.setAttribute("aria-label", words);
  element.title = words;
}

/** Runs `listener` now and whenever the language changes. */
export function onLanguage(listener) {
  listeners.push(listener);
  listener();
}

function apply() {
  document.documentElement.lang = strings[language].htmlLanguage;
  translate(document);
  for (const listener of listeners) listener();
}

/** Shows the page in the current language and lets `button` switch to the other one. */
export function startLanguage(button) {
  onLanguage(() => {
    const other = strings[otherLanguage()];
    button.textContent = other.languageName === "中文" ? "中" : "EN";
    button.lang = other.htmlLanguage;
    label(button, other.languageName);
  });
  button.addEventListener("click", () => {
    language = otherLanguage();
    remembered.set("language", language);
    apply();
  });
  apply();
}

function otherLanguage() {
  return language === "en" ? "zh" : "en";
}
