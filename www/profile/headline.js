// @ts-check
// Advice and cautions of a profile, and the switch between prefill and decode with the metrics of the phase that the
// charts below show.

import { segmented } from "../charts/chart_frame.js";
import { element, tiles } from "../dom.js";
import { sentenceText } from "../sentence.js";
import { bytesText, number, scaledText, scaleOf, significant, t, timeText } from "../words.js";
import { percentText } from "./result_tables.js";

/** @import { PhaseSummary, Sentence, Summary } from "../engine/zamba2.d.ts" */
/** @import { Phase } from "./profile_result.js" */

/**
 * @param {Summary} summary @param {Phase} phase_name @param {(phase: Phase) => void} onPhase
 */
export function headlineCards(summary, phase_name, onPhase) {
  const { general } = summary;
  const phase = summary[phase_name];
  const title = t(`headline.${phase_name}`, {
    tokens: number(general.prompt_tokens),
    steps: number(general.decode_tokens),
  });
  const head = element(
    "div",
    "card-head",
    element("h2", "", title),
    segmented({
      name: "phase",
      label: t("phase.label"),
      chosen: phase_name,
      choices: [
        { value: /** @type {Phase} */ ("prefill"), label: t("phase.prefill") },
        { value: "decode", label: t("phase.decode") },
      ],
      onChoose: onPhase,
    }),
  );
  const summaryCard = element("section", "card summary-card", head, tiles(figures(phase, phase_name)));
  summaryCard.id = "profile-summary";
  const cards = [];
  if (summary.advice.length || summary.cautions.length) {
    const advice_card = element("section", "card advice-card");
    advice_card.id = "profile-advice";
    if (summary.advice.length) advice_card.append(sentences("ol", "advice", t("advice.title"), summary.advice));
    if (summary.cautions.length) advice_card.append(sentences("ul", "cautions", t("cautions.title"), summary.cautions));
    cards.push(advice_card);
  }
  cards.push(summaryCard);
  return cards;
}

/** The metric tiles, most important first. @param {PhaseSummary} phase @param {Phase} phase_name */
function figures(phase, phase_name) {
  const per_run = t("tile.spread", {
    low: timeText(phase.wall_us.p5),
    high: timeText(phase.wall_us.p95),
    n: number(phase.wall_us.n),
  });
  const ceiling = {
    name: "ceiling",
    value: percentText(phase.percent_of_ceiling),
    label: t("tile.ceiling"),
    note: t(`report.verdict.${phase.verdict}`),
  };
  const forward = {
    name: "forward",
    value: timeText(phase.wall_us.median),
    label: phase_name === "prefill" ? t("tile.forward", { tokens: number(phase.tokens) }) : t("tile.step"),
    note: per_run,
  };
  const speed = {
    name: "speed",
    value: significant((1e6 * phase.tokens) / phase.wall_us.median),
    label: t(`tile.speed.${phase_name}`),
  };
  const flops = {
    name: "flops",
    value: scaledText(phase.flops, "FLOP"),
    label: t("tile.flops"),
    note: t("tile.flops.note"),
  };
  const rate = 1e12 * phase.tflops;
  const scale = scaleOf(rate);
  const flop_rate = {
    name: "flop_rate",
    value: scaledText(rate, "FLOP/s"),
    label: t("tile.tflops"),
    note:
      phase.peak_gflops === null
        ? ""
        : t("tile.peak", { rate: scaledText(1e9 * phase.peak_gflops, "FLOP/s", { scale }) }),
  };
  const bytes = {
    name: "bytes",
    value: `${significant(phase.gb_per_s)} ${t("unit.gb_per_s")}`,
    label: t("tile.bytes", { bytes: bytesText(phase.bytes) }),
    note: t("tile.intensity", { value: significant(phase.intensity) }),
  };
  const is_measurable = phase.is_recording_measurable;
  const recording = {
    name: "recording",
    value: is_measurable ? `+${number(phase.recording_percent, 1)} %` : "–",
    label: t("tile.recording"),
    note: is_measurable ? "" : t("tile.recording.none"),
  };
  return phase_name === "decode"
    ? [ceiling, forward, speed, bytes, flops, flop_rate, recording]
    : [forward, speed, flops, flop_rate, ceiling, bytes, recording];
}

/** @param {"ol" | "ul"} tag @param {string} kind @param {string} title @param {Sentence[]} given */
const sentences = (tag, kind, title, given) =>
  element(
    "div",
    "",
    element("h2", "", title),
    element(tag, kind, ...given.map((one) => element("li", "", sentenceText(one)))),
  );
