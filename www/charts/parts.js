// @ts-check
// The four parts of a block's time, in stacking order. The summary assigns modules to parts; the colours are the
// classes `part-…` of profile.css.

/** @import { Part, PhaseSummary } from "../engine/report.d.ts" */

/** @type {Part[]} */
export const PARTS = ["mamba", "attention", "ffn", "other"];

/**
 * With a clock that is coarser than a block, most blocks take no time and some, at random, one tick.
 * @param {PhaseSummary} phase
 */
export const hasBlockTimes = ({ blocks }) => 2 * blocks.filter(({ us }) => us.median === 0).length <= blocks.length;
