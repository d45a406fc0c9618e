// @ts-check
// Metrics of the last run.

import { byId } from "../dom.js";
import { bytesText, figure, number, t } from "../words.js";

/** @import { RunSummary } from "../engine/zamba2.d.ts" */
/** @import { Key } from "../words.js" */

/** @param {RunSummary} summary @param {number | null} ttft_ms  null if the run ended before its first token */
export function showRunMetrics(summary, ttft_ms) {
  const { memory, prompt_tokens, cached_tokens } = summary;
  const orDash = (/** @type {number | null | undefined} */ value) => (value == null ? "–" : figure(value));
  /** @type {[string, string][]} */
  const rows = [
    [ttft_ms === null ? "–" : number(ttft_ms, ttft_ms < 100 ? 1 : 0), t("metric.ttft")],
    [
      orDash(summary.prefill_tokens_per_s),
      prompt_tokens === undefined ? t("metric.prefill.stopped") : t("metric.prefill", { tokens: prompt_tokens }),
    ],
    [orDash(summary.decode_tokens_per_s), t("metric.decode")],
    [`${orDash(summary.gap_ms_p50)} / ${orDash(summary.gap_ms_p95)}`, t("metric.gaps")],
    [number(summary.tokens), t("metric.tokens")],
    [memory ? bytesText(memory.wasm_bytes) : "–", t("metric.memory")],
    [t(/** @type {Key} */ (`reason.${summary.reason}`)), t("metric.reason")],
  ];
  const { drafted, accepted_drafts = 0, no_drafts } = summary;
  if (no_drafts) rows.splice(5, 0, ["–", t(`metric.drafts.${no_drafts}`)]);
  else if (drafted) rows.splice(5, 0, [`${number(accepted_drafts)} / ${number(drafted)}`, t("metric.drafts")]);
  if (cached_tokens) rows.splice(2, 0, [number(cached_tokens), t("metric.cached")]);
  byId("metrics-none").hidden = true;
  const list = byId("metrics");
  list.hidden = false;
  list.replaceChildren(
    ...rows.map(([value, name], i) => {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const detail = document.createElement("dd");
      term.textContent = name;
      detail.textContent = value;
      if (i === rows.length - 1) row.className = "word";
      row.append(term, detail);
      return row;
    }),
  );
}
