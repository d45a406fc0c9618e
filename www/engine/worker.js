// @ts-check
// The worker that owns the wasm engine, so that the page stays responsive while a token is computed. This file defines
// the protocol: which messages there are, and which module handles each. It touches no DOM.
//
// One call runs at a time; the others wait in order. Each call is answered once, with a value or an error, after any
// number of events. Aborts, back-pressure and pauses bypass this queue.

import { PieceGate } from "./gates.js";
import { Host } from "./host.js";
import { WEBGPU_DEFAULTS } from "./options.js";
import { profileRuns } from "./profiling.js";
import { measureRun, reportCalls } from "./reporting.js";
import { Sequence } from "./sequence.js";
import { watchPolicy } from "./policy.js";
import { createEngine, useBuilds } from "./wasm_engine.js";

/** @import { EngineFiles } from "./assets.js" */
/** @import { ErrorReport } from "./errors.js" */
/** @import { AblateRequest, InspectRequest } from "./options.js" */
/** @import { ProfileRequest } from "./profiling.js" */
/** @import { ReportCalls, ReportRequest } from "./reporting.js" */
/** @import { SharedModule } from "./start_threads.js" */
/** @import { EngineOptions, Step } from "./wasm_engine.js" */
/** @import { TestedDevice } from "./wasm_exports.d.ts" */
/** @import * as api from "./zamba2.d.ts" */

/**
 * Messages to the worker; `files` is the first.
 * @typedef {{ [K in keyof Calls]: { kind: "call", id: number, call: K,
 *   args: Parameters<Calls[K]>[0] } }[keyof Calls]} CallMessage
 * @typedef {CallMessage
 *   | { kind: "files", builds: EngineFiles["builds"] }
 *   | { kind: "abort", id: number }
 *   | { kind: "read", id: number }
 *   | { kind: "pause", paused: boolean }
 *   | { kind: "block_times", every: number }
 *   | { kind: "threads_up", n: number }} MessageIn
 *
 * Messages to the page; `hello` is the first, from zamba2_worker.js.
 * @typedef {{ kind: "hello", scripts_id: string }
 *   | { kind: "event", id: number, event: keyof Events, data: any }
 *   | { kind: "value", id: number, value: any }
 *   | { kind: "error", id: number, error: ErrorReport }
 *   | { kind: "start_threads", n: number, shared: SharedModule }} MessageOut
 */

/**
 * Arguments and result of each call.
 * @typedef {ReportCalls & {
 *   load: (args: LoadRequest) => LoadedReport,
 *   tokenize: (args: { text: string, special: boolean }) => Uint32Array,
 *   detokenize: (args: { ids: Uint32Array }) => string,
 *   render_chat: (args: { messages: api.ChatMessage[] }) => string,
 *   tokenize_chat: (args: api.ChatPrompt) => Uint32Array,
 *   generate: (args: { prompt: WorkerPrompt, options: api.GenerateOptions }) => RunFigures,
 *   branch: (args: { sequence: number, index: number, token: number, options: api.GenerateOptions }) => RunFigures,
 *   continue: (args: { sequence: number, options: api.GenerateOptions }) => RunFigures,
 *   snapshot: (args: { sequence: number, note: string }) => Uint8Array<ArrayBuffer>,
 *   restore: (args: { bytes: Uint8Array }) => api.RestoredSequence<number[]>,
 *   logits: (args: { ids: Uint32Array }) => Float32Array<ArrayBuffer>,
 *   greedy: (args: { ids: Uint32Array, n: number }) => { tokens: number[], logits: Float32Array[] },
 *   sequence_ids: (args: { sequence: number }) => Uint32Array<ArrayBuffer>,
 *   inspect: (args: InspectRequest & { sequence: number }) => api.Inspection,
 *   ablate: (args: AblateRequest & { sequence: number }) => api.AblationEffect,
 *   profile: (args: ProfileRequest) => api.ProfileReport,
 *   report: (args: ReportRequest) => api.Run,
 *   bench_kernels: (args: { threads: "auto" | number, relaxed_simd: "auto" | false }) => api.KernelReport,
 *   bench_grid: (args: { seconds: number, selection: api.GridSelection | null, check: boolean }) => api.GridResult,
 * }} Calls
 */

/**
 * Data of each event. `reload` is the progress of a load after a device loss, during whatever call.
 * @typedef {object} Events
 * @property {api.LoadProgress} progress
 * @property {api.LoadProgress} reload
 * @property {{ state: "lost", fault: ErrorReport } | { state: "ready", info: LoadedReport }} device
 * @property {{ block: number, prompt_tokens: number, cached_tokens: number, done: boolean }} prefill
 * @property {{ text: string, tokens: number }} kept
 * @property {{ replayed: number, tokens: number }} replay
 * @property {Omit<Step, "done"> & { index: number }} piece
 * @property {api.ReportProgress} report
 * @property {api.InspectProgress} inspected
 * @property {string} line  of `bench_grid`
 */

/** @typedef {string | Uint32Array | api.ChatPrompt} WorkerPrompt */
/** @typedef {Omit<api.RunSummary, "ttft_ms">} RunFigures */
/**
 * @typedef {object} LoadRequest
 * @property {string | File[]} source
 * @property {boolean} packed
 * @property {boolean} keep
 * @property {boolean} refresh
 * @property {string | null} commit  of an earlier load of the same model, to be loaded again
 * @property {api.LoadOptions["retry"] | null} retry
 * @property {EngineOptions} engine
 */
/**
 * `LoadedInfo` with errors in the form that is sent to the page.
 * @typedef {Omit<api.LoadedInfo, "weights" | "backend_fault" | "chat_fault" | "adapter">
 *   & Record<"backend_fault" | "chat_fault", ErrorReport | null> & { adapter: AdapterReport | null }} LoadedReport
 */
/**
 * `AdapterInfo` in the same form.
 * @typedef {Omit<api.AdapterInfo, "dropped"> & Pick<TestedDevice, "dropped">} AdapterReport
 */
/**
 * The context of a running call.
 * @typedef {object} CallContext
 * @property {number} id
 * @property {AbortSignal} signal
 * @property {<E extends keyof Events>(event: E, data: Events[E], transfer?: Transferable[]) => void} emit
 * @property {PieceGate} pieces
 */

/** @param {MessageOut} message @param {Transferable[]} [transfer] */
const post = (message, transfer = []) => postMessage(message, { transfer });

/** Resolves the pending request for threads. @type {(n_up: number) => void} */
let onThreadsUp = () => {};

/**
 * Requests threads from the page; returns how many are running.
 * @param {number} n
 * @param {SharedModule} shared
 * @returns {Promise<number>}
 */
function startThreads(n, shared) {
  post({ kind: "start_threads", n, shared });
  return new Promise((resolve) => (onThreadsUp = resolve));
}

const host = new Host({
  startThreads,
  onUnit: (engine) => sequence.prefillAhead(engine),
  onLoadFailed: () => sequence.restartQueuedPrompt(),
});
const sequence = new Sequence(host);

/**
 * @type {{ [K in keyof Calls]: (args: Parameters<Calls[K]>[0],
 *   context: CallContext) => Promise<ReturnType<Calls[K]>> }}
 */
const calls = {
  load: (args, context) => host.load(args, context),

  tokenize: async ({ text, special }) => host.engine().tokenize(text, special),
  detokenize: async ({ ids }) => host.engine().detokenize(ids),
  render_chat: async ({ messages }) => host.engine().render_chat(messages),
  tokenize_chat: async ({ messages, content }) => host.engine().encode_chat(messages, content),

  generate: (args, context) => sequence.generate(args, context),
  branch: (args, context) => sequence.branch(args, context),
  continue: (args, context) => sequence.continue(args, context),
  snapshot: (args) => sequence.snapshot(args),
  restore: (args, context) => sequence.restore(args, context),
  logits: (args) => sequence.logits(args),
  greedy: (args, context) => sequence.greedy(args, context),

  sequence_ids: async (args) => sequence.ids(args.sequence),
  inspect: (args, context) => sequence.inspect(args, context),
  ablate: (args, context) => sequence.ablate(args, context),

  async profile(args, { signal }) {
    return profileRuns(host.engine(), args, { signal, onChecked: () => sequence.drop() });
  },

  async report(args, { signal, emit }) {
    const onProgress = (/** @type {api.ReportProgress} */ progress) => emit("report", progress);
    return measureRun(host.engine(), host.facts(), args, { signal, onChecked: () => sequence.drop(), onProgress });
  },

  ...reportCalls,

  /** In a worker of its own: the threads of a model cannot be used twice. */
  async bench_kernels({ threads, relaxed_simd }) {
    const { engine, build } = await createEngine({ ...BENCH_OPTIONS, threads, relaxed_simd }, startThreads);
    return { ...engine.bench_kernels(), relaxed_simd: build.relaxed_simd };
  },

  /** In a worker of its own, too. */
  async bench_grid({ seconds, selection, check }, { emit }) {
    const { engine, device } = await createEngine({ ...BENCH_OPTIONS, backend: "webgpu" }, startThreads);
    const name = device.adapter?.name ?? "";
    /** @type {string[]} */
    const lines = [];
    const left = await engine.bench_grid(seconds, selection, check, name, (line) => {
      lines.push(line);
      emit("line", line);
    });
    return { lines, left };
  },
};

/** Options of an engine without a model. @type {EngineOptions} */
const BENCH_OPTIONS = {
  weights: "q4",
  context: null,
  threads: "auto",
  relaxed_simd: "auto",
  backend: "cpu",
  webgpu: WEBGPU_DEFAULTS,
};

/** Calls that have not been answered. @type {Map<number, { controller: AbortController, context: CallContext }>} */
const unanswered = new Map();
/** @type {Promise<void>} */
let queue = Promise.resolve();
/** @type {number | null} */
let running_id = null;

/** @param {number} id @param {unknown} thrown */
const answerError = (id, thrown) => post({ kind: "error", id, error: host.failed(thrown) });

// A trap inside one of the engine's async calls settles no promise: it is reported as an error of the worker.
addEventListener("error", (event) => {
  if (running_id === null) return;
  event.preventDefault();
  answerError(running_id, event.error);
});

/** @param {CallMessage} message @param {CallContext} context */
async function answer({ id, call, args }, context) {
  // Aborted while it was queued.
  if (!unanswered.has(id)) return;
  running_id = id;
  try {
    context.signal.throwIfAborted();
    await host.ensureDevice(context);
    const handler = /** @type {(args: unknown, context: CallContext) => Promise<unknown>} */ (calls[call]);
    post({ kind: "value", id, value: await handler(args, context) });
  } catch (thrown) {
    answerError(id, thrown);
  } finally {
    running_id = null;
    unanswered.delete(id);
  }
}

/** @param {CallMessage} message */
function enqueue(message) {
  const { id } = message;
  const controller = new AbortController();
  /** @type {CallContext} */
  const context = {
    id,
    signal: controller.signal,
    pieces: new PieceGate(),
    emit: (event, data, transfer) => post({ kind: "event", id, event, data }, transfer),
  };
  unanswered.set(id, { controller, context });
  if (message.call === "generate" && host.is_loading) {
    sequence.queuePrompt({ ...message.args, context, started: null, done: false });
  }
  queue = queue.then(() => answer(message, context));
}

watchPolicy();

onmessage = ({ data }) => {
  const message = /** @type {MessageIn} */ (data);
  switch (message.kind) {
    case "call":
      return enqueue(message);
    case "files":
      return useBuilds(message.builds);
    case "abort": {
      const call = unanswered.get(message.id);
      if (!call) return;
      call.controller.abort();
      call.context.pieces.open();
      // A queued call, perhaps behind a load of minutes, is answered at once.
      if (message.id !== running_id && unanswered.delete(message.id)) {
        answerError(message.id, call.controller.signal.reason);
      }
      return;
    }
    case "read":
      return unanswered.get(message.id)?.context.pieces.read();
    case "pause":
      return host.setPaused(message.paused);
    case "block_times":
      // Applied between two steps, because the engine is in use during a step.
      host.block_times_every = message.every;
      return;
    case "threads_up":
      return onThreadsUp(message.n);
  }
};
