// @ts-check
// The sampling controls: presets, and conversion between fields and options. The range of each number is checked here,
// so that an error names its field.

import { PageError } from "../errors.js";
import { number, t } from "../words.js";

/** @import { GenerateOptions } from "../engine/zamba2.d.ts" */
/** @import { Key } from "../words.js" */

/** @type {Record<string, Partial<GenerateOptions>>} */
const PRESETS = {
  greedy: { temperature: 0, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 },
  balanced: { temperature: 0.7, top_k: 40, top_p: 0.95, min_p: 0, repetition_penalty: 1 },
  creative: { temperature: 1, top_k: 0, top_p: 1, min_p: 0.05, repetition_penalty: 1.1 },
};

export class Sampling {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.preset = /** @type {HTMLSelectElement} */ (root.querySelector("select"));
    this.inputs = /** @type {HTMLInputElement[]} */ ([...root.querySelectorAll("input")]);
    this.stop = /** @type {HTMLTextAreaElement} */ (root.querySelector("textarea"));
    this.preset.addEventListener("change", () => this.apply(this.preset.value));
    root.addEventListener("input", (event) => {
      const { name } = /** @type {HTMLInputElement} */ (event.target);
      if (name in PRESETS.balanced) this.preset.value = "custom";
    });
    this.apply("balanced");
  }

  /** @param {string} preset */
  apply(preset) {
    for (const [name, value] of Object.entries(PRESETS[preset] ?? {})) {
      const input = this.inputs.find((field) => field.name === name);
      if (input) input.value = String(value);
    }
  }

  /** Fills the fields, ignoring unknown options; `read` checks the ranges. @param {GenerateOptions} options */
  write(options) {
    const values = /** @type {Record<string, unknown>} */ (options);
    for (const input of this.inputs) {
      const value = values[input.name];
      if (typeof value === "number" && Number.isFinite(value)) input.value = String(value);
    }
    const stops = Array.isArray(options.stop) ? options.stop.filter((stop) => typeof stop === "string") : [];
    this.stop.value = stops.map((stop) => stop.replaceAll("\n", "\\n")).join("\n");
    const fits = (/** @type {string} */ preset) =>
      this.inputs.every(({ name, valueAsNumber }) => {
        const wanted = /** @type {Record<string, unknown>} */ (PRESETS[preset])[name];
        return wanted === undefined || wanted === valueAsNumber;
      });
    this.preset.value = Object.keys(PRESETS).find(fits) ?? "custom";
  }

  /** @returns {GenerateOptions} */
  read() {
    /** @type {Record<string, number>} */
    const values = {};
    for (const input of this.inputs) {
      const value = input.valueAsNumber;
      const low = Number(input.min);
      const high = Number(input.max);
      // A step of 1 means that only integers are valid; other steps are for the arrow buttons only.
      const whole = input.step === "1";
      if (!(value >= low && value <= high) || (whole && !Number.isInteger(value))) {
        throw new PageError("bad_option", "option.number", "option.next", {
          name: () => t(/** @type {Key} */ (`option.${input.name}`)),
          low: () => number(low, low % 1 ? 2 : 0),
          high: () => number(high),
        });
      }
      values[input.name] = value;
    }
    const stop = this.stop.value
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.replaceAll("\\n", "\n"));
    return { ...values, stop };
  }
}
