// @ts-check
// The prompt field with examples, messages below it, the number of tokens and the context meter.

import { byId } from "../dom.js";
import { erase, number, t, write } from "../words.js";

/** @import { Key, Values } from "../words.js" */

/** Prompts that suit the embedded model, which was trained on Rust's books as light Markdown. */
const EXAMPLES = [
  "Ownership is",
  "A trait object",
  "The borrow checker",
  "To create a new project with Cargo,",
  "## Error handling\n\n",
];

export class PromptPanel {
  #field = /** @type {HTMLTextAreaElement} */ (byId("prompt"));
  #error = byId("prompt-message");
  #note = byId("prompt-status");

  /** @param {() => void} onChange  called when the text changes @param {() => void} onExample  when one is chosen */
  constructor(onChange, onExample) {
    this.#field.value = EXAMPLES[0];
    this.#field.addEventListener("input", onChange);
    for (const example of EXAMPLES) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = example.trim();
      button.addEventListener("click", () => {
        this.#field.value = example;
        onChange();
        onExample();
      });
      byId("examples").append(button);
    }
  }

  get value() {
    return this.#field.value;
  }

  set value(text) {
    this.#field.value = text;
  }

  focus() {
    this.#field.focus();
  }

  /** Shows what is wrong with the prompt; null clears it. @param {Key | null} key @param {Values} [values] */
  showError(key, values) {
    if (key) write(this.#error, key, values);
    else erase(this.#error);
  }

  /** Shows a note about the prompt; null clears it. @param {Key | null} key @param {Values} [values] */
  showNote(key, values) {
    if (key) write(this.#note, key, values);
    else erase(this.#note);
  }

  /** @param {Key} key */
  showsError(key) {
    return this.#error.dataset.t === key;
  }

  /** @param {Key} key */
  showsNote(key) {
    return this.#note.dataset.t === key;
  }

  get has_note() {
    return this.#note.textContent !== "";
  }

  /** @param {string} text */
  showCount(text) {
    byId("prompt-tokens").textContent = text;
  }

  /** @param {number} used @param {number} context  in tokens; 0 if unknown */
  showContext(used, context) {
    const meter = /** @type {HTMLMeterElement} */ (byId("context-meter"));
    const part = /** @type {HTMLElement} */ (meter.parentElement);
    part.hidden = context === 0;
    if (context === 0) return;
    meter.max = context;
    meter.high = context * 0.8;
    meter.optimum = 0;
    meter.value = used;
    byId("context-text").textContent = t("context.text", { used: number(used), context: number(context) });
  }
}
