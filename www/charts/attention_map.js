// @ts-check
// The attention weights of one token in one call of a shared transformer, as a map of heads × earlier tokens.

import { visible } from "../token_text.js";
import { figure, number, t } from "../words.js";
import { onCells, rowNumbers } from "./cells.js";
import { dataTable } from "./data_table.js";
import { box, label, picture, svg } from "./svg.js";

/** @import { Visit } from "../engine/zamba2.d.ts" */
/**
 * @typedef {object} Attended
 * @property {Visit} visit
 * @property {string[]} texts  of all tokens
 * @property {number} query
 */
/** @typedef {{ key: number, mean: number, most: number, head: number }} KeyRow */

const TOP = 24;
const LEFT = 56;
/** With few heads, rows are higher. */
const [LEAST_ROW, MOST_ROW, ROWS_HEIGHT] = [11, 30, 330];
const LEAST_CELL = 4;
const MOST_CELL = 40;
const TEXT_ROOM = 74;
const TEXT_FROM_CELL = 13;
const MOST_TEXT = 12;
const LISTED = 100;

/** @param {Attended} attended @returns {KeyRow[]} */
export function keyRows({ visit, query }) {
  const keys = query + 1;
  const heads = visit.weights.length / keys;
  return Array.from({ length: keys }, (_, key) => {
    const weights = Array.from({ length: heads }, (_, head) => visit.weights[head * keys + key]);
    const most = Math.max(...weights);
    return { key, mean: weights.reduce((sum, weight) => sum + weight, 0) / heads, most, head: weights.indexOf(most) };
  });
}

/** @param {number} weight */
const percent = (weight) => `${figure(100 * weight)} %`;

/** @param {Attended} attended */
export function attentionFinding(attended) {
  const rows = keyRows(attended);
  const by_mean = rows.reduce((a, b) => (b.mean > a.mean ? b : a));
  const by_head = rows.reduce((a, b) => (b.most > a.most ? b : a));
  const { texts, query, visit } = attended;
  return t("attention.finding", {
    query: number(query),
    text: visible(texts[query]),
    block: visit.block,
    key: number(by_mean.key),
    key_text: visible(texts[by_mean.key]),
    mean: percent(by_mean.mean),
    head: by_head.head,
    most: percent(by_head.most),
    head_key: number(by_head.key),
    head_text: visible(texts[by_head.key]),
  });
}

/**
 * If there are too many keys for a cell each, a cell shows the largest weight of several.
 * @param {Attended} attended
 * @param {{ width: number, readout: (text: string) => void }} options
 */
export function attentionMap(attended, { width, readout }) {
  const { visit, texts, query } = attended;
  const keys = query + 1;
  const rows = visit.weights.length / keys;
  const row_height = Math.min(MOST_ROW, Math.max(LEAST_ROW, ROWS_HEIGHT / rows));
  const room = width - LEFT - 8;
  const per_cell = Math.ceil(keys / Math.max(1, Math.floor(room / LEAST_CELL)));
  const columns = Math.ceil(keys / per_cell);
  const cell = Math.min(MOST_CELL, room / columns);
  const place = { top: TOP, left: LEFT, cell, row_height };
  const has_texts = cell >= TEXT_FROM_CELL;
  const bottom = TOP + rows * row_height;
  const root = picture(width, bottom + (has_texts ? TEXT_ROOM : 22), attentionFinding(attended));
  root.append(label(LEFT - 6, TOP - 8, t("attention.head"), { anchor: "end" }));
  /** @param {number} row @param {number} column */
  const strongest = (row, column) => {
    const start = column * per_cell;
    let best = start;
    for (let key = start; key < Math.min(keys, start + per_cell); key++) {
      if (visit.weights[row * keys + key] > visit.weights[row * keys + best]) best = key;
    }
    return best;
  };
  for (let column = 0; column < columns; column++) {
    for (let row = 0; row < rows; row++) {
      const weight = visit.weights[row * keys + strongest(row, column)];
      const shade = box(LEFT + column * cell, TOP + row * row_height, cell - 0.5, row_height - 1, "shade");
      // On a linear scale small weights would be invisible.
      shade.setAttribute("fill-opacity", (0.03 + 0.97 * Math.sqrt(weight)).toFixed(3));
      root.append(shade);
    }
    const middle = LEFT + (column + 0.5) * cell;
    if (has_texts) {
      const text = visible(texts[column]).slice(0, MOST_TEXT);
      root.append(label(middle + 4, bottom + 10, text, { anchor: "end", kind: "row-text", rotate: -60 }));
    } else if (column % Math.ceil(60 / cell) === 0) {
      root.append(label(middle, bottom + 15, number(column * per_cell), { anchor: "middle" }));
    }
  }
  rowNumbers(root, rows, place);
  root.append(svg("rect", { x: LEFT, y: TOP, width: columns * cell, height: rows * row_height, class: "hover-area" }));
  onCells(root, place, { rows, columns, event: "pointermove" }, (under) => {
    if (!under) return readout("");
    const key = strongest(under.row, under.column);
    readout(
      t("attention.at", {
        head: under.row,
        key: number(key),
        text: visible(texts[key]),
        percent: percent(visit.weights[under.row * keys + key]),
      }),
    );
  });
  return root;
}

/** The most attended tokens. @param {Attended} attended */
export function attentionTable(attended) {
  const rows = keyRows(attended)
    .sort((a, b) => b.mean - a.mean)
    .slice(0, LISTED);
  return dataTable(
    [
      {
        key: "key",
        label: t("inside.col.token"),
        words: true,
        value: (row) => row.key,
        text: (row) => `${number(row.key)} “${visible(attended.texts[row.key])}”`,
      },
      { key: "mean", label: t("attention.col.mean"), value: (row) => row.mean, text: (row) => percent(row.mean) },
      { key: "most", label: t("attention.col.most"), value: (row) => row.most, text: (row) => percent(row.most) },
      { key: "head", label: t("memory.col.head"), value: (row) => row.head, text: (row) => String(row.head) },
    ],
    rows,
    { label: t("attention.title") },
  );
}
