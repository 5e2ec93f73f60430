// Finds out which models the server has, and keeps asking while it cannot be reached.

import { ApiError, listModels } from "./api.js";
import { element } from "./dom.js";
import { onLanguage, text } from "./i18n.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 10_000;
const STATE_WORDS = {
  connecting: "modelConnecting",
  ready: "modelReady",
  failed: "modelUnreachable",
  locked: "modelLocked",
};

/** The chosen model and the state of the connection, shown in the page's header. */
export class Connection {
  #state = "connecting";
  #error = null;
  #checking = false;
  #asking = null;

  /** `onLocked()` runs when the server asks for an API key. */
  constructor(onLocked) {
    this.onLocked = onLocked;
    this.box = document.getElementById("model-box");
    this.select = document.getElementById("model");
    this.stateWords = document.getElementById("model-state");
    this.notice = document.getElementById("connection");
    this.reason = document.getElementById("connection-reason");
    this.detail = document.getElementById("connection-detail");
    this.#list([]);
    onLanguage(() => this.#show(this.#state));
  }

  /** The id of the model to talk to, or an empty string before the server has named one. */
  get model() {
    return this.select.value;
  }

  /** The same, after the answer to a question that is on its way. */
  async chosen() {
    if (!this.model) await this.#asking;
    return this.model;
  }

  /** Asks until the server answers. */
  async check() {
    if (this.#checking) return;
    this.#checking = true;
    let pause = FIRST_PAUSE_MS;
    while (!(await (this.#asking = this.#ask()))) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
    this.#checking = false;
  }

  async #ask() {
    try {
      this.#list(await listModels());
      this.#show("ready");
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const locked = error.kind === "unauthorized";
      this.#error = error;
      this.#show(locked ? "locked" : "failed");
      if (locked) this.onLocked();
      return locked;
    }
  }

  #list(models) {
    const chosen = this.select.value;
    this.select.replaceChildren(...models.map((id) => element("option", { value: id }, id)));
    if (models.includes(chosen)) this.select.value = chosen;
    this.select.disabled = models.length < 2;
    document.title = this.model ? `${this.model} · Lepton` : "Lepton";
  }

  #show(state) {
    this.#state = state;
    this.box.dataset.state = state;
    this.stateWords.textContent = text(STATE_WORDS[state]);
    this.box.title = this.stateWords.textContent;
    this.notice.hidden = state !== "failed";
    if (state === "failed") {
      const silent = this.#error.kind === "unreachable";
      this.reason.textContent = text(silent ? "connectionLost" : `error_${this.#error.kind}`);
      this.detail.textContent = this.#error.detail;
    }
    if (!this.model) this.select.replaceChildren(element("option", { value: "" }, text("noModel")));
  }
}
