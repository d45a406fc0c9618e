// @ts-check
// The sampling controls: fields, which are made from the engine's table of options, presets, and conversion between
// fields and options. The range of each number is checked here, so that the message is shown beside its field.

import { NUMBER_OPTIONS } from "../../pkg/zamba2.js";
import { element } from "../dom.js";
import { checkField } from "../fields.js";
import { write } from "../words.js";

/** @import { GenerateOptions, NumberOption } from "../engine/zamba2.d.ts" */

/**
 * A preset has a value for each option that can be off. The others, such as the seed, do not affect the distribution.
 * @param {(option: NumberOption) => number | null} valueOf
 */
const preset = (valueOf) =>
  Object.fromEntries(
    NUMBER_OPTIONS.filter(({ off }) => off !== null).map((option) => [option.name, valueOf(option) ?? 0]),
  );

const OFF = preset(({ off }) => off);

/** @type {Record<string, Record<string, number>>} */
const PRESETS = {
  greedy: { ...OFF, temperature: 0 },
  balanced: preset((option) => option.default),
  creative: { ...OFF, min_p: 0.05, repetition_penalty: 1.1 },
};

/** The field's smallest value. @param {NumberOption} option */
const lowest = ({ min, above_min, step }) => (above_min ? min + step : min);

/** @param {NumberOption} option @returns {import("../fields.js").Range} */
const rangeOf = (option) => ({
  label: `option.${option.name}`,
  low: lowest(option),
  high: option.usual_max,
  is_integer: option.is_integer,
});

/** @param {NumberOption} option */
function makeInput(option) {
  const input = document.createElement("input");
  const { name, step } = option;
  const [min, max, value] = [lowest(option), option.usual_max, option.default].map(String);
  return Object.assign(input, { type: "number", name, min, max, step: String(step), value });
}

/** @param {NumberOption} option @param {HTMLInputElement} input */
function labelled({ name }, input) {
  const text = element("span", "");
  write(text, `option.${name}`);
  return element("label", "", text, input);
}

export class Sampling {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = /** @type {HTMLDetailsElement} */ (root);
    this.preset = /** @type {HTMLSelectElement} */ (root.querySelector("select"));
    this.stop = /** @type {HTMLTextAreaElement} */ (root.querySelector("textarea"));
    this.fields = NUMBER_OPTIONS.map((option) => ({ option, input: makeInput(option) }));
    const labels = this.fields.map(({ option, input }) => labelled(option, input));
    /** @type {HTMLElement} */ (this.stop.parentElement).before(...labels);
    this.new_seed = /** @type {HTMLInputElement} */ (root.querySelector("#new-seed"));
    this.preset.addEventListener("change", () => this.apply(this.preset.value));
    root.addEventListener("input", (event) => {
      const { name } = /** @type {HTMLInputElement} */ (event.target);
      if (name in OFF) this.preset.value = this.fitting();
      // A seed that the user enters should be kept.
      if (name === "seed") this.new_seed.checked = false;
    });
  }

  /** @param {string} preset */
  apply(preset) {
    const values = PRESETS[preset] ?? {};
    for (const { option, input } of this.fields) {
      if (option.name in values) input.value = String(values[option.name]);
    }
  }

  /** Fills the fields, ignoring unknown options; `read` checks the ranges. @param {GenerateOptions} options */
  write(options) {
    for (const { option, input } of this.fields) {
      const value = options[option.name];
      if (typeof value === "number" && Number.isFinite(value)) input.value = String(value);
    }
    // Reproducing the text needs the same seed.
    if (options.seed !== undefined) this.new_seed.checked = false;
    const stops = Array.isArray(options.stop) ? options.stop.filter((stop) => typeof stop === "string") : [];
    this.stop.value = stops.map((stop) => stop.replaceAll("\n", "\\n")).join("\n");
    this.preset.value = this.fitting();
  }

  /** The contents of the fields, valid or not. @returns {Record<string, string>} */
  fieldValues() {
    const values = Object.fromEntries(this.fields.map(({ input }) => [input.name, input.value]));
    return { ...values, stop: this.stop.value, new_seed: this.new_seed.checked ? "yes" : "no" };
  }

  /** @param {Record<string, unknown>} values  of `fieldValues`; missing ones leave their fields */
  setFieldValues(values) {
    for (const { input } of this.fields) if (input.name in values) input.value = String(values[input.name]);
    if ("stop" in values) this.stop.value = String(values.stop);
    if ("new_seed" in values) this.new_seed.checked = values.new_seed === "yes";
    this.preset.value = this.fitting();
  }

  /** The preset whose values are in the fields. */
  fitting() {
    const fits = (/** @type {string} */ preset) =>
      this.fields.every(({ option, input }) => {
        const wanted = PRESETS[preset][option.name];
        return wanted === undefined || wanted === input.valueAsNumber;
      });
    return Object.keys(PRESETS).find(fits) ?? "custom";
  }

  /** Draws a seed for the next run, unless it is kept. @param {boolean} [always]  even then */
  drawSeed(always = false) {
    const seed = this.fields.find(({ option }) => option.name === "seed");
    if (seed && (always || this.new_seed.checked))
      seed.input.value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
  }

  /** Null if a value is out of range, after marking its field. @returns {GenerateOptions | null} */
  read() {
    const wrong = this.fields.filter(({ option, input }) => !checkField(input, rangeOf(option)));
    if (wrong.length > 0) {
      this.root.open = true;
      wrong[0].input.focus();
      return null;
    }
    /** @type {GenerateOptions} */
    const values = {};
    for (const { option, input } of this.fields) values[option.name] = input.valueAsNumber;
    const stop = this.stop.value
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.replaceAll("\\n", "\n"));
    return { ...values, stop };
  }
}
