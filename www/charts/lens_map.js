// @ts-check
// The logit lens as a map of blocks × positions: each cell has the token that would follow if the block were the last
// one, the darker the more probable.

import { visible } from "../token_text.js";
import { figure, number, t } from "../words.js";
import { onCells, rowNumbers } from "./cells.js";
import { dataTable } from "./data_table.js";
import { box, diamond, label, picture, svg } from "./svg.js";

/** @import { Inspection, TokenProbability } from "../engine/zamba2.d.ts" */
/** @typedef {Pick<Inspection, "lens" | "texts" | "positions">} Lens */

const ROW = 19;
const TOP = 40;
const LEFT = 56;
const LEAST_CELL = 46;
const MOST_CELL = 110;
const CHARACTER = 7.2;
/** In a darker cell the contrast of the text would be below 4.5:1. */
const MOST_OPACITY = 0.42;

/** @param {TokenProbability[]} top */
const named = (top) =>
  top.map(({ text, probability }) => `“${visible(text)}” ${figure(100 * probability)} %`).join(", ");

/**
 * The first block from which on the most probable token is that of the last block.
 * @param {Lens} lens @param {number} at  index of the position
 */
export function settledBlock({ lens }, at) {
  const tokens = lens.map((positions) => positions[at][0].token);
  const last = tokens.length - 1;
  return tokens.findLastIndex((token) => token !== tokens[last]) + 1;
}

/** @param {Lens} lens */
export function lensFinding(lens) {
  const at = lens.positions.length - 1;
  const [top] = lens.lens[lens.lens.length - 1][at];
  const settled = lens.positions.map((_, index) => settledBlock(lens, index)).sort((a, b) => a - b);
  return t("lens.finding", {
    text: visible(top.text),
    percent: figure(100 * top.probability),
    block: settledBlock(lens, at),
    middle: settled[settled.length >> 1],
    positions: number(lens.positions.length),
  });
}

/** @param {string} text @param {number} width */
function cut(text, width) {
  const room = Math.floor(width / CHARACTER);
  return text.length <= room ? text : `${text.slice(0, Math.max(1, room - 1))}…`;
}

/**
 * @param {Lens} lens
 * @param {{ width: number, hybrid: Set<number>, readout: (text: string) => void,
 *   onPosition: (at: number) => void }} options
 * `onPosition` is called with the index of a clicked column
 */
export function lensMap(lens, { width, hybrid, readout, onPosition }) {
  const rows = lens.lens.length;
  // As many of the last positions as fit.
  const columns = Math.min(lens.positions.length, Math.max(1, Math.floor((width - LEFT - 8) / LEAST_CELL)));
  const first = lens.positions.length - columns;
  const cell = Math.min(MOST_CELL, (width - LEFT - 8) / columns);
  const place = { top: TOP, left: LEFT, cell, row_height: ROW };
  const root = picture(width, TOP + rows * ROW + 6, lensFinding(lens));
  root.append(label(LEFT - 6, TOP - 8, t("lens.block"), { anchor: "end" }));
  for (let column = 0; column < columns; column++) {
    const at = first + column;
    const x = LEFT + column * cell;
    const position = lens.positions[at];
    const settled = settledBlock(lens, at);
    root.append(
      label(x + 4, 14, String(position), { kind: "axis-text" }),
      label(x + 4, TOP - 8, cut(visible(lens.texts[position]), cell - 8), { kind: "row-text given" }),
    );
    for (let row = 0; row < rows; row++) {
      const [top] = lens.lens[row][at];
      const y = TOP + row * ROW;
      const shade = box(x + 1, y + 1, cell - 2, ROW - 2, "shade");
      shade.setAttribute("fill-opacity", (MOST_OPACITY * top.probability).toFixed(3));
      const kind = row >= settled ? "row-text settled" : "row-text";
      root.append(shade, label(x + 4, y + 14, cut(visible(top.text), cell - 8), { kind }));
    }
  }
  rowNumbers(root, rows, place);
  for (const row of hybrid) root.append(diamond(8, TOP + (row + 0.5) * ROW, 4, "diamond"));
  root.append(svg("rect", { x: LEFT, y: TOP, width: columns * cell, height: rows * ROW, class: "hover-area" }));
  onCells(root, place, { rows, columns, event: "pointermove" }, (under) => {
    if (!under) return readout("");
    const at = first + under.column;
    const position = lens.positions[at];
    readout(
      t("lens.at", {
        block: under.row,
        position: number(position),
        text: visible(lens.texts[position]),
        top: named(lens.lens[under.row][at]),
      }),
    );
  });
  onCells(root, place, { rows, columns, event: "click" }, (under) => under && onPosition(first + under.column));
  return root;
}

/** @param {Lens} lens */
export function lensTable(lens) {
  const rows = lens.lens.flatMap((positions, block) =>
    positions.map((top, at) => ({ block, position: lens.positions[at], top })),
  );
  return dataTable(
    [
      { key: "block", label: t("col.block"), value: (row) => row.block, text: (row) => String(row.block) },
      {
        key: "position",
        label: t("inside.col.token"),
        words: true,
        value: (row) => row.position,
        text: (row) => `${number(row.position)} “${visible(lens.texts[row.position])}”`,
      },
      { key: "top", label: t("lens.col.next"), words: true, value: () => null, text: (row) => named(row.top) },
    ],
    rows,
    { label: t("lens.title") },
  );
}
