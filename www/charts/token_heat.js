// @ts-check
// Heat map of token × block time on a canvas: one column per token, one row per block. Two scales: time ÷ median of the
// block's type, which shows outliers, and absolute time, which shows where time is spent. One row can be highlighted.
// The live heat map (blocks/heat_map.js) uses the same colours.

import { msText, number, t } from "../words.js";
import { median } from "../statistics.js";
import { blockColumns } from "./block_axis.js";
import { dataTable } from "./data_table.js";

/** @typedef {"ratio" | "absolute"} HeatScale */
/**
 * @typedef {{ kinds: ("mamba" | "hybrid")[],
 *   columns: Float32Array[] }} TokenTimes  one column of µs per block for each token
 */
/** @typedef {TokenTimes & { scale: HeatScale }} HeatData */

/** Colours from the median (dark) to twice the median (bright). */
const COLD = [36, 52, 71];
const WARM = [255, 214, 51];
const DIMMED = 0.35;
const ROW = 7;
const MOST_CELL = 46;

/** @param {number} heat 0 to 1 @param {number} channel red, green, blue */
export const heatChannel = (heat, channel) => COLD[channel] + heat * (WARM[channel] - COLD[channel]);

/** 0 up to 0.8 times the median, 1 from twice the median. @param {number} ratio */
export const heatOfRatio = (ratio) => Math.min(1, Math.max(0, ratio - 0.8) / 1.2);

/**
 * The median of each block type in one token's times.
 * @param {ArrayLike<number>} blocks_us
 * @param {TokenTimes["kinds"]} kinds
 */
export function kindMedians(blocks_us, kinds) {
  const all = Array.from(blocks_us);
  return {
    mamba: median(all.filter((_, at) => kinds[at] === "mamba")),
    hybrid: median(all.filter((_, at) => kinds[at] === "hybrid")),
  };
}

/** @param {TokenTimes} data */
export function heatRows({ kinds, columns }) {
  const totals_us = kinds.map((_, block) => columns.reduce((sum, us) => sum + us[block], 0));
  const all_us = totals_us.reduce((sum, us) => sum + us, 0);
  return kinds.map((kind, block) => ({
    block,
    kind,
    share: totals_us[block] / all_us,
    median_ms: median(columns.map((us) => us[block])) / 1000,
    max_ms: columns.reduce((most, us) => Math.max(most, us[block]), 0) / 1000,
  }));
}

/** @param {TokenTimes} data */
export function heatFinding(data) {
  if (data.columns.length === 0) return t("heat.none");
  const slowest = heatRows(data).reduce((a, b) => (b.median_ms > a.median_ms ? b : a));
  return t("heat.finding", {
    block: slowest.block,
    ms: msText(1000 * slowest.median_ms),
    tokens: number(data.columns.length),
  });
}

/**
 * @param {HeatData} data
 * @param {{ width: number, row: number | null, readout: (text: string) => void,
 *   onRow: (block: number) => void }} options
 * `row`: the highlighted block; `onRow` is called with the block of a click
 */
export function tokenHeat(data, { width, row, readout, onRow }) {
  const { kinds, columns, scale } = data;
  const canvas = document.createElement("canvas");
  const n = Math.max(1, columns.length);
  const cell = Math.min(MOST_CELL, width / n);
  canvas.width = n;
  canvas.height = Math.max(1, kinds.length);
  canvas.className = "token-heat";
  canvas.style.setProperty("width", `${Math.floor(cell * n)}px`);
  canvas.style.setProperty("height", `${kinds.length * ROW}px`);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", heatFinding(data));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const pixels = context.createImageData(canvas.width, canvas.height);
  const most_us = Math.max(...columns.flatMap((us) => [...us]), 1e-9);
  columns.forEach((blocks_us, token) => {
    const middle = kindMedians(blocks_us, kinds);
    blocks_us.forEach((us, block) => {
      const heat = scale === "ratio" ? heatOfRatio(us / (middle[kinds[block]] || 1)) : us / most_us;
      const at = (block * n + token) * 4;
      for (let channel = 0; channel < 3; channel++) pixels.data[at + channel] = heatChannel(heat, channel);
      pixels.data[at + 3] = row === null || row === block ? 255 : 255 * DIMMED;
    });
  });
  context.putImageData(pixels, 0, 0);
  /** @param {MouseEvent} event */
  const under = (event) => {
    const area = canvas.getBoundingClientRect();
    const token = Math.min(n - 1, Math.max(0, Math.floor(((event.clientX - area.left) / area.width) * n)));
    const block = Math.min(
      kinds.length - 1,
      Math.max(0, Math.floor(((event.clientY - area.top) / area.height) * kinds.length)),
    );
    return { token, block };
  };
  canvas.addEventListener("pointermove", (event) => {
    const { token, block } = under(event);
    const us = columns[token]?.[block];
    if (us === undefined) return;
    const ratio = us / (kindMedians(columns[token], kinds)[kinds[block]] || 1);
    readout(t("heat.at", { token: number(token + 1), block, ms: msText(us), ratio: number(ratio, 2) }));
  });
  canvas.addEventListener("pointerleave", () => readout(""));
  canvas.addEventListener("click", (event) => onRow(under(event).block));
  return canvas;
}

/** @param {TokenTimes} data */
export function heatTable(data) {
  return dataTable(
    [
      ...blockColumns(),
      {
        key: "median",
        label: t("heat.col.median"),
        value: (row) => row.median_ms,
        text: (row) => msText(1000 * row.median_ms),
      },
      { key: "max", label: t("heat.col.max"), value: (row) => row.max_ms, text: (row) => msText(1000 * row.max_ms) },
      {
        key: "share",
        label: t("heat.col.share"),
        value: (row) => row.share,
        text: (row) => `${number(row.share * 100, 1)} %`,
      },
    ],
    heatRows(data),
    { label: t("heat.title") },
  );
}
