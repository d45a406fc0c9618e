// @ts-check
// Shared by charts and tables with one entry per block: columns aligned with the strip's cells, the scale beside them,
// block numbers, and the first two columns of a table.

import { significant, t } from "../words.js";
import { label, line, ticks } from "./svg.js";

/** @typedef {{ x: number, width: number }} Column */

/**
 * Columns for `n` blocks.
 * @param {number} n @param {number} width of the picture
 * @param {Column[] | null} columns positions of the strip's cells relative to the picture's left edge; null spaces them
 * evenly
 * @returns {{ left: number, right: number, places: Column[] }}
 */
export function blockPlaces(n, width, columns) {
  const left = columns ? columns[0].x - 6 : 50;
  const right = columns ? columns[columns.length - 1].x + columns[columns.length - 1].width : width - 8;
  const step = (right - left) / n;
  const places = columns ?? Array.from({ length: n }, (_, at) => ({ x: left + step * (at + 0.1), width: step * 0.8 }));
  return { left, right, places };
}

/**
 * Grid lines with their values, and the unit above them.
 * @param {SVGElement} root
 * @param {{ left: number, right: number, top: number, y: (value: number) => number, n_ticks: number,
 *   unit: string }} axis
 */
export function valueAxis(root, { left, right, top, y, n_ticks, unit }) {
  for (const value of ticks(top, n_ticks)) {
    root.append(
      line(left, y(value), right, y(value), value === 0 ? "axis" : "grid"),
      label(left - 6, y(value) + 4, significant(value), { anchor: "end" }),
    );
  }
  root.append(label(Math.max(4, left - 44), 14, unit));
}

/**
 * Which blocks have their number below: all, every second or every sixth, depending on the width.
 * @param {Column[]} places
 */
export function numberedBlocks(places) {
  const every = places[0].width >= 18 ? 1 : places[0].width >= 9 ? 2 : 6;
  return (/** @type {number} */ block) => block % every === (every === 6 ? 5 : 0);
}

/** The columns that name a block and its type. */
export const blockColumns = () => [
  {
    key: "block",
    label: t("col.block"),
    value: (/** @type {{ block: number }} */ row) => row.block,
    text: (/** @type {{ block: number }} */ row) => String(row.block),
  },
  {
    key: "kind",
    label: t("col.kind"),
    words: true,
    value: (/** @type {{ kind: "mamba" | "hybrid" }} */ row) => row.kind,
    text: (/** @type {{ kind: "mamba" | "hybrid" }} */ row) => t(`kind.${row.kind}`),
  },
];
