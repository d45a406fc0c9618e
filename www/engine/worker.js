// @ts-check
// The module worker that owns the wasm engine, so that the page stays responsive while a token is computed.
// Messages in: `{ id, call, args }`, and outside the queue `{ abort: id }`, `{ read: id }` and `{ threads_up: n }`.
// Messages out: `{ id, value }` or `{ id, error }` once per call, and `{ id, event, data }` before that; once at most
// `{ start_threads: n, shared }`.
// One call runs at a time; the others wait in order. It touches no DOM and keeps nothing between page loads.

import { FileListSource, UrlSource } from "./byte_source.js";
import { isDeviceFault, isErrorReport, isFatal, reportFromThrown, Zamba2Error } from "./errors.js";
import { loadCheckpoint } from "./loading.js";
import { openKept } from "./store.js";
import { argmax, percentile } from "./numbers.js";
import { profileRuns } from "./profiling.js";
import { measureRun, reportCalls, sourceName } from "./reporting.js";
import { createEngine } from "./wasm_engine.js";

/** @import { EngineOptions, WasmEngine } from "./wasm_engine.js" */
/** @import { ChatMessage, LoadedInfo, LoadOptions, LoadProgress } from "./zamba2.d.ts" */

/** @typedef {string | Uint32Array | { messages: ChatMessage[] }} Prompt */

/**
 * What a running call may use: its abort signal, its event channel, and how many pieces the page has taken.
 * @typedef {{ id: number, signal: AbortSignal, emit: (event: string, data: unknown, transfer?: Transferable[]) => void, readers: ReadGate }} CallContext
 */

/** Tokens that are read again between two looks at the messages. */
const REREAD_TOKENS = 4;

/** @type {WasmEngine | null} */
let engine = null;
/** @type {import("./reporting.js").LoadedFacts | null} */
let loaded_facts = null;
/** The text of the last panic; the hook in the engine writes it to the console just before the trap. @type {string | null} */
let panicText = null;
const consoleError = console.error.bind(console);
console.error = (...values) => {
  panicText = String(values[0]).split("\n\nStack:")[0];
  consoleError(...values);
};

/** Holds generation back until the page has taken the piece before the last one. */
class ReadGate {
  taken = 0;
  /** @type {(() => void) | null} */
  wake = null;

  take() {
    this.taken += 1;
    this.wake?.();
  }

  /** At most one token ahead of the reader: enough to overlap work, and Stop wastes no more than that one. @param {number} index */
  async opened(index) {
    while (this.taken < index - 1) await new Promise((resolve) => (this.wake = () => resolve(undefined)));
  }
}

const channel = new MessageChannel();
/** @type {(() => void)[]} */
const yielding = [];
channel.port1.onmessage = () => yielding.shift()?.();
/** Lets waiting messages in. A message port is a macrotask without the 4 ms floor of nested timeouts. @returns {Promise<void>} */
function yieldToMessages() {
  return new Promise((resolve) => {
    yielding.push(resolve);
    channel.port2.postMessage(0);
  });
}

/** @type {(up: number) => void} */
let onThreadsUp = () => {};
/**
 * Asks the page for workers that serve as threads; gives how many do.
 * @param {number} n @param {import("./start_threads.js").SharedModule} shared @returns {Promise<number>}
 */
function startThreads(n, shared) {
  return new Promise((resolve) => {
    onThreadsUp = resolve;
    postMessage({ start_threads: n, shared });
  });
}

function opened() {
  if (!engine) throw new Zamba2Error("out_of_order", "no model is loaded", { nextStep: "Reload the model." });
  return engine;
}

/** The smallest step of this worker's clock, seen over a few changes. */
function clockResolutionUs() {
  let smallest = Infinity;
  for (let round = 0; round < 8; round++) {
    const from = performance.now();
    let to = from;
    while (to === from) to = performance.now();
    smallest = Math.min(smallest, to - from);
  }
  return Math.round(smallest * 1e5) / 100;
}

/** Holds a load back while the reader has paused it. */
class Pause {
  /** @type {Promise<void> | null} */
  #end = null;
  #resume = () => {};

  /** @param {boolean} paused */
  set(paused) {
    if (paused === (this.#end !== null)) return;
    if (paused) this.#end = new Promise((resolve) => (this.#resume = resolve));
    else {
      this.#end = null;
      this.#resume();
    }
  }

  /** @param {AbortSignal} signal */
  async over(signal) {
    if (!this.#end) return;
    await Promise.race([this.#end, new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }))]);
  }
}

const pause = new Pause();
/** Tells the load that runs that it has been paused or goes on. @type {((paused: boolean) => void) | null} */
let pausing = null;

/**
 * A prompt that came while the model was loading: each block reads it as soon as it is there. `ids` once it was begun.
 * @type {{ id: number, prompt: Prompt, options: any, ids: Uint32Array | null, done: boolean } | null}
 */
let early = null;

/** @param {WasmEngine} loading */
async function readAhead(loading) {
  if (!early) return;
  const entry = waiting.get(early.id);
  if (!entry || entry.controller.signal.aborted) {
    early = null;
    return;
  }
  try {
    if (!early.ids) {
      early.ids = begin(loading, early.prompt, early.options);
    }
  } catch {
    // The call itself comes to the same fault when its turn comes, and tells it.
    early = null;
    return;
  }
  while (!early.done) {
    const { done, block, waiting } = await loading.advance(1);
    if (waiting) return;
    early.done = done;
    postMessage({ id: early.id, event: "prefill", data: { block, prompt_tokens: early.ids.length, done } });
  }
}

/**
 * Starts the sequence and gives the prompt's tokens.
 * @param {WasmEngine} running @param {Prompt} prompt @param {any} options
 */
function begin(running, prompt, options) {
  // The tokenizer puts a token before any text, so the engine would not see that there is none.
  if (prompt === "") throw new Zamba2Error("empty_prompt", "the prompt is empty", { nextStep: "Type a prompt." });
  if (prompt instanceof Uint32Array) return started(running, prompt, options);
  if (typeof prompt === "string") return started(running, running.tokenize(prompt, true), options);
  // The template has put in the special tokens that the model expects.
  const ids = running.tokenize(running.render_chat(prompt.messages), false);
  return started(running, ids, { ...options, end_tokens: [...running.chat_end_tokens()] });
}

/** @param {WasmEngine} running @param {Uint32Array} ids @param {any} options */
function started(running, ids, options) {
  running.start(ids, options);
  taken = { prompt: ids, generated: [], options };
  return ids;
}

/**
 * Goes on from a sequence that is there, whose kept text is told before the first token.
 * @param {WasmEngine} running @param {(running: WasmEngine) => import("./wasm_engine.js").KeptTokens} place
 * @param {any} options @param {number | null} forced  what the first step gives @param {CallContext} context
 */
function goOn(running, place, options, forced, context) {
  const kept = place(running);
  taken = { ...taken, generated: taken.generated.slice(0, kept.tokens), options };
  context.emit("kept", { text: kept.text, tokens: kept.tokens });
  return writeTokens(running, kept, forced, context);
}

/**
 * Reads what is to be read and makes tokens until one ends the run. Gives the run's figures.
 * @param {WasmEngine} running @param {{ tokens: number, prompt_tokens: number }} kept  what stands before the first token
 * @param {number | null} forced @param {Pick<CallContext, "signal" | "emit" | "readers">} context
 */
async function writeTokens(running, kept, forced, context) {
  const { signal, emit, readers } = context;
  const { prompt_tokens } = kept;
  const prefill_from_ms = performance.now();
  try {
    await readWhatIsKept(running, signal, ({ block, done }) => emit("prefill", { block, prompt_tokens, done }));
  } catch (thrown) {
    running = await takenUp(thrown, forced, context);
  }
  const prefill_ms = performance.now() - prefill_from_ms;

  const gaps_ms = [];
  let first_ms = 0;
  let last_ms = 0;
  let tokens = 0;
  /** @type {string | null} */
  let reason = null;
  while (reason === null) {
    await readers.opened(tokens);
    await yieldToMessages();
    if (signal.aborted) break;
    let step;
    try {
      step = await running.step();
    } catch (thrown) {
      running = await takenUp(thrown, tokens === 0 ? forced : null, context);
      continue;
    }
    const { token, text, done, probability, standing, us, blocks_us } = step;
    taken.generated.push(token);
    const now_ms = performance.now();
    if (tokens === 0) first_ms = now_ms;
    // Several tokens may come from one reading of the device, at once: each counts with its share.
    else gaps_ms.push(us / 1000);
    last_ms = now_ms;
    reason = done;
    const index = kept.tokens + tokens;
    emit("piece", { token, text, index, probability, standing, us, blocks_us }, [blocks_us.buffer]);
    tokens += 1;
  }
  const decode_ms = last_ms - first_ms;
  return {
    reason: reason ?? "aborted",
    prompt_tokens,
    tokens,
    prefill_ms,
    decode_ms,
    // What was read already took no time to read.
    prefill_tokens_per_s: kept.tokens === 0 ? prompt_tokens / (prefill_ms / 1000) : null,
    // n tokens are n - 1 gaps.
    decode_tokens_per_s: tokens > 1 && decode_ms > 0 ? (tokens - 1) / (decode_ms / 1000) : null,
    gap_ms_p50: percentile(gaps_ms, 0.5),
    gap_ms_p95: percentile(gaps_ms, 0.95),
    memory: running.memory(),
  };
}

/**
 * Where the model comes from and what runs it, for another load after the device is lost.
 * @type {{ source: string | File[], keep: boolean, retry: LoadOptions["retry"] | null, engine: EngineOptions } | null}
 */
let load_args = null;
/** What took the weights with it. The next call that needs them loads them again. @type {import("./errors.js").ErrorReport | null} */
let device_fault = null;
/** A device that is lost again and again is left alone. */
let losses = 0;
const MOST_LOSSES = 3;

/**
 * Loads the model into a new engine; where only the adapter fails and the choice is ours, on the processor.
 * @param {EngineOptions} options @param {Pick<CallContext, "signal" | "emit">} context
 * @returns {Promise<Omit<LoadedInfo, "weights" | "chat_fault"> & { chat_fault: import("./errors.js").ErrorReport | null }>}
 */
async function loadModel(options, context) {
  try {
    return await loadOnDevice(options, null, context);
  } catch (thrown) {
    const fault = reportFromThrown(thrown, panicText);
    if (!(isDeviceFault(fault) || fault.code === "self_test") || options.backend !== "auto") throw thrown;
    return loadOnDevice({ ...options, backend: "cpu" }, fault, context);
  }
}

/**
 * @param {EngineOptions} options @param {import("./errors.js").ErrorReport | null} fault  why it is not the adapter that was chosen
 * @param {Pick<CallContext, "signal" | "emit">} context
 */
async function loadOnDevice(options, fault, { signal, emit }) {
  const { source, keep, retry } = /** @type {NonNullable<typeof load_args>} */ (load_args);
  const { weights } = options;
  const started_ms = performance.now();
  /** @type {LoadProgress} */
  const progress = {
    phase: "config", origin: null, loaded_bytes: 0, total_bytes: 0, received_bytes: 0, device_bytes: 0, unit: null, block: null,
    unit_loaded_bytes: 0, unit_bytes: 0, blocks_ready: 0, n_blocks: 0, paused: false, waiting: null,
    keeping: { state: "off", reason: null }, info: null, tokenizer: false, chat: false,
  };
  const report = () => emit("progress", { ...progress });
  pausing = (paused) => {
    progress.paused = paused;
    report();
  };
  const onWait = (/** @type {LoadProgress["waiting"]} */ wait) => {
    progress.waiting = wait;
    report();
  };
  const bytes = typeof source === "string" ? new UrlSource(source, { retry: retry ?? undefined, onWait }) : new FileListSource(source);
  // Requests that are under way when a load fails would keep connections from the next one.
  const attempt = new AbortController();
  const ended = AbortSignal.any([signal, attempt.signal]);
  let opened = null;
  let created;
  let loaded;
  /** @type {number | null} */
  let timestamp_step_us = null;
  const wasm_from_ms = performance.now();
  let wasm_ms = 0;
  try {
    created = await createEngine(options, startThreads);
    wasm_ms = performance.now() - wasm_from_ms;
    const loading = created.engine;
    // Files that the reader chose are on this device already.
    opened = keep && typeof source === "string" ? await openKept(source, weights) : null;
    if (opened) progress.keeping = opened.kept ? { state: "kept", reason: null } : { state: "refused", reason: opened.reason };
    loaded = await loadCheckpoint(loading, bytes, opened?.kept ?? null, {
      signal: ended,
      yieldToMessages,
      unpaused: () => pause.over(ended),
      onPlanned: async () => {
        timestamp_step_us = await loading.prove_device();
      },
      onUnit: () => readAhead(loading),
      onProgress: (progress) => emit("progress", progress),
    }, progress);
  } catch (error) {
    attempt.abort();
    // What was kept belongs to another version, and would meet the same end at every visit.
    if (error instanceof Zamba2Error && error.code === "changed") await opened?.kept?.forget();
    // A prompt that was being read went with the device; its own call reads it again.
    if (early) early.ids = null;
    // Only the device is at fault, and another engine may follow.
    if (created?.device.webgpu && isErrorReport(error)) created.engine.free();
    throw error;
  } finally {
    pausing = null;
    await opened?.kept?.close();
  }
  engine = created.engine;
  const { threads, threads_reason } = chooseThreads(created);
  const load_ms = performance.now() - started_ms;
  const { build, device } = created;
  const adapter = device.adapter && { ...device.adapter, timestamp_step_us };
  const { info, memory, tokenizer, chat, chat_fault, timing } = loaded;
  const processor = build.relaxed_simd ? "cpu-relaxed-simd" : "cpu-simd128";
  const running = {
    backend: /** @type {LoadedInfo["backend"]} */ (device.webgpu ? "webgpu" : processor),
    backend_reason: fault ? /** @type {LoadedInfo["backend_reason"]} */ (fault.code) : device.reason,
    backend_fact: fault?.message ?? device.fact,
    adapter,
    threads,
    threads_reason,
    isolated: crossOriginIsolated,
    keeping: progress.keeping,
  };
  loaded_facts = {
    name: sourceName(source), weights: /** @type {import("./zamba2.d.ts").Weights} */ (weights), tokenizer,
    relaxed_simd: build.relaxed_simd, backend: running.backend, threads, adapter,
  };
  return { ...info, ...running, tokenizer, chat, chat_fault, memory, timing: { load_ms, wasm_ms, ...timing, clock_resolution_us: clockResolutionUs() } };
}

/**
 * The threads that the loaded model computes on, and why. Where the choice is ours, a trial may find fewer faster.
 * @param {Awaited<ReturnType<typeof createEngine>>} created
 * @returns {{ threads: number, threads_reason: LoadedInfo["threads_reason"] }}
 */
function chooseThreads({ engine, build, device }) {
  if (build.threads_reason !== "auto" || device.webgpu) return build;
  const threads = engine.choose_threads();
  return { threads, threads_reason: threads < build.threads ? "measured" : "auto" };
}

/**
 * Loads the model again after its device has failed: on the same kind of device when it was lost, on the processor when
 * it failed otherwise or too often and the choice is ours.
 * @param {import("./errors.js").ErrorReport} fault @param {Pick<CallContext, "signal" | "emit">} context
 */
async function rebuild(fault, { signal, emit }) {
  /** @type {CallContext["emit"]} */
  const reloading = (event, data) => emit(event === "progress" ? "reload" : event, data);
  const { engine: options } = /** @type {NonNullable<typeof load_args>} */ (load_args);
  losses += 1;
  const again = fault.code === "device_lost" && losses < MOST_LOSSES;
  if (!again && options.backend !== "auto") throw fault;
  emit("device", { state: "lost", fault });
  engine?.free();
  engine = null;
  const info = again ? await loadModel({ ...options, after_loss: true }, { signal, emit: reloading }) : await loadOnDevice({ ...options, backend: "cpu" }, fault, { signal, emit: reloading });
  device_fault = null;
  emit("device", { state: "ready", info });
}

/** The tokens of the present sequence, which outlive the device. @type {{ prompt: Uint32Array, generated: number[], options: any }} */
let taken = { prompt: new Uint32Array(0), generated: [], options: {} };

/**
 * Brings the sequence back onto a new device after `thrown`, if that is what it needs. What was told is not told again.
 * @param {unknown} thrown @param {number | null} forced  a token that the next step was to give
 * @param {Pick<CallContext, "signal" | "emit">} context
 */
async function takenUp(thrown, forced, context) {
  const fault = reportFromThrown(thrown, panicText);
  if (!isDeviceFault(fault)) throw thrown;
  await rebuild(fault, context);
  const running = opened();
  const { prompt, generated, options } = taken;
  const tokens = forced === null ? generated : [...generated, forced];
  running.take_up(prompt, Uint32Array.from(tokens), options);
  if (forced !== null) running.branch(generated.length, forced, options);
  await readWhatIsKept(running, context.signal, () => {});
  return running;
}

/**
 * Reads the prompt, and again what goes before the next token.
 * @param {WasmEngine} running @param {AbortSignal} signal
 * @param {(advanced: { block: number, done: boolean }) => void} onBlock
 */
async function readWhatIsKept(running, signal, onBlock) {
  for (let done = false; !done; ) {
    await yieldToMessages();
    signal.throwIfAborted();
    const advanced = await running.advance(1);
    done = advanced.done;
    onBlock(advanced);
  }
  // Without going back there is nothing to read again.
  for (let left = Infinity; left > 0; ) {
    left = await running.reread(REREAD_TOKENS);
    await yieldToMessages();
    signal.throwIfAborted();
  }
}

/** The call that made the engine's present sequence. */
let sequence = 0;
/** Calls that leave the sequence alone or go on from it; every other one puts its own in its place. */
const KEEPS_SEQUENCE = new Set(["tokenize", "detokenize", "render_chat", "branch", "resume", "snapshot", "restore", "memory"]);

/** @param {number} wanted  the sequence that the caller means */
function withSequence(wanted) {
  if (wanted === sequence) return opened();
  throw new Zamba2Error("out_of_order", "another call has taken the place of this run's state", { nextStep: "Run the prompt again." });
}

/** @type {Record<string, (args: any, context: CallContext) => Promise<unknown>>} */
const calls = {
  async load(args, { signal, emit }) {
    load_args = args;
    return loadModel(args.engine, { signal, emit });
  },

  async tokenize({ text, special }) {
    return opened().tokenize(text, special);
  },

  async detokenize({ ids }) {
    return opened().detokenize(ids);
  },

  async render_chat({ messages }) {
    return opened().render_chat(messages);
  },

  async generate({ prompt, options }, { id, signal, emit, readers }) {
    const running = opened();
    const begun = early?.id === id ? early : null;
    early = null;
    const ids = begun?.ids ?? begin(running, prompt, options);
    return writeTokens(running, { tokens: 0, prompt_tokens: ids.length }, null, { signal, emit, readers });
  },

  async branch({ sequence, index, token, options }, context) {
    return goOn(withSequence(sequence), (running) => running.branch(index, token, options), options, token, context);
  },

  async resume({ sequence, options }, context) {
    return goOn(withSequence(sequence), (running) => running.resume(options), options, null, context);
  },

  async snapshot({ sequence, note }) {
    return withSequence(sequence).snapshot(note);
  },

  async restore({ bytes }, { id }) {
    const restored = await opened().restore(bytes);
    // Bytes that were refused have replaced nothing.
    sequence = id;
    const at = restored.prompt_tokens;
    taken = { prompt: Uint32Array.from(restored.tokens.slice(0, at)), generated: restored.tokens.slice(at), options: {} };
    return restored;
  },

  async logits({ ids }) {
    return opened().logits(ids);
  },

  async greedy({ ids, n }, { signal }) {
    const running = opened();
    const all = await running.logits(ids);
    const vocab_size = all.length / ids.length;
    const logits = [all.slice(all.length - vocab_size)];
    const tokens = [argmax(logits[0])];
    while (tokens.length < n) {
      await yieldToMessages();
      signal.throwIfAborted();
      const row = await running.decode(tokens[tokens.length - 1]);
      logits.push(row);
      tokens.push(argmax(row));
    }
    return { tokens, logits };
  },

  async profile(options, { signal }) {
    return profileRuns(opened(), options, { signal, yieldToMessages });
  },

  async report(options, { signal, emit }) {
    const running = opened();
    const facts = /** @type {import("./reporting.js").LoadedFacts} */ (loaded_facts);
    const onProgress = (/** @type {unknown} */ progress) => emit("progress", progress);
    return measureRun(running, facts, options, { signal, yieldToMessages, clockResolutionUs, onProgress });
  },

  ...reportCalls,

  async memory() {
    return opened().memory();
  },

  /** For a worker of its own: a model's threads can't serve twice. */
  async bench_kernels({ threads, relaxed_simd }) {
    const { engine: idle, build } = await createEngine({
      weights: "q4", context: null, threads, relaxed_simd, backend: "cpu", webgpu: { maxBindingBytes: null, timestamps: true, subgroups: true, f16: true },
    }, startThreads);
    return { ...idle.bench_kernels(), relaxed_simd: build.relaxed_simd };
  },
};

/** @type {Map<number, { controller: AbortController, readers: ReadGate }>} */
const waiting = new Map();
/** @type {Promise<void>} */
let queue = Promise.resolve();
/** The call that runs now. @type {number | null} */
let running_id = null;

/** @param {number} id @param {unknown} thrown */
function answerError(id, thrown) {
  const error = reportFromThrown(thrown, panicText);
  panicText = null;
  if (isFatal(error)) engine = null;
  if (isDeviceFault(error) && engine) device_fault = error;
  postMessage({ id, error });
}

// A trap inside one of the engine's async calls settles no promise; it is thrown at the worker itself.
addEventListener("error", (event) => {
  if (running_id === null) return;
  event.preventDefault();
  answerError(running_id, event.error);
});

/** @param {number} id @param {string} call @param {unknown} args */
async function answer(id, call, args) {
  const entry = /** @type {{ controller: AbortController, readers: ReadGate }} */ (waiting.get(id));
  const { signal } = entry.controller;
  running_id = id;
  try {
    signal.throwIfAborted();
    if (!KEEPS_SEQUENCE.has(call)) sequence = id;
    /** @type {CallContext} */
    const context = {
      id,
      signal,
      readers: entry.readers,
      emit: (event, data, transfer = []) => postMessage({ id, event, data }, { transfer }),
    };
    if (device_fault) await rebuild(device_fault, context);
    const value = await calls[call](args, context);
    postMessage({ id, value });
  } catch (thrown) {
    answerError(id, thrown);
  } finally {
    running_id = null;
    waiting.delete(id);
  }
}

onmessage = ({ data }) => {
  if ("abort" in data) {
    const entry = waiting.get(data.abort);
    entry?.controller.abort();
    // Generation may be waiting for a reader that has gone.
    if (entry) for (let left = 0; left < 2; left++) entry.readers.take();
  } else if ("read" in data) {
    waiting.get(data.read)?.readers.take();
  } else if ("threads_up" in data) {
    onThreadsUp(data.threads_up);
  } else if ("pause" in data) {
    pause.set(data.pause);
    pausing?.(data.pause);
  } else {
    waiting.set(data.id, { controller: new AbortController(), readers: new ReadGate() });
    if (data.call === "generate" && pausing && !early) early = { id: data.id, ...data.args, ids: null, done: false };
    queue = queue.then(() => answer(data.id, data.call, data.args));
  }
};
