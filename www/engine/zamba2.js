// @ts-check
// The public module: `load` a Zamba2 checkpoint, then generate text with it. Types and documentation: zamba2.d.ts.
// It runs on the page and only passes messages to worker.js; no weight and no computation lives on this side.

import { hubFolder } from "./byte_source.js";
import { errorFromReport, Zamba2Error } from "./errors.js";
import { Threads } from "./start_threads.js";
import { checkCount, HiddenTime, runText } from "./reporting.js";
import { forgetModel, keptModels } from "./store.js";

/** @import * as api from "./zamba2.d.ts" */

export { forgetModel, hubFolder, keptModels, Zamba2Error };

/** @type {Required<api.GenerateOptions>} */
const GENERATE_DEFAULTS = {
  max_tokens: 256, temperature: 0.7, top_k: 40, top_p: 0.95, min_p: 0, repetition_penalty: 1, seed: 42, stop: [],
  ignore_eos: false, alternatives: 0, marks: false,
};

/** @type {Required<api.WebGpuOptions>} */
const WEBGPU_DEFAULTS = { maxBindingBytes: null, timestamps: true, subgroups: true, f16: true };

/** Far more than helps; a larger number is a mistake, and every thread costs a worker. */
const MAX_THREADS = 64;

/** @param {AbortSignal | undefined} signal */
const abortReason = (signal) => signal?.reason ?? new DOMException("The operation was aborted.", "AbortError");

/**
 * @typedef {object} PendingCall
 * @property {(value: any) => void} resolve
 * @property {(error: unknown) => void} reject
 * @property {(event: string, data: any) => void} onEvent
 */

/** The page's end of the worker: numbered calls, each answered once, with events before the answer. */
class WorkerLink {
  constructor() {
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "zamba2" });
    this.threads = new Threads();
    /** @type {Map<number, PendingCall>} */
    this.pending = new Map();
    this.next_id = 1;
    /** Why no further call can succeed. @type {Zamba2Error | null} */
    this.dead = null;
    /** Hears of a device that is lost and made good while some other call is answered. @type {(event: string, data: any) => void} */
    this.onAside = () => {};
    this.worker.onmessage = ({ data }) => ("start_threads" in data ? this.startThreads(data.start_threads, data.shared) : this.receive(data));
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.close(new Zamba2Error("internal", `the worker stopped: ${event.message || "its script could not be loaded"}`, {
        file: "worker.js",
        nextStep: "Reload the page; if it stays, check that pkg/ is served whole.",
      }));
    };
  }

  /** @param {number} n @param {import("./start_threads.js").SharedModule} shared */
  async startThreads(n, shared) {
    const threads_up = await this.threads.start(n, shared);
    this.worker.postMessage({ threads_up });
  }

  /** @param {{ id: number, event?: string, data?: any, value?: any, error?: import("./errors.js").ErrorReport }} message */
  receive({ id, event, data, value, error }) {
    if (event === "device" || event === "reload") return this.onAside(event, data);
    const call = this.pending.get(id);
    if (!call) return;
    if (event !== undefined) return call.onEvent(event, data);
    this.pending.delete(id);
    if (!error) return call.resolve(value);
    if (error.code === "aborted") return call.reject(new DOMException("The operation was aborted.", "AbortError"));
    const thrown = errorFromReport(error);
    call.reject(thrown);
    if (error.code === "internal" || error.code === "out_of_memory") this.close(thrown);
  }

  /**
   * @param {string} call @param {unknown} args @param {{ signal?: AbortSignal, onEvent?: PendingCall["onEvent"] }} [options]
   * @returns {{ id: number, answer: Promise<any> }}
   */
  start(call, args, { signal, onEvent = () => {} } = {}) {
    const id = this.next_id++;
    const answer = new Promise((resolve, reject) => {
      if (this.dead) return reject(this.dead);
      if (signal?.aborted) return reject(abortReason(signal));
      const onAbort = () => {
        this.worker.postMessage({ abort: id });
        // The caller hears at once; the worker's own answer is then of no interest.
        if (this.pending.delete(id)) reject(abortReason(signal));
      };
      const settled = () => signal?.removeEventListener("abort", onAbort);
      signal?.addEventListener("abort", onAbort);
      this.pending.set(id, {
        onEvent,
        resolve: (value) => { settled(); resolve(value); },
        reject: (error) => { settled(); reject(error); },
      });
      this.worker.postMessage({ id, call, args });
    });
    return { id, answer };
  }

  /** Ends the worker; every call that still waits is told why. @param {Zamba2Error} reason */
  close(reason) {
    if (this.dead) return;
    this.dead = reason;
    this.worker.terminate();
    this.threads.end();
    for (const call of this.pending.values()) call.reject(reason);
    this.pending.clear();
  }
}

/** @param {api.LoadOptions["source"]} source */
function sourceForWorker(source) {
  if (typeof source === "string" || source instanceof URL) {
    try {
      return new URL(source, document.baseURI).href;
    } catch (cause) {
      throw new Zamba2Error("bad_option", `option \`source\`: ${source} is not an address`, {
        nextStep: "Give the address of a folder, such as https://example.org/zamba2/, or files.",
        cause,
      });
    }
  }
  const files = [...source];
  if (!files.every((file) => file instanceof File)) {
    throw new Zamba2Error("bad_option", "option `source`: neither an address nor a list of files", {
      nextStep: "Give the address of a folder, or the checkpoint's files.",
    });
  }
  return files;
}

/** @param {string} name @param {unknown} value @param {readonly unknown[]} allowed */
function oneOf(name, value, allowed) {
  if (allowed.includes(value)) return;
  throw new Zamba2Error("bad_option", `option \`${name}\`: ${String(value)} is not one of ${allowed.join(", ")}`, {
    nextStep: "Change the option and run again.",
  });
}

/** @param {"auto" | number} threads @param {"auto" | false} relaxedSimd */
function checkBuildOptions(threads, relaxedSimd) {
  oneOf("relaxedSimd", relaxedSimd, ["auto", false]);
  if (threads !== "auto" && !(Number.isInteger(threads) && threads >= 1 && threads <= MAX_THREADS)) {
    throw new Zamba2Error("bad_option", `option \`threads\`: ${String(threads)} is neither "auto" nor a whole number from 1 to ${MAX_THREADS}`, {
      nextStep: "Change the option and run again.",
    });
  }
}

/** @param {NonNullable<api.LoadOptions["retry"]>} retry */
function checkRetry(retry) {
  const known = { attempts: 1, first_delay_ms: 0, stall_ms: 1 };
  for (const [name, value] of Object.entries(retry)) {
    const least = known[/** @type {keyof typeof known} */ (name)];
    if (least === undefined) {
      throw new Zamba2Error("bad_option", `option \`retry.${name}\` does not exist`, {
        nextStep: `Use ${Object.keys(known).join(", ")}.`,
      });
    }
    // Browsers' timers take 32 bits, and run at once beyond.
    if (!(Number.isInteger(value) && value >= least && value < 2 ** 31)) {
      throw new Zamba2Error("bad_option", `option \`retry.${name}\`: ${String(value)} is not a whole number from ${least} on`, {
        nextStep: "Change the option and load again.",
      });
    }
  }
}

/** @type {typeof api.benchKernels} */
export async function benchKernels({ threads = "auto", relaxedSimd = "auto", signal } = {}) {
  signal?.throwIfAborted();
  checkBuildOptions(threads, relaxedSimd);
  const link = new WorkerLink();
  try {
    return await link.start("bench_kernels", { threads, relaxed_simd: relaxedSimd }, { signal }).answer;
  } finally {
    link.close(new Zamba2Error("disposed", "the measurement has ended", { nextStep: "Start it again." }));
  }
}

/** @type {typeof api.open} */
export function open({
  source, backend = "auto", webgpu = {}, weights = "q8", threads = "auto", relaxedSimd = "auto", context, keep = true, retry,
  onProgress, onDevice, signal,
}) {
  signal?.throwIfAborted();
  oneOf("backend", backend, ["auto", "cpu", "webgpu"]);
  oneOf("weights", weights, ["f32", "q8", "q4"]);
  oneOf("keep", keep, [true, false]);
  checkBuildOptions(threads, relaxedSimd);
  checkRetry(retry ?? {});
  checkWebGpu(webgpu);
  const args = {
    source: sourceForWorker(source), keep, retry: retry ?? null,
    engine: {
      weights, context: context ?? null, threads, relaxed_simd: relaxedSimd, backend,
      webgpu: { ...WEBGPU_DEFAULTS, ...webgpu },
    },
  };
  const link = new WorkerLink();
  const { answer } = link.start("load", args, { signal, onEvent: (_, data) => onProgress?.(data) });
  /** @param {any} info @returns {api.LoadedInfo} */
  const described = (info) => ({ ...info, weights, chat_fault: info.chat_fault && errorFromReport(info.chat_fault) });
  const model = new Model(link, answer.then(described, (error) => {
    link.close(new Zamba2Error("disposed", "the model was not loaded", { nextStep: "Load it again." }));
    throw error;
  }));
  // Whatever call meets the loss of a device, the model is loaded again in its course.
  link.onAside = (event, data) => {
    if (event === "reload") return onProgress?.(data);
    if (data.state === "lost") return onDevice?.({ state: "lost", fault: errorFromReport(data.fault) });
    const info = described(data.info);
    model.renewed(info);
    onDevice?.({ state: "ready", info });
  };
  return model;
}

/** @param {api.WebGpuOptions} wishes */
function checkWebGpu(wishes) {
  for (const [name, value] of Object.entries(wishes)) {
    const known = name in WEBGPU_DEFAULTS;
    const fits = name === "maxBindingBytes" ? value === null || (Number.isInteger(value) && value > 0) : typeof value === "boolean";
    if (known && fits) continue;
    throw new Zamba2Error("bad_option", `option \`webgpu.${name}\`: ${known ? `${String(value)} is no such value` : "it does not exist"}`, {
      nextStep: `Use ${Object.keys(WEBGPU_DEFAULTS).join(", ")}.`,
    });
  }
}

/** @type {typeof api.load} */
export async function load(options) {
  const model = open(options);
  await model.ready;
  return model;
}

/** @param {api.Prompt} prompt */
function promptForWorker(prompt) {
  if (typeof prompt === "string" || "messages" in prompt) return prompt;
  return Uint32Array.from(prompt);
}

/** @implements {api.Model} */
class Model {
  #link;
  #generating = false;
  /** The call that made the sequence which `branch`, `extend` and `snapshot` mean. */
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
    this.ready = loaded.then((info) => { this.#info = info; });
    // Who never asks whether the model is ready still hears of the failure from the call that needs it.
    this.ready.catch(() => {});
  }

  /** @type {api.Model["info"]} */
  get info() {
    if (!this.#info) throw new Zamba2Error("out_of_order", "the model is still loading", { nextStep: "Await `ready` first." });
    return this.#info;
  }

  /** After the loss of a device it may be another backend that computes. @param {api.LoadedInfo} info */
  renewed(info) {
    this.#info = info;
  }

  /** @type {api.Model["pause"]} */
  pause() {
    this.#link.worker.postMessage({ pause: true });
  }

  /** @type {api.Model["resume"]} */
  resume() {
    this.#link.worker.postMessage({ pause: false });
  }

  /** @type {api.Model["tokenize"]} */
  tokenize(text, { special = true } = {}) {
    return this.#link.start("tokenize", { text, special }).answer;
  }

  /** @type {api.Model["detokenize"]} */
  detokenize(ids) {
    return this.#link.start("detokenize", { ids: Uint32Array.from(ids) }).answer;
  }

  /** @type {api.Model["renderChat"]} */
  renderChat(messages) {
    return this.#link.start("render_chat", { messages }).answer;
  }

  /** @type {api.Model["generate"]} */
  generate(prompt, options) {
    return this.#run("generate", { prompt: promptForWorker(prompt) }, options);
  }

  /** @type {api.Model["branch"]} */
  branch(index, token, options) {
    return this.#run("branch", { sequence: this.#sequence, index, token }, options);
  }

  /** @type {api.Model["extend"]} */
  extend(options) {
    return this.#run("resume", { sequence: this.#sequence }, options);
  }

  /** @type {api.Model["snapshot"]} */
  snapshot({ note = "" } = {}) {
    return this.#link.start("snapshot", { sequence: this.#sequence, note }).answer;
  }

  /** @type {api.Model["restore"]} */
  async restore(bytes) {
    const { id, answer } = this.#link.start("restore", { bytes: new Uint8Array(bytes) });
    const { tokens, ...rest } = await answer;
    this.#sequence = id;
    return { tokens: Uint32Array.from(tokens), ...rest };
  }

  /** @param {string} call @param {object} what @param {api.RunOptions} [options] @returns {AsyncGenerator<api.Piece, void, void>} */
  async *#run(call, what, { signal, onPrefill, onKept, ...given } = {}) {
    if (this.#generating) {
      throw new Zamba2Error("busy", "this model is generating already", {
        nextStep: "Wait for the present run, or stop it first.",
      });
    }
    this.#generating = true;
    this.last = null;
    const started_ms = performance.now();
    // A reader that leaves the loop early stops the worker in the same way as the caller's own signal.
    const leaving = new AbortController();
    const either = signal ? AbortSignal.any([signal, leaving.signal]) : leaving.signal;

    /** @type {api.Piece[]} */
    const pieces = [];
    let wake = () => {};
    let ttft_ms = 0;
    let n_pieces = 0;
    /** @type {{ value?: any, error?: unknown } | null} */
    let end = null;
    /** @param {string} event @param {any} data */
    const onEvent = (event, data) => {
      if (event === "prefill") return onPrefill?.(data);
      if (event === "kept") return onKept?.(data);
      if (n_pieces === 0) ttft_ms = performance.now() - started_ms;
      n_pieces += 1;
      pieces.push({ ...data, toString: () => data.text });
      wake();
    };
    const args = { ...what, options: { ...GENERATE_DEFAULTS, ...given } };
    // The worker keeps its own answer for an aborted run, so this call listens to aborts by itself.
    const { id, answer } = this.#link.start(call, args, { onEvent });
    if (call === "generate") this.#sequence = id;
    const stopWorker = () => this.#link.worker.postMessage({ abort: id });
    either.addEventListener("abort", stopWorker);
    const settled = answer.then((value) => { end = { value }; }, (error) => { end = { error }; }).then(() => wake());
    either.addEventListener("abort", () => wake());
    if (either.aborted) stopWorker();

    try {
      while (true) {
        if (signal?.aborted) throw abortReason(signal);
        const piece = pieces.shift();
        if (piece) {
          yield piece;
          this.#link.worker.postMessage({ read: id });
        } else if (end) {
          if (/** @type {any} */ (end).error) throw /** @type {any} */ (end).error;
          return;
        } else {
          await new Promise((resolve) => (wake = () => resolve(undefined)));
        }
      }
    } finally {
      leaving.abort();
      // The engine is still inside its last token; only after it may the next run start.
      await settled;
      const { value, error } = /** @type {{ value?: any, error?: unknown }} */ (/** @type {unknown} */ (end));
      // Stopped during prefill there is no summary from the worker; after a failure there is nothing to sum up.
      if (value) this.last = { ...value, ttft_ms };
      else if (error instanceof DOMException) this.last = { reason: "aborted", tokens: n_pieces, ttft_ms };
      this.#generating = false;
    }
  }

  /** @type {api.Model["logits"]} */
  async logits(ids) {
    const tokens = Uint32Array.from(ids);
    const all = await this.#link.start("logits", { ids: tokens }).answer;
    const vocab_size = all.length / tokens.length;
    return Array.from(tokens, (_, i) => all.subarray(i * vocab_size, (i + 1) * vocab_size));
  }

  /** @type {api.Model["greedy"]} */
  greedy(ids, n) {
    return this.#link.start("greedy", { ids: Uint32Array.from(ids), n }).answer;
  }

  /** @type {api.Model["profile"]} */
  profile({ prompt, ids, prefill, decode = 8, runs = 3, warmup = 1, level = "module", signal } = {}) {
    const args = {
      prompt: prompt ?? null, ids: ids ? Uint32Array.from(ids) : null, prefill: prefill ?? null, decode, runs, warmup, level,
      vocab_size: this.info.vocab_size,
    };
    return this.#link.start("profile", args, { signal }).answer;
  }

  /** @type {api.Model["report"]} */
  async report({
    prompt, ids, prefill, decode = 16, runs = 5, warmup = 1, level = "module", ceilings = true, signal, onProgress,
  } = {}) {
    checkCount("runs", runs, 1, 1000);
    checkCount("warmup", warmup, 0, 1000);
    checkCount("decode", decode, 0, 1 << 16);
    if (prefill !== undefined) checkCount("prefill", prefill, 1, 1 << 20);
    oneOf("level", level, ["block", "module"]);
    const args = {
      prompt: prompt ?? null, ids: ids ? Uint32Array.from(ids) : null, prefill: prefill ?? null, decode, runs, warmup, level, ceilings,
      vocab_size: this.info.vocab_size,
    };
    const hidden = new HiddenTime();
    try {
      /** @type {api.Run} */
      const run = await this.#link.start("report", args, { signal, onEvent: (_, progress) => onProgress?.(progress) }).answer;
      return { ...run, conditions: { ...run.conditions, hidden_ms: Math.round(hidden.stop()) } };
    } finally {
      hidden.stop();
    }
  }

  /** @type {api.Model["dispose"]} */
  dispose() {
    this.#link.close(new Zamba2Error("disposed", "the model was disposed of", { nextStep: "Load it again." }));
  }
}

// ---- reports, which need no model ----

/** @type {WorkerLink | null} */
let reports = null;

/** @param {string} call @param {unknown} args @returns {Promise<any>} */
function askReports(call, args) {
  if (!reports || reports.dead) reports = new WorkerLink();
  return reports.start(call, args).answer;
}

/** @type {typeof api.summarise} */
export async function summarise(run, language = "en") {
  return askReports("summarise", { text: runText(run), language });
}

/** @type {typeof api.referenceReport} */
export async function referenceReport(kind, language = "en") {
  return askReports("reference_report", { kind, language });
}

/** @type {typeof api.exportRun} */
export async function exportRun(run, format, language = "en") {
  return askReports("export_run", { text: runText(run), format, language });
}

/** @type {typeof api.parseRun} */
export async function parseRun(text) {
  return askReports("parse_run", { text: String(text) });
}
