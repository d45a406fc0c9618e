// @ts-check
// The draft: prompt, mode, system message and sampling fields, which survive a reload of the tab. Tabs do not share it.

import { linkText } from "./share.js";

/** @import { Chat } from "./chat.js" */
/** @import { PromptPanel } from "./prompt_panel.js" */
/** @import { Sampling } from "./sampling.js" */

const KEY = "draft";

export class Draft {
  /** @param {{ prompt: PromptPanel, chat: Chat, sampling: Sampling }} parts */
  constructor({ prompt, chat, sampling }) {
    this.prompt = prompt;
    this.chat = chat;
    this.sampling = sampling;
  }

  /** @param {string} [text] of the prompt */
  save(text = this.prompt.value) {
    const { chat, sampling } = this;
    const draft = {
      prompt: text,
      mode: chat.preferred,
      system: chat.system.value,
      fields: sampling.fieldValues(),
      // What a link in the address has filled in may have been changed since.
      link: linkText(),
    };
    try {
      sessionStorage.setItem(KEY, JSON.stringify(draft));
    } catch {
      // Without storage the draft lasts as long as the page.
    }
  }

  /** Fills the fields; false if there is no draft, or if a link was opened since. */
  restore() {
    const draft = stored();
    if (!draft || draft.link !== linkText()) return false;
    this.prompt.value = String(draft.prompt);
    this.chat.setMode(draft.mode === "raw" ? "raw" : "chat");
    this.chat.system.value = String(draft.system);
    this.sampling.setFieldValues(draft.fields ?? {});
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
