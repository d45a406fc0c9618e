// @ts-check
// Data of a comparison: sides that were measured here, opened from a file or taken from the reference report, in one
// form, and the differences in their conditions. It draws nothing.

import { bytesText, number, scaledText, significant, t, timeText } from "../words.js";

/** @import { ReferenceReport, Run, Spread, Summary } from "../engine/zamba2.d.ts" */
/** @import { BlockPair } from "../charts/delta_strip.js" */
/** @import { Pair } from "../charts/dumbbell.js" */

/** @typedef {{ id: string, name: string, run: Run, summary: Summary, reference: null }} MeasuredSide */
/** @typedef {{ id: string, name: string, run: null, summary: null, reference: ReferenceReport }} ReferenceSide */
/** @typedef {MeasuredSide | ReferenceSide} Side */
/** @typedef {"prefill" | "decode"} Phase */

/** The reference has no decode. @param {Side} side @param {Phase} phase */
const phaseOf = (side, phase) => side.summary?.[phase] ?? null;

/** Model and conditions of a side. @param {Side} side */
function generalOf({ summary, reference }) {
  if (reference) {
    const { model, parameters, hidden_size, vocab_size, n_blocks, prompt_tokens } = reference;
    return {
      model,
      parameters,
      hidden_size,
      vocab_size,
      n_blocks,
      prompt_tokens,
      weights: null,
      backend: null,
      threads: null,
      host: null,
    };
  }
  const { model, parameters, hidden_size, vocab_size, n_blocks, prompt_tokens, weights, backend, threads, host } =
    summary.general;
  return { model, parameters, hidden_size, vocab_size, n_blocks, prompt_tokens, weights, backend, threads, host };
}

/** @param {string | number} value */
const valueText = (value) => (typeof value === "number" ? number(value) : value);

/** Sizes that must be equal for times of two models to be comparable. @param {Side} side */
function sizeOf(side) {
  const { hidden_size, n_blocks } = generalOf(side);
  return `${hidden_size} × ${n_blocks}`;
}

/** Whether the models of both sides have the same size. @param {Side} a @param {Side} b */
export const isOneSize = (a, b) => sizeOf(a) === sizeOf(b);

/** A file may contain a run that was measured here. @param {Side} a @param {Side} b */
const isSameRun = (a, b) =>
  a.id === b.id || (a.run !== null && b.run !== null && a.run.made_ms === b.run.made_ms && a.run.label === b.run.label);

/**
 * Why the sides are not directly comparable, with the most serious reason as the title; null if they are.
 * @param {Side} a @param {Side} b @param {Phase} phase @returns {{ title: string, texts: string[] } | null}
 */
export function unlike(a, b, phase) {
  if (isSameRun(a, b)) return { title: t("unlike.title.same"), texts: [t("unlike.same")] };
  const has_no_phase = (a.reference !== null || b.reference !== null) && phase === "decode";
  const { differences, unknown } = differencesOf(a, b);
  const texts = [...(has_no_phase ? [t("unlike.phase")] : []), ...differences, ...unknown];
  if (texts.length === 0) return null;
  if (has_no_phase) return { title: t("unlike.title.phase"), texts };
  if (!isOneSize(a, b)) return { title: t("unlike.title.size"), texts };
  return { title: t(differences.length ? "unlike.title" : "unlike.title.unknown"), texts };
}

/**
 * Texts for the conditions in which the sides differ, and for those that are missing on one side.
 * @param {Side} a @param {Side} b
 */
function differencesOf(a, b) {
  const [x, y] = [generalOf(a), generalOf(b)];
  /** @type {string[]} */
  const differences = [];
  /** @type {string[]} */
  const unknown = [];
  for (const name of /** @type {const} */ ([
    "model",
    "hidden_size",
    "prompt_tokens",
    "weights",
    "backend",
    "threads",
  ])) {
    const [left, right] = [x[name], y[name]];
    // Different names do not matter if the sizes are equal.
    if (name === "model" && isOneSize(a, b)) continue;
    if (left === right) continue;
    if (left === null || right === null) unknown.push(t(`general.${name}`).toLocaleLowerCase());
    else differences.push(t(`unlike.${name}`, { a: valueText(left), b: valueText(right) }));
  }
  return { differences, unknown: unknown.length ? [t("unlike.unknown", { what: unknown.join(", ") })] : [] };
}

/**
 * Whether the spreads of the sides overlap, so that the difference may be noise.
 * @param {Side} a
 * @param {Side} b
 * @param {Phase} phase
 */
export function withinSpread(a, b, phase) {
  const [x, y] = [phaseOf(a, phase)?.wall_us, phaseOf(b, phase)?.wall_us];
  return x !== undefined && y !== undefined && x.p5 <= y.p95 && y.p5 <= x.p95;
}

/** @param {Spread | undefined} spread */
const spreadText = (spread) =>
  spread ? t("tile.spread", { low: timeText(spread.p5), high: timeText(spread.p95), n: number(spread.n) }) : "–";

/**
 * The rows of the comparison table.
 * @param {Phase} phase
 * @returns {{ key: string, label: string, of: (side: Side) => string, value?: (side: Side) => number | null }[]}
 */
export function comparisonRows(phase) {
  const dash = (/** @type {string | null | undefined} */ text) => text ?? "–";
  /** @param {Side} side */
  const us = (side) =>
    phaseOf(side, phase)?.wall_us.median ?? (phase === "prefill" ? (side.reference?.forward_us ?? null) : null);
  /** @param {Side} side */
  const flops = (side) => phaseOf(side, phase)?.flops ?? (phase === "prefill" ? (side.reference?.flops ?? null) : null);
  /** @param {Side} side */
  const tflops = (side) =>
    phaseOf(side, phase)?.tflops ?? (phase === "prefill" ? (side.reference?.tflops ?? null) : null);
  /** @param {(side: Side) => number | null} value @param {(value: number) => string} write */
  const measured = (value, write) => ({
    value,
    of: (/** @type {Side} */ side) => {
      const got = value(side);
      return got === null ? "–" : write(got);
    },
  });
  return [
    {
      key: "ms",
      label: t(phase === "prefill" ? "compare.forward" : "compare.step"),
      ...measured(us, timeText),
    },
    { key: "spread", label: t("compare.spread"), of: (side) => spreadText(phaseOf(side, phase)?.wall_us) },
    {
      key: "flops",
      label: t("compare.flops"),
      ...measured(flops, (value) => scaledText(value, "FLOP", { digits: 5 })),
    },
    { key: "rate", label: t("tile.tflops"), ...measured(tflops, (value) => scaledText(1e12 * value, "FLOP/s")) },
    {
      key: "ceiling",
      label: t("col.ceiling_percent"),
      ...measured(
        (side) => phaseOf(side, phase)?.percent_of_ceiling ?? null,
        (value) => `${number(value)} %`,
      ),
    },
    {
      key: "gb",
      label: t("col.gb_per_s"),
      ...measured(
        (side) => phaseOf(side, phase)?.gb_per_s ?? null,
        (value) => significant(value),
      ),
    },
    { key: "parameters", label: t("general.parameters"), of: (side) => number(generalOf(side).parameters) },
    { key: "prompt_tokens", label: t("general.prompt_tokens"), of: (side) => number(generalOf(side).prompt_tokens) },
    { key: "hidden_size", label: t("general.hidden_size"), of: (side) => number(generalOf(side).hidden_size) },
    { key: "n_blocks", label: t("general.n_blocks"), of: (side) => number(generalOf(side).n_blocks) },
    { key: "weights", label: t("general.weights"), of: (side) => dash(generalOf(side).weights) },
    {
      key: "threads",
      label: t("general.threads"),
      ...measured(
        (side) => generalOf(side).threads,
        (value) => number(value),
      ),
      value: undefined,
    },
    { key: "backend", label: t("general.backend"), of: (side) => dash(generalOf(side).backend) },
    {
      key: "memory",
      label: t("general.memory"),
      ...measured((side) => side.summary?.process_bytes ?? null, bytesText),
      value: undefined,
    },
    { key: "host", label: t("general.host"), of: (side) => dash(generalOf(side).host) },
  ];
}

/**
 * The blocks of both sides: by time, or by FLOPs if a side has no time per block. Null if the numbers of blocks differ
 * or a side has no data for the phase.
 * @param {Side} a @param {Side} b @param {Phase} phase @returns {{ measure: "ms" | "gf", pairs: BlockPair[] } | null}
 */
export function blockPairs(a, b, phase) {
  if ((a.reference || b.reference) && phase === "decode") return null;
  const measure = a.summary && b.summary ? "ms" : "gf";
  const [x, y] = [blockValues(a, phase, measure), blockValues(b, phase, measure)];
  if (x.length === 0 || x.length !== y.length) return null;
  return {
    measure,
    pairs: x.map(({ block, kind, value }, at) => ({
      block,
      kind: kind ?? y[at].kind ?? "mamba",
      a: value,
      b: y[at].value,
    })),
  };
}

/**
 * @param {Side} side
 * @param {Phase} phase
 * @param {"ms" | "gf"} measure
 * @returns {{ block: number, kind: "mamba" | "hybrid" | null, value: number }[]}
 */
function blockValues({ summary, reference }, phase, measure) {
  if (reference) {
    // In both reports, only hybrid blocks have attention FLOPs or more Mamba FLOPs than block 0.
    const [first] = reference.blocks;
    return reference.blocks.map((row) => ({
      block: row.block,
      kind: row.attention_flops > 0 || row.mamba_flops > 1.01 * first.mamba_flops ? "hybrid" : "mamba",
      value: (row.mamba_flops + row.attention_flops + row.ffn_flops + row.other_flops) / 1e9,
    }));
  }
  return summary[phase].blocks.map(({ block, kind, us, flops }) => ({
    block,
    kind,
    value: measure === "ms" ? us.median / 1000 : flops.total / 1e9,
  }));
}

/**
 * Inclusive times of the module types present on both sides.
 * @param {Side} a
 * @param {Side} b
 * @param {Phase} phase
 * @returns {Pair[]}
 */
export function typePairs(a, b, phase) {
  if ((a.reference || b.reference) && phase === "decode") return [];
  const other = new Map(typeTimes(b, phase));
  return typeTimes(a, phase)
    .flatMap(([name, a_ms]) => {
      const b_ms = other.get(name);
      return b_ms !== undefined && a_ms > 0 && b_ms > 0 ? [{ name, a_ms, b_ms }] : [];
    })
    .sort((x, y) => Math.max(y.a_ms, y.b_ms) - Math.max(x.a_ms, x.b_ms));
}

/** @param {Side} side @param {Phase} phase @returns {[string, number][]} */
function typeTimes({ summary, reference }, phase) {
  return reference
    ? reference.types.map(({ type, total_us }) => [type, total_us / 1000])
    : summary[phase].types.map(({ type, us }) => [type, us / 1000]);
}
