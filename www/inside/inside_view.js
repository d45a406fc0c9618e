// @ts-check
// The Inside view: inspections of the last run's tokens, or of the prompt before the first run. Each is a call of the
// module with passes of its own, made when the view is opened, after a run, or on demand.

import { attentionFinding, attentionMap, attentionTable } from "../charts/attention_map.js";
import { ChartFrame, segmented } from "../charts/chart_frame.js";
import { effectBars, effectsFinding, effectsTable } from "../charts/effect_bars.js";
import { halfLifeMap, memoryFinding, memoryTable } from "../charts/half_life_map.js";
import { lensFinding, lensMap, lensTable } from "../charts/lens_map.js";
import { byId, element } from "../dom.js";
import { saveFile } from "../save_file.js";
import { visible } from "../token_text.js";
import { number, t } from "../words.js";
import { AblationCard } from "./ablation_card.js";

/** @import { Strip } from "../blocks/strip.js" */
/** @import { Effect } from "../charts/effect_bars.js" */
/** @import { Inspection, InspectProgress, Model } from "../engine/zamba2.d.ts" */
/** @import { LeftOut } from "./ablation_card.js" */
/** @import { Key } from "../words.js" */

/** Length of the continuations with and without a block. */
const ABLATED_TOKENS = 24;
/** Characters at the end of the text that are shown above the charts. */
const SHOWN_CHARACTERS = 160;

/** @typedef {{ signal: AbortSignal, onProgress: (progress: InspectProgress) => void }} Watch */

export class InsideView {
  /**
   * @param {{ strip: Strip, prompt: () => string, isGenerating: () => boolean,
   *   onFault: (thrown: unknown, retry: () => void) => void }} hooks
   * `prompt`: the text to inspect before the first run
   */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {Model | null} */
    this.model = null;
    /** @type {AbortController | null} */
    this.running = null;
    /** @type {Inspection | null} */
    this.inspection = null;
    /** Whether there is a newer run than the inspected one. */
    this.is_stale = true;
    /** Which call of a shared transformer is shown. */
    this.visit = 0;
    this.is_sorted = true;
    /** The effect of leaving out each block. @type {Effect[]} */
    this.effects = [];
    this.view = byId("view-inside");
    this.button = byId("inside-run");
    this.status = byId("inside-status");
    this.progress = /** @type {HTMLProgressElement} */ (byId("inside-progress"));
    this.positions = /** @type {HTMLSelectElement} */ (byId("inside-positions"));
    this.json = /** @type {HTMLButtonElement} */ (byId("inside-json"));
    this.result = byId("inside-result");
    this.frames = {
      lens: new ChartFrame({ id: "chart-lens", title: "lens.title", note: "lens.note" }),
      memory: new ChartFrame({ id: "chart-half-lives", title: "memory.title", note: "memory.note" }),
      attention: new ChartFrame({ id: "chart-attention", title: "attention.title", note: "attention.note" }),
      effects: new ChartFrame({ id: "chart-effects", title: "effects.title", note: "effects.note", flush: true }),
    };
    this.ablation = new AblationCard({
      onChoose: (left_out) => void this.ablate(left_out),
      onMeasureAll: () => void this.measureAll(),
    });
    const pair = element("div", "pair-grid", this.frames.memory.element, this.frames.attention.element);
    this.result.append(this.frames.lens.element, pair, this.ablation.element, this.frames.effects.element);
    this.button.addEventListener("click", () => (this.running ? this.stop() : void this.look()));
    this.positions.addEventListener("change", () => void this.look());
    this.json.addEventListener("click", () => this.save());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.running && !this.view.hidden) this.stop();
    });
  }

  /** @param {Model | null} model */
  setModel(model) {
    this.stop();
    this.model = model;
    this.inspection = null;
    this.ablation.left_out = null;
    this.ablation.effect = null;
    this.effects = [];
    this.is_stale = true;
    this.render();
    this.lookIfShown();
  }

  /** Called when a run has ended, so that there are new tokens to inspect. */
  runEnded() {
    this.is_stale = true;
    this.lookIfShown();
  }

  lookIfShown() {
    if (!this.view.hidden && this.model && this.is_stale && !this.running && !this.hooks.isGenerating())
      void this.look();
  }

  stop() {
    this.running?.abort();
  }

  /**
   * Makes a call that can be stopped, with progress. One at a time: a newer call ends the previous one.
   * @param {Key} status @param {(model: Model, watch: Watch) => Promise<void>} call @param {() => void} retry
   */
  async work(status, call, retry) {
    const { model } = this;
    if (!model) return this.showStatus("profile.no_model");
    this.stop();
    const controller = new AbortController();
    this.running = controller;
    this.button.textContent = t("stop");
    this.progress.hidden = false;
    this.progress.removeAttribute("value");
    this.showStatus(this.hooks.isGenerating() ? "profile.waiting" : status);
    try {
      await call(model, {
        signal: controller.signal,
        onProgress: ({ done, of }) => {
          this.progress.max = of;
          this.progress.value = done;
        },
      });
      if (this.running === controller) this.showStatus(null);
    } catch (thrown) {
      if (controller.signal.aborted) {
        if (this.running === controller) this.showStatus("inside.stopped");
      } else {
        this.showStatus("status.failed");
        this.hooks.onFault(thrown, retry);
      }
    } finally {
      if (this.running === controller) {
        this.running = null;
        this.button.textContent = t("inside.run");
        this.progress.hidden = true;
      }
    }
  }

  /** Inspects the tokens of the last run, or of the prompt if there is none. */
  look() {
    return this.work(
      "inside.looking",
      async (model, watch) => {
        this.is_stale = false;
        try {
          this.inspection = await this.inspect(model, watch);
        } catch (thrown) {
          this.is_stale = true;
          throw thrown;
        }
        this.ablation.effect = null;
        this.effects = [];
        this.render();
        const { left_out } = this.ablation;
        if (left_out) await this.leaveOut(model, left_out, watch);
      },
      () => void this.look(),
    );
  }

  /** @param {Model} model @param {Watch} watch */
  async inspect(model, watch) {
    const n = Number(this.positions.value);
    /** @param {ArrayLike<number>} ids */
    const last = (ids) =>
      Array.from({ length: Math.min(n, ids.length) }, (_, i) => ids.length - Math.min(n, ids.length) + i);
    let ids = await model.sequenceIds();
    // After an end token a model predicts an unrelated text.
    if (model.info.eos_token_ids.includes(ids[ids.length - 1])) ids = ids.slice(0, -1);
    if (ids.length === 0) ids = await model.tokenize(this.hooks.prompt());
    return model.inspect({ ids, positions: last(ids), ...watch });
  }

  /** @param {number} query  the token whose attention is shown */
  attend(query) {
    return this.work(
      "inside.looking",
      async (model, watch) => {
        const { inspection } = this;
        if (!inspection) return;
        const { attention } = await model.inspect({ ids: inspection.ids, what: ["attention"], query, ...watch });
        if (this.inspection !== inspection) return;
        this.inspection = { ...inspection, attention, query };
        this.showAttention();
      },
      () => void this.attend(query),
    );
  }

  /** @param {LeftOut} left_out */
  ablate(left_out) {
    this.renderAblation();
    return this.work(
      "inside.ablating",
      (model, watch) => this.leaveOut(model, left_out, watch),
      () => void this.ablate(left_out),
    );
  }

  /** @param {Model} model @param {LeftOut} left_out @param {Watch} watch */
  async leaveOut(model, left_out, watch) {
    const { inspection } = this;
    if (!inspection) return;
    const effect = await model.ablate({ ids: inspection.ids, ...left_out, max_tokens: ABLATED_TOKENS, ...watch });
    if (this.inspection?.ids !== inspection.ids || this.ablation.left_out !== left_out) return;
    this.ablation.effect = effect;
    this.renderAblation();
  }

  /** Measures the effect of leaving out each block. */
  measureAll() {
    return this.work(
      "inside.ablating",
      async (model, { signal, onProgress }) => {
        const { inspection } = this;
        if (!inspection) return;
        const { kinds } = model.info;
        /** @type {Effect[]} */
        const effects = [];
        for (const [block, kind] of kinds.entries()) {
          const { kl_nats, whole, ablated } = await model.ablate({ ids: inspection.ids, block, top_k: 1, signal });
          effects.push({ block, kind, kl_nats, from: whole.top[0].text, to: ablated.top[0].text });
          onProgress({ done: block + 1, of: kinds.length });
        }
        if (this.inspection?.ids !== inspection.ids) return;
        this.effects = effects;
        this.showEffects();
      },
      () => void this.measureAll(),
    );
  }

  /** Leaves out a block, if there is one and something to inspect. @param {number} block @returns {boolean} */
  choose(block) {
    if (!this.model || !this.inspection || block < 0) return false;
    this.ablation.choose({ block, part: "block" });
    byId("ablation").scrollIntoView({ block: "nearest" });
    return true;
  }

  /** @param {Key | null} key */
  showStatus(key) {
    const text = key ? t(key) : "";
    if (this.status.textContent !== text) this.status.textContent = text;
  }

  /** In the current language. */
  render() {
    const { inspection } = this;
    this.button.textContent = t(this.running ? "stop" : "inside.run");
    this.result.hidden = !inspection;
    this.json.disabled = !inspection;
    byId("inside-text").textContent = inspection ? textOf(inspection) : t("inside.empty");
    if (!inspection) return;
    const { frames } = this;
    const hybrid = new Set(inspection.attention.map(({ block }) => block));
    frames.lens.show({
      finding: lensFinding(inspection),
      draw: (width, readout) =>
        lensMap(inspection, {
          width,
          hybrid,
          readout,
          onPosition: (at) => void this.attend(inspection.positions[at]),
        }),
      table: () => lensTable(inspection),
    });
    this.showMemory();
    this.showAttention();
    this.renderAblation();
    this.showEffects();
  }

  showMemory() {
    const { inspection, frames } = this;
    if (!inspection) return;
    frames.memory.controls.replaceChildren(
      segmented({
        name: "memory-order",
        label: t("memory.order"),
        chosen: this.is_sorted ? "sorted" : "head",
        choices: [
          { value: /** @type {"sorted" | "head"} */ ("sorted"), label: t("memory.order.sorted") },
          { value: "head", label: t("memory.order.head") },
        ],
        onChoose: (order) => {
          this.is_sorted = order === "sorted";
          frames.memory.draw();
        },
      }),
    );
    frames.memory.show({
      finding: memoryFinding(inspection.half_lives),
      draw: (width, readout) => halfLifeMap(inspection.half_lives, { width, sorted: this.is_sorted, readout }),
      table: () => memoryTable(inspection.half_lives),
    });
  }

  showAttention() {
    const { inspection, frames } = this;
    if (!inspection || inspection.query === null) return;
    const { attention, texts, query } = inspection;
    frames.attention.element.hidden = attention.length === 0;
    const visit = attention[Math.min(this.visit, attention.length - 1)];
    if (!visit) return;
    const attended = { visit, texts, query };
    frames.attention.controls.replaceChildren(this.visitSelect(attention), this.querySelect(inspection));
    frames.attention.show({
      finding: attentionFinding(attended),
      draw: (width, readout) => attentionMap(attended, { width, readout }),
      table: () => attentionTable(attended),
    });
  }

  /** @param {Inspection["attention"]} attention */
  visitSelect(attention) {
    const select = document.createElement("select");
    select.id = "inside-visit";
    select.append(...attention.map(({ block }, at) => new Option(t("cell.block", { n: block }), String(at))));
    select.value = String(Math.min(this.visit, attention.length - 1));
    select.addEventListener("change", () => {
      this.visit = Number(select.value);
      this.showAttention();
      byId("inside-visit").focus();
    });
    return element("label", "", element("span", "", t("attention.visit")), select);
  }

  /** @param {Inspection} inspection */
  querySelect({ texts, query }) {
    const select = document.createElement("select");
    select.id = "inside-query";
    select.append(...texts.map((text, at) => new Option(`${number(at)} “${visible(text)}”`, String(at))));
    select.value = String(query);
    select.addEventListener("change", () => void this.attend(Number(select.value)));
    return element("label", "", element("span", "", t("attention.query")), select);
  }

  renderAblation() {
    if (this.model) this.ablation.draw(this.model.info.kinds);
  }

  showEffects() {
    const { effects, frames } = this;
    frames.effects.element.hidden = effects.length === 0;
    if (effects.length === 0) return;
    frames.effects.show({
      finding: effectsFinding(effects),
      draw: (width, readout) =>
        effectBars(effects, {
          width,
          readout,
          columns: this.hooks.strip.columnsOver(frames.effects.place, effects.length),
          onChoose: (block) => void this.choose(block),
        }),
      table: () => effectsTable(effects),
    });
  }

  save() {
    const { inspection, ablation, effects } = this;
    if (!inspection) return;
    const { left_out, effect } = ablation;
    /** @param {string} _ @param {unknown} value */
    const plain = (_, value) => (ArrayBuffer.isView(value) ? [.../** @type {Float32Array} */ (value)] : value);
    const content = { ...inspection, ablation: effect && { ...left_out, ...effect }, ablations: effects };
    saveFile("inside.json", JSON.stringify(content, plain), "application/json");
  }
}

/** @param {Inspection} inspection */
function textOf({ texts }) {
  const text = texts.join("");
  const end = text.length > SHOWN_CHARACTERS ? `…${text.slice(-SHOWN_CHARACTERS)}` : text;
  return t("inside.of", { tokens: number(texts.length), text: end });
}
