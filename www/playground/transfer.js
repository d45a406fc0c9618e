// @ts-check
// Links and state files: export from the playground and import into it.

import { byId, onFile } from "../dom.js";
import { clearErrorCards } from "../errors.js";
import { saveFile } from "../save_file.js";
import { plural } from "../words.js";
import { asJson, parseExchange } from "./exchange.js";
import { copyLink, promptInHash } from "./share.js";

/** @import { Playground } from "./playground.js" */

export class Transfer {
  /** @param {Playground} playground */
  constructor(playground) {
    this.playground = playground;
    byId("share").addEventListener("click", () => this.share());
    byId("save-state").addEventListener("click", () => this.saveState());
    onFile(byId("open-state"), byId("state-input"), (file) => this.openState(file));
    window.addEventListener("hashchange", () => this.openLink());
  }

  async share() {
    const { sampling, chat, prompt, source, weights } = this.playground;
    const settings = sampling.read();
    if (!settings) return;
    const { on, system, turns } = chat;
    const last = turns.findLast(({ role }) => role === "user")?.content ?? "";
    const note = await copyLink({
      version: 1,
      mode: on ? "chat" : "raw",
      prompt: prompt.value || (on ? last : ""),
      system: on ? system.value : "",
      settings,
      ...(source && { model: { source, weights } }),
    });
    prompt.showNote(note);
  }

  async openLink() {
    const { sampling, chat, prompt, hooks } = this.playground;
    try {
      const shared = await promptInHash();
      if (!shared) return;
      chat.setMode(shared.mode);
      chat.system.value = shared.system;
      prompt.value = shared.prompt;
      sampling.write(shared.settings);
      this.playground.showView();
      this.playground.promptChanged();
      prompt.showNote("share.opened");
      if (shared.model) hooks.onSharedModel(shared.model);
    } catch (error) {
      prompt.showError("share.bad", { reason: /** @type {Error} */ (error).message });
    }
  }

  async saveState() {
    const { model, exchange, hooks } = this.playground;
    if (!model || !exchange) return;
    try {
      const bytes = await model.snapshot({ note: asJson(exchange) });
      saveFile(`zamba2-${exchange.model.name}.state`, bytes, "application/octet-stream");
    } catch (thrown) {
      hooks.onFault("card.state", thrown);
    }
  }

  /** @param {File} file */
  async openState(file) {
    const { playground } = this;
    const { model, prompt } = playground;
    if (!model || playground.running) return prompt.showError("state.busy");
    try {
      const { note, tokens, prompt_tokens } = await model.restore(await file.arrayBuffer());
      playground.setCanContinue(false);
      clearErrorCards(byId("errors"));
      playground.showExchange(parseExchange(note));
      playground.used = tokens.length;
      prompt.showNote("state.opened", { tokens: () => plural("count.tokens", tokens.length) });
      playground.setCanContinue(tokens.length > prompt_tokens);
      playground.showContext();
    } catch (thrown) {
      playground.hooks.onFault("card.state", thrown);
    }
  }
}
