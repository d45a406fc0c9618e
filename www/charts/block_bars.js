// @ts-check
// Stacked bars of the time per block: Mamba, attention, feed-forward and other, with the spread over runs as a whisker
// and a diamond on blocks that call the shared transformer. If the strip is one row, the bars are aligned with its
// cells.

import { msText, number, t } from "../words.js";
import { blockColumns, blockPlaces, numberedBlocks, valueAxis } from "./block_axis.js";
import { dataTable } from "./data_table.js";
import { hasBlockTimes, PARTS } from "./parts.js";
import { box, diamond, label, line, linear, picture, svg } from "./svg.js";

/** @import { BlockRow, PhaseSummary } from "../engine/zamba2.d.ts" */

const HEIGHT = 270;
const TOP = 26;
const BOTTOM = 24;
/** Whiskers are cut at this multiple of the tallest bar: one interrupted run would flatten all bars otherwise. */
const WHISKER_LIMIT = 1.25;

/** @param {BlockRow[]} blocks */
export const slowestOf = (blocks) => blocks.reduce((a, b) => (b.us.median > a.us.median ? b : a));

/** @param {PhaseSummary} phase */
export function blockBarsFinding(phase) {
  const { blocks } = phase;
  if (!hasBlockTimes(phase)) return t("bars.finding.no_times");
  const slowest = slowestOf(blocks);
  const hybrids = blocks.filter(({ kind }) => kind === "hybrid");
  const total_us = blocks.reduce((sum, { us }) => sum + us.median, 0);
  const hybrids_us = hybrids.reduce((sum, { us }) => sum + us.median, 0);
  return t(hybrids.length ? "bars.finding" : "bars.finding.plain", {
    hybrids: number(hybrids.length),
    percent: number((100 * hybrids_us) / total_us),
    blocks: number(blocks.length),
    slowest: slowest.block,
    ms: msText(slowest.us.median),
  });
}

/** @param {BlockRow} row */
const readoutOf = (row) =>
  [
    t("cell.block", { n: row.block }),
    t("unit.ms", { value: msText(row.us.median) }),
    t("bars.spread", { low: msText(row.us.p5), high: msText(row.us.p95) }),
    ...PARTS.filter((part) => row.parts_us[part] > 0).map(
      (part) => `${t(`part.${part}`)} ${msText(row.parts_us[part])}`,
    ),
    t("bars.ratio", { ratio: number(row.ratio, 2) }),
  ].join(" · ");

/**
 * @param {PhaseSummary} phase
 * @param {{ width: number, columns: { x: number, width: number }[] | null, readout: (text: string) => void,
 *   onOpen: (block: number, bar: SVGElement) => void }} options
 * `columns`: positions of the strip's cells relative to the picture's left edge; null spaces the bars evenly
 */
export function blockBars(phase, { width, columns, readout, onOpen }) {
  const { blocks } = phase;
  const root = picture(width, HEIGHT, blockBarsFinding(phase));
  const tallest_us = slowestOf(blocks).us.median;
  const highest_us = Math.min(Math.max(...blocks.map(({ us }) => us.p95)), WHISKER_LIMIT * tallest_us);
  const top_ms = (1.06 * Math.max(tallest_us, highest_us)) / 1000;
  const y = linear([0, top_ms], [HEIGHT - BOTTOM, TOP]);
  const { left, right, places } = blockPlaces(blocks.length, width, columns);
  valueAxis(root, { left, right, top: top_ms, y, n_ticks: 5, unit: t("axis.ms") });
  const is_numbered = numberedBlocks(places);
  blocks.forEach((row, at) => {
    const { x, width: wide } = places[at];
    const middle = x + wide / 2;
    const group = svg("g", { class: "bar", "data-block": row.block });
    group.append(box(x - 1, TOP, wide + 2, HEIGHT - BOTTOM - TOP, "hover-area"));
    let from_ms = 0;
    for (const part of PARTS) {
      const to_ms = from_ms + row.parts_us[part] / 1000;
      if (to_ms > from_ms) group.append(box(x, y(to_ms), wide, y(from_ms) - y(to_ms), `part-${part}`));
      from_ms = to_ms;
    }
    const cut = row.us.p95 / 1000 > top_ms;
    const high = cut ? TOP : y(row.us.p95 / 1000);
    const low = y(row.us.p5 / 1000);
    const cap = Math.min(4, wide / 3);
    group.append(line(middle, low, middle, high, "whisker"), line(middle - cap, low, middle + cap, low, "whisker"));
    group.append(
      cut
        ? svg("path", {
            d: `M${middle - cap} ${high + 5}L${middle} ${high}L${middle + cap} ${high + 5}`,
            class: "whisker",
          })
        : line(middle - cap, high, middle + cap, high, "whisker"),
    );
    if (row.kind === "hybrid") group.append(diamond(middle, TOP - 10, Math.min(5, wide / 2), "diamond"));
    if (is_numbered(row.block)) group.append(label(middle, HEIGHT - 7, String(row.block), { anchor: "middle" }));
    group.addEventListener("pointerenter", () => readout(readoutOf(row)));
    group.addEventListener("pointerleave", () => readout(""));
    group.addEventListener("click", () => onOpen(row.block, group));
    root.append(group);
  });
  return root;
}

/** @param {PhaseSummary} phase */
export function blockBarsTable({ blocks }) {
  return dataTable(
    [
      ...blockColumns(),
      ...PARTS.map((part) => ({
        key: part,
        label: `${t(`part.${part}`)}, ${t("axis.ms")}`,
        value: (/** @type {BlockRow} */ row) => row.parts_us[part],
        text: (/** @type {BlockRow} */ row) => msText(row.parts_us[part]),
      })),
      { key: "median", label: t("col.median_ms"), value: (row) => row.us.median, text: (row) => msText(row.us.median) },
      { key: "p5", label: "p5", value: (row) => row.us.p5, text: (row) => msText(row.us.p5) },
      { key: "p95", label: "p95", value: (row) => row.us.p95, text: (row) => msText(row.us.p95) },
    ],
    blocks,
    { label: t("bars.title") },
  );
}
