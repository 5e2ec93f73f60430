// One exchange on the page: what the user said, the answer, and what can be done with them.

import { AnswerView } from "./answer.js";
import { copyButton } from "./clipboard.js";
import { element, icon, iconButton, words } from "./dom.js";
import { number, text } from "./i18n.js";

/** Shows one exchange of a Chat; `actions` has `edit`, `regenerate` and `hasKey`. */
export class ExchangeView {
  #timer = null;

  constructor(exchange, actions) {
    this.exchange = exchange;
    this.actions = actions;
    this.said = element("div", { class: "bubble", dir: "auto" });
    this.answer = element("div", { class: "markdown", dir: "auto" });
    this.waiting = element("div", { class: "waiting", "aria-hidden": "true" });
    this.waiting.append(element("i"), element("i"), element("i"));
    this.problem = element("div", { class: "problem", role: "alert" });
    this.stats = element("ul", { class: "stats" });
    this.footer = this.#footer();
    this.element = element("section", { class: "exchange" }, this.#user(), this.#assistant());
    this.answerView = new AnswerView(this.answer);
    this.update();
  }

  #user() {
    const edit = iconButton("edit", "edit", this.actions.edit);
    edit.classList.add("last-only", "idle-only");
    const buttons = element("div", { class: "actions" }, edit, copyButton("copy", () => this.exchange.prompt));
    return element("article", { class: "user" }, words("h2", "you", { class: "visually-hidden" }), this.said, buttons);
  }

  #assistant() {
    const heading = words("h2", "assistant", { class: "visually-hidden" });
    return element("article", { class: "assistant" }, heading, this.answer, this.waiting, this.problem, this.footer);
  }

  #footer() {
    this.copy = copyButton("copy", () => this.exchange.answer);
    const regenerate = iconButton("regenerate", "regenerate", this.actions.regenerate);
    regenerate.classList.add("last-only");
    this.buttons = element("div", { class: "buttons idle-only" }, this.copy, regenerate);
    return element("footer", { class: "actions" }, this.buttons, this.stats);
  }

  /** Brings the page up to date with the exchange and the language. */
  update() {
    const { prompt, answer, status, error } = this.exchange;
    this.element.dataset.status = status;
    if (this.said.textContent !== prompt) this.said.textContent = prompt;
    this.answerView.update(answer, status === "streaming");
    this.waiting.hidden = status !== "waiting";
    this.copy.hidden = !answer;
    this.#updateStats();
    this.#updateProblem(status === "failed" ? error : null);
  }

  #updateStats() {
    const { speed, status, finish, answer } = this.exchange;
    const parts = [];
    if (status === "stopped") parts.push(text("stopped"));
    if (status === "done" && !answer) parts.push(text("empty"));
    if (finish === "length") parts.push(text("cutShort"));
    if (speed) parts.push(...speedWords(speed));
    this.stats.replaceChildren(...parts.map((part) => element("li", {}, part)));
  }

  #updateProblem(error) {
    clearInterval(this.#timer);
    this.problem.replaceChildren();
    this.problem.hidden = error === null;
    this.footer.hidden = error !== null && !this.exchange.answer;
    if (error === null) return;
    const missingKey = error.kind === "unauthorized" && !this.actions.hasKey();
    const reason = element("p", {}, text(missingKey ? "keyTitle" : `error_${error.kind}`));
    const body = element("div", { class: "problem-body" }, reason);
    if (error.detail) body.append(element("p", { class: "detail" }, error.detail));
    const retry = words("button", "retry", { type: "button", class: "quiet last-only" });
    retry.addEventListener("click", this.actions.regenerate);
    body.append(retry);
    this.problem.append(icon("warning"), body);
    if (error.retryAfter > 0) this.#countDown(error, reason, retry);
  }

  /** Keeps the retry button still until the server's Retry-After has passed. */
  #countDown(error, reason, retry) {
    error.readyAt ??= Date.now() + error.retryAfter * 1000;
    const base = reason.textContent;
    const show = () => {
      const seconds = Math.ceil((error.readyAt - Date.now()) / 1000);
      retry.disabled = seconds > 0;
      reason.textContent = seconds > 0 ? `${base} ${text("retryIn", { seconds })}` : base;
      if (seconds <= 0) clearInterval(this.#timer);
    };
    this.#timer = setInterval(show, 1000);
    show();
  }
}

function speedWords({ tokens, rate, firstToken, promptTokens, cachedTokens }) {
  const parts = [];
  if (rate !== null) parts.push(text("rate", { rate: number(rate, 1) }));
  parts.push(text("tokens", { count: number(tokens) }));
  parts.push(text("firstToken", { seconds: number(firstToken, 2) }));
  if (promptTokens === null) return parts;
  const key = cachedTokens > 0 ? "promptTokensCached" : "promptTokens";
  parts.push(text(key, { count: number(promptTokens), cached: number(cachedTokens) }));
  return parts;
}
