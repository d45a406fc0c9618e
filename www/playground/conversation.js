// @ts-check
// The conversation of this tab: it survives a reload, and "New conversation" can be undone for a few seconds. Tabs do
// not share it: each has its own session storage.

import { byId } from "../dom.js";
import { UndoRow } from "../undo_row.js";
import { isEntry } from "./exchange.js";

/** @import { Chat } from "./chat.js" */
/** @import { TurnRecord } from "./chat_turn.js" */
/** @import { Entry } from "./history.js" */
/** @import { Playground } from "./playground.js" */

const KEY = "conversation";

export class Conversation {
  /** @param {Playground} playground @param {Chat} chat */
  constructor(playground, chat) {
    this.playground = playground;
    this.chat = chat;
    const begin = byId("new-conversation");
    /** A run ends the offer: afterwards the model's state is not that of the old conversation. */
    this.undo = new UndoRow(byId("conversation-cleared"), begin);
    begin.addEventListener("click", () => this.clear());
  }

  /** Called when a turn has changed. @param {string} [unfinished] the text of the answer that is being written */
  save(unfinished) {
    this.undo.end();
    const turns = this.chat.records(unfinished);
    const { tokens, ...entry } = this.playground.exchange ?? { tokens: [] };
    const is_entry = "mode" in entry && entry.mode === "chat";
    try {
      if (turns.length === 0) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, JSON.stringify({ turns, entry: is_entry ? entry : null }));
    } catch {
      // Without storage, or without room in it, the conversation is lost when the page closes.
    }
  }

  /** Shows what was saved. The next turn prefills it again, because the model's state was lost with the page. */
  restore() {
    const { turns, entry } = stored();
    if (turns.length === 0) return;
    const place = this.chat.restore(turns);
    if (!entry) return;
    this.playground.exchange = { ...entry, tokens: [] };
    this.playground.used = (entry.prompt_tokens ?? 0) + (entry.summary?.tokens ?? 0);
    this.playground.place = place;
  }

  /** Begins a new conversation; for a few seconds the old one can be restored. */
  clear() {
    const { playground, chat } = this;
    const turns = chat.records();
    const { exchange, can_continue, used, model } = playground;
    chat.clear();
    playground.clear();
    this.save();
    if (turns.length === 0) return;
    this.undo.offer("chat.cleared", () => {
      const place = chat.restore(turns);
      playground.showAgain({ exchange, place, used, can_continue: can_continue && playground.model === model });
      this.save();
    });
  }
}

/** @returns {{ turns: TurnRecord[], entry: Entry | null }} */
function stored() {
  try {
    const { turns, entry } = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
    // Anything else was written by another version of the page.
    const is_known = Array.isArray(turns) && turns.every(({ role, content }) => role && typeof content === "string");
    return { turns: is_known ? turns : [], entry: isEntry(entry) ? entry : null };
  } catch {
    return { turns: [], entry: null };
  }
}
