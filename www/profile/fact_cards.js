// @ts-check
// Cards of the Profile view: FLOPs by kind of operation, and general parameters of the run.

import { dataTable } from "../charts/data_table.js";
import { card, element, factList, scrollBox } from "../dom.js";
import { valueText } from "../sentence.js";
import { bytesText, figure, msText, number, scaledText, significant, t } from "../words.js";

/** @import { PhaseSummary, Summary } from "../engine/zamba2.d.ts" */
/** @import { Phase } from "./profile_result.js" */

/** @param {PhaseSummary} phase @param {Phase} phase_name */
export function kindsCard(phase, phase_name) {
  const rows = Object.entries(phase.flops_by_kind).map(([kind, flops]) => ({
    kind: /** @type {keyof PhaseSummary["flops_by_kind"]} */ (kind),
    flops,
  }));
  const table = dataTable(
    [
      {
        key: "kind",
        label: t("col.kind"),
        words: true,
        value: (row) => row.kind,
        text: (row) => t(`flops.${row.kind}`),
      },
      { key: "flops", label: t("col.flops"), value: (row) => row.flops, text: (row) => scaledText(row.flops, "FLOP") },
      {
        key: "percent",
        label: "%",
        value: (row) => row.flops,
        part: "flops",
        text: (row) => number((100 * row.flops) / phase.flops, 1),
        share: (row) => row.flops / phase.flops,
      },
    ],
    rows,
    { label: t("kinds.title") },
  );
  const note = t("kinds.note", { phase: t(`phase.${phase_name}`), total: scaledText(phase.flops, "FLOP") });
  return card("profile-kinds", t("kinds.title"), element("p", "note", note), scrollBox(t("kinds.title"), table));
}

/** @param {Summary} summary @param {PhaseSummary} phase */
export function generalCard({ general, process_bytes, ceilings }, phase) {
  /** @type {[string, string][]} */
  const facts = [
    [t("general.model"), general.model],
    [t("general.parameters"), number(general.parameters)],
    [t("general.hidden_size"), number(general.hidden_size)],
    [t("general.vocab_size"), number(general.vocab_size)],
    [t("general.prompt_tokens"), number(general.prompt_tokens)],
    [t("general.decode_tokens"), number(general.decode_tokens)],
    [t("general.n_blocks"), number(general.n_blocks)],
    [t("general.context"), number(general.context)],
    [t("general.runs"), t("general.runs.value", { runs: number(general.runs), warmup: number(general.warmup) })],
    [t("general.backend"), general.backend],
    [t("general.weights"), general.weights],
    [t("general.threads"), number(general.threads)],
    [
      t("general.timer"),
      t("general.timer.value", { source: valueText(general.timer), us: figure(general.timer_resolution_us) }),
    ],
    [
      t("general.untracked"),
      t("general.untracked.value", {
        ms: msText(phase.untracked_us),
        percent: number((100 * phase.untracked_us) / phase.profiled_us.median, 1),
      }),
    ],
  ];
  if (process_bytes !== null) facts.push([t("general.memory"), bytesText(process_bytes)]);
  if (ceilings) {
    facts.push([
      t("general.ceilings"),
      t("general.ceilings.value", {
        int8: significant(2 * ceilings.int8_gmacs_per_s),
        int16: significant(2 * ceilings.int16_gmacs_per_s),
        f32: significant(2 * ceilings.f32_gmacs_per_s),
        read: significant(ceilings.read_gb_per_s),
      }),
    ]);
    const copy = ceilings.copy_gb_per_s;
    if (copy) facts.push([t("general.copy"), t("report.ceilings.copy", { copy: significant(copy) })]);
  }
  for (const { op, variant, of } of general.kernels) facts.push([op, t("report.kernel", { variant, of: number(of) })]);
  facts.push([t("general.host"), general.host]);
  return card("profile-general", t("general.title"), factList(facts));
}
