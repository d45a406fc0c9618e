// @ts-check
// The head of a profile: the switch between prefill and decode, metrics of the phase, advice and cautions.

import { segmented } from "../charts/chart_frame.js";
import { element, tiles } from "../dom.js";
import { sentenceText } from "../sentence.js";
import { bytesText, msText, number, significant, t } from "../words.js";
import { percentText } from "./result_tables.js";

/** @import { PhaseSummary, Sentence, Summary } from "../engine/zamba2.d.ts" */
/** @import { Phase } from "./profile_result.js" */

/**
 * @param {Summary} summary @param {Phase} phase_name @param {string} name  of the run
 * @param {(phase: Phase) => void} onPhase
 */
export function headlineCards(summary, phase_name, name, onPhase) {
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
  const measured = element("p", "note", name);
  const summaryCard = element("section", "card summary-card", head, measured, tiles(figures(phase, phase_name)));
  summaryCard.id = "profile-summary";
  const cards = [summaryCard];
  if (summary.advice.length || summary.cautions.length) {
    const advice_card = element("section", "card advice-card");
    advice_card.id = "profile-advice";
    if (summary.advice.length) advice_card.append(sentences("ol", "advice", t("advice.title"), summary.advice));
    if (summary.cautions.length) advice_card.append(sentences("ul", "cautions", t("cautions.title"), summary.cautions));
    cards.push(advice_card);
  }
  return cards;
}

/** The metric tiles, most important first. @param {PhaseSummary} phase @param {Phase} phase_name */
function figures(phase, phase_name) {
  const per_run = t("tile.spread", {
    low: msText(phase.wall_us.p5),
    high: msText(phase.wall_us.p95),
    n: number(phase.wall_us.n),
  });
  const ceiling = {
    name: "ceiling",
    value: percentText(phase.percent_of_ceiling),
    label: t("tile.ceiling"),
    note: t(`report.verdict.${phase.verdict}`),
    hero: phase_name === "decode",
  };
  const forward = {
    name: "forward",
    value: t("unit.ms", { value: msText(phase.wall_us.median) }),
    label: phase_name === "prefill" ? t("tile.forward", { tokens: number(phase.tokens) }) : t("tile.step"),
    note: per_run,
    hero: phase_name === "prefill",
  };
  const speed = {
    name: "speed",
    value: significant((1e6 * phase.tokens) / phase.wall_us.median),
    label: t(`tile.speed.${phase_name}`),
  };
  const flops = {
    name: "flops",
    value: `${significant(phase.flops / 1e9)} GF`,
    label: t("tile.flops"),
    note: t("tile.flops.note"),
  };
  const tflops = {
    name: "tflops",
    value: `${significant(phase.tflops)} TFLOPS`,
    label: t("tile.tflops"),
    note: phase.peak_gflops === null ? "" : t("tile.peak", { gflops: significant(phase.peak_gflops) }),
  };
  const bytes = {
    name: "bytes",
    value: `${significant(phase.gb_per_s)} ${t("unit.gb_per_s")}`,
    label: t("tile.bytes", { bytes: bytesText(phase.bytes) }),
    note: t("tile.intensity", { value: significant(phase.intensity) }),
  };
  const sign = phase.recording_percent > 0 ? "+" : phase.recording_percent < 0 ? "−" : "";
  const recording = {
    name: "recording",
    value: `${sign}${number(Math.abs(phase.recording_percent), 1)} %`,
    label: t("tile.recording"),
  };
  return phase_name === "decode"
    ? [ceiling, forward, speed, bytes, flops, tflops, recording]
    : [forward, speed, flops, tflops, ceiling, bytes, recording];
}

/** @param {"ol" | "ul"} tag @param {string} kind @param {string} title @param {Sentence[]} given */
const sentences = (tag, kind, title, given) =>
  element(
    "div",
    "",
    element("h2", "", title),
    element(tag, kind, ...given.map((one) => element("li", "", sentenceText(one)))),
  );
