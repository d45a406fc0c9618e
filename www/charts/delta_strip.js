// @ts-check
// The change from A to B per block, in the order of the strip: tinted by direction and size, with sign and number
// printed, so that colour is never the only cue.

import { number, significant, t } from "../words.js";
import { blockColumns } from "./block_axis.js";
import { dataTable } from "./data_table.js";
import { box, label, picture, svg } from "./svg.js";

/** @typedef {{ block: number, kind: "mamba" | "hybrid", a: number, b: number }} BlockPair */

const CELL = 46;
const GAP = 3;
/** The card's padding, kept inside a picture that extends to the card's edges. */
const MARGIN = 12;
const LEAST_CELL = 29;
/** As on the strip: with six columns, the hybrid blocks form the last one. */
const NARROW_COLUMNS = 6;
/** A change of this size has the full tint. */
const FULL_PERCENT = 50;
/** A stronger tint would take the numbers below a contrast of 4.5:1 in dark mode. */
const TINT_MAX = 0.38;

/** @param {{ a: number, b: number }} pair */
const changePercent = ({ a, b }) => (a > 0 ? 100 * (b / a - 1) : b > 0 ? Infinity : 0);

/** With a sign, also for no change. @param {number} percent */
function signed(percent) {
  if (!Number.isFinite(percent)) return "+∞";
  const rounded = Math.abs(percent) < 10 ? Math.round(percent * 10) / 10 : Math.round(percent);
  const sign = rounded > 0 ? "+" : rounded < 0 ? "−" : "±";
  return `${sign}${number(Math.abs(rounded), Math.abs(rounded) < 10 && rounded !== 0 ? 1 : 0)}`;
}

/** Above a thousand percent, a factor is shorter and clearer. @param {number} percent */
const factor = (percent) => (Number.isFinite(percent) && percent >= 1000 ? `×${number(1 + percent / 100)}` : null);

/** A change as text. @param {number} a @param {number} b */
export function changeText(a, b) {
  const percent = changePercent({ a, b });
  return factor(percent) ?? `${signed(percent)} %`;
}

/** @param {BlockPair[]} pairs @param {string} unit */
export function deltaFinding(pairs, unit) {
  if (pairs.every(({ a, b }) => a === b)) return t("delta.same");
  const sum = (/** @type {"a" | "b"} */ side) => pairs.reduce((total, pair) => total + pair[side], 0);
  const most = pairs.reduce((x, y) => (Math.abs(changePercent(y)) > Math.abs(changePercent(x)) ? y : x));
  return t("delta.finding", {
    all: changeText(sum("a"), sum("b")),
    block: most.block,
    most: changeText(most.a, most.b),
    a: significant(most.a),
    b: significant(most.b),
    unit,
  });
}

/**
 * @param {BlockPair[]} pairs
 * @param {{ width: number, unit: string, columns: { x: number, width: number }[] | null,
 *   readout: (text: string) => void }} options
 * `columns`: positions of the strip's cells relative to the picture's left edge; null uses as many rows as needed
 */
export function deltaStrip(pairs, { width, unit, columns, readout }) {
  const across = width < 700 ? NARROW_COLUMNS : Math.min(pairs.length, Math.floor(width / LEAST_CELL));
  const step = (width - 2 * MARGIN + GAP) / across;
  const rows = columns ? 1 : Math.ceil(pairs.length / across);
  const root = picture(width, rows * (CELL + GAP), deltaFinding(pairs, unit));
  pairs.forEach((pair, at) => {
    const top = columns ? 0 : Math.floor(at / across) * (CELL + GAP);
    const { x: left, width: wide } = columns?.[at] ?? { x: MARGIN + (at % across) * step, width: step - GAP };
    const percent = changePercent(pair);
    const tint = Math.min(1, Math.abs(percent) / FULL_PERCENT) * TINT_MAX;
    const group = svg("g", { class: pair.kind === "hybrid" ? "delta hybrid" : "delta" });
    const ground = box(left + 1, top + 1, wide - 2, CELL - 2, "delta-box");
    const colour = box(left + 1, top + 1, wide - 2, CELL - 2, percent > 0 ? "delta-tint slower" : "delta-tint faster");
    colour.setAttribute("fill-opacity", tint.toFixed(3));
    const text = factor(percent) ?? signed(percent);
    const kind = text.length > 3 && wide < 40 ? "delta-text tight" : "delta-text";
    group.append(
      ground,
      colour,
      label(left + wide / 2, top + 21, text, { anchor: "middle", kind }),
      label(left + wide / 2, top + CELL - 7, `${pair.kind === "hybrid" ? "◇" : ""}${pair.block}`, {
        anchor: "middle",
        kind: "axis-text",
      }),
    );
    group.addEventListener("pointerenter", () =>
      readout(
        t("delta.block", {
          block: pair.block,
          a: significant(pair.a),
          b: significant(pair.b),
          change: changeText(pair.a, pair.b),
          unit,
        }),
      ),
    );
    group.addEventListener("pointerleave", () => readout(""));
    root.append(group);
  });
  return root;
}

/** @param {BlockPair[]} pairs @param {string} unit */
export function deltaTable(pairs, unit) {
  return dataTable(
    [
      ...blockColumns(),
      { key: "a", label: `A, ${unit}`, value: (row) => row.a, text: (row) => significant(row.a) },
      { key: "b", label: `B, ${unit}`, value: (row) => row.b, text: (row) => significant(row.b) },
      { key: "percent", label: "Δ %", value: changePercent, text: (row) => signed(changePercent(row)) },
    ],
    pairs,
    { label: t("delta.title") },
  );
}
