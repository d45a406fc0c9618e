// @ts-check
// Columns of the block and module tables of the Profile view.

import { button, element } from "../dom.js";
import { msText, number, scaledUnit, scaleOf, significant, t } from "../words.js";

/** @import { Column } from "../charts/data_table.js" */
/** @import { BlockRow, ModuleRow, PhaseSummary } from "../engine/zamba2.d.ts" */

/**
 * @param {PhaseSummary} phase @param {(block: number, opener: Element) => void} openBlock
 * @returns {Column<BlockRow>[]}
 */
export function blockColumns(phase, openBlock) {
  const most_us = Math.max(...phase.blocks.map(({ us }) => us.median));
  const parts = /** @type {const} */ (["mamba", "attention", "ffn"]);
  // The same unit for all, so that columns can be compared.
  const scale = scaleOf(Math.max(...phase.blocks.flatMap(({ flops }) => parts.map((part) => flops[part]))));
  const rate_scale = scaleOf(Math.max(...phase.blocks.map(({ tflops }) => 1e12 * tflops)));
  return [
    {
      key: "block",
      label: t("col.block"),
      value: (row) => row.block,
      text: (row) => {
        const opener = button(
          `${row.block}${row.kind === "hybrid" ? " ◇" : ""}`,
          () => openBlock(row.block, opener),
          "opener",
        );
        opener.setAttribute("aria-label", t("blocks.open", { block: row.block }));
        return opener;
      },
    },
    ...parts.map((part) => ({
      key: part,
      label: t("col.part_flops", { part: t(`part.${part}`), unit: scaledUnit(scale, "FLOP") }),
      value: (/** @type {BlockRow} */ row) => row.flops[part],
      text: (/** @type {BlockRow} */ row) => significant(row.flops[part] / 1000 ** scale),
    })),
    {
      key: "ms",
      label: t("col.ms"),
      value: (row) => row.us.median,
      text: (row) => msText(row.us.median),
      share: (row) => row.us.median / most_us,
    },
    {
      key: "rate",
      label: scaledUnit(rate_scale, "FLOP/s"),
      value: (row) => row.tflops,
      text: (row) => significant((1e12 * row.tflops) / 1000 ** rate_scale),
    },
    { key: "gb", label: t("col.gb_per_s"), value: (row) => row.gb_per_s, text: (row) => significant(row.gb_per_s) },
    {
      key: "ceiling",
      label: t("col.ceiling_percent"),
      value: (row) => row.percent_of_ceiling,
      text: (row) => percentText(row.percent_of_ceiling),
    },
  ];
}

/** @param {ModuleRow[]} rows @returns {Column<ModuleRow>[]} */
export function moduleColumns(rows) {
  const most_us = Math.max(...rows.map(({ self_us }) => self_us), 1e-9);
  return [
    { key: "path", label: t("col.module"), words: true, value: (row) => row.path, text: (row) => pathOf(row.path) },
    {
      key: "self",
      label: t("col.self_ms"),
      value: (row) => row.self_us,
      text: (row) => msText(row.self_us),
      share: (row) => row.self_us / most_us,
      cell_class: (row) => `bar-${row.part}`,
    },
    {
      key: "percent",
      label: t("col.time_percent"),
      value: (row) => row.time_percent,
      text: (row) => number(row.time_percent, 1),
    },
    { key: "type", label: t("col.type"), words: true, value: (row) => row.type, text: (row) => row.type },
    {
      key: "ceiling",
      label: t("col.ceiling_percent"),
      value: (row) => row.percent_of_ceiling,
      text: (row) => percentText(row.percent_of_ceiling),
    },
  ];
}

/** @param {number | null} percent */
export const percentText = (percent) => (percent === null ? "–" : `${number(percent)} %`);

/** A module's path, with line breaks allowed after dots. @param {string} path */
function pathOf(path) {
  const parts = path.replace(/^model\./, "").split(/(?<=\.)/);
  return element("code", "path", ...parts.flatMap((part) => [part, document.createElement("wbr")]));
}
