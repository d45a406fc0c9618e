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
    /** A run ends it: what a run leaves in the model is not the state of the old conversation. */
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
      // Without storage, or without room in it, the conversation lasts as long as the page.
    }
  }

  /** Shows what was saved; the next turn reads it anew, as the model's state ended with the page. */
  restore() {
    const { turns, entry } = stored();
    if (turns.length === 0) return;
    const place = this.chat.restore(turns);
    if (!entry) return;
    this.playground.exchange = { ...entry, tokens: [] };
    this.playground.used = (entry.prompt_tokens ?? 0) + (entry.summary?.tokens ?? 0);
    this.playground.place = place;
  }

  /** Begins a new conversation; for a while the old one can be brought back as it was. */
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
    // Otherwise it was written by another version of the page.
    const is_known = Array.isArray(turns) && turns.every(({ role, content }) => role && typeof content === "string");
    return { turns: is_known ? turns : [], entry: isEntry(entry) ? entry : null };
  } catch {
    return { turns: [], entry: null };
  }
}
