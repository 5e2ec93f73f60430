// A conversation: a list of exchanges, each a prompt and the model's answer to it.

import { ApiError, streamChat } from "./api.js";
import { Meter } from "./meter.js";
import { tab } from "./store.js";

/**
 * An exchange is `{prompt, answer, status, finish, error, speed}`; `status` is "waiting",
 * "streaming", "done", "stopped" or "failed", `speed` a summary of Meter.
 */
function newExchange(prompt) {
  return { prompt, answer: "", status: "waiting", finish: null, error: null, speed: null };
}

function restored() {
  const saved = tab.get("conversation", []);
  if (!Array.isArray(saved)) return [];
  for (const exchange of saved) {
    if (exchange.status === "waiting" || exchange.status === "streaming") exchange.status = "stopped";
  }
  return saved;
}

/** Holds the exchanges and runs one request at a time; reports every change to `changed(exchange)`. */
export class Chat {
  #controller = null;

  /** `options()` resolves to `{model, system, sampling}` for the next request. */
  constructor(options, changed) {
    this.exchanges = restored();
    this.options = options;
    this.changed = changed;
  }

  get busy() {
    return this.#controller !== null;
  }

  get last() {
    return this.exchanges.at(-1);
  }

  /** Asks a new question. */
  async send(prompt) {
    if (this.busy) return;
    const exchange = newExchange(prompt);
    this.exchanges.push(exchange);
    await this.#run(exchange);
  }

  /** Asks the last question again, or in its place `prompt`. */
  async resend(prompt = this.last?.prompt) {
    if (this.busy || !this.last) return;
    const exchange = Object.assign(this.last, newExchange(prompt));
    await this.#run(exchange);
  }

  stop() {
    this.#controller?.abort();
  }

  clear() {
    this.stop();
    this.#controller = null;
    this.exchanges = [];
    tab.remove("conversation");
  }

  /** The messages for the model: unanswered prompts are left out, so that roles alternate. */
  #messages(system, exchange) {
    const messages = system ? [{ role: "system", content: system }] : [];
    for (const { prompt, answer } of this.exchanges) {
      if (!answer) continue;
      messages.push({ role: "user", content: prompt }, { role: "assistant", content: answer });
    }
    return [...messages, { role: "user", content: exchange.prompt }];
  }

  async #run(exchange) {
    const controller = new AbortController();
    this.#controller = controller;
    this.changed(exchange);
    try {
      await this.#stream(exchange, controller.signal);
      exchange.status = "done";
    } catch (error) {
      this.#fail(exchange, error);
    }
    if (this.#controller === controller) this.#controller = null;
    if (this.exchanges.includes(exchange)) tab.set("conversation", this.exchanges);
    this.changed(exchange);
  }

  async #stream(exchange, signal) {
    const { model, system, sampling } = await this.options();
    if (!model) throw new ApiError("no_model");
    const meter = new Meter();
    const body = { model, messages: this.#messages(system, exchange), ...sampling };
    for await (const { choices, usage } of streamChat(body, signal)) {
      const choice = choices[0];
      if (choice?.delta?.content) {
        exchange.answer += choice.delta.content;
        exchange.status = "streaming";
        meter.piece();
      }
      exchange.finish = choice?.finish_reason ?? exchange.finish;
      if (usage) meter.usage(usage);
      exchange.speed = meter.summary();
      this.changed(exchange);
    }
  }

  #fail(exchange, error) {
    if (error.name === "AbortError") {
      exchange.status = "stopped";
      return;
    }
    const known = error instanceof ApiError;
    if (!known) console.error(error);
    exchange.status = "failed";
    exchange.error = known
      ? { kind: error.kind, detail: error.detail, retryAfter: error.retryAfter }
      : { kind: "failed", detail: String(error), retryAfter: 0 };
  }
}
