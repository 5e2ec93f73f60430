// The settings panel: system prompt and sampling, remembered between visits.

import { element, words } from "./dom.js";
import { onLanguage, text } from "./i18n.js";
import { remembered } from "./store.js";

const CONTROLS = [
  { name: "temperature", initial: 0.7, min: 0, max: 2, step: 0.05 },
  { name: "top_p", initial: 0.95, min: 0.01, max: 1, step: 0.01 },
  { name: "top_k", initial: 0, min: 0, max: 200, step: 1, neutral: 0 },
  { name: "min_p", initial: 0.05, min: 0, max: 1, step: 0.01, neutral: 0 },
  { name: "repetition_penalty", initial: 1.1, min: 0.8, max: 2, step: 0.01, neutral: 1 },
  { name: "max_tokens", initial: 512, min: 1, max: 1_000_000, step: 1, blank: "unlimited" },
  { name: "seed", initial: null, min: 0, max: 2 ** 31 - 1, step: 1, blank: "random" },
];
const WIDE = matchMedia("(min-width: 60rem)");

/** The values of the controls; `null` stands for a field left blank. */
export class Settings {
  #values;
  #fields = new Map();

  constructor() {
    const saved = remembered.get("settings", {});
    this.#values = Object.fromEntries(
      CONTROLS.map((control) => [control.name, accepted(control, saved[control.name])]),
    );
    this.systemBox = document.getElementById("system");
    this.systemBox.value = typeof saved.system === "string" ? saved.system : "";
    this.systemBox.addEventListener("input", () => this.#save());
    document.getElementById("controls").append(...CONTROLS.map((control) => this.#row(control)));
    document.getElementById("reset").addEventListener("click", () => this.#reset());
    onLanguage(() => {
      for (const control of CONTROLS) {
        if (control.blank) this.#fields.get(control.name).box.placeholder = text(control.blank);
      }
    });
  }

  get system() {
    return this.systemBox.value.trim();
  }

  /** The fields of a request; a value that would change nothing is left out. */
  get sampling() {
    const chosen = CONTROLS.map(({ name, neutral }) => [name, this.#values[name], neutral]);
    return Object.fromEntries(
      chosen.filter(([, value, neutral]) => value !== null && value !== neutral).map(([name, value]) => [name, value]),
    );
  }

  #row(control) {
    const { name, min, max, step, blank } = control;
    const limits = { min, max, step };
    const box = element("input", { type: "number", id: name, "aria-describedby": `${name}-hint`, ...limits });
    const head = element("div", { class: "control-head" }, words("label", name, { for: name }), box);
    const row = element("div", { class: "control" }, head);
    const field = { box, slider: null };
    if (!blank) {
      field.slider = element("input", { type: "range", "data-name": name, ...limits });
      field.slider.addEventListener("input", () => this.#set(control, field.slider.value));
      row.append(field.slider);
    }
    row.append(words("p", `${name}Hint`, { class: "hint", id: `${name}-hint` }));
    this.#fields.set(name, field);
    // While typing, only a valid number counts; leaving the field puts it right.
    box.addEventListener("input", () => box.value && box.validity.valid && this.#set(control, box.value, false));
    box.addEventListener("change", () => this.#set(control, box.value));
    this.#show(control);
    return row;
  }

  #set(control, value, rewrite = true) {
    this.#values[control.name] = accepted(control, value);
    this.#show(control, rewrite);
    this.#save();
  }

  #show({ name }, rewrite = true) {
    const { box, slider } = this.#fields.get(name);
    const value = this.#values[name];
    if (rewrite) box.value = value ?? "";
    if (slider) {
      slider.value = value;
      slider.style.setProperty("--filled", `${(100 * (value - slider.min)) / (slider.max - slider.min)}%`);
    }
  }

  #reset() {
    this.systemBox.value = "";
    for (const control of CONTROLS) this.#set(control, control.initial);
  }

  #save() {
    remembered.set("settings", { ...this.#values, system: this.systemBox.value });
  }
}

/** The nearest value the control allows; `undefined` gives its initial one. */
function accepted({ initial, min, max, step, blank }, value) {
  if (value === undefined) return initial;
  const blankValue = value === null || value === "";
  if (blankValue || !Number.isFinite(Number(value))) return blank ? null : initial;
  const clamped = Math.min(max, Math.max(min, Number(value)));
  return step === 1 ? Math.round(clamped) : Number(clamped.toFixed(2));
}

/** Opens and closes the panel: beside the conversation on a wide screen, over it on a narrow one. */
export class SettingsPanel {
  constructor(toggle) {
    this.toggle = toggle;
    this.dialog = document.getElementById("settings");
    toggle.addEventListener("click", () => (this.dialog.open ? this.close() : this.open()));
    document.getElementById("settings-close").addEventListener("click", () => this.close());
    this.dialog.addEventListener("close", () => toggle.setAttribute("aria-expanded", "false"));
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog && this.modal) this.close(); // a click on the backdrop
    });
    WIDE.addEventListener("change", () => {
      if (!this.dialog.open) return;
      this.dialog.close();
      this.open();
    });
  }

  get modal() {
    return this.dialog.matches(":modal");
  }

  /** Whether the keyboard is in the panel. */
  get focused() {
    return this.dialog.contains(document.activeElement);
  }

  open() {
    if (WIDE.matches) this.dialog.show();
    else this.dialog.showModal();
    this.toggle.setAttribute("aria-expanded", "true");
  }

  close() {
    this.dialog.close();
    this.toggle.focus();
  }
}
