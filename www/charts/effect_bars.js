// @ts-check
// The effect of leaving out each block: bars of the Kullback-Leibler divergence per block, with a mark where the most
// probable next token changes.

import { natsText, number, t } from "../words.js";
import { visible } from "../token_text.js";
import { blockColumns, blockPlaces, numberedBlocks, valueAxis } from "./block_axis.js";
import { dataTable } from "./data_table.js";
import { box, diamond, label, linear, picture, svg } from "./svg.js";

/** @typedef {{ block: number, kind: "mamba" | "hybrid", kl_nats: number, from: string, to: string }} Effect */

const HEIGHT = 220;
const TOP = 30;
const BOTTOM = 24;

/** @param {Effect} effect */
const changes = ({ from, to }) => from !== to;

/** @param {Effect} effect */
function textOf(effect) {
  const values = { block: effect.block, kl: natsText(effect.kl_nats), text: visible(effect.to) };
  return t(changes(effect) ? "effects.at.changed" : "effects.at.same", values);
}

/** @param {Effect[]} effects */
export function effectsFinding(effects) {
  const most = effects.reduce((a, b) => (b.kl_nats > a.kl_nats ? b : a));
  const least = effects.reduce((a, b) => (b.kl_nats < a.kl_nats ? b : a));
  return t("effects.finding", {
    most: most.block,
    most_kl: natsText(most.kl_nats),
    least: least.block,
    least_kl: natsText(least.kl_nats),
    changed: number(effects.filter(changes).length),
    blocks: number(effects.length),
  });
}

/**
 * @param {Effect[]} effects
 * @param {{ width: number, columns: { x: number, width: number }[] | null, readout: (text: string) => void,
 *   onChoose: (block: number) => void }} options
 * `columns`: positions of the strip's cells relative to the picture's left edge; null spaces the bars evenly
 */
export function effectBars(effects, { width, columns, readout, onChoose }) {
  const root = picture(width, HEIGHT, effectsFinding(effects));
  const top_nats = 1.06 * Math.max(...effects.map(({ kl_nats }) => kl_nats), 1e-9);
  const y = linear([0, top_nats], [HEIGHT - BOTTOM, TOP]);
  const { left, right, places } = blockPlaces(effects.length, width, columns);
  valueAxis(root, { left, right, top: top_nats, y, n_ticks: 4, unit: t("effects.axis") });
  const is_numbered = numberedBlocks(places);
  effects.forEach((effect, at) => {
    const { x, width: wide } = places[at];
    const middle = x + wide / 2;
    const bar = y(effect.kl_nats);
    const group = svg("g", { class: "bar", "data-block": effect.block });
    group.append(
      box(x - 1, TOP, wide + 2, HEIGHT - BOTTOM - TOP, "hover-area"),
      box(x, bar, wide, HEIGHT - BOTTOM - bar, effect.kind === "hybrid" ? "part-attention" : "part-mamba"),
    );
    if (changes(effect)) group.append(label(middle, bar - 4, "≠", { anchor: "middle", kind: "row-text" }));
    if (effect.kind === "hybrid") group.append(diamond(middle, TOP - 14, Math.min(5, wide / 2), "diamond"));
    if (is_numbered(effect.block)) group.append(label(middle, HEIGHT - 7, String(effect.block), { anchor: "middle" }));
    group.addEventListener("pointerenter", () => readout(textOf(effect)));
    group.addEventListener("pointerleave", () => readout(""));
    group.addEventListener("click", () => onChoose(effect.block));
    root.append(group);
  });
  return root;
}

/** @param {Effect[]} effects */
export function effectsTable(effects) {
  return dataTable(
    [
      ...blockColumns(),
      { key: "kl", label: t("effects.axis"), value: (row) => row.kl_nats, text: (row) => natsText(row.kl_nats) },
      {
        key: "to",
        label: t("effects.col.token"),
        words: true,
        value: (row) => row.to,
        text: (row) => `“${visible(row.to)}”${changes(row) ? " ≠" : ""}`,
      },
    ],
    effects,
    { label: t("effects.title") },
  );
}
