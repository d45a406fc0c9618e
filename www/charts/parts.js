// @ts-check
// The four parts that a block's time falls into, in the order in which they are stacked. Which part a module belongs to
// is in the summary. Colours of the parts are classes `part-…` of profile.css. It stands below all charts.

/** @import { Part } from "../engine/report.d.ts" */

/** @type {Part[]} */
export const PARTS = ["mamba", "attention", "ffn", "other"];
