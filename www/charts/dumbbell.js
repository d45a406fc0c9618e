// @ts-check
// Dumbbell chart of paired measurements on a logarithmic axis: A is a disc, B a ring, and their ratio is printed.

import { number, significant, t } from "../words.js";
import { dataTable } from "./data_table.js";
import { decades, label, line, logarithmic, picture, svg, widthOf } from "./svg.js";

/** @typedef {{ name: string, a_ms: number, b_ms: number }} Pair */

const ROW = 28;
const TOP = 26;
const BOTTOM = 12;
const RIGHT = 68;
const NAME_TOP = 14;

/** @param {Pair} pair */
const factor = ({ a_ms, b_ms }) => b_ms / a_ms;

/** @param {Pair[]} pairs */
export function dumbbellFinding(pairs) {
  if (pairs.length === 0) return t("dumbbell.none");
  const most = pairs.reduce((x, y) => (Math.abs(Math.log(factor(y))) > Math.abs(Math.log(factor(x))) ? y : x));
  return t("dumbbell.finding", {
    name: most.name,
    a: significant(most.a_ms),
    b: significant(most.b_ms),
    factor: factorText(factor(most)),
  });
}

/** @param {number} value */
const factorText = (value) => `×${value >= 100 ? number(value) : number(value, value >= 10 ? 1 : 2)}`;

/** @param {Pair[]} pairs @param {{ width: number, readout: (text: string) => void }} options */
export function dumbbell(pairs, { width, readout }) {
  // On narrow pages names are above their rows.
  const narrow = width < 520;
  const row_height = narrow ? ROW + NAME_TOP : ROW;
  const height = TOP + pairs.length * row_height + BOTTOM;
  const root = picture(width, height, dumbbellFinding(pairs));
  if (pairs.length === 0) return root;
  const left = narrow ? 12 : Math.min(width / 2, 18 + Math.max(...pairs.map(({ name }) => widthOf(name))));
  const all_ms = pairs.flatMap(({ a_ms, b_ms }) => [a_ms, b_ms]);
  const [least, most] = [Math.min(...all_ms) / 1.4, Math.max(...all_ms) * 1.4];
  const x = logarithmic([least, most], [left, width - RIGHT]);
  for (const ms of decades(least, most)) {
    root.append(
      line(x(ms), TOP - 6, x(ms), height - BOTTOM, "grid"),
      label(x(ms), 14, `${significant(ms)} ${t("axis.ms")}`, { anchor: "middle" }),
    );
  }
  pairs.forEach((pair, at) => {
    const y = TOP + at * row_height + row_height / 2 + (narrow ? NAME_TOP / 2 : 0);
    const [a, b] = [x(pair.a_ms), x(pair.b_ms)];
    const group = svg("g", { class: "pair" });
    group.append(
      svg("rect", { x: 0, y: y - ROW / 2, width, height: ROW, class: "hover-area" }),
      narrow
        ? label(12, y - 14, pair.name, { kind: "row-text" })
        : label(left - 10, y + 4, pair.name, { anchor: "end", kind: "row-text" }),
      line(a, y, b, y, factor(pair) > 1 ? "bond slower" : "bond faster"),
      svg("circle", { cx: b, cy: y, r: 6, class: "end-b" }),
      svg("circle", { cx: a, cy: y, r: 5, class: "end-a" }),
      label(width - 4, y + 4, factorText(factor(pair)), { anchor: "end", kind: "row-text" }),
    );
    group.addEventListener("pointerenter", () =>
      readout(
        t("dumbbell.pair", {
          name: pair.name,
          a: significant(pair.a_ms),
          b: significant(pair.b_ms),
          factor: factorText(factor(pair)),
        }),
      ),
    );
    group.addEventListener("pointerleave", () => readout(""));
    root.append(group);
  });
  return root;
}

/** @param {Pair[]} pairs */
export function dumbbellTable(pairs) {
  return dataTable(
    [
      { key: "name", label: t("col.type"), words: true, value: (row) => row.name, text: (row) => row.name },
      { key: "a", label: t("dumbbell.col.a"), value: (row) => row.a_ms, text: (row) => significant(row.a_ms) },
      { key: "b", label: t("dumbbell.col.b"), value: (row) => row.b_ms, text: (row) => significant(row.b_ms) },
      { key: "factor", label: "B ÷ A", value: factor, text: (row) => factorText(factor(row)) },
    ],
    pairs,
    { label: t("dumbbell.title") },
  );
}
