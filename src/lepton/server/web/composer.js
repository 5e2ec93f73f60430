// The message box: sending, editing the last message, growing with its text.

/** `actions` has `send(text)`, `resend(text)`, `stop()` and `lastPrompt()` (null when there is none). */
export class Composer {
  #editing = false;
  #busy = false;
  #draft = "";

  constructor(actions) {
    this.actions = actions;
    this.form = document.getElementById("composer");
    this.box = document.getElementById("prompt");
    this.sendButton = document.getElementById("send");
    this.stopButton = document.getElementById("stop");
    this.banner = document.getElementById("editing");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.form.addEventListener("click", (event) => {
      if (event.target === this.form) this.box.focus();
    });
    this.box.addEventListener("input", () => this.#refresh());
    this.box.addEventListener("keydown", (event) => this.#key(event));
    this.stopButton.addEventListener("click", () => this.actions.stop());
    document.getElementById("cancel-edit").addEventListener("click", () => this.cancelEdit());
  }

  get editing() {
    return this.#editing;
  }

  set busy(busy) {
    const hadFocus = [this.sendButton, this.stopButton].includes(document.activeElement);
    this.#busy = busy;
    this.sendButton.hidden = busy;
    this.stopButton.hidden = !busy;
    if (hadFocus && busy) this.stopButton.focus();
    else if (hadFocus) this.focusIfKeyboard();
    this.#refresh();
  }

  focus() {
    this.box.focus();
  }

  /** Focus for people with a keyboard; on a touch screen it would raise one over the answer. */
  focusIfKeyboard() {
    if (matchMedia("(pointer: fine)").matches) this.box.focus();
  }

  edit() {
    const prompt = this.actions.lastPrompt();
    if (prompt === null || this.#busy) return;
    if (!this.#editing) this.#draft = this.box.value;
    this.#setEditing(true, prompt);
  }

  cancelEdit() {
    if (this.#editing) this.#setEditing(false, this.#draft);
  }

  #setEditing(editing, value) {
    this.#editing = editing;
    this.banner.hidden = !editing;
    this.#fill(value);
    this.box.focus();
  }

  #fill(value) {
    this.box.value = value;
    this.#refresh();
  }

  #submit() {
    const prompt = this.box.value.trim();
    if (!prompt || this.#busy) return;
    const wasEditing = this.#editing;
    this.#editing = false;
    this.banner.hidden = true;
    this.#fill(wasEditing ? this.#draft : "");
    if (wasEditing) this.actions.resend(prompt);
    else this.actions.send(prompt);
  }

  #key(event) {
    // 229 is an input method at work; Safari has left the composition by then.
    if (event.isComposing || event.keyCode === 229) return;
    const plain = !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey;
    if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "ArrowUp" && plain && this.box.value === "") {
      event.preventDefault();
      this.edit();
    }
  }

  #refresh() {
    this.sendButton.disabled = this.box.value.trim() === "";
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight}px`;
  }
}
