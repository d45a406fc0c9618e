// @ts-check
// Reports in the worker: assembles a run from measurements and the facts about model and device, and passes run files
// to the wasm module. It computes no figures.

import { yieldToMessages } from "./gates.js";
import { COARSE_CLOCK_US, MAX_TEXT_CHARS, PROMPT_TOKENS } from "./limits.js";
import { clockResolutionUs } from "./numbers.js";
import { profileRuns } from "./profiling.js";
import { loadReports } from "./wasm_engine.js";

/** @import { ProfileRequest } from "./profiling.js" */
/** @import { AdapterReport } from "./worker.js" */
/** @import { WasmEngine } from "./wasm_engine.js" */
/** @import { ProfileRun, ProfileSpans, ReportProgress } from "./zamba2.d.ts" */
/** @import { ReferenceReport, Run, Spans, Summary } from "./report.d.ts" */

/** @typedef {ProfileRequest & { ceilings: boolean }} ReportRequest */

/**
 * The loaded model and its backend.
 * @typedef {object} LoadedFacts
 * @property {string} name
 * @property {string} backend
 * @property {Run["conditions"]["weights"]} weights
 * @property {number} threads
 * @property {boolean} relaxed_simd
 * @property {boolean} tokenizer
 * @property {AdapterReport | null} adapter
 */

/**
 * The last part of a URL, or the folder that files came from. URLs of the Hub end with a revision.
 * @param {string | File[]} source
 */
export function sourceName(source) {
  if (typeof source !== "string") return source[0]?.webkitRelativePath.split("/").at(-2) ?? "files";
  const { pathname, host } = new URL(source);
  const parts = pathname
    .replace(/\/resolve\/[^/]+\/?$/, "")
    .split("/")
    .filter(Boolean);
  const last = parts.at(-1) ?? host;
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

/**
 * @param {WasmEngine} engine @param {LoadedFacts} loaded @param {ReportRequest} options
 * @param {{ signal: AbortSignal, onChecked: () => void, onProgress: (progress: ReportProgress) => void }} hooks
 * @returns {Promise<Run>}
 */
export async function measureRun(engine, loaded, options, { signal, onChecked, onProgress }) {
  const { prompt: built_in, context, chunk_rows, ...facts } = engine.run_facts(loaded.name);
  const given = options.prompt ?? (options.ids || !loaded.tokenizer ? null : built_in);
  const prefill = options.prefill ?? (given === built_in ? PROMPT_TOKENS : null);
  const clock_us = clockResolutionUs();
  let ceilings = null;
  if (options.ceilings && clock_us < COARSE_CLOCK_US) {
    onProgress({ phase: "ceilings", run: 0, runs: options.runs });
    await yieldToMessages();
    const { threads, ...rates } = await engine.ceilings();
    const rounded = Object.entries(rates).map(([name, rate]) => [name, thousandths(rate)]);
    ceilings = /** @type {Run["ceilings"]} */ ({ threads, ...Object.fromEntries(rounded) });
  }
  const measured = await profileRuns(
    engine,
    { ...options, prompt: given, prefill },
    {
      signal,
      onChecked,
      onProgress: (phase, run) => onProgress({ phase, run, runs: options.runs }),
    },
  );
  const { weights, threads, backend, adapter } = loaded;
  // Without timestamp queries the session waits after each block, and modules have no times.
  const untimed = adapter !== null && adapter.timestamp_step_us === null;
  const us = (/** @type {number} */ ms) => thousandths(ms * 1000);
  const times = (/** @type {ProfileRun} */ { forward_ms, step_ms }) => ({
    prefill_us: us(forward_ms),
    step_us: (clock_us < COARSE_CLOCK_US ? step_ms : evened(step_ms)).map(us),
  });
  return {
    schema: "zamba2-run/1",
    made_ms: Date.now(),
    label: labelOf(loaded),
    model: facts.model,
    conditions: {
      backend,
      weights,
      threads,
      isolated: crossOriginIsolated,
      context,
      chunk_rows,
      kernels: adapter?.kernels?.choices ?? [],
      level: untimed ? "block" : options.level,
      host: (adapter?.name ? `${adapter.name}; ${navigator.userAgent}` : navigator.userAgent).slice(0, MAX_TEXT_CHARS),
      hidden_ms: 0,
    },
    timer: timerOf(adapter, clock_us),
    ceilings,
    memory: facts.memory,
    prompt_tokens: measured.prompt_tokens,
    decode_tokens: measured.decode_tokens,
    warmup: measured.warmup,
    runs: measured.runs.map((run) => ({ ...times(run), spans: plainSpans(/** @type {ProfileSpans} */ (run.spans)) })),
    unprofiled: measured.unprofiled.map(times),
  };
}

/** @param {LoadedFacts} loaded */
function labelOf({ weights, threads, relaxed_simd, adapter }) {
  if (adapter) return [weights, "WebGPU", adapter.name].filter(Boolean).join(" · ");
  return `${weights} · ${threads} thread${threads === 1 ? "" : "s"} · ${relaxed_simd ? "relaxed SIMD" : "SIMD128"}`;
}

/**
 * The clock of the spans: timestamp queries of the device, or this worker's clock.
 * @param {AdapterReport | null} adapter @param {number} clock_us @returns {Run["timer"]}
 */
function timerOf(adapter, clock_us) {
  if (!adapter) return { source: "performance.now", resolution_us: clock_us };
  if (adapter.timestamp_step_us === null) {
    return { source: "clock_after_blocks", resolution_us: clock_us };
  }
  return { source: "timestamp_query", resolution_us: adapter.timestamp_step_us };
}

/** Replaces each sample by the mean: with a coarse clock one step takes no time and another the time of many. */
function evened(/** @type {number[]} */ samples) {
  const mean = samples.reduce((sum, sample) => sum + sample, 0) / samples.length;
  return samples.map(() => mean);
}

/**
 * Further digits of times and rates are noise, and at most fifteen digits are read back exactly.
 * @param {number} value
 */
const thousandths = (value) => Math.round(value * 1000) / 1000;

/** Typed arrays would become objects in JSON. @param {ProfileSpans} spans @returns {Spans} */
function plainSpans(spans) {
  /** @param {ArrayLike<number>} column */
  const times = (column) => Array.from(column, thousandths);
  return {
    names: spans.names,
    name: [...spans.name],
    parent: [...spans.parent],
    pass: [...spans.pass],
    start_us: times(spans.start_us),
    duration_us: times(spans.duration_us),
    flops: [...spans.flops],
    bytes: [...spans.bytes],
    ...(spans.fused_with.some((first) => first >= 0) && { fused_with: [...spans.fused_with] }),
  };
}

/**
 * @typedef {object} ReportCalls
 * @property {(args: { text: string }) => Run} parse_run
 * @property {(args: { text: string }) => Summary} summarise
 * @property {(args: { text: string, format: string, language: string }) => string} export_run
 * @property {(args: { kind: string }) => ReferenceReport} reference_report
 */

/**
 * Calls that need no model.
 * @type {{ [K in keyof ReportCalls]: (args: Parameters<ReportCalls[K]>[0]) => Promise<ReturnType<ReportCalls[K]>> }}
 */
export const reportCalls = {
  parse_run: async ({ text }) => (await loadReports()).parse_run(text),
  summarise: async ({ text }) => (await loadReports()).summarise(text),
  export_run: async ({ text, format, language }) => (await loadReports()).export_run(text, format, language),
  reference_report: async ({ kind }) => (await loadReports()).reference_report(kind),
};
