// @ts-check
// One block in the last profile: FLOPs, throughput and modules, for the block panel.

import { dataTable } from "../charts/data_table.js";
import { PARTS } from "../charts/parts.js";
import { msText, number, scaledText, scaledUnit, scaleOf, significant, t, timeText } from "../words.js";
import { conditionsText } from "./conditions.js";
import { element, factList, scrollBox } from "../dom.js";

/** @import { PhaseSummary, Summary } from "../engine/zamba2.d.ts" */

/** @param {Summary} summary @param {"prefill" | "decode"} phase @param {number} block @returns {Node[]} */
export function blockProfile(summary, phase, block) {
  const rows = summary[phase];
  const row = rows.blocks.find((one) => one.block === block);
  if (!row) return [];
  const scale = scaleOf(row.flops.total);
  const parts = PARTS.filter((part) => row.flops[part] > 0).map(
    (part) => `${t(`part.${part}`)} ${significant(row.flops[part] / 1000 ** scale)}`,
  );
  const title = element(
    "h3",
    "",
    t("block.profile", {
      phase: t(`phase.${phase}`),
      model: summary.general.model,
      conditions: conditionsText(summary.general),
    }),
  );
  /** @type {[string, string][]} */
  const facts = [
    [
      t("block.ms"),
      t("block.ms.value", {
        time: timeText(row.us.median),
        low: timeText(row.us.p5),
        high: timeText(row.us.p95),
      }),
    ],
    [t("block.flops"), `${scaledText(row.flops.total, "FLOP")} = ${parts.join(" + ")}`],
    [t("tile.tflops"), scaledText(1e12 * row.tflops, "FLOP/s")],
    [t("col.gb_per_s"), significant(row.gb_per_s)],
    [t("col.intensity"), significant(row.flops.total / row.bytes)],
    [t("block.ratio"), `×${number(row.ratio, 2)}`],
  ];
  if (row.percent_of_ceiling !== null) facts.push([t("col.ceiling_percent"), `${number(row.percent_of_ceiling)} %`]);
  return [title, factList(facts), scrollBox(t("block.modules"), moduleTable(rows, block))];
}

/** @param {PhaseSummary} phase @param {number} block */
function moduleTable(phase, block) {
  const modules = phase.modules.filter((row) => row.block === block);
  const most_us = Math.max(...modules.map(({ self_us }) => self_us));
  const scale = scaleOf(Math.max(0, ...modules.map(({ flops }) => flops)));
  return dataTable(
    [
      {
        key: "path",
        label: t("col.module"),
        words: true,
        value: (row) => row.path,
        text: (row) => row.path.replace(/^model\.layers\.\d+\./, ""),
      },
      { key: "type", label: t("col.type"), words: true, value: (row) => row.type, text: (row) => row.type },
      {
        key: "self",
        label: t("col.self_ms"),
        value: (row) => row.self_us,
        text: (row) => msText(row.self_us),
        share: (row) => row.self_us / most_us,
        cell_class: (row) => `bar-${row.part}`,
      },
      { key: "us", label: t("col.inclusive_ms"), value: (row) => row.us, text: (row) => msText(row.us) },
      {
        key: "flops",
        label: scaledUnit(scale, "FLOP"),
        value: (row) => row.flops,
        text: (row) => (row.flops > 0 ? significant(row.flops / 1000 ** scale) : "–"),
      },
      {
        key: "gb",
        label: t("col.gb_per_s"),
        value: (row) => row.gb_per_s,
        text: (row) => (row.bytes > 0 ? significant(row.gb_per_s) : "–"),
      },
    ],
    modules,
    { label: t("block.modules") },
  );
}
