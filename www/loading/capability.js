// @ts-check
// The line about the backend, threads, SIMD and clock, and why they are used, so that no slow path is hidden.

import { byId } from "../dom.js";
import { faultText } from "../errors.js";
import { figure, plural, t } from "../words.js";
import { adapterReasons } from "./adapter_reasons.js";

/** @import { LoadedInfo } from "../engine/zamba2.d.ts" */
/** @import { Isolation } from "../isolate.js" */

/**
 * @param {LoadedInfo | null} info  null while no model is loaded
 * @param {Isolation | null} isolation
 * @param {"auto" | false} relaxed_simd  whether relaxed SIMD may be used
 */
export function showCapability(info, isolation, relaxed_simd) {
  byId("capability").textContent = line(info, relaxed_simd);
  const reasons = info ? loadedReasons(info, relaxed_simd) : [];
  if (isolation) reasons.push(t(`cap.why.${isolation}`));
  if (info) reasons.push(t("cap.why.clock", { us: figure(info.timing.clock_resolution_us) }));
  byId("capability-reasons").replaceChildren(
    ...reasons.map((reason) => {
      const item = document.createElement("li");
      item.textContent = reason;
      return item;
    }),
  );
}

/** @param {LoadedInfo} info @param {"auto" | false} relaxed_simd */
const isRelaxed = ({ backend }, relaxed_simd) => backend !== "cpu-simd128" && relaxed_simd !== false;

/** @param {LoadedInfo | null} info @param {"auto" | false} relaxed_simd */
function line(info, relaxed_simd) {
  const isolation = t(crossOriginIsolated ? "cap.isolated" : "cap.not_isolated");
  if (!info) return t("cap.line.loading", { isolation });
  const simd = t(isRelaxed(info, relaxed_simd) ? "cap.simd.relaxed" : "cap.simd.plain");
  const threads = plural("cap.threads", info.threads);
  return t(info.adapter ? "cap.line.webgpu" : "cap.line", {
    simd,
    threads,
    isolation,
    adapter: info.adapter?.name || t("fact.unnamed_adapter"),
  });
}

/** @param {LoadedInfo} info @param {"auto" | false} relaxed_simd @returns {string[]} */
function loadedReasons(info, relaxed_simd) {
  const reasons = info.adapter ? [...adapterReasons(info.adapter)] : [];
  if (info.backend_fault) reasons.push(t("cap.why.backend.fault", { fact: faultText(info.backend_fault) }));
  else reasons.push(t(info.backend_reason === "auto" ? "cap.why.backend.auto" : "cap.why.backend.asked"));
  const threads = plural("cap.threads", info.threads);
  reasons.push(t(`cap.why.threads.${info.threads_reason}`, { threads }));
  if (info.adapter) return reasons;
  if (isRelaxed(info, relaxed_simd)) reasons.push(t("cap.why.simd.relaxed"));
  else reasons.push(t(relaxed_simd === false ? "cap.why.simd.asked" : "cap.why.simd.plain"));
  return reasons;
}
