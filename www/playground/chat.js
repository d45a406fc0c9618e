// @ts-check
// The chat mode: system message and turns of a conversation with an instruct model. It builds the messages that
// playground.js runs; the engine renders the chat template.

import { byId } from "../dom.js";
import { faultText } from "../errors.js";
import { t } from "../words.js";

/** @import { ChatMessage } from "../engine/zamba2.d.ts" */
/** @import { Fault } from "../errors.js" */

export class Chat {
  /** @param {{ onMode: () => void, onNew: () => void }} hooks  the mode was changed; a new conversation was started */
  constructor({ onMode, onNew }) {
    /** The turns so far, without the system message. @type {ChatMessage[]} */
    this.turns = [];
    /** The message and the answer of the current run. @type {HTMLElement[]} */
    this.pending = [];
    /** Why chat is not available with this checkpoint. @type {Fault | null} */
    this.fault = null;
    /** The mode that the user, a link or an earlier exchange has chosen. @type {"raw" | "chat"} */
    this.preferred = "chat";
    this.choice = byId("mode");
    this.place = byId("turns");
    this.system = /** @type {HTMLTextAreaElement} */ (byId("system"));
    this.choice.addEventListener("change", () => {
      this.preferred = this.radio("chat").checked ? "chat" : "raw";
      onMode();
    });
    byId("new-conversation").addEventListener("click", () => {
      this.clear();
      onNew();
    });
  }

  get on() {
    return !this.choice.hidden && this.radio("chat").checked;
  }

  /** @param {"raw" | "chat"} value */
  radio(value) {
    return /** @type {HTMLInputElement} */ (this.choice.querySelector(`[value=${value}]`));
  }

  /**
   * Adapts to a new model: with a chat template, chat is preselected.
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
    for (const turn of /** @type {NodeListOf<HTMLElement>} */ (this.place.querySelectorAll(".turn"))) {
      /** @type {HTMLElement} */ (turn.firstChild).textContent = t(
        turn.dataset.role === "user" ? "chat.user" : "chat.assistant",
      );
    }
  }

  /** The conversation with `text` as its last message. @param {string} text @returns {ChatMessage[]} */
  messages(text) {
    const system = this.system.value.trim() === "" ? [] : [{ role: "system", content: this.system.value }];
    return [...system, ...this.turns, { role: "user", content: text }];
  }

  /** Shows a message with an empty answer, whose element it returns. @param {string} text @returns {HTMLElement} */
  addPending(text) {
    const [message, answer] = [this.turn("user", text), this.turn("assistant", "")];
    this.pending = [message, answer];
    answer.scrollIntoView({ block: "nearest" });
    return /** @type {HTMLElement} */ (answer.lastChild);
  }

  /** Adds the message and its answer to the conversation. @param {string} text @param {string} answer */
  commit(text, answer) {
    this.turns.push({ role: "user", content: text }, { role: "assistant", content: answer });
    this.pending = [];
  }

  /** Replaces the last answer, after it was continued or branched. @param {string} answer */
  replaceLast(answer) {
    const last = this.turns.at(-1);
    if (last) last.content = answer;
  }

  /**
   * Shows a stored exchange as the conversation, and returns the element of its answer.
   * @param {{ turns: ChatMessage[], prompt: string, text: string }} exchange @returns {HTMLElement}
   */
  load({ turns, prompt, text }) {
    this.clear();
    this.turns = [...turns, { role: "user", content: prompt }, { role: "assistant", content: text }];
    const shown = this.turns.map(({ role, content }) => this.turn(role === "user" ? "user" : "assistant", content));
    return /** @type {HTMLElement} */ (shown.at(-1)?.lastChild);
  }

  /** Removes a message that got no answer. */
  removePending() {
    for (const turn of this.pending) turn.remove();
    this.pending = [];
  }

  clear() {
    this.turns = [];
    this.pending = [];
    this.place.replaceChildren();
  }

  /** @param {"user" | "assistant"} role @param {string} text */
  turn(role, text) {
    const turn = document.createElement("div");
    turn.className = "turn";
    turn.dataset.role = role;
    const speaker = document.createElement("h3");
    speaker.textContent = t(role === "user" ? "chat.user" : "chat.assistant");
    const body = document.createElement("p");
    body.textContent = text;
    turn.append(speaker, body);
    this.place.append(turn);
    return turn;
  }
}
