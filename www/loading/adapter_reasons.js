// @ts-check
// Facts about the graphics adapter in use, as sentences.

import { faultText } from "../errors.js";
import { bytesText, figure, number, t } from "../words.js";

/** @import { AdapterInfo } from "../engine/zamba2.d.ts" */

/** Kind and features of the graphics adapter. @param {AdapterInfo} adapter */
export function adapterReasons({ software, timestamp_step_us, subgroups, f16, max_binding_bytes, dropped, kernels }) {
  const texts = [];
  if (software) texts.push(t("cap.why.software"));
  for (const { feature, fault } of dropped) {
    texts.push(t("cap.why.dropped", { feature: t(`cap.feature.${feature}`), fact: faultText(fault) }));
  }
  texts.push(
    timestamp_step_us === null
      ? t("cap.why.no_timestamps")
      : t("cap.why.timestamps", { us: figure(timestamp_step_us) }),
  );
  texts.push(
    t("cap.why.features", {
      subgroups: t(subgroups ? "cap.has" : "cap.has_not"),
      f16: t(f16 ? "cap.has" : "cap.has_not"),
      binding: bytesText(max_binding_bytes),
    }),
  );
  for (const { op, variant, of } of kernels?.choices ?? []) {
    texts.push(`${op}: ${t("report.kernel", { variant, of: number(of) })}`);
  }
  return texts;
}
