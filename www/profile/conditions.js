// @ts-check
// The conditions of a run in the page's language: weight format, threads, vector instructions. The `label` of a run is
// the same in English.

import { plural, t } from "../words.js";

/** @param {{ weights: string, threads: number, backend: string }} conditions */
export function conditionsText({ weights, threads, backend }) {
  const simd =
    backend === "cpu-relaxed-simd" ? t("cap.simd.relaxed") : backend === "cpu-simd128" ? t("cap.simd.plain") : backend;
  return [weights, plural("cap.threads", threads), simd].join(" · ");
}
