// @ts-check
// The four parts of a block's time, in stacking order. The summary assigns modules to parts; the colours are the
// classes `part-…` of profile.css.

/** @import { Part } from "../engine/report.d.ts" */

/** @type {Part[]} */
export const PARTS = ["mamba", "attention", "ffn", "other"];
