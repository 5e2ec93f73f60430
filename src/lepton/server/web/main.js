// Puts the page together.

import { apiKey } from "./api.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { announce, element } from "./dom.js";
import { ExchangeView } from "./exchange.js";
import { onLanguage, startLanguage, text } from "./i18n.js";
import { Follower } from "./scroll.js";
import { Settings, SettingsPanel } from "./settings.js";
import { startTheme } from "./theme.js";

const byId = (id) => document.getElementById(id);
const page = { conversation: byId("conversation"), welcome: byId("welcome"), access: byId("access"), key: byId("key") };
const views = new Map();
const pending = new Set();

const settings = new Settings();
const panel = new SettingsPanel(byId("settings-toggle"));
const follower = new Follower(byId("scroller"), byId("jump"));
const connection = new Connection(askForKey);
const chat = new Chat(
  async () => ({ model: await connection.chosen(), system: settings.system, sampling: settings.sampling }),
  changed,
);
const composer = new Composer({
  send: (prompt) => chat.send(prompt),
  resend: (prompt) => chat.resend(prompt),
  stop: () => chat.stop(),
  lastPrompt: () => chat.last?.prompt ?? null,
});
const actions = {
  edit: () => composer.edit(),
  regenerate: () => {
    composer.cancelEdit();
    chat.resend();
    composer.focusIfKeyboard();
  },
  hasKey: () => apiKey.get() !== "",
};

/** Shows an exchange at the next frame, or at once when a request begins or ends. */
function changed(exchange) {
  if (!chat.exchanges.includes(exchange)) return setBusy();
  if (exchange.status === "streaming" && chat.busy) {
    if (pending.size === 0) requestAnimationFrame(showPending);
    pending.add(exchange);
    return undefined;
  }
  show(exchange);
  if (exchange.status === "waiting") follower.toEnd();
  else finished(exchange);
  return setBusy();
}

function showPending() {
  for (const exchange of pending) if (chat.exchanges.includes(exchange)) show(exchange);
  pending.clear();
}

function show(exchange) {
  const view = views.get(exchange);
  if (view) {
    view.update();
  } else {
    const created = new ExchangeView(exchange, actions);
    views.set(exchange, created);
    page.conversation.append(created.element);
  }
  page.welcome.hidden = chat.exchanges.length > 0;
  follower.follow();
}

function setBusy() {
  page.conversation.dataset.busy = chat.busy;
  composer.busy = chat.busy;
  if (chat.busy) announce(text("answering"));
}

function finished(exchange) {
  if (exchange.status === "done") announce(exchange.answer || text("empty"));
  if (exchange.status === "stopped") announce(text("stopped"));
  if (exchange.error?.kind === "unauthorized") askForKey();
  if (["unreachable", "interrupted", "unavailable"].includes(exchange.error?.kind)) connection.check();
}

function newConversation() {
  chat.clear();
  composer.cancelEdit();
  views.clear();
  page.conversation.replaceChildren();
  page.welcome.hidden = false;
  setBusy();
  composer.focus();
}

function askForKey() {
  const title = byId("key-title");
  title.dataset.text = apiKey.get() === "" ? "keyTitle" : "error_unauthorized";
  title.textContent = text(title.dataset.text);
  announce(title.textContent);
  apiKey.forget();
  byId("forget-key").hidden = true;
  page.access.hidden = false;
  page.key.focus();
}

async function useKey(event) {
  event.preventDefault();
  apiKey.set(page.key.value.trim());
  page.key.value = "";
  page.access.hidden = true;
  byId("forget-key").hidden = false;
  composer.focus();
  await connection.check();
  if (chat.last?.error?.kind === "unauthorized" && connection.model) chat.resend();
}

function forgetKey() {
  apiKey.forget();
  byId("forget-key").hidden = true;
  connection.check();
}

function escape(event) {
  if (event.key !== "Escape" || event.isComposing || panel.modal) return;
  if (chat.busy) chat.stop();
  else if (composer.editing) composer.cancelEdit();
  else if (panel.focused) panel.close();
}

function showSuggestions() {
  const items = text("suggestions").map((suggestion) => {
    const button = element("button", { type: "button" }, suggestion);
    button.addEventListener("click", () => {
      chat.send(suggestion);
      composer.focusIfKeyboard();
    });
    return element("li", {}, button);
  });
  byId("suggestions").replaceChildren(...items);
}

byId("new").addEventListener("click", newConversation);
byId("forget-key").addEventListener("click", forgetKey);
byId("forget-key").hidden = apiKey.get() === "";
page.access.addEventListener("submit", useKey);
document.addEventListener("keydown", escape);

startLanguage(byId("language"));
startTheme(byId("theme"));
onLanguage(showSuggestions);
onLanguage(() => views.forEach((view) => view.update()));
chat.exchanges.forEach(show);
setBusy();
follower.toEnd();
composer.focusIfKeyboard();
connection.check();
