// @ts-check
// One block in the last profile: FLOPs, throughput and modules, for the block panel.

import { dataTable } from "../charts/data_table.js";
import { PARTS } from "../charts/parts.js";
import { msText, number, significant, t } from "../words.js";
import { conditionsText } from "./conditions.js";
import { element, factList, scrollBox } from "../dom.js";

/** @import { PhaseSummary, Summary } from "../engine/zamba2.d.ts" */

/** @param {Summary} summary @param {"prefill" | "decode"} phase @param {number} block @returns {Node[]} */
export function blockProfile(summary, phase, block) {
  const rows = summary[phase];
  const row = rows.blocks.find((one) => one.block === block);
  if (!row) return [];
  const gf = PARTS.filter((part) => row.flops[part] > 0).map(
    (part) => `${t(`part.${part}`)} ${significant(row.flops[part] / 1e9)}`,
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
      t("block.ms.value", { ms: msText(row.us.median), low: msText(row.us.p5), high: msText(row.us.p95) }),
    ],
    [t("block.gf"), `${significant(row.flops.total / 1e9)} = ${gf.join(" + ")}`],
    ["TFLOPS", significant(row.tflops)],
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
        key: "gf",
        label: "GF",
        value: (row) => row.flops,
        text: (row) => (row.flops > 0 ? significant(row.flops / 1e9) : "–"),
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
