// @ts-check
// The half-lives of the SSM heads' states as a map of blocks × heads, on a logarithmic scale.

import { number, significant, t } from "../words.js";
import { onCells, rowNumbers } from "./cells.js";
import { dataTable } from "./data_table.js";
import { box, label, picture, svg } from "./svg.js";

/** `[blocks]` of `[heads]`, in tokens @typedef {Float32Array[]} HalfLives */
/** @typedef {{ block: number, head: number, tokens: number }} Head */

const TOP = 26;
const LEFT = 56;
const ROW = 9;
/** Tokens of the palest and the darkest cell. */
const [PALEST, DARKEST] = [0.5, 2000];
const LISTED = 5;

/** @param {HalfLives} half_lives @returns {Head[]} all of them, the longest first */
export function longestFirst(half_lives) {
  const heads = half_lives.flatMap((row, block) => Array.from(row, (tokens, head) => ({ block, head, tokens })));
  return heads.sort((a, b) => b.tokens - a.tokens);
}

/** @param {number} tokens */
const tokensText = (tokens) => (Number.isFinite(tokens) ? significant(tokens, 3) : t("memory.never"));

/** @param {number} tokens @returns {number} 0 to 1 */
function shadeOf(tokens) {
  const share = Math.log(tokens / PALEST) / Math.log(DARKEST / PALEST);
  return Math.min(1, Math.max(0, share));
}

/** @param {HalfLives} half_lives */
export function memoryFinding(half_lives) {
  const heads = longestFirst(half_lives);
  return t("memory.finding", {
    middle: tokensText(heads[heads.length >> 1].tokens),
    list: heads
      .slice(0, LISTED)
      .map(({ block, head, tokens }) => t("memory.head", { block, head, tokens: tokensText(tokens) }))
      .join("; "),
  });
}

/**
 * @param {HalfLives} half_lives
 * @param {{ width: number, sorted: boolean, readout: (text: string) => void }} options
 * `sorted`: the heads of each block by their half-life, the longest first
 */
export function halfLifeMap(half_lives, { width, sorted, readout }) {
  const rows = half_lives.length;
  const columns = Math.max(...half_lives.map((row) => row.length));
  const cell = (width - LEFT - 8) / columns;
  const place = { top: TOP, left: LEFT, cell, row_height: ROW };
  const root = picture(width, TOP + rows * ROW + 6, memoryFinding(half_lives));
  root.append(label(LEFT - 6, TOP - 8, t("lens.block"), { anchor: "end" }));
  root.append(label(LEFT, TOP - 8, t(sorted ? "memory.axis.sorted" : "memory.axis.head")));
  const heads = half_lives.map((row, block) => {
    const of_block = Array.from(row, (tokens, head) => ({ block, head, tokens }));
    return sorted ? of_block.sort((a, b) => b.tokens - a.tokens) : of_block;
  });
  heads.forEach((of_block, row) => {
    of_block.forEach(({ tokens }, column) => {
      const shade = box(LEFT + column * cell, TOP + row * ROW, cell - 0.5, ROW - 1, "shade");
      shade.setAttribute("fill-opacity", (0.04 + 0.96 * shadeOf(tokens)).toFixed(3));
      root.append(shade);
    });
  });
  rowNumbers(root, rows, place);
  root.append(svg("rect", { x: LEFT, y: TOP, width: columns * cell, height: rows * ROW, class: "hover-area" }));
  onCells(root, place, { rows, columns, event: "pointermove" }, (under) => {
    const head = under && heads[under.row][under.column];
    readout(head ? t("memory.head", { ...head, tokens: tokensText(head.tokens) }) : "");
  });
  return root;
}

/** @param {HalfLives} half_lives */
export function memoryTable(half_lives) {
  const rows = half_lives.map((row, block) => {
    const heads = longestFirst([row]);
    const [longest] = heads;
    return {
      block,
      shortest: heads[heads.length - 1].tokens,
      median: heads[heads.length >> 1].tokens,
      longest: longest.tokens,
      head: longest.head,
    };
  });
  /** @param {"shortest" | "median" | "longest"} key */
  const column = (key) => ({
    key,
    label: t(`memory.col.${key}`),
    value: (/** @type {typeof rows[number]} */ row) => row[key],
    text: (/** @type {typeof rows[number]} */ row) => tokensText(row[key]),
  });
  return dataTable(
    [
      { key: "block", label: t("col.block"), value: (row) => row.block, text: (row) => number(row.block) },
      column("shortest"),
      column("median"),
      column("longest"),
      { key: "head", label: t("memory.col.head"), value: (row) => row.head, text: (row) => number(row.head) },
    ],
    rows,
    { label: t("memory.title") },
  );
}
