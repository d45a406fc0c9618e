// @ts-check
// The first card of a profile: prefill and decode side by side, each with its time, its distance from the machine's
// ceiling, its slowest block and what takes the time, in sentences.

import { slowestOf } from "../charts/block_bars.js";
import { hasBlockTimes, PARTS } from "../charts/parts.js";
import { button, card, element } from "../dom.js";
import { number, significant, t, timeText } from "../words.js";

/** @import { PhaseSummary, Summary } from "../engine/zamba2.d.ts" */
/** @import { Phase } from "./profile_result.js" */

/**
 * @param {Summary} summary @param {string} name  of the run
 * @param {(block: number, opener: HTMLElement) => void} openBlock
 */
export function answersCard(summary, name, openBlock) {
  const phases = /** @type {const} */ (["prefill", "decode"]).filter((phase) => summary[phase].wall_us.n > 0);
  return card(
    "profile-answers",
    t("answers.title"),
    element("p", "note", name),
    element("div", "answers", ...phases.map((phase) => phaseAnswers(summary[phase], phase, openBlock))),
  );
}

/** @param {PhaseSummary} phase @param {Phase} name @param {(block: number, opener: HTMLElement) => void} openBlock */
function phaseAnswers(phase, name, openBlock) {
  const part = element(
    "section",
    "",
    element("h3", "", t(`phase.${name}`)),
    element("p", "answers-time", timeText(phase.wall_us.median)),
    element(
      "p",
      "note",
      t(`answers.speed.${name}`, {
        tokens: number(phase.tokens),
        speed: significant((1e6 * phase.tokens) / phase.wall_us.median),
      }),
    ),
  );
  part.dataset.phase = name;
  if (phase.percent_of_ceiling !== null) {
    const meter = document.createElement("meter");
    meter.max = 100;
    meter.value = phase.percent_of_ceiling;
    meter.setAttribute("aria-label", `${t(`phase.${name}`)}: ${t("answers.meter")}`);
    part.append(meter);
  }
  const sentences = element("ul", "answers-sentences", ...answersOf(phase).map((text) => element("li", "", text)));
  part.append(sentences);
  if (hasBlockTimes(phase)) {
    const { block } = slowestOf(phase.blocks);
    const opener = button(t("blocks.open", { block }), () => openBlock(block, opener), "small");
    part.append(opener);
  }
  return part;
}

/**
 * The distance from the machine's ceiling, the slowest block, and the reasons.
 * @param {PhaseSummary} phase @returns {string[]}
 */
export function answersOf(phase) {
  const verdict = t(`report.verdict.${phase.verdict}`);
  const distance =
    phase.percent_of_ceiling === null
      ? t("answers.distance.none", { verdict })
      : t("answers.distance", { percent: number(phase.percent_of_ceiling), verdict });
  if (!hasBlockTimes(phase)) return [distance, t("bars.finding.no_times")];
  return [distance, slowestText(phase), ...whyText(phase)];
}

/** @param {PhaseSummary} phase */
function slowestText(phase) {
  const { block, us, ratio, parts_us } = slowestOf(phase.blocks);
  const part = PARTS.reduce((a, b) => (parts_us[b] > parts_us[a] ? b : a));
  return t("answers.slowest", {
    block,
    time: timeText(us.median),
    ratio: number(ratio, 2),
    part: t(`part.${part}`),
    share: number((100 * parts_us[part]) / us.median),
  });
}

/** @param {PhaseSummary} phase @returns {string[]} */
function whyText(phase) {
  const untracked_percent = (100 * phase.untracked_us) / phase.profiled_us.median;
  const [type] = phase.types;
  if (!type) return [];
  if (untracked_percent > type.time_percent) return [t("answers.why.untracked", { share: number(untracked_percent) })];
  return [
    t("answers.why", {
      type: type.type,
      share: number(type.time_percent),
      count: number(type.count),
      mean: timeText(type.self_us / type.count),
    }),
  ];
}
