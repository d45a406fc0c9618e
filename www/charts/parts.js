// @ts-check
// The four parts that a block's time falls into, in the order in which they are stacked, and which part a module
// belongs to. Colours of the parts are classes `part-…` of profile.css. It stands below all charts.

/** @typedef {"mamba" | "attention" | "ffn" | "other"} Part */

/** @type {Part[]} */
export const PARTS = ["mamba", "attention", "ffn", "other"];

/** By the checkpoint's module names. @param {string} path @returns {Part} */
export function partOf(path) {
  if (/\.self_attn(\.|$)/.test(path)) return "attention";
  if (/\.feed_forward(\.|$)/.test(path)) return "ffn";
  return /\.mamba(\.|$)/.test(path) ? "mamba" : "other";
}
