// @ts-check
// The change from A to B for each block, in the strip's order: tint by direction and size, sign and figure printed, so that
// colour is never the only cue. It stands on svg.js and knows nothing of what the values are.

import { figure, number, t } from "../strings.js";
import { dataTable } from "./data_table.js";
import { box, diamond, label, picture, svg } from "./svg.js";

/** @typedef {{ block: number, kind: "mamba" | "hybrid", a: number, b: number }} BlockPair */

const CELL = 46;
const GAP = 3;
const LEAST_CELL = 36;
/** As on the strip: with six columns the hybrids form the last one. */
const NARROW_COLUMNS = 6;
/** A change of this size has the full tint. */
const FULL_PERCENT = 50;
/** A stronger tint would take the figures below 4.5:1 in dark mode. */
const TINT_MAX = 0.38;

/** @param {BlockPair} pair */
export const changePercent = ({ a, b }) => (a > 0 ? 100 * (b / a - 1) : b > 0 ? Infinity : 0);

/** With its sign, which is printed for no change, too. @param {number} percent */
export function signed(percent) {
  if (!Number.isFinite(percent)) return "+∞";
  const rounded = Math.abs(percent) < 10 ? Math.round(percent * 10) / 10 : Math.round(percent);
  const sign = rounded > 0 ? "+" : rounded < 0 ? "−" : "±";
  return `${sign}${number(Math.abs(rounded), Math.abs(rounded) < 10 && rounded !== 0 ? 1 : 0)}`;
}

/** @param {BlockPair[]} pairs @param {string} unit */
export function deltaFinding(pairs, unit) {
  const sum = (/** @type {"a" | "b"} */ side) => pairs.reduce((total, pair) => total + pair[side], 0);
  const most = pairs.reduce((x, y) => (Math.abs(changePercent(y)) > Math.abs(changePercent(x)) ? y : x));
  return t("delta.finding", {
    all: signed(changePercent({ block: 0, kind: "mamba", a: sum("a"), b: sum("b") })), block: most.block, most: signed(changePercent(most)),
    a: figure(most.a), b: figure(most.b), unit,
  });
}

/** @param {BlockPair[]} pairs @param {{ width: number, unit: string, readout: (text: string) => void }} options */
export function deltaStrip(pairs, { width, unit, readout }) {
  const across = width < 700 ? NARROW_COLUMNS : Math.min(pairs.length, Math.floor(width / LEAST_CELL));
  const wide = (width - (across - 1) * GAP) / across;
  const rows = Math.ceil(pairs.length / across);
  const root = picture(width, rows * (CELL + GAP), deltaFinding(pairs, unit));
  pairs.forEach((pair, at) => {
    const [left, top] = [(at % across) * (wide + GAP), Math.floor(at / across) * (CELL + GAP)];
    const percent = changePercent(pair);
    const tint = Math.min(1, Math.abs(percent) / FULL_PERCENT) * TINT_MAX;
    const group = svg("g", { class: pair.kind === "hybrid" ? "delta hybrid" : "delta" });
    const ground = box(left + 1, top + 1, wide - 2, CELL - 2, "delta-box");
    const colour = box(left + 1, top + 1, wide - 2, CELL - 2, percent > 0 ? "delta-tint slower" : "delta-tint faster");
    colour.setAttribute("fill-opacity", tint.toFixed(3));
    const text = signed(percent);
    group.append(ground, colour, label(left + wide / 2, top + 21, text, { anchor: "middle", kind: text.length > 4 && wide < 44 ? "delta-text tight" : "delta-text" }),
      label(left + wide / 2, top + CELL - 8, String(pair.block), { anchor: "middle", kind: "axis-text" }));
    if (pair.kind === "hybrid") group.append(diamond(left + wide - 8, top + CELL - 12, 4, "diamond"));
    group.addEventListener("pointerenter", () => readout(t("delta.block", { block: pair.block, a: figure(pair.a), b: figure(pair.b), percent: text, unit })));
    group.addEventListener("pointerleave", () => readout(""));
    root.append(group);
  });
  return root;
}

/** @param {BlockPair[]} pairs @param {string} unit */
export function deltaTable(pairs, unit) {
  return dataTable([
    { key: "block", label: t("col.block"), value: (row) => row.block, text: (row) => String(row.block) },
    { key: "kind", label: t("col.kind"), words: true, value: (row) => row.kind, text: (row) => t(`kind.${row.kind}`) },
    { key: "a", label: `A, ${unit}`, value: (row) => row.a, text: (row) => figure(row.a) },
    { key: "b", label: `B, ${unit}`, value: (row) => row.b, text: (row) => figure(row.b) },
    { key: "percent", label: "Δ %", value: changePercent, text: (row) => signed(changePercent(row)) },
  ], pairs, { label: t("delta.title") });
}
