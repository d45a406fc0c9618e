// @ts-check
// Time of each block in each decode step, from the spans of a run: the median over the runs, so that a single
// interruption does not look like a pattern.

import { median } from "../statistics.js";

/** @import { Run } from "../engine/zamba2.d.ts" */
/** @import { TokenTimes } from "../charts/token_heat.js" */

/** The block index in a span's name, or -1. @param {string} name */
export function blockOf(name) {
  const found = /^(?:model\.)?(?:layers|blocks)\.(\d+)$/.exec(name);
  return found ? Number(found[1]) : -1;
}

/** @param {Run} run @returns {TokenTimes} */
export function tokenTimes({
  runs,
  decode_tokens,
  model: {
    config: { kinds },
  },
}) {
  /** @type {number[][][]} times by step and block, one entry per run */
  const times = Array.from({ length: decode_tokens }, () => kinds.map(() => []));
  for (const { spans } of runs) {
    const blocks = spans.names.map(blockOf);
    spans.name.forEach((name, row) => {
      const block = blocks[name];
      if (block >= 0 && block < kinds.length && spans.pass[row] > 0)
        times[spans.pass[row] - 1]?.[block].push(spans.duration_us[row]);
    });
  }
  return { kinds, columns: times.map((blocks) => Float32Array.from(blocks, median)) };
}
