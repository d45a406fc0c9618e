// @ts-check
// One run at a time: prompt in, text out, and the run's figures. It stands on the JS module and on strings.js.
// It draws neither strip nor heat map: it hands them each token's block times.

import { Chat } from "./chat.js";
import { clearErrorCards } from "./errors.js";
import { bytesText, figure, number, plural, t } from "./strings.js";

/** @import { Model, Prompt, RunSummary } from "./engine/zamba2.d.ts" */
/** @import { Sampling } from "./sampling.js" */
/** @import { StringKey } from "./strings.js" */

/** What the embedded model has read about: Rust's books, as light Markdown. */
const EXAMPLES = ["Ownership is", "A trait object", "The borrow checker", "To create a new project with Cargo,", "## Error handling\n\n"];
const COUNT_AFTER_MS = 250;
const LIVE_INTERVAL_MS = 200;

/**
 * @typedef {object} RunHooks
 * @property {() => void} onStart
 * @property {(block: number, prompt_tokens: number) => void} onPrefill
 * @property {(blocks_us: Float32Array) => void} onToken
 * @property {(live: { tokens_per_s: number | null, ttft_ms: number, used: number }) => void} onLive
 * @property {(summary: RunSummary, ttft_ms: number) => void} onEnd
 * @property {(thrown: unknown) => void} onError
 */

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

export class Playground {
  /** @param {Sampling} sampling @param {RunHooks} hooks */
  constructor(sampling, hooks) {
    this.sampling = sampling;
    this.hooks = hooks;
    /** @type {Model | null} */
    this.model = null;
    /** @type {AbortController | null} */
    this.running = null;
    /** @type {{ summary: RunSummary, ttft_ms: number } | null} */
    this.shown = null;
    this.text = "";
    this.count_timer = 0;

    this.prompt = /** @type {HTMLTextAreaElement} */ (byId("prompt"));
    this.button = /** @type {HTMLButtonElement} */ (byId("run"));
    this.copy = /** @type {HTMLButtonElement} */ (byId("copy"));
    this.chat = new Chat(() => this.promptChanged());
    this.output = byId("output");
    this.message = byId("prompt-message");
    this.prompt.value = EXAMPLES[0];
    this.button.addEventListener("click", () => (this.running ? this.stop() : this.run()));
    this.copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(this.text);
      this.copy.textContent = t("copied");
    });
    this.prompt.addEventListener("input", () => this.promptChanged());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        if (!this.running) this.run();
      } else if (event.key === "Escape" && this.running) this.stop();
    });
    for (const example of EXAMPLES) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = example.trim();
      button.addEventListener("click", () => {
        this.prompt.value = example;
        this.promptChanged();
        this.prompt.focus();
      });
      byId("examples").append(button);
    }
  }

  /** @param {Model | null} model */
  setModel(model) {
    this.stop();
    this.model = model;
    if (model) {
      this.say("");
      this.chat.offer(model.info.chat, model.info.chat_fault?.message ?? null);
    }
    this.countTokens();
  }

  promptChanged() {
    this.say("");
    clearTimeout(this.count_timer);
    this.count_timer = window.setTimeout(() => this.countTokens(), COUNT_AFTER_MS);
  }

  async countTokens() {
    const place = byId("prompt-tokens");
    const text = this.prompt.value;
    place.textContent = "";
    // During a run the answer would wait for its end.
    if (!this.model?.info.tokenizer || this.running || text === "") return;
    try {
      const { length } = await this.tokens(this.model, text);
      if (text === this.prompt.value) place.textContent = `${plural("prompt.tokens", length)} · `;
    } catch {
      // A count is a courtesy; if the model has gone, its own card says why.
    }
  }

  /** What the model would read. @param {Model} model @param {string} text */
  async tokens(model, text) {
    if (!this.chat.on) return model.tokenize(text);
    return model.tokenize(await model.renderChat(this.chat.messages(text)), { special: false });
  }

  /** @param {string} text */
  say(text) {
    this.message.textContent = text;
  }

  stop() {
    this.running?.abort();
  }

  async run() {
    if (!this.model) return this.say(t("prompt.not_ready"));
    const text = this.prompt.value;
    const chat = this.chat.on;
    if (text === "") {
      this.say(t(chat ? "chat.empty" : "prompt.empty"));
      this.prompt.focus();
      return;
    }
    const { model } = this;
    const controller = new AbortController();
    this.running = controller;
    clearErrorCards(byId("errors"));
    this.say("");
    this.button.textContent = t("stop");
    /** @type {Prompt} */
    const prompt = chat ? { messages: this.chat.messages(text) } : text;
    const output = this.beginOutput(text, chat);
    const pressed_ms = performance.now();
    const painter = new TextPainter(output, () => this.showLive(pressed_ms, painter, n_tokens, used));
    let n_tokens = 0;
    let used = 0;
    this.hooks.onStart();
    try {
      const options = { ...this.sampling.read(), signal: controller.signal };
      const pieces = model.generate(prompt, {
        ...options,
        onPrefill: ({ block, prompt_tokens }) => {
          used = prompt_tokens;
          this.hooks.onPrefill(block, prompt_tokens);
        },
      });
      for await (const piece of pieces) {
        n_tokens += 1;
        used += 1;
        this.text += piece;
        painter.add(piece.text);
        this.hooks.onToken(piece.blocks_us);
      }
    } catch (thrown) {
      if (!controller.signal.aborted) {
        painter.finish();
        this.chat.withdraw();
        this.endOutput();
        return this.hooks.onError(thrown);
      }
    }
    painter.finish();
    if (chat) this.endTurn(text);
    this.endOutput();
    const summary = model.last;
    if (!summary) return;
    // Too short a run ends before its first paint; then the module's own figure stands in.
    this.shown = { summary, ttft_ms: painter.painted_ms ? painter.painted_ms - pressed_ms : summary.ttft_ms };
    this.showMetrics();
    this.hooks.onEnd(summary, this.shown.ttft_ms);
  }

  /** The place where the answer goes. @param {string} text @param {boolean} chat @returns {HTMLElement} */
  beginOutput(text, chat) {
    this.copy.disabled = true;
    this.text = chat ? "" : text;
    if (chat) return this.chat.begin(text);
    const given = document.createElement("span");
    given.className = "given";
    given.textContent = text;
    const generated = document.createElement("span");
    this.output.replaceChildren(given, generated);
    this.output.setAttribute("aria-busy", "true");
    return generated;
  }

  /** A message that was answered makes room for the next one. @param {string} text */
  endTurn(text) {
    if (this.text === "") return this.chat.withdraw();
    this.chat.keep(text, this.text);
    if (this.prompt.value === text) this.prompt.value = "";
  }

  endOutput() {
    this.running = null;
    this.output.setAttribute("aria-busy", "false");
    this.button.textContent = t("run");
    this.copy.textContent = t("copy");
    this.copy.disabled = false;
    this.countTokens();
  }

  /** @param {number} pressed_ms @param {TextPainter} painter @param {number} n_tokens @param {number} used */
  showLive(pressed_ms, painter, n_tokens, used) {
    const since_first_s = (performance.now() - painter.first_ms) / 1000;
    const tokens_per_s = n_tokens > 1 ? (n_tokens - 1) / since_first_s : null;
    this.hooks.onLive({ tokens_per_s, ttft_ms: painter.painted_ms - pressed_ms, used });
  }

  /** After the language has changed. */
  showWords() {
    this.chat.show();
    this.showMetrics();
    this.countTokens();
  }

  showMetrics() {
    if (!this.shown) return;
    const { summary, ttft_ms } = this.shown;
    const { memory } = summary;
    /** @type {(value: number | null | undefined) => string} */
    const or = (value) => (value === null || value === undefined ? "–" : figure(value));
    /** @type {[string, string][]} */
    const rows = [
      [number(ttft_ms, ttft_ms < 100 ? 1 : 0), t("metric.ttft")],
      [or(summary.prefill_tokens_per_s), t("metric.prefill", { tokens: summary.prompt_tokens ?? 0 })],
      [or(summary.decode_tokens_per_s), t("metric.decode")],
      [`${or(summary.gap_ms_p50)} / ${or(summary.gap_ms_p95)}`, t("metric.gaps")],
      [number(summary.tokens), t("metric.tokens")],
      [memory ? bytesText(memory.wasm_bytes) : "–", t("metric.memory")],
      [t(/** @type {StringKey} */ (`reason.${summary.reason}`)), t("metric.reason")],
    ];
    byId("metrics-none").hidden = true;
    const list = byId("metrics");
    list.hidden = false;
    list.replaceChildren(...rows.map(([value, name], i) => {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const detail = document.createElement("dd");
      term.textContent = name;
      detail.textContent = value;
      if (i === rows.length - 1) row.className = "word";
      row.append(term, detail);
      return row;
    }));
  }
}

/** Appends text once per frame: a node per token would lay the page out more often than it is shown. */
class TextPainter {
  /** @param {HTMLElement} place @param {() => void} onLive */
  constructor(place, onLive) {
    this.place = place;
    this.onLive = onLive;
    this.waiting = "";
    this.frame = 0;
    this.first_ms = 0;
    /** When the first text was on the screen; 0 before. */
    this.painted_ms = 0;
    this.live_ms = 0;
  }

  /** @param {string} text */
  add(text) {
    if (this.first_ms === 0) this.first_ms = performance.now();
    this.waiting += text;
    this.frame ||= requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.frame = 0;
    this.flush();
    const now_ms = performance.now();
    if (this.painted_ms === 0) this.painted_ms = now_ms;
    if (now_ms - this.live_ms < LIVE_INTERVAL_MS) return;
    this.live_ms = now_ms;
    this.onLive();
  }

  flush() {
    if (this.waiting === "") return;
    this.place.append(document.createTextNode(this.waiting));
    this.waiting = "";
  }

  /** Frames stop in a hidden tab, so the end does not wait for one. */
  finish() {
    cancelAnimationFrame(this.frame);
    this.flush();
  }
}
