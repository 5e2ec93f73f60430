// Copying text, with feedback on the button that asked for it.

import { announce, iconButton, setIcon } from "./dom.js";
import { label, text } from "./i18n.js";

const FEEDBACK_MS = 1600;

async function copyText(content) {
  if (navigator.clipboard) return navigator.clipboard.writeText(content);
  // Plain HTTP on another machine offers no clipboard object; a selection can still be copied.
  const holder = document.createElement("textarea");
  holder.value = content;
  holder.className = "visually-hidden";
  document.body.append(holder);
  holder.select();
  const copied = document.execCommand("copy");
  holder.remove();
  if (!copied) throw new Error("copy refused");
}

/** A button, named by the string `key`, that copies what `content()` returns. */
export function copyButton(key, content) {
  let timer;
  const button = iconButton("copy", key, async () => {
    let outcome = "copied";
    try {
      await copyText(content());
    } catch {
      outcome = "copyFailed";
    }
    setIcon(button, outcome === "copied" ? "check" : "warning");
    label(button, text(outcome));
    announce(text(outcome));
    button.focus();
    clearTimeout(timer);
    timer = setTimeout(() => {
      setIcon(button, "copy");
      label(button, text(key));
    }, FEEDBACK_MS);
  });
  return button;
}
