// Light, dark or as the system says; the choice is remembered.

import { setIcon } from "./dom.js";
import { label, onLanguage, text } from "./i18n.js";
import { remembered } from "./store.js";

const THEMES = ["auto", "light", "dark"];
const LABELS = { auto: "themeAuto", light: "themeLight", dark: "themeDark" };

/** Lets `button` step through the themes. */
export function startTheme(button) {
  let theme = remembered.get("theme", "auto");
  if (!THEMES.includes(theme)) theme = "auto";

  function show() {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    setIcon(button, `theme-${theme}`);
    label(button, text(LABELS[theme]));
  }

  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    remembered.set("theme", theme);
    show();
  });
  onLanguage(show);
}
