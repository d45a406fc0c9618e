// @ts-check
// The public module: `load` a Zamba2 checkpoint, then generate text with it. Types and documentation: zamba2.d.ts. It
// runs on the page and passes messages to worker.js, where weights and computation are.

import { hubFolder, parseAddress } from "./addresses.js";
import { engineFiles } from "./assets.js";
import { SENTENCES } from "./packaged_sentences.js";
import { errorFromReport, fact, useSentences, Zamba2Error } from "./errors.js";
import { NUMBER_OPTIONS, WEIGHTS } from "./generate_options.js";
import { HiddenTime } from "./hidden_time.js";
import {
  DECODE_TOKENS,
  MAX_RUN_TOKENS,
  MAX_RUNS,
  PROFILE_DECODE_TOKENS,
  PROFILE_RUNS,
  RUNS,
  WARMUP_RUNS,
} from "./limits.js";
import { checkBrowser } from "./module_worker.js";
import {
  ablateRequest,
  bytesForWorker,
  checkBuildOptions,
  checkCount,
  checkMessages,
  checkOneOf,
  checkRetry,
  checkSignal,
  checkText,
  checkWebGpu,
  generateOptions,
  idsForWorker,
  inspectRequest,
  promptForWorker,
  runText,
  sourceForWorker,
  WEBGPU_DEFAULTS,
} from "./options.js";
import { anySignal } from "./signals.js";
import { forgetModel, keptModels } from "./store.js";
import { newerFiles } from "./updates.js";
import { abortReason, WorkerLink } from "./worker_link.js";

/** @import * as api from "./zamba2.d.ts" */
/** @import { EngineFiles } from "./assets.js" */
/** @import { Calls, LoadedReport, RunFigures } from "./worker.js" */
/** @import { Listeners } from "./worker_link.js" */

useSentences(SENTENCES);

export { forgetModel, hubFolder, keptModels, newerFiles, NUMBER_OPTIONS, parseAddress, WEIGHTS, Zamba2Error };

/** @type {typeof api.benchKernels} */
export async function benchKernels({ threads = "auto", relaxedSimd = "auto", base, signal } = {}) {
  checkBrowser();
  signal?.throwIfAborted();
  checkBuildOptions(threads, relaxedSimd);
  const link = new WorkerLink(engineFiles(base));
  try {
    return await link.start("bench_kernels", { threads, relaxed_simd: relaxedSimd }, { signal }).answer;
  } finally {
    link.close(new Zamba2Error("disposed", { fact: fact("measurement_ended") }));
  }
}

/** @type {typeof api.benchGrid} */
export async function benchGrid({ seconds = 60, selection, check = false, base, onLine, signal } = {}) {
  checkBrowser();
  signal?.throwIfAborted();
  checkCount("seconds", seconds, 0);
  const link = new WorkerLink(engineFiles(base));
  try {
    const args = { seconds, selection: selection ?? null, check };
    return await link.start("bench_grid", args, { signal, on: { line: onLine } }).answer;
  } finally {
    link.close(new Zamba2Error("disposed", { fact: fact("measurement_ended") }));
  }
}

/** @type {typeof api.open} */
export function open({
  source,
  backend = "auto",
  webgpu = {},
  weights = "q8",
  threads = "auto",
  relaxedSimd = "auto",
  context,
  packed = false,
  keep = true,
  refresh = false,
  retry,
  base,
  onProgress,
  onDevice,
  signal,
}) {
  checkBrowser();
  signal?.throwIfAborted();
  checkOneOf("backend", backend, ["auto", "cpu", "webgpu"]);
  checkOneOf("weights", weights, WEIGHTS);
  checkOneOf("packed", packed, [true, false]);
  checkOneOf("keep", keep, [true, false]);
  checkOneOf("refresh", refresh, [true, false]);
  checkBuildOptions(threads, relaxedSimd);
  checkRetry(retry ?? {});
  checkWebGpu(webgpu);
  if (context !== undefined) checkCount("context", context, 0);
  const args = {
    source: sourceForWorker(source),
    packed,
    keep,
    refresh,
    commit: null,
    retry: retry ?? null,
    engine: {
      weights,
      context: context ?? null,
      threads,
      relaxed_simd: relaxedSimd,
      backend,
      webgpu: { ...WEBGPU_DEFAULTS, ...webgpu },
    },
  };
  const files = engineFiles(base);
  report_files = files;
  const link = new WorkerLink(files);
  const { answer } = link.start("load", args, { signal, on: { progress: onProgress } });
  /** @param {LoadedReport} info @returns {api.LoadedInfo} */
  const described = (info) => ({
    ...info,
    weights,
    backend_fault: info.backend_fault && errorFromReport(info.backend_fault),
    adapter: info.adapter && {
      ...info.adapter,
      dropped: info.adapter.dropped.map(({ feature, fault }) => ({ feature, fault: errorFromReport(fault) })),
    },
    chat_fault: info.chat_fault && errorFromReport(info.chat_fault),
  });
  const model = new Model(
    link,
    answer.then(described, (error) => {
      link.close(new Zamba2Error("disposed", { fact: fact("load_failed") }));
      throw error;
    }),
  );
  link.onAside = {
    reload: onProgress,
    device: (event) => {
      if (event.state === "lost") return onDevice?.({ state: "lost", fault: errorFromReport(event.fault) });
      const info = described(event.info);
      model.reloaded(info);
      onDevice?.({ state: "ready", info });
    },
  };
  return model;
}

/** @type {typeof api.load} */
export async function load(options) {
  const model = open(options);
  await model.ready;
  return model;
}

/** @implements {api.Model} */
class Model {
  #link;
  #generating = false;
  /** The call whose sequence `branch`, `continue` and `snapshot` use. */
  #sequence = 0;
  /** @type {api.Model["ready"]} */
  ready;
  /** @type {api.LoadedInfo | null} */
  #info = null;
  /** @type {api.Model["last"]} */
  last = null;

  /** @param {WorkerLink} link @param {Promise<api.LoadedInfo>} loaded */
  constructor(link, loaded) {
    this.#link = link;
    this.ready = loaded.then((info) => {
      this.#info = info;
    });
    // Avoids an unhandled rejection; callers that skip `ready` get the error from their first call.
    this.ready.catch(() => {});
  }

  /** @type {api.Model["info"]} */
  get info() {
    if (!this.#info) throw new Zamba2Error("out_of_order", { fact: fact("still_loading") }, { next: "ready" });
    return this.#info;
  }

  /** Called after a device loss; the backend may have changed. @param {api.LoadedInfo} info */
  reloaded(info) {
    this.#info = info;
  }

  /** @type {api.Model["pauseLoading"]} */
  pauseLoading() {
    this.#link.post({ kind: "pause", paused: true });
  }

  /** @type {api.Model["resumeLoading"]} */
  resumeLoading() {
    this.#link.post({ kind: "pause", paused: false });
  }

  /** @type {api.Model["timeBlocks"]} */
  timeBlocks(every) {
    checkCount("every", every, 0);
    this.#link.post({ kind: "block_times", every });
  }

  /** @type {api.Model["tokenize"]} */
  async tokenize(text, { special = true } = {}) {
    checkText("text", text);
    checkOneOf("special", special, [true, false]);
    return this.#link.start("tokenize", { text, special }).answer;
  }

  /** @type {api.Model["detokenize"]} */
  async detokenize(ids) {
    return this.#link.start("detokenize", { ids: idsForWorker("ids", ids) }).answer;
  }

  /** @type {api.Model["renderChat"]} */
  async renderChat(messages) {
    checkMessages(messages);
    return this.#link.start("render_chat", { messages }).answer;
  }

  /** @type {api.Model["tokenizeChat"]} */
  tokenizeChat({ messages, content }) {
    return this.#link.start("tokenize_chat", { messages, content }).answer;
  }

  /** @type {api.Model["generate"]} */
  generate(prompt, options) {
    return this.#run("generate", () => ({ prompt: promptForWorker(prompt) }), options);
  }

  /** @type {api.Model["branch"]} */
  branch(index, token, options) {
    const args = () => {
      checkCount("index", index, 0);
      checkCount("token", token, 0);
      return { sequence: this.#sequence, index, token };
    };
    return this.#run("branch", args, options);
  }

  /** @type {api.Model["continue"]} */
  continue(options) {
    return this.#run("continue", () => ({ sequence: this.#sequence }), options);
  }

  /** @type {api.Model["snapshot"]} */
  async snapshot({ note = "" } = {}) {
    checkText("note", note);
    return this.#link.start("snapshot", { sequence: this.#sequence, note }).answer;
  }

  /** @type {api.Model["restore"]} */
  async restore(bytes) {
    const { id, answer } = this.#link.start("restore", { bytes: bytesForWorker(bytes) });
    const { tokens, ...rest } = await answer;
    this.#sequence = id;
    return { tokens: Uint32Array.from(tokens), ...rest };
  }

  /**
   * @template {"generate" | "branch" | "continue"} K
   * @param {K} call @param {() => Omit<Parameters<Calls[K]>[0], "options">} argsOf @param {api.RunOptions} [options]
   * @returns {AsyncGenerator<api.Piece, void, void>}
   */
  async *#run(call, argsOf, { signal, onPrefill, onReplay, onKept, ...given } = {}) {
    if (this.#generating) throw new Zamba2Error("busy", { fact: fact("generating") });
    // Refused arguments leave the model and its sequence unchanged.
    checkSignal(signal);
    const args = { ...argsOf(), options: generateOptions(given) };
    this.#generating = true;
    this.last = null;
    const started_ms = performance.now();
    // A caller that leaves the loop early stops the worker, like an abort by its own signal.
    const leaving = new AbortController();
    const ended = signal ? anySignal([signal, leaving.signal]) : leaving.signal;

    /** @type {api.Piece[]} */
    const pieces = [];
    let wake = () => {};
    let has_begun = false;
    let ttft_ms = 0;
    let n_pieces = 0;
    /** @type {Listeners} */
    const on = {
      prefill: (progress) => {
        has_begun = true;
        onPrefill?.(progress);
      },
      replay: onReplay,
      kept: onKept,
      piece: (piece) => {
        has_begun = true;
        if (n_pieces === 0) ttft_ms = performance.now() - started_ms;
        n_pieces += 1;
        pieces.push({ ...piece, toString: () => piece.text });
        wake();
      },
    };
    // The worker's answer to an aborted run has its figures, so aborts are handled here and not by the link.
    const { id, answer } = this.#link.start(call, /** @type {any} */ (args), { on });
    const sequence_before = this.#sequence;
    if (call === "generate") this.#sequence = id;
    const stopWorker = () => this.#link.post({ kind: "abort", id });
    ended.addEventListener("abort", stopWorker);
    ended.addEventListener("abort", () => wake());
    if (ended.aborted) stopWorker();
    /** @type {{ value: RunFigures } | { error: unknown } | null} */
    let end = null;
    const settled = answer.then(
      (value) => (end = { value: /** @type {RunFigures} */ (value) }),
      (error) => (end = { error }),
    );
    settled.then(() => wake());

    try {
      while (true) {
        if (signal?.aborted) throw abortReason(signal);
        const piece = pieces.shift();
        const finished = /** @type {{ value?: RunFigures, error?: unknown } | null} */ (end);
        if (piece) {
          yield piece;
          this.#link.post({ kind: "read", id });
        } else if (finished) {
          if (finished.error) throw finished.error;
          return;
        } else {
          await new Promise((resolve) => (wake = () => resolve(undefined)));
        }
      }
    } finally {
      leaving.abort();
      // The engine may still be computing a token; the next run must not start before that has ended.
      await settled;
      const { value, error } = /** @type {{ value?: RunFigures, error?: unknown }} */ (/** @type {unknown} */ (end));
      // A refused prompt leaves the previous sequence.
      if (error && !has_begun) this.#sequence = sequence_before;
      // A run that was stopped during prefill has no figures from the worker; a failed one has none at all.
      if (value) this.last = { ...value, ttft_ms };
      else if (error instanceof DOMException) this.last = { reason: "aborted", tokens: n_pieces, ttft_ms };
      this.#generating = false;
    }
  }

  /** @type {api.Model["logits"]} */
  async logits(ids) {
    const tokens = idsForWorker("ids", ids);
    const all = await this.#link.start("logits", { ids: tokens }).answer;
    const vocab_size = all.length / tokens.length;
    return Array.from(tokens, (_, i) => all.subarray(i * vocab_size, (i + 1) * vocab_size));
  }

  /** @type {api.Model["greedy"]} */
  async greedy(ids, n) {
    checkCount("n", n, 1);
    return this.#link.start("greedy", { ids: idsForWorker("ids", ids), n }).answer;
  }

  /** @type {api.Model["sequenceIds"]} */
  async sequenceIds() {
    return this.#link.start("sequence_ids", { sequence: this.#sequence }).answer;
  }

  /** @type {api.Model["inspect"]} */
  async inspect(options = {}) {
    const { signal, onProgress } = options;
    checkSignal(signal);
    const args = { ...inspectRequest(options), sequence: this.#sequence };
    return this.#link.start("inspect", args, { signal, on: { inspected: onProgress } }).answer;
  }

  /** @type {api.Model["ablate"]} */
  async ablate(options) {
    const { signal, onProgress } = options;
    checkSignal(signal);
    const args = { ...ablateRequest(options), sequence: this.#sequence };
    return this.#link.start("ablate", args, { signal, on: { inspected: onProgress } }).answer;
  }

  /** @type {api.Model["profile"]} */
  async profile({
    prompt,
    ids,
    prefill,
    decode = PROFILE_DECODE_TOKENS,
    runs = PROFILE_RUNS,
    warmup = WARMUP_RUNS,
    level = "module",
    signal,
  } = {}) {
    const args = this.#profileRequest({ prompt, ids, prefill, decode, runs, warmup, level, signal });
    return this.#link.start("profile", args, { signal }).answer;
  }

  /** @type {api.Model["report"]} */
  async report({
    prompt,
    ids,
    prefill,
    decode = DECODE_TOKENS,
    runs = RUNS,
    warmup = WARMUP_RUNS,
    level = "module",
    ceilings = true,
    signal,
    onProgress,
  } = {}) {
    checkOneOf("ceilings", ceilings, [true, false]);
    const request = this.#profileRequest({ prompt, ids, prefill, decode, runs, warmup, level, signal });
    const args = { ...request, ceilings };
    const hidden = new HiddenTime();
    try {
      /** @type {api.Run} */
      const run = await this.#link.start("report", args, { signal, on: { report: onProgress } }).answer;
      return { ...run, conditions: { ...run.conditions, hidden_ms: Math.round(hidden.stop()) } };
    } finally {
      hidden.stop();
    }
  }

  /**
   * The checked options of a measurement in the form that is sent to the worker.
   * @param {api.ProfileOptions & Required<Pick<api.ProfileOptions, "decode" | "runs" | "warmup" | "level">>} options
   */
  #profileRequest({ prompt, ids, prefill, decode, runs, warmup, level, signal }) {
    checkCount("runs", runs, 1, MAX_RUNS);
    checkCount("warmup", warmup, 0, MAX_RUNS);
    checkCount("decode", decode, 0, MAX_RUN_TOKENS);
    if (prefill !== undefined) checkCount("prefill", prefill, 1, MAX_RUN_TOKENS);
    if (prompt !== undefined) checkText("prompt", prompt);
    checkOneOf("level", level, ["block", "module"]);
    checkSignal(signal);
    return {
      prompt: prompt ?? null,
      ids: ids === undefined ? null : idsForWorker("ids", ids),
      prefill: prefill ?? null,
      decode,
      runs,
      warmup,
      level,
    };
  }

  /** @type {api.Model["dispose"]} */
  dispose() {
    this.#link.close(new Zamba2Error("disposed", { fact: fact("disposed") }));
  }
}

// ---- reports, which need no model: one worker, started by the first call, handles all of them ----

/** @type {WorkerLink | null} */
let reports = null;
/** The files of the last model. @type {EngineFiles | null} */
let report_files = null;

/** @returns {WorkerLink} */
function reportsLink() {
  checkBrowser();
  if (!reports || reports.dead) reports = new WorkerLink(report_files ?? engineFiles(undefined));
  return reports;
}

/** @type {typeof api.summarise} */
export async function summarise(run) {
  return reportsLink().start("summarise", { text: runText(run) }).answer;
}

/** @type {typeof api.referenceReport} */
export async function referenceReport(kind) {
  return reportsLink().start("reference_report", { kind }).answer;
}

/** @type {typeof api.exportRun} */
export async function exportRun(run, format, language = "en") {
  return reportsLink().start("export_run", { text: runText(run), format, language }).answer;
}

/** @type {typeof api.parseRun} */
export async function parseRun(text) {
  return reportsLink().start("parse_run", { text: String(text) }).answer;
}
