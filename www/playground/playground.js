// @ts-check
// The playground: runs prompts, one at a time, and shows text and metrics; continues a run and branches from a token.
// Block times are passed to the hooks.

import { copyFrom } from "../copy_text.js";
import { byId } from "../dom.js";
import { clearErrorCards } from "../errors.js";
import { number, plural, t } from "../words.js";
import { Chat } from "./chat.js";
import { Conversation } from "./conversation.js";
import { KeptPrompt } from "./kept_prompt.js";
import { newExchange, offerExports } from "./exchange.js";
import { runExchange } from "./generation.js";
import { History } from "./history.js";
import { PromptPanel } from "./prompt_panel.js";
import { showRunMetrics } from "./run_metrics.js";
import { beginOutput } from "./text_painter.js";
import { TokenView } from "./token_view.js";
import { Transfer } from "./transfer.js";

/** @import { Exchange } from "./exchange.js" */
/** @import { Entry } from "./history.js" */
/** @import { LiveFigures } from "./generation.js" */
/** @import { LoadProgress, Model, Piece, Prompt, RunOptions, RunSummary } from "../engine/zamba2.d.ts" */
/** @import { Sampling } from "./sampling.js" */
/** @import { SharedModel } from "./share.js" */
/** @import { Key } from "../words.js" */

const COUNT_AFTER_MS = 250;

/**
 * @typedef {object} RunHooks
 * @property {(has_prompt: boolean) => void} onStart  whether the run begins with a prefill
 * @property {(block: number, prompt_tokens: number) => void} onPrefill
 * @property {(progress: { replayed: number, tokens: number }) => void} onReplay
 * @property {(blocks_us: Float32Array) => void} onToken
 * @property {(live: LiveFigures & { used: number }) => void} onLive
 * @property {() => void} onStop  the user stops the run, which ends with its present token or block
 * @property {(summary: RunSummary) => void} onEnd
 * @property {(thrown: unknown) => void} onError  a run failed
 * @property {(title: Key, thrown: unknown) => void} onFault  something else failed
 * @property {(model: SharedModel) => void} onSharedModel  a link was opened that was made with this model
 */

export class Playground {
  /** @param {Sampling} sampling @param {RunHooks} hooks */
  constructor(sampling, hooks) {
    this.sampling = sampling;
    this.hooks = hooks;
    /** The model, loaded or loading. @type {Model | null} */
    this.model = null;
    this.name = "";
    /** The model's address; empty if it came from files. */
    this.source = "";
    this.weights = "";
    this.context = 0;
    this.has_tokenizer = false;
    /** The checkpoint is known to have no tokenizer, so that no prompt can be run. */
    this.lacks_tokenizer = false;
    this.ready = false;
    /** @type {AbortController | null} */
    this.running = null;
    /** The exchange on the page. @type {Exchange | null} */
    this.exchange = null;
    /** Whether the model's state matches the exchange, so that it can be continued. */
    this.can_continue = false;
    /** Whether no token fits after the exchange; branching may make room. */
    this.is_full = false;
    /** The element of the generated text. */
    this.place = document.createElement("span");
    /** The figures of the last run. @type {{ summary: RunSummary, ttft_ms: number | null } | null} */
    this.shown = null;
    this.used = 0;
    this.count_timer = 0;

    this.prompt = new PromptPanel(
      () => this.promptChanged(),
      () => void (this.running || this.run()),
    );
    this.button = /** @type {HTMLButtonElement} */ (byId("run"));
    this.copy = /** @type {HTMLButtonElement} */ (byId("copy"));
    this.output = byId("output");
    this.chat = new Chat({
      onMode: () => {
        this.showView();
        this.promptChanged();
      },
      onTurns: () => this.conversation.save(),
      onResend: (at, text, is_again) => void this.resend(at, text, is_again),
    });
    this.conversation = new Conversation(this, this.chat);
    this.tokens = new TokenView({ place: byId("tokens"), panel: byId("token-panel") }, (index, token) =>
      this.branch(index, token),
    );
    this.history = new History(byId("history"), (entry) => this.openEntry(entry));
    this.transfer = new Transfer(this);
    this.kept_prompt = new KeptPrompt(this);
    this.listen();
    const is_restored = this.kept_prompt.restore();
    this.conversation.restore();
    this.showView();
    if (!is_restored) void this.transfer.openLink();
  }

  listen() {
    this.button.addEventListener("click", () => (this.running ? this.stop() : this.run()));
    byId("continue").addEventListener("click", () => this.continueRun());
    byId("view").addEventListener("change", () => this.showView());
    const view = byId("view-playground");
    for (const type of ["input", "change"]) view.addEventListener(type, () => this.kept_prompt.save());
    // Also fired before a mobile browser ends a tab in the background.
    for (const type of ["pagehide", "visibilitychange"]) {
      window.addEventListener(type, () => this.keepUnfinished());
    }
    document.addEventListener("keydown", (event) => {
      const target = /** @type {Node} */ (event.target);
      // In other fields and views the keys have other meanings.
      const is_here = target === document.body ? !view.hidden : view.contains(target);
      if (is_here && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        if (!this.running) this.run();
      } else if (event.key === "Escape" && this.running) this.stop();
    });
    this.copy.addEventListener("click", () => copyFrom(this.copy, "copy", this.shownText()));
    offerExports(() => this.exchange);
  }

  /**
   * Called when a model starts to load, and with null when there is none.
   * @param {Model | null} model
   * @param {{ name: string, weights: string, source: string | File[] }} [which]
   */
  setModel(model, which = { name: "", weights: "", source: "" }) {
    this.running?.abort();
    this.model = model;
    this.name = which.name;
    this.weights = which.weights;
    this.source = typeof which.source === "string" ? which.source : "";
    this.has_tokenizer = false;
    this.setLacksTokenizer(false);
    this.ready = false;
    this.setCanContinue(false);
    this.countTokens();
  }

  /** Prompts can be run, block by block, once the tokenizer is loaded. @param {LoadProgress} progress */
  onProgress(progress) {
    this.context = progress.info?.context ?? this.context;
    // After config.json the tokenizer has been looked for.
    if (progress.phase !== "config") this.setLacksTokenizer(!progress.tokenizer);
    if (this.has_tokenizer || !progress.tokenizer) return;
    this.has_tokenizer = true;
    this.chat.setAvailable(progress.chat, null);
    this.showView();
    // A note about a link is kept.
    if (!this.running && !this.prompt.has_note) this.prompt.showNote("prompt.early");
  }

  /** Called when the model has loaded. */
  setReady() {
    if (!this.model) return;
    const { info } = this.model;
    this.ready = true;
    this.context = info.context;
    this.has_tokenizer = info.tokenizer;
    this.setLacksTokenizer(!info.tokenizer);
    if (this.prompt.showsError("prompt.not_ready")) this.prompt.showError(null);
    if (this.prompt.showsNote("prompt.early")) this.prompt.showNote(null);
    this.chat.setAvailable(info.chat, info.chat_fault);
    this.showView();
    this.showButtons();
    this.countTokens();
  }

  /** @param {boolean} lacks_tokenizer */
  setLacksTokenizer(lacks_tokenizer) {
    if (lacks_tokenizer === this.lacks_tokenizer) return;
    this.lacks_tokenizer = lacks_tokenizer;
    this.showStandingNote();
    this.showButtons();
  }

  /** Shows why a button is disabled; otherwise clears the note. */
  showStandingNote() {
    if (this.lacks_tokenizer) this.prompt.showNote("prompt.no_tokenizer");
    else if (this.is_full) this.prompt.showNote("continue.full", { context: () => number(this.context) });
    else this.prompt.showNote(null);
  }

  promptChanged() {
    this.kept_prompt.save();
    this.prompt.showError(null);
    this.showStandingNote();
    clearTimeout(this.count_timer);
    this.count_timer = window.setTimeout(() => this.countTokens(true), COUNT_AFTER_MS);
  }

  /** @param {boolean} [metered] whether the context meter shows this prompt instead of the last run */
  async countTokens(metered = false) {
    const text = this.prompt.value;
    this.prompt.showCount("");
    // During a load or a run, the call would be queued until its end.
    if (!this.ready || !this.has_tokenizer || this.running || text === "") return this.showContext();
    const model = /** @type {Model} */ (this.model);
    try {
      const { length } = await this.promptTokens(model, text);
      if (text !== this.prompt.value) return;
      this.prompt.showCount(`${plural("count.tokens", length)} · `);
      if (metered || !this.can_continue) this.used = length;
      this.showContext();
    } catch {
      // The count is optional; if the model is gone, an error card shows the reason.
    }
  }

  /** Tokens of the prompt as it would be run. @param {Model} model @param {string} text */
  async promptTokens(model, text) {
    if (!this.chat.on) return model.tokenize(text);
    return model.tokenizeChat({ messages: this.chat.messages(text) });
  }

  stop() {
    if (!this.running || this.running.signal.aborted) return;
    this.running.abort();
    this.hooks.onStop();
  }

  /**
   * Returns whether there is an answer.
   * @param {string} [text] @param {boolean} [is_again]  the answer must be another one than before
   */
  async run(text = this.prompt.value, is_again = false) {
    const { model } = this;
    if (this.lacks_tokenizer) return false;
    if (!model || !(this.ready || this.has_tokenizer)) {
      this.prompt.showError("prompt.not_ready");
      return false;
    }
    const chat = this.chat.on;
    if (text === "") {
      this.prompt.showError(chat ? "chat.empty" : "prompt.empty");
      this.prompt.focus();
      return false;
    }
    this.sampling.drawSeed(is_again);
    this.kept_prompt.save();
    const settings = this.sampling.read();
    if (!settings) return false;
    /** @type {Prompt} */
    const prompt = chat ? { messages: this.chat.messages(text) } : text;
    this.exchange = newExchange({
      mode: chat ? "chat" : "raw",
      prompt: text,
      system: chat ? this.chat.system.value : "",
      turns: chat ? this.chat.turns : [],
      settings,
      model: { name: this.name, weights: this.weights },
    });
    this.place = chat ? this.chat.addPending(text) : beginOutput(this.output, text);
    const done = await this.generate(this.exchange, (options) => model.generate(prompt, options), true);
    if (!chat) return done;
    if (!done || this.exchange.text === "") {
      this.chat.removePending();
      this.setCanContinue(false);
      this.kept_prompt.save();
      return false;
    }
    this.chat.commit(this.exchange.text, this.exchange.summary);
    // The message has been answered: clear the field for the next one.
    if (this.prompt.value === text) this.prompt.value = "";
    this.kept_prompt.save();
    return true;
  }

  /**
   * Sends `text` instead of a turn of the conversation; if it is answered, the turns from there on are dropped.
   * @param {number} at @param {string} text @param {boolean} is_again
   */
  async resend(at, text, is_again) {
    const dropped = this.chat.cut(at);
    // The pressed button has been removed, and focus with it.
    this.button.focus();
    if (!(await this.run(text, is_again))) this.chat.putBack(dropped);
  }

  /** Stores the answer in progress, in case the page is closed before it is complete. */
  keepUnfinished() {
    const { exchange, prompt } = this;
    if (!this.running || !exchange?.text) return;
    this.history.add(exchange);
    if (exchange.mode !== "chat") return;
    this.conversation.save(exchange.text);
    // The message is now a turn.
    if (prompt.value === exchange.prompt) this.kept_prompt.save("");
  }

  /** Continues after the last token. */
  async continueRun() {
    const { model, exchange } = this;
    const settings = this.sampling.read();
    if (!model || !exchange || !settings) return;
    exchange.settings = settings;
    // The button is about to be disabled, and focus would be lost with it.
    this.button.focus();
    const max_tokens = exchange.tokens.length + (settings.max_tokens ?? 0);
    await this.generate(exchange, (options) => model.continue({ ...options, max_tokens }));
    if (exchange.mode === "chat") this.chat.replaceLast(exchange.text, exchange.summary);
  }

  /** Replaces the token at `index` by `token` and continues from there. @param {number} index @param {number} token */
  async branch(index, token) {
    const { model, exchange } = this;
    const settings = this.sampling.read();
    if (!model || !exchange || !settings) return;
    exchange.settings = settings;
    this.button.focus();
    const max_tokens = Math.max(index + 1, settings.max_tokens ?? 0);
    await this.generate(exchange, (options) => model.branch(index, token, { ...options, max_tokens }));
    if (exchange.mode === "chat") this.chat.replaceLast(exchange.text, exchange.summary);
    this.tokens.focus(index);
  }

  /**
   * Runs the model and appends to the exchange. Returns whether the run ended without an error.
   * @param {Exchange} exchange @param {(options: RunOptions) => AsyncGenerator<Piece, void, void>} start
   * @param {boolean} [has_prompt]  whether it begins with a prefill
   */
  async generate(exchange, start, has_prompt = false) {
    const model = /** @type {Model} */ (this.model);
    const controller = new AbortController();
    this.running = controller;
    exchange.summary = null;
    this.conversation.undo.end();
    clearErrorCards(byId("errors"));
    this.prompt.showError(null);
    this.prompt.showNote(null);
    this.setCanContinue(false);
    this.button.textContent = t("stop");
    this.output.setAttribute("aria-busy", "true");
    this.tokens.set(exchange.tokens);
    this.chat.setBusy(true);
    this.showView();
    this.hooks.onStart(has_prompt);
    const used = () => (exchange.prompt_tokens ?? 0) + exchange.tokens.length;
    const { thrown, ttft_ms } = await runExchange(exchange, this.place, controller.signal, start, {
      onPrefill: ({ block, prompt_tokens, done }) => {
        this.used = used();
        // A continued sequence has no prefill.
        if (!done) this.hooks.onPrefill(block, prompt_tokens);
      },
      onReplay: this.hooks.onReplay,
      onKept: () => this.tokens.set(exchange.tokens),
      onToken: (blocks_us) => {
        this.used = used();
        this.hooks.onToken(blocks_us);
      },
      onPaint: () => this.tokens.grown(),
      onLive: (live) => {
        this.showContext();
        this.hooks.onLive({ ...live, used: this.used });
      },
    });
    const failed = thrown !== null && !controller.signal.aborted;
    // If the page has disposed of the model, there is no error card.
    if (failed && /** @type {any} */ (thrown).code !== "disposed") this.hooks.onError(thrown);
    this.tokens.grown();
    this.running = null;
    this.chat.setBusy(false);
    this.output.setAttribute("aria-busy", "false");
    this.button.textContent = t("run");
    this.setCanContinue(!failed && this.model === model && exchange.tokens.length > 0);
    this.countTokens();
    const summary = failed ? null : model.last;
    exchange.summary = summary;
    if (exchange.text !== "") this.history.add(exchange);
    if (!summary) return false;
    // A very short run ends before its first paint; the module's value is used then.
    this.shown = { summary, ttft_ms: ttft_ms ?? (summary.tokens > 0 ? summary.ttft_ms : null) };
    this.showMetrics();
    this.hooks.onEnd(summary);
    return true;
  }

  /** @param {boolean} can_continue */
  setCanContinue(can_continue) {
    this.can_continue = can_continue;
    this.tokens.can_branch = can_continue;
    this.is_full = can_continue && this.used >= this.context;
    if (this.is_full) this.showStandingNote();
    this.showButtons();
  }

  clear() {
    this.showAgain({ exchange: null, place: this.place, used: 0, can_continue: false });
  }

  /**
   * Shows the previous content of the page again.
   * @param {{ exchange: Exchange | null, place: HTMLElement, used: number, can_continue: boolean }} shown
   */
  showAgain({ exchange, place, used, can_continue }) {
    this.exchange = exchange;
    this.place = place;
    this.used = used;
    this.tokens.set(exchange?.tokens ?? []);
    this.setCanContinue(can_continue);
    this.showView();
    this.countTokens();
  }

  showButtons() {
    const has_text = this.exchange !== null && this.exchange.text !== "" && !this.running;
    for (const id of ["copy", "export-markdown", "export-json"])
      /** @type {HTMLButtonElement} */ (byId(id)).disabled = !has_text;
    this.button.disabled = this.lacks_tokenizer;
    /** @type {HTMLButtonElement} */ (byId("continue")).disabled = !this.can_continue || this.is_full;
    /** @type {HTMLButtonElement} */ (byId("save-state")).disabled = !this.can_continue;
    /** @type {HTMLButtonElement} */ (byId("open-state")).disabled = !this.ready || this.running !== null;
  }

  /** Updates the page to the chosen view (text or tokens) and mode (raw or chat). */
  showView() {
    const tokens = /** @type {HTMLInputElement} */ (byId("view").querySelector("[value=tokens]")).checked;
    this.chat.show();
    this.output.hidden = this.chat.on || tokens;
    byId("token-part").hidden = !tokens;
    byId("tokens-none").hidden = !this.exchange || this.exchange.tokens.length > 0 || this.running !== null;
    if (this.tokens.on !== tokens) this.tokens.setShown(tokens);
  }

  /** The text for Copy: prompt and continuation, or the answer of a chat. */
  shownText() {
    if (!this.exchange) return "";
    return this.exchange.mode === "raw" ? this.exchange.prompt + this.exchange.text : this.exchange.text;
  }

  showContext() {
    this.prompt.showContext(this.used, this.context);
  }

  /** @param {Entry} entry */
  openEntry(entry) {
    if (this.running) return;
    this.showExchange({ ...entry, tokens: [] });
    this.setCanContinue(false);
    this.countTokens(true);
    this.prompt.focus();
  }

  /** Shows an exchange from the history or a state file, with its settings. @param {Exchange} exchange */
  showExchange(exchange) {
    this.exchange = exchange;
    this.prompt.showError(null);
    this.sampling.write(exchange.settings);
    this.chat.setMode(exchange.mode);
    if (exchange.mode === "chat" && this.chat.on) {
      this.chat.system.value = exchange.system;
      this.prompt.value = "";
      this.place = this.chat.load(exchange);
    } else {
      this.prompt.value = exchange.prompt;
      this.place = beginOutput(this.output, exchange.prompt);
      this.place.textContent = exchange.text;
    }
    this.tokens.set(exchange.tokens);
    this.showView();
    this.showButtons();
    this.kept_prompt.save();
  }

  /** Called when the language changes. */
  showWords() {
    this.showView();
    this.tokens.set(this.tokens.tokens);
    this.history.show();
    this.showMetrics();
    this.countTokens();
  }

  showMetrics() {
    if (this.shown) showRunMetrics(this.shown.summary, this.shown.ttft_ms);
  }
}
