// @ts-check
// The options of `generate`: the table of those that are numbers, and the defaults of all; the weight formats.
// Generated from src/base/quant.rs, src/text/sampling/options.rs and src/session/mod.rs; do not edit. To regenerate it:
// ZAMBA2_WRITE=1 cargo test --test integration sampling_options

/** @type {typeof import("./generate_options.d.ts").WEIGHTS} */
export const WEIGHTS = ["f32", "q8", "q4"];

/** @type {typeof import("./generate_options.d.ts").NUMBER_OPTIONS} */
export const NUMBER_OPTIONS = [
  {
    name: "temperature",
    default: 0.7,
    off: 1,
    min: 0,
    above_min: false,
    max: Infinity,
    is_integer: false,
    step: 0.05,
    usual_max: 5,
  },
  {
    name: "top_p",
    default: 0.95,
    off: 1,
    min: 0,
    above_min: true,
    max: 1,
    is_integer: false,
    step: 0.01,
    usual_max: 1,
  },
  {
    name: "top_k",
    default: 40,
    off: 0,
    min: 0,
    above_min: false,
    max: 4294967295,
    is_integer: true,
    step: 1,
    usual_max: 100000,
  },
  {
    name: "min_p",
    default: 0,
    off: 0,
    min: 0,
    above_min: false,
    max: 1,
    is_integer: false,
    step: 0.01,
    usual_max: 1,
  },
  {
    name: "repetition_penalty",
    default: 1,
    off: 1,
    min: 0,
    above_min: true,
    max: Infinity,
    is_integer: false,
    step: 0.05,
    usual_max: 5,
  },
  {
    name: "seed",
    default: 42,
    off: null,
    min: 0,
    above_min: false,
    max: 9007199254740991,
    is_integer: true,
    step: 1,
    usual_max: 4294967295,
  },
  {
    name: "max_tokens",
    default: 256,
    off: null,
    min: 1,
    above_min: false,
    max: 4294967295,
    is_integer: true,
    step: 1,
    usual_max: 100000,
  },
  {
    name: "lookup",
    default: 0,
    off: null,
    min: 0,
    above_min: false,
    max: 10,
    is_integer: true,
    step: 1,
    usual_max: 10,
  },
];

/** @type {typeof import("./generate_options.d.ts").GENERATE_DEFAULTS} */
export const GENERATE_DEFAULTS = {
  temperature: 0.7,
  top_p: 0.95,
  top_k: 40,
  min_p: 0,
  repetition_penalty: 1,
  seed: 42,
  max_tokens: 256,
  lookup: 0,
  stop: [],
  ignore_eos: false,
  json_schema: null,
  grammar: null,
  alternatives: 0,
  checkpoints: false,
  cache_prompt: true,
  reread_answers: false,
};
