// @ts-check
// Time by module type as a sortable table with bars: share of time and share of FLOPs. Self times and the untracked
// rest sum to the whole pass; inclusive times overlap and are never summed.

import { msText, number, significant, t } from "../words.js";
import { dataTable } from "./data_table.js";
import { hasBlockTimes } from "./parts.js";

/** @import { PhaseSummary, TypeRow } from "../engine/zamba2.d.ts" */
/** @import { Order } from "./data_table.js" */

/** @typedef {"self" | "inclusive"} TimeKind */

/** @param {PhaseSummary} phase */
export function typeFinding(phase) {
  if (!hasBlockTimes(phase)) return t("bars.finding.no_times");
  const [first] = phase.types;
  return first
    ? t("types.finding", { type: first.type, percent: number(first.time_percent), flops: number(first.flops_percent) })
    : t("types.none");
}

/** @param {PhaseSummary} phase @param {{ times: TimeKind, order: Order, onSort: (order: Order) => void }} options */
export function typeTable(phase, { times, order, onSort }) {
  const whole_us = phase.profiled_us.median;
  /** @param {TypeRow} row */
  const time_us = (row) => (times === "self" ? row.self_us : row.us);
  /** @param {TypeRow} row */
  const percent = (row) => (100 * time_us(row)) / whole_us;
  /** @type {TypeRow} */
  const untracked = {
    type: t("types.untracked"),
    count: 0,
    us: phase.untracked_us,
    self_us: phase.untracked_us,
    mean_us: 0,
    time_percent: 0,
    flops: 0,
    flops_percent: 0,
  };
  return dataTable(
    [
      { key: "type", label: t("col.type"), words: true, value: (row) => row.type, text: (row) => row.type },
      {
        key: "us",
        label: t(times === "self" ? "col.self_ms" : "col.inclusive_ms"),
        value: time_us,
        text: (row) => msText(time_us(row)),
      },
      {
        key: "percent",
        label: t("col.time_percent"),
        value: percent,
        text: (row) => number(percent(row), 1),
        share: (row) => percent(row) / 100,
      },
      {
        key: "flops",
        label: t("col.flops_percent"),
        value: (row) => row.flops_percent,
        part: "flops",
        text: (row) =>
          row.flops > 0
            ? row.flops_percent >= 0.05
              ? number(row.flops_percent, 1)
              : significant(row.flops_percent, 1)
            : "–",
        share: (row) => row.flops_percent / 100,
      },
      {
        key: "count",
        label: t("col.count"),
        value: (row) => row.count,
        text: (row) => (row === untracked ? "" : number(row.count)),
      },
      {
        key: "mean",
        label: t("col.mean_ms"),
        value: (row) => time_us(row) / Math.max(1, row.count),
        text: (row) => (row === untracked ? "" : msText(time_us(row) / Math.max(1, row.count))),
      },
    ],
    times === "self" ? [...phase.types, untracked] : phase.types,
    { label: t("types.title"), order, onSort },
  );
}
