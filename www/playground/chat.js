// @ts-check
// The chat mode: system message and turns of a conversation with an instruct model. It builds the messages that
// playground.js runs; the engine renders the chat template.

import { byId } from "../dom.js";
import { faultText } from "../errors.js";
import { remember, remembered } from "../preferences.js";
import { t } from "../words.js";
import { ChatTurn } from "./chat_turn.js";
import { isUnfinished } from "./exchange.js";

/** @import { ChatMessage, RunSummary } from "../engine/zamba2.d.ts" */
/** @import { Fault } from "../errors.js" */
/** @import { Role, TurnRecord } from "./chat_turn.js" */

/** The preference for formatted answers. */
const MARKDOWN = "chat.markdown";

export class Chat {
  /** Without the system message. @type {ChatTurn[]} */
  #turns = [];

  /**
   * @param {{ onMode: () => void, onTurns: () => void,
   *   onResend: (at: number, text: string, is_again: boolean) => void }} hooks
   *   `onMode`: the mode was changed; `onTurns`: the turns are others than before; `onResend`: `text` replaces the turn
   *   `at` and all after it, `is_again` if it is the same text
   */
  constructor({ onMode, onTurns, onResend }) {
    this.onTurns = onTurns;
    this.onResend = onResend;
    this.is_busy = false;
    /** The message and the answer of the current run. @type {ChatTurn[]} */
    this.pending = [];
    /** Why chat is not available with this checkpoint. @type {Fault | null} */
    this.fault = null;
    /** The mode that the user, a link or an earlier exchange has chosen. @type {"raw" | "chat"} */
    this.preferred = "chat";
    this.choice = byId("mode");
    this.markdown = /** @type {HTMLInputElement} */ (byId("markdown"));
    this.markdown.checked = remembered(MARKDOWN) !== "off";
    this.markdown.addEventListener("change", () => {
      remember(MARKDOWN, this.markdown.checked ? "on" : "off");
      this.#showTurns();
    });
    this.place = byId("turns");
    this.system = /** @type {HTMLTextAreaElement} */ (byId("system"));
    this.choice.addEventListener("change", () => {
      this.preferred = this.radio("chat").checked ? "chat" : "raw";
      onMode();
    });
  }

  /** The turns so far, without the system message. @returns {ChatMessage[]} */
  get turns() {
    return this.#turns.map(({ message }) => message);
  }

  get on() {
    return !this.choice.hidden && this.radio("chat").checked;
  }

  /** @param {"raw" | "chat"} value */
  radio(value) {
    return /** @type {HTMLInputElement} */ (this.choice.querySelector(`[value=${value}]`));
  }

  /**
   * Called with a new model: if it has a chat template, chat is preselected.
   * @param {boolean} chat
   * @param {Fault | null} fault
   */
  setAvailable(chat, fault) {
    this.fault = fault;
    if (chat === this.choice.hidden) this.radio(chat ? this.preferred : "raw").checked = true;
    this.choice.hidden = !chat;
  }

  /** @param {"raw" | "chat"} mode */
  setMode(mode) {
    this.preferred = mode;
    if (!this.choice.hidden) this.radio(mode).checked = true;
  }

  show() {
    const { on } = this;
    const fault = byId("chat-fault");
    fault.hidden = this.fault === null;
    fault.textContent = this.fault === null ? "" : t("chat.fault", { reason: faultText(this.fault) });
    byId("chat").hidden = !on;
    for (const id of ["examples", "prompt-note", "output-title"]) byId(id).hidden = on;
    byId("prompt-label").classList.toggle("visually-hidden", !on);
    byId("prompt-label").textContent = t(on ? "chat.message" : "prompt.title");
    this.#showTurns();
  }

  /** The conversation with `text` as its last message. @param {string} text @returns {ChatMessage[]} */
  messages(text) {
    const system = this.system.value.trim() === "" ? [] : [{ role: "system", content: this.system.value }];
    return [...system, ...this.turns, { role: "user", content: text }];
  }

  /** Shows a message with an empty answer, whose element it returns. @param {string} text @returns {HTMLElement} */
  addPending(text) {
    const [message, answer] = [this.#add("user", text), this.#add("assistant", "")];
    this.pending = [message, answer];
    this.#showTurns();
    answer.element.scrollIntoView({ block: "nearest" });
    return answer.body;
  }

  /**
   * Adds the message and its answer to the conversation.
   * @param {string} answer @param {RunSummary | null} summary
   */
  commit(answer, summary) {
    const [message, reply] = this.pending;
    reply.usage = summary;
    this.#turns.push(message, reply);
    this.pending = [];
    this.replaceLast(answer, summary);
  }

  /**
   * Replaces the last answer, after it was continued or branched.
   * @param {string} answer @param {RunSummary | null} summary
   */
  replaceLast(answer, summary) {
    const last = this.#turns.at(-1);
    if (last) {
      last.content = answer;
      last.is_unfinished = isUnfinished(summary);
    }
    this.#changed();
  }

  /** The turns as they are stored. @param {string} [unfinished] the text of the answer that is being written */
  records(unfinished) {
    const turns = unfinished === undefined ? this.#turns : [...this.#turns, ...this.pending];
    const records = turns.map(({ record }) => record);
    if (unfinished !== undefined)
      Object.assign(records[records.length - 1], { content: unfinished, is_unfinished: true });
    return records;
  }

  /** Shows stored turns, and returns the element of the last one's text. @param {TurnRecord[]} records */
  restore(records) {
    this.clear();
    this.#turns = records.map(({ role, content, usage, is_unfinished }) =>
      Object.assign(this.#add(role, content), { usage, is_unfinished }),
    );
    this.#showTurns();
    return /** @type {ChatTurn} */ (this.#turns.at(-1)).body;
  }

  /**
   * Shows a stored exchange as the conversation, and returns the element of its answer.
   * @param {{ turns: ChatMessage[], prompt: string, text: string, summary: RunSummary | null }} exchange
   * @returns {HTMLElement}
   */
  load({ turns, prompt, text, summary }) {
    const messages = [...turns, { role: "user", content: prompt }, { role: "assistant", content: text }];
    const records = messages.map(({ role, content }) => ({
      role: /** @type {Role} */ (role === "user" ? "user" : "assistant"),
      content,
      usage: null,
      is_unfinished: false,
    }));
    const answer = { ...records[records.length - 1], usage: summary, is_unfinished: isUnfinished(summary) };
    const place = this.restore([...records.slice(0, -1), answer]);
    this.onTurns();
    return place;
  }

  /** Removes a message that got no answer. */
  removePending() {
    for (const { element } of this.pending) element.remove();
    this.pending = [];
    this.#changed();
  }

  /** Keeps the first `n` turns, and returns the others. @param {number} n */
  cut(n) {
    const dropped = this.#turns.splice(n);
    for (const { element } of dropped) element.remove();
    return dropped;
  }

  /** Undoes `cut`. @param {ChatTurn[]} dropped */
  putBack(dropped) {
    this.#turns.push(...dropped);
    this.place.append(...dropped.map(({ element }) => element));
    this.#changed();
  }

  clear() {
    this.#turns = [];
    this.pending = [];
    this.place.replaceChildren();
  }

  /** While a run is in progress no turn can be changed. @param {boolean} is_busy */
  setBusy(is_busy) {
    this.is_busy = is_busy;
    /** @type {HTMLButtonElement} */ (byId("new-conversation")).disabled = is_busy;
    this.#showTurns();
  }

  #changed() {
    this.#showTurns();
    this.onTurns();
  }

  #showTurns() {
    const all = [...this.#turns, ...this.pending];
    for (const [i, turn] of all.entries()) {
      const is_last = i === all.length - 1;
      turn.show(i + 1, {
        is_last,
        is_busy: this.is_busy,
        is_written: is_last && (this.is_busy || this.pending.length > 0),
        as_markdown: this.markdown.checked,
      });
    }
  }

  /** @param {Role} role @param {string} text */
  #add(role, text) {
    const turn = new ChatTurn(role, text, {
      onEdited: (edited) => this.#resend(this.#turns.indexOf(turn), edited, false),
      onAgain: () => {
        const at = this.#turns.indexOf(turn) - 1;
        this.#resend(at, this.#turns[at].content, true);
      },
    });
    this.place.append(turn.element);
    return turn;
  }

  /** @param {number} at @param {string} text @param {boolean} is_again */
  #resend(at, text, is_again) {
    if (at >= 0 && !this.is_busy) this.onResend(at, text, is_again);
  }
}
