// @ts-check
// The conditions of a run in the page's language: format of the weights, threads, vector instructions. A run's own
// label says the same in English. It uses words.js alone.

import { plural, t } from "../words.js";

/** @param {{ weights: string, threads: number, backend: string }} conditions */
export function conditionsText({ weights, threads, backend }) {
  const simd =
    backend === "cpu-relaxed-simd" ? t("cap.simd.relaxed") : backend === "cpu-simd128" ? t("cap.simd.plain") : backend;
  return [weights, plural("cap.threads", threads), simd].join(" · ");
}
