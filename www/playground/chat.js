// @ts-check
// A conversation with an instruct model: whether there is one, its system message and its turns. It uses words.js
// and makes the prompt that playground.js runs. It renders no template, which is the engine's business, and asks
// nothing.

import { byId } from "../dom.js";
import { faultText } from "../errors.js";
import { t } from "../words.js";

/** @import { ChatMessage } from "../engine/zamba2.d.ts" */
/** @import { Fault } from "../errors.js" */

export class Chat {
  /** @param {{ onMode: () => void, onNew: () => void }} hooks  the reader has chosen text or chat, or begins anew */
  constructor({ onMode, onNew }) {
    /** What has been said, without the system message. @type {ChatMessage[]} */
    this.turns = [];
    /** The turns that are still being made. @type {HTMLElement[]} */
    this.pending = [];
    /** Why the checkpoint has no chat. @type {Fault | null} */
    this.fault = null;
    /** What a link or an earlier exchange asks for. @type {"raw" | "chat"} */
    this.wanted = "chat";
    this.choice = byId("mode");
    this.place = byId("turns");
    this.system = /** @type {HTMLTextAreaElement} */ (byId("system"));
    this.choice.addEventListener("change", onMode);
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
   * A model comes: one with a template is asked through it, until the user chooses otherwise.
   * @param {boolean} chat
   * @param {Fault | null} fault
   */
  offer(chat, fault) {
    this.fault = fault;
    if (chat === this.choice.hidden) this.radio(chat ? this.wanted : "raw").checked = true;
    this.choice.hidden = !chat;
  }

  /** @param {"raw" | "chat"} mode */
  want(mode) {
    this.wanted = mode;
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

  /** The conversation with `text` as its newest message. @param {string} text @returns {ChatMessage[]} */
  messages(text) {
    const system = this.system.value.trim() === "" ? [] : [{ role: "system", content: this.system.value }];
    return [...system, ...this.turns, { role: "user", content: text }];
  }

  /** Shows a message and an answer to fill. @param {string} text @returns {HTMLElement} */
  begin(text) {
    const [asked, answer] = [this.turn("user", text), this.turn("assistant", "")];
    this.pending = [asked, answer];
    answer.scrollIntoView({ block: "nearest" });
    return /** @type {HTMLElement} */ (answer.lastChild);
  }

  /** Takes the message and its answer into the conversation. @param {string} text @param {string} answer */
  keep(text, answer) {
    this.turns.push({ role: "user", content: text }, { role: "assistant", content: answer });
    this.pending = [];
  }

  /** The newest answer has become another. @param {string} answer */
  amend(answer) {
    const last = this.turns.at(-1);
    if (last) last.content = answer;
  }

  /**
   * An exchange from elsewhere becomes the conversation. Gives the place of its answer.
   * @param {{ turns: ChatMessage[], prompt: string, text: string }} exchange @returns {HTMLElement}
   */
  load({ turns, prompt, text }) {
    this.clear();
    this.turns = [...turns, { role: "user", content: prompt }, { role: "assistant", content: text }];
    const shown = this.turns.map(({ role, content }) => this.turn(role === "user" ? "user" : "assistant", content));
    return /** @type {HTMLElement} */ (shown.at(-1)?.lastChild);
  }

  /** Takes a message back that came to no answer. */
  withdraw() {
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
    const who = document.createElement("h3");
    who.textContent = t(role === "user" ? "chat.user" : "chat.assistant");
    const words = document.createElement("p");
    words.textContent = text;
    turn.append(who, words);
    this.place.append(turn);
    return turn;
  }
}
