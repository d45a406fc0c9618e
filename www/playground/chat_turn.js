// @ts-check
// One turn of a conversation on the page: its text, and its actions. A user's turn can be edited and the last answer
// generated again; the conversation handles both.

import { copyFrom } from "../copy_text.js";
import { button, element } from "../dom.js";
import { number, t } from "../words.js";
import { markdown } from "./markdown.js";

/** @import { ChatMessage, RunSummary } from "../engine/zamba2.d.ts" */
/** @import { Key } from "../words.js" */

/** @typedef {{ onEdited: (text: string) => void, onAgain: () => void }} TurnHooks */
/** @typedef {"user" | "assistant"} Role */
/** @typedef {Pick<RunSummary, "prompt_tokens" | "cached_tokens">} Usage */
/**
 * A turn as it is stored.
 * @typedef {{ role: Role, content: string, usage: Usage | null, is_unfinished: boolean }} TurnRecord
 */

export class ChatTurn {
  /** @param {Role} role @param {string} content @param {TurnHooks} hooks */
  constructor(role, content, hooks) {
    this.role = role;
    this.content = content;
    /** Figures of the run that generated this answer, if known. @type {Usage | null} */
    this.usage = null;
    /** The answer was interrupted. */
    this.is_unfinished = false;
    this.speaker = element("h3", "");
    this.note = element("span", "note");
    this.body = element("div", "turn-text", content);
    /** What `body` shows; null while a run writes there. @type {{ content: string, as_markdown: boolean } | null} */
    this.drawn = { content, as_markdown: false };
    this.copy = button("", () => copyFrom(this.copy, "turn.copy", this.content));
    this.edit = role === "user" ? button("", () => this.#startEdit(hooks.onEdited)) : null;
    this.again = role === "assistant" ? button("", hooks.onAgain) : null;
    const actions = element("div", "turn-actions", this.copy);
    if (this.edit) actions.append(this.edit);
    if (this.again) actions.append(this.again);
    /** Unless it is being edited, the text is the last child. */
    this.element = element("div", "turn", this.speaker, this.note, actions, this.body);
    this.element.dataset.role = role;
  }

  /** @returns {ChatMessage} */
  get message() {
    return { role: this.role, content: this.content };
  }

  /** @returns {TurnRecord} */
  get record() {
    const { role, content, usage, is_unfinished } = this;
    const { prompt_tokens, cached_tokens } = usage ?? {};
    return { role, content, usage: usage && { prompt_tokens, cached_tokens }, is_unfinished };
  }

  /**
   * In the current language.
   * @param {number} n  its place, from 1
   * @param {{ is_last: boolean, is_busy: boolean, is_written: boolean, as_markdown: boolean }} state
   *   `is_busy`: a run is in progress; `is_written`: it writes this turn
   */
  show(n, { is_last, is_busy, is_written, as_markdown }) {
    const is_user = this.role === "user";
    this.speaker.textContent = t(is_user ? "chat.user" : "chat.assistant");
    this.note.textContent = this.#noteText();
    /** @type {[HTMLButtonElement | null, Key, Key][]} */
    const labels = [
      [this.copy, "turn.copy", "turn.copy.name"],
      [this.edit, "turn.edit", "turn.edit.name"],
      [this.again, "turn.again", "turn.again.name"],
    ];
    for (const [action, text, name] of labels) {
      if (!action) continue;
      action.textContent = t(text);
      action.setAttribute("aria-label", t(name, { n: number(n) }));
    }
    // The text of an answer is complete only when it ends.
    this.copy.disabled = is_written;
    if (this.edit) this.edit.disabled = is_busy;
    if (this.again) this.again.hidden = !is_last || is_busy;
    if (is_written) this.drawn = null;
    else void this.#draw(as_markdown && !is_user);
  }

  #noteText() {
    const { prompt_tokens, cached_tokens } = this.usage ?? {};
    const notes = this.is_unfinished ? [t("turn.unfinished")] : [];
    if (prompt_tokens !== undefined && cached_tokens != null)
      notes.push(t("turn.cached", { tokens: number(prompt_tokens), cached: number(cached_tokens) }));
    return notes.join(" · ");
  }

  /** @param {boolean} as_markdown */
  async #draw(as_markdown) {
    const { content, drawn } = this;
    if (drawn?.content === content && drawn.as_markdown === as_markdown) return;
    const drawing = { content, as_markdown };
    this.drawn = drawing;
    // If the parser cannot be loaded, the plain text is shown, which is readable as well.
    const nodes = as_markdown ? await markdown(content).catch(() => null) : null;
    if (this.drawn !== drawing) return;
    this.body.classList.toggle("markdown", nodes !== null);
    this.body.replaceChildren(...(nodes ?? [content]));
  }

  /** Replaces the text by a field. @param {(text: string) => void} onEdited */
  #startEdit(onEdited) {
    if (this.body.hidden) return;
    const field = /** @type {HTMLTextAreaElement} */ (element("textarea", ""));
    field.value = this.content;
    field.setAttribute("aria-label", t("turn.edit.field"));
    const end = () => {
      form.remove();
      this.body.hidden = false;
      this.edit?.focus();
    };
    const send = () => {
      if (field.value.trim() === "") return field.focus();
      end();
      onEdited(field.value);
    };
    const buttons = element(
      "div",
      "row",
      button(t("turn.edit.send"), send, "primary"),
      button(t("turn.edit.cancel"), end),
    );
    const form = element("div", "turn-edit", field, element("p", "note", t("turn.edit.note")), buttons);
    form.addEventListener("keydown", (event) => {
      const is_send = event.key === "Enter" && (event.ctrlKey || event.metaKey);
      if (!is_send && event.key !== "Escape") return;
      // These keys would also run the prompt below or stop a run.
      event.preventDefault();
      event.stopPropagation();
      if (is_send) send();
      else end();
    });
    this.body.hidden = true;
    this.body.before(form);
    field.focus();
  }
}
