// @ts-check
// Prompt, mode, system message and sampling fields, which survive a reload of the tab. Tabs do not share them.

import { linkText } from "./share.js";

/** @import { Chat } from "./chat.js" */
/** @import { PromptPanel } from "./prompt_panel.js" */
/** @import { Sampling } from "./sampling.js" */

const KEY = "draft";

export class KeptPrompt {
  /** @param {{ prompt: PromptPanel, chat: Chat, sampling: Sampling }} parts */
  constructor({ prompt, chat, sampling }) {
    this.prompt = prompt;
    this.chat = chat;
    this.sampling = sampling;
  }

  /** @param {string} [text] of the prompt */
  save(text = this.prompt.value) {
    const { chat, sampling } = this;
    const kept = {
      prompt: text,
      mode: chat.preferred,
      system: chat.system.value,
      fields: sampling.fieldValues(),
      // The fields that a link has filled in may have been changed since.
      link: linkText(),
    };
    try {
      sessionStorage.setItem(KEY, JSON.stringify(kept));
    } catch {
      // Without storage it is lost when the page closes.
    }
  }

  /** Fills the fields; false if nothing is stored, or if a link was opened since. */
  restore() {
    const kept = stored();
    if (!kept || kept.link !== linkText()) return false;
    this.prompt.value = String(kept.prompt);
    this.chat.setMode(kept.mode === "raw" ? "raw" : "chat");
    this.chat.system.value = String(kept.system);
    this.sampling.setFieldValues(kept.fields ?? {});
    return true;
  }
}

/** @returns {any} */
function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  } catch {
    return null;
  }
}
