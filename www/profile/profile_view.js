// @ts-check
// The Profile view: form, measurement and progress. The loaded model is measured with a fixed prompt; the run goes to
// the shelf, and profile_result.js shows its summary.

import { DECODE_TOKENS, PROMPT_TOKENS, RUNS } from "../../pkg/limits.js";
import { byId } from "../dom.js";
import { checkField } from "../fields.js";
import { number, t } from "../words.js";
import { KeptRuns } from "./kept_runs.js";
import { ProfileResult } from "./profile_result.js";

/** @import { Model, ReportProgress } from "../engine/zamba2.d.ts" */
/** @import { Strip } from "../blocks/strip.js" */
/** @import { RunShelf, ShelvedRun } from "./run_shelf.js" */

/** @typedef {{ tokens: number, decode: number, runs: number, level: "block" | "module" }} Settings */

const TICK_MS = 250;
/**
 * The number fields: a measurement beyond these takes minutes. The engine checks them as well, but its message does not
 * name the field.
 */
const FIELDS = {
  tokens: { low: 1, high: 4096, value: PROMPT_TOKENS },
  decode: { low: 1, high: 512, value: DECODE_TOKENS },
  runs: { low: 1, high: 50, value: RUNS },
};
const FIELD_NAMES = /** @type {const} */ (["tokens", "decode", "runs"]);

export class ProfileView {
  /**
   * @param {{ shelf: RunShelf, strip: Strip, onFault: (thrown: unknown, retry: () => void) => void,
   *   openBlock: (block: number, opener: Element) => void, onShown: () => void, isGenerating: () => boolean }} hooks
   * `isGenerating`: whether a measurement would wait for the answer in progress
   */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {Model | null} */
    this.model = null;
    /** @type {AbortController | null} */
    this.running = null;
    /** @type {ShelvedRun | null} */
    this.shelved = null;
    this.button = byId("profile-run");
    this.form = byId("profile-form");
    this.status = byId("profile-status");
    this.empty = byId("profile-empty");
    this.progress = /** @type {HTMLProgressElement} */ (byId("profile-progress"));
    this.result = new ProfileResult(byId("profile-result"), hooks);
    this.kept = new KeptRuns(hooks.shelf, {
      onShow: (shelved) => void this.open(shelved),
      onDelete: (shelved) => void this.delete(shelved),
    });
    this.empty.after(this.kept.root);
    for (const name of FIELD_NAMES) {
      const { low, high, value } = FIELDS[name];
      Object.assign(this.field(name), { min: low, max: high, value });
    }
    this.button.addEventListener("click", () => (this.running ? this.stop() : void this.run()));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target instanceof HTMLInputElement && !this.running) void this.run();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.running && !byId("view-profile").hidden) this.stop();
    });
  }

  /** @param {Model | null} model */
  setModel(model) {
    this.stop();
    this.model = model;
    this.showEmpty();
  }

  /** @param {URLSearchParams} settings of a link; missing ones keep their values */
  useSettings(settings) {
    for (const name of [...FIELD_NAMES, "level"]) {
      const value = settings.get(name);
      const field = this.field(name);
      if (
        value !== null
        && (field instanceof HTMLInputElement || [...field.options].some((option) => option.value === value))
      )
        field.value = value;
    }
  }

  /** @param {string} name @returns {HTMLInputElement | HTMLSelectElement} */
  field(name) {
    return /** @type {any} */ (this.form.querySelector(`[name=${name}]`));
  }

  /** The values of the fields; null if one is out of range, after marking its field. @returns {Settings | null} */
  settings() {
    const read = { tokens: 0, decode: 0, runs: 0 };
    for (const name of FIELD_NAMES) {
      const field = /** @type {HTMLInputElement} */ (this.field(name));
      const { low, high } = FIELDS[name];
      if (!checkField(field, { label: `profile.${name}`, low, high, is_integer: true })) {
        field.focus();
        return null;
      }
      read[name] = field.valueAsNumber;
    }
    return { ...read, level: this.field("level").value === "block" ? "block" : "module" };
  }

  stop() {
    this.running?.abort();
  }

  /** @param {string} text */
  showStatus(text) {
    if (this.status.textContent !== text) this.status.textContent = text;
  }

  async run() {
    const { model } = this;
    if (!model) return this.showStatus(t("profile.no_model"));
    const settings = this.settings();
    if (!settings) return;
    const controller = new AbortController();
    this.running = controller;
    this.button.textContent = t("stop");
    this.progress.hidden = false;
    const started_ms = performance.now();
    const tick = () => {
      const seconds = number((performance.now() - started_ms) / 1000);
      byId("profile-elapsed").textContent = t("profile.elapsed", { seconds });
    };
    this.progress.removeAttribute("value");
    this.showEmpty();
    this.showStatus(t(this.hooks.isGenerating() ? "profile.waiting" : "profile.running"));
    tick();
    const ticking = setInterval(tick, TICK_MS);
    try {
      const run = await model.report({
        prefill: settings.tokens,
        decode: settings.decode,
        runs: settings.runs,
        level: settings.level,
        signal: controller.signal,
        onProgress: (progress) => this.showProgress(progress),
      });
      const shelved = this.hooks.shelf.add(run, "here");
      await this.show(shelved);
      this.showStatus(t("profile.done", { seconds: number((performance.now() - started_ms) / 1000, 1) }));
    } catch (thrown) {
      if (controller.signal.aborted) this.showStatus(t("profile.stopped"));
      else {
        this.showStatus(t("status.failed"));
        this.hooks.onFault(thrown, () => void this.run());
      }
    } finally {
      clearInterval(ticking);
      byId("profile-elapsed").textContent = "";
      this.running = null;
      this.button.textContent = t("profile.run");
      this.progress.hidden = true;
      this.showEmpty();
    }
  }

  /** @param {ReportProgress} progress */
  showProgress({ phase, run, runs }) {
    this.progress.max = runs;
    this.progress.value = run;
    this.showStatus(t(`profile.phase.${phase}`, { run: number(Math.min(run + 1, runs)), runs: number(runs) }));
  }

  /** @param {ShelvedRun} shelved */
  async show(shelved) {
    // Set first: while the summary is computed, the run may be deleted, or another one be shown.
    this.shelved = shelved;
    const summary = await this.hooks.shelf.summary(shelved);
    if (this.shelved !== shelved) return;
    this.result.show(shelved.run, summary, this.hooks.shelf.name(shelved));
    this.showEmpty();
  }

  /** Called when the view is opened: without a result it shows the newest stored run. */
  async opened() {
    await this.hooks.shelf.restored;
    const newest = this.hooks.shelf.runs.findLast(({ from }) => from === "here");
    if (newest && !this.shelved && !this.running) await this.open(newest);
  }

  /** @param {ShelvedRun} shelved */
  async open(shelved) {
    try {
      await this.show(shelved);
    } catch (thrown) {
      this.hooks.onFault(thrown, () => void this.open(shelved));
    }
  }

  /** @param {ShelvedRun} shelved */
  async delete(shelved) {
    if (this.shelved === shelved) {
      this.shelved = null;
      this.result.clear();
      this.showEmpty();
      this.hooks.onShown();
    }
    this.button.focus();
    await this.hooks.shelf.delete(shelved);
  }

  /** In the current language. */
  async render() {
    this.button.textContent = t(this.running ? "stop" : "profile.run");
    if (!this.running) this.showStatus("");
    this.showEmpty();
    this.kept.draw();
    if (this.shelved) await this.show(this.shelved);
  }

  showEmpty() {
    this.empty.hidden = this.shelved !== null || this.running !== null;
    if (!this.shelved) this.empty.textContent = t(this.model ? "profile.empty" : "profile.no_model");
  }
}
