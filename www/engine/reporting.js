// @ts-check
// Reports: in the worker a run is put together from what profiling.js measured and what the engine says of itself, and
// run files are read, summed up and written by the wasm module; on the page one lazily started worker does the latter.
// It draws nothing and computes no figure.

import { badOption, fact, Zamba2Error } from "./errors.js";
import { profileRuns } from "./profiling.js";
import { loadReports } from "./wasm_engine.js";

/** @import { WasmEngine } from "./wasm_engine.js" */
/** @import { ReportProgress, Run, Spans, ProfileSpans } from "./zamba2.d.ts" */

/**
 * What the worker knows of the model that it loaded.
 * @typedef {object} LoadedFacts
 * @property {string} name
 * @property {string} backend
 * @property {Run["conditions"]["weights"]} weights
 * @property {number} threads
 * @property {boolean} relaxed_simd
 * @property {boolean} tokenizer
 * @property {import("./zamba2.d.ts").AdapterInfo | null} adapter
 */

/**
 * The last part of an address, or the folder that files came from. The Hub's addresses end with a revision.
 * @param {string | File[]} source
 */
export function sourceName(source) {
  if (typeof source !== "string") return source[0]?.webkitRelativePath.split("/").at(-2) ?? "files";
  const { pathname, host } = new URL(source);
  const parts = pathname.replace(/\/resolve\/[^/]+\/?$/, "").split("/").filter(Boolean);
  const last = parts.at(-1) ?? host;
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

/**
 * @param {WasmEngine} engine
 * @param {LoadedFacts} loaded
 * @param {{ prefill: number | null, decode: number, runs: number, warmup: number, level: "block" | "module", ids: Uint32Array | null, prompt: string | null, vocab_size: number, ceilings: boolean }} options
 * @param {{ signal: AbortSignal, yieldToMessages: () => Promise<void>, clockResolutionUs: () => number, onProgress: (progress: ReportProgress) => void }} hooks
 * @returns {Promise<Run>}
 */
export async function measureRun(engine, loaded, options, { signal, yieldToMessages, clockResolutionUs, onProgress }) {
  const { prompt: built_in, context, ...facts } = engine.run_facts(loaded.name);
  const given = options.prompt ?? (options.ids || !loaded.tokenizer ? null : built_in);
  const prefill = options.prefill ?? (given === built_in ? BUILT_IN_TOKENS : null);
  let ceilings = null;
  if (options.ceilings) {
    onProgress({ phase: "ceilings", run: 0, runs: options.runs });
    await yieldToMessages();
    const { threads, ...rates } = await engine.ceilings();
    ceilings = /** @type {Run["ceilings"]} */ ({ threads, ...Object.fromEntries(Object.entries(rates).map(([name, rate]) => [name, thousandths(rate)])) });
  }
  const measured = await profileRuns(engine, { ...options, prompt: given, prefill }, {
    signal,
    yieldToMessages,
    onProgress: (run) => onProgress({ phase: "runs", run, runs: options.runs }),
  });
  const { weights, threads, backend, relaxed_simd, adapter } = loaded;
  // Then each block is waited for, and its modules can't be.
  const untimed = adapter !== null && adapter.timestamp_step_us === null;
  /** @param {import("./zamba2.d.ts").ProfileRun} run */
  const times = (run) => ({ prefill_us: thousandths(run.forward_ms * 1000), step_us: run.step_ms.map((ms) => thousandths(ms * 1000)) });
  return {
    schema: "zamba2-run/1",
    made_ms: Date.now(),
    label: adapter ? `${weights} · WebGPU · ${adapter.name}` : `${weights} · ${threads} thread${threads === 1 ? "" : "s"} · ${relaxed_simd ? "relaxed SIMD" : "SIMD128"}`,
    model: facts.model,
    conditions: {
      backend, weights, threads, isolated: crossOriginIsolated, context, level: untimed ? "block" : options.level,
      host: (adapter ? `${adapter.name}; ${navigator.userAgent}` : navigator.userAgent).slice(0, LONGEST_HOST), hidden_ms: 0,
    },
    timer: timerOf(adapter, clockResolutionUs()),
    ceilings,
    memory: facts.memory,
    prompt_tokens: measured.prompt_tokens,
    decode_tokens: measured.decode_tokens,
    warmup: measured.warmup,
    runs: measured.runs.map((run) => ({ ...times(run), spans: plainSpans(/** @type {ProfileSpans} */ (run.spans)) })),
    unprofiled: measured.unprofiled.map(times),
  };
}

/**
 * What measures the spans: the device itself, or this worker's clock around what it waits for.
 * @param {import("./zamba2.d.ts").AdapterInfo | null} adapter @param {number} clock_us @returns {Run["timer"]}
 */
function timerOf(adapter, clock_us) {
  if (!adapter) return { source: "performance.now", resolution_us: clock_us };
  if (adapter.timestamp_step_us === null) return { source: "performance.now, waiting for the adapter after each block", resolution_us: clock_us };
  return { source: "timestamp-query of the adapter", resolution_us: adapter.timestamp_step_us };
}

const BUILT_IN_TOKENS = 35;
/** What a run file takes at most. */
const LONGEST_HOST = 400;

/** Further digits of a time or a rate are noise, and a number of at most fifteen is read back the same. @param {number} value */
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
  };
}

/** Calls of a worker that has no model. @type {Record<string, (args: any) => Promise<unknown>>} */
export const reportCalls = {
  parse_run: async ({ text }) => (await loadReports()).parse_run(text),
  summarise: async ({ text, language }) => (await loadReports()).summarise(text, language),
  export_run: async ({ text, format, language }) => (await loadReports()).export_run(text, format, language),
  reference_report: async ({ kind, language }) => (await loadReports()).reference_report(kind, language),
};

/** How long the page was in the background. Only the page can see it. */
export class HiddenTime {
  #total_ms = 0;
  /** @type {number | null} */
  #since_ms = null;
  #watch = () => {
    if (document.hidden) this.#since_ms ??= performance.now();
    else this.#add();
  };

  constructor() {
    document.addEventListener("visibilitychange", this.#watch);
    this.#watch();
  }

  #add() {
    if (this.#since_ms !== null) this.#total_ms += performance.now() - this.#since_ms;
    this.#since_ms = null;
  }

  stop() {
    document.removeEventListener("visibilitychange", this.#watch);
    this.#add();
    return this.#total_ms;
  }
}

/** @param {string} name @param {unknown} value @param {number} least @param {number} most */
export function checkCount(name, value, least, most) {
  if (Number.isInteger(value) && Number(value) >= least && Number(value) <= most) return;
  throw badOption(name, fact("not_whole_range", { value: String(value), least, most }));
}

/** @param {unknown} run */
export function runText(run) {
  if (run && typeof run === "object") return JSON.stringify(run);
  throw new Zamba2Error("bad_run", { field: "run", fact: fact("run_not_a_run") }, { next: "given" });
}
