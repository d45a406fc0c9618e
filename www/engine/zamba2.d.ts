/**
 * Zamba2 language models in the browser.
 *
 * ```js
 * import { load } from "/pkg/zamba2.js";
 * const model = await load({ source: "/www/models/rustdoc-5m/" });
 * let text = "";
 * for await (const piece of model.generate("Ownership is", { seed: 7 })) text += piece;
 * ```
 *
 * Times are milliseconds (`_ms`) or microseconds (`_us`), sizes are bytes (`_bytes`).
 */

/** How the weights are held in memory: 4, 1.06 or 0.56 bytes per parameter. */
export type Weights = "f32" | "q8" | "q4";

export interface LoadOptions {
  /**
   * The address of a checkpoint folder (relative ones are resolved against the page), or the files themselves:
   * config.json, model.safetensors or its shards with model.safetensors.index.json, tokenizer.json if text is wanted, and
   * tokenizer_config.json or chat_template.jinja if there is to be a chat.
   */
  source: string | URL | Iterable<File>;
  /**
   * What computes. "auto" (the default) takes WebGPU where a real graphics adapter passes a self-test (every kernel and a
   * small model against the CPU), and the CPU elsewhere; `info.backend_reason` says why. "webgpu" takes a software adapter,
   * too, and fails where there is none. "cpu" asks for no adapter.
   */
  backend?: "auto" | "cpu" | "webgpu";
  /** What of a graphics adapter may be used, for finding out what a lesser one would do. */
  webgpu?: WebGpuOptions;
  /** Default "q8". The checkpoint's own dtype (f32, f16, bf16) is converted while it loads. */
  weights?: Weights;
  /**
   * Workers that compute, the engine's own included: 1 to 64. "auto" (the default) takes one per core, at most 8, or
   * fewer if a trial of about 0.1 s after the load finds them faster, as for small models. More than one needs a
   * cross-origin isolated page; elsewhere one thread runs, and `info.threads_reason` says so.
   * The number changes no bit of any result.
   */
  threads?: "auto" | number;
  /**
   * "auto" (the default) uses relaxed SIMD where the browser knows it; false keeps to plain SIMD128, for comparison.
   * The results are the same.
   */
  relaxedSimd?: "auto" | false;
  /** Tokens that prompt and answer may fill together. Default and upper limit: the checkpoint's own. */
  context?: number;
  /**
   * Default true: weights from an address are kept on this device in their quantised form, and the next load of the same
   * address and format reads them there, without network. Where the browser gives no room the load goes on in memory, and
   * `info.keeping` says so. Files that were chosen are not kept.
   */
  keep?: boolean;
  /** How a broken connection is met. Defaults: 6 attempts without a byte in between, 500 ms before the first, 20 s of silence. */
  retry?: { attempts?: number; first_delay_ms?: number; stall_ms?: number };
  /** Called at most about 20 times a second, and at the end of every unit; again when a lost device is made good. */
  onProgress?: (progress: LoadProgress) => void;
  /** Called when a graphics device fails in the middle of things, and when the model is there again. */
  onDevice?: (event: DeviceEvent) => void;
  /** Aborting rejects at once with the signal's reason; the worker ends. */
  signal?: AbortSignal;
}

export interface WebGpuOptions {
  /** The most bytes that are bound at once; larger matrices are split. Default null: what the adapter can do. */
  maxBindingBytes?: number | null;
  /** Default true: block and module times by the device's own clock. Otherwise each span is waited for. */
  timestamps?: boolean;
  /** Default true: kernels for adapters with subgroups. */
  subgroups?: boolean;
  /** Default true: kernels for adapters with 16-bit floats. */
  f16?: boolean;
}

/**
 * Why `info.backend` is what it is: the default, the option, or why no graphics adapter computes. The browser has no
 * WebGPU (or not for this page); there is no adapter; it is the processor in disguise; it computes wrongly; its device was
 * lost too often, had no memory left, has no room for sizes of this model, or failed.
 */
export type BackendReason =
  | "auto" | "asked" | "no_webgpu" | "no_adapter" | "software_adapter" | "self_test" | "device_lost" | "device_memory"
  | "device_limit" | "device";

export interface AdapterInfo {
  /** As far as the browser tells it. */
  name: string;
  /** The processor plays the graphics card: right, and slower than the CPU backend. */
  software: boolean;
  max_binding_bytes: number;
  /** The step of the device's own clock, as measured; null where spans are waited for instead. */
  timestamp_step_us: number | null;
  subgroups: boolean;
  f16: boolean;
}

/**
 * The graphics device failed: the weights have gone with it and are loaded again, from this device if they are kept there.
 * A run that was in progress goes on after its last token.
 */
export type DeviceEvent =
  | { state: "lost"; fault: Zamba2Error }
  | { state: "ready"; info: LoadedInfo };

/** Whether the weights are kept on this device, and why not: "no_storage", "other_tab", or the browser's own words. */
export interface Keeping {
  state: "off" | "kept" | "refused";
  reason: string | null;
}

/** A model on this device. */
export interface KeptModel {
  key: string;
  source: string;
  weights: Weights;
  bytes: number;
  /** Whether a load needs no network. */
  complete: boolean;
  /** Milliseconds since 1970. */
  saved_ms: number;
}

export interface LoadProgress {
  phase: "config" | "header" | "weights" | "ready";
  /** Where the present unit comes from. */
  origin: "device" | "source" | null;
  /** Of the checkpoint, whether they were received or stand for what was kept. */
  loaded_bytes: number;
  /** 0 until the headers are read. */
  total_bytes: number;
  /** Weights that came over the network, or from the chosen files, in this load. */
  received_bytes: number;
  /** Quantised weights read from this device in this load. */
  device_bytes: number;
  paused: boolean;
  /** What the source waits for after a fault; null while bytes flow. */
  waiting: { file: string; at: number; reason: "offline" | "stalled" | "dropped" | "status"; status: number | null; attempt: number; delay_ms: number } | null;
  keeping: Keeping;
  /** "embed_tokens", "blocks.N", "shared_transformer.B", "final_layernorm", "lm_head"; null outside "weights". */
  unit: string | null;
  /** The block's number where the unit is a block. */
  block: number | null;
  unit_loaded_bytes: number;
  unit_bytes: number;
  blocks_ready: number;
  n_blocks: number;
  /** What config.json says; null before it is read. */
  info: ModelInfo | null;
  /** Whether a prompt can be given, and whether it may be a conversation; false before that is known. */
  tokenizer: boolean;
  chat: boolean;
}

export interface ModelInfo {
  model_type: string;
  hidden_size: number;
  vocab_size: number;
  n_blocks: number;
  /** One entry per block; a hybrid block calls a shared transformer before its Mamba2 mixer. */
  kinds: ("mamba" | "hybrid")[];
  n_shared_blocks: number;
  intermediate_size: number;
  max_position_embeddings: number;
  context: number;
  bos_token_id: number | null;
  eos_token_ids: number[];
  parameters: number;
  rope: boolean;
  attention_adapters: boolean;
  tied: boolean;
}

export interface MemoryReport {
  weights_bytes: number;
  cache_bytes: number;
  /** The whole WebAssembly memory, which never shrinks. */
  wasm_bytes: number;
}

export interface LoadTiming {
  load_ms: number;
  wasm_ms: number;
  header_ms: number;
  weights_ms: number;
  /** The smallest step of the worker's clock; finer figures are averages. */
  clock_resolution_us: number;
}

/**
 * Why `info.threads` is what it is: the default, the option, or what kept the engine to fewer threads. A trial after the
 * load found fewer threads faster; the page is not cross-origin isolated; the browser gives no shared WebAssembly memory;
 * some workers did not start within seconds; the
 * package has no build with threads yet.
 */
export type ThreadsReason =
  "auto" | "measured" | "asked" | "not_isolated" | "no_shared_memory" | "workers_failed" | "not_built";

export interface LoadedInfo extends ModelInfo {
  backend: "cpu-simd128" | "cpu-relaxed-simd" | "webgpu";
  backend_reason: BackendReason;
  /** The words of the browser or the engine, where an adapter was wanted and is not used. */
  backend_fact: string | null;
  /** If `backend` is "webgpu". */
  adapter: AdapterInfo | null;
  threads: number;
  threads_reason: ThreadsReason;
  /** Whether the engine's worker is cross-origin isolated, which shared memory and a fine clock need. */
  isolated: boolean;
  weights: Weights;
  keeping: Keeping;
  /** Whether tokenizer.json was there; without it only token ids can be given. */
  tokenizer: boolean;
  /** Whether the checkpoint has a chat template that can be used. */
  chat: boolean;
  /** What is wrong with a template that is there, or why it did not come; the model works without it. */
  chat_fault: Zamba2Error | null;
  timing: LoadTiming;
  memory: MemoryReport;
}

export interface GenerateOptions {
  /** Default 256. */
  max_tokens?: number;
  /** Default 0.7; 0 is greedy. */
  temperature?: number;
  /** Default 40; 0 turns it off. */
  top_k?: number;
  /** Default 0.95; 1 turns it off. */
  top_p?: number;
  /** Default 0, which turns it off. */
  min_p?: number;
  /** Default 1, which turns it off. */
  repetition_penalty?: number;
  /** Default 42. The same seed, prompt and options give the same tokens. */
  seed?: number;
  /** The text ends before the first of these. Default none. */
  stop?: string[];
  /** Go on past an end-of-text token. Default false. */
  ignore_eos?: boolean;
  /** How many of the most probable tokens each piece tells. Default 0, which spares the work. */
  alternatives?: number;
  /**
   * Default false. Keeps the state after the prompt and every 32 tokens, as far as 192 MB hold them, so that `branch` has less
   * to read again.
   */
  marks?: boolean;
}

/** One turn of a conversation. Most templates know the roles "system" (first, if at all), "user" and "assistant". */
export interface ChatMessage {
  role: string;
  content: string;
}

/** Text to continue, token ids, or a conversation that the assistant is to answer. */
export type Prompt = string | ArrayLike<number> | { messages: ChatMessage[] };

export interface RunOptions extends GenerateOptions {
  /** Aborting makes the loop throw the signal's reason; the engine stops within one token, or one block of prefill. */
  signal?: AbortSignal;
  /** Called after each block of prefill. */
  onPrefill?: (progress: { block: number; prompt_tokens: number; done: boolean }) => void;
  /** Called by `branch` and `extend` before the first piece, with the generated text and the number of tokens that stay. */
  onKept?: (kept: { text: string; tokens: number }) => void;
}

/** Where a token stands among all that the model could have said, before penalty, temperature and filters. */
export interface Standing {
  /** The token as people may read it by itself; its name where it is no whole character. */
  text: string;
  /** 1 is the most probable. */
  rank: number;
  probability: number;
  /** Most probable first. */
  alternatives: { token: number; text: string; probability: number }[];
}

export interface Piece {
  /** Often one token's text; empty while a character is incomplete or might belong to a stop string. */
  text: string;
  token: number;
  /** 0 for the first generated token. */
  index: number;
  /** Of this token among those that sampling allowed. */
  probability: number;
  /** null unless alternatives were asked for. */
  standing: Standing | null;
  /** The whole step, measured in the worker. The first step samples from the prefill's logits and costs no pass. */
  us: number;
  /** Time of each block in this step; empty in the first step. */
  blocks_us: Float32Array;
  /** The text, so that `out += piece` works. */
  toString(): string;
}

export interface RunSummary {
  reason: "eos" | "length" | "stop" | "context" | "aborted";
  prompt_tokens?: number;
  tokens: number;
  /** From the call of `generate` to the first piece on the page. */
  ttft_ms: number;
  prefill_ms?: number;
  /** From the first token to the last, in the worker; it includes waiting for a slow reader. */
  decode_ms?: number;
  /** null where a sequence was gone on from. */
  prefill_tokens_per_s?: number | null;
  /** (tokens - 1) / time between first and last token; null for fewer than two tokens. */
  decode_tokens_per_s?: number | null;
  /** Gaps between tokens; null for fewer than two tokens. */
  gap_ms_p50?: number | null;
  gap_ms_p95?: number | null;
  memory?: MemoryReport;
}

export interface ProfileOptions {
  /** A prompt or token ids; without either, a fixed sequence of ids. */
  prompt?: string;
  ids?: ArrayLike<number>;
  /** Cuts or repeats the prompt to this many tokens. Default: a given prompt's own length, else 35. */
  prefill?: number;
  /** Decode steps per run. Default 8. */
  decode?: number;
  /** Default 3, each once with and once without spans. */
  runs?: number;
  /** Runs that are thrown away first. Default 1. */
  warmup?: number;
  /** Default "module". */
  level?: "block" | "module";
  signal?: AbortSignal;
}

/** Spans as columns of equal length; `name` points into `names`, `parent` is a row number or -1. */
export interface ProfileSpans {
  names: string[];
  name: Uint16Array;
  parent: Int32Array;
  /** 0 is the prefill, n the n-th decode step. */
  pass: Uint32Array;
  start_us: Float64Array;
  duration_us: Float32Array;
  /** From shapes: a multiplication with its addition is 2; norms, activations and biases are not counted. */
  flops: Float64Array;
  /** Weights read, states read and written, keys and values read and written. */
  bytes: Float64Array;
}

export interface ProfileRun {
  /** The blocks alone. */
  prefill_ms: number;
  /** From handing over the ids to having the first token. */
  forward_ms: number;
  step_ms: number[];
  /** null where spans were off. */
  spans: ProfileSpans | null;
}

export interface ProfileReport {
  level: "block" | "module";
  prompt_tokens: number;
  decode_tokens: number;
  warmup: number;
  runs: ProfileRun[];
  /** The same work without spans: the difference is what measuring costs. */
  unprofiled: ProfileRun[];
}

/**
 * A loaded model. Calls queue behind one another, except that a second `generate` during a first one throws `busy`.
 * After an `internal` or `out_of_memory` error every call rejects; load the model again.
 */
export interface Model {
  /** Resolves when the model has loaded, rejects with what kept it from it. */
  readonly ready: Promise<void>;
  /** Throws before `ready`. */
  readonly info: LoadedInfo;
  /** Holds the load back; what has been asked for already still arrives. */
  pause(): void;
  resume(): void;
  /** The last run's figures: set when its loop has ended, null before and during a run. */
  readonly last: RunSummary | null;
  /** `special` (default true) adds the tokens that the tokenizer puts around a text. */
  tokenize(text: string, options?: { special?: boolean }): Promise<Uint32Array>;
  detokenize(ids: ArrayLike<number>): Promise<string>;
  /** A conversation as the text that the model reads, up to the assistant's next turn. Tokenize it with `special: false`. */
  renderChat(messages: ChatMessage[]): Promise<string>;
  /**
   * Continues a prompt. While the model is still loading each block reads the prompt as soon as it is there, and the first
   * token comes after the last block. The worker is at most one token ahead of the loop; leaving the loop stops it.
   * An iterator that is neither read to its end nor returned keeps the model busy.
   *
   * A conversation goes through the checkpoint's own chat template, and its answer ends with the turn. It rejects with
   * "no_chat_template", "bad_chat_template", or "chat_refused" and the template's own words.
   */
  generate(prompt: Prompt, options?: RunOptions): AsyncGenerator<Piece, void, void>;
  /**
   * Goes back to generated token `index` of the last run and on from there with `token` in its place; the first piece is
   * that token. What must be read again is read as it was the first time, so with the token that was there and the same
   * options the same pieces come again, bit by bit. Rejects with "out_of_order" when another call has replaced the run.
   */
  branch(index: number, token: number, options?: RunOptions): AsyncGenerator<Piece, void, void>;
  /**
   * Goes on after the last token of the last run or of a restored one. `max_tokens` counts from the prompt. With the same
   * options the pieces are those of a run that was never left.
   */
  extend(options?: RunOptions): AsyncGenerator<Piece, void, void>;
  /**
   * The sequence so far as bytes: tokens, state, keys and values, no weights. `note` is kept with it. Rejects with
   * "out_of_order" before the first token.
   */
  snapshot(options?: { note?: string }): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Takes a snapshot in the place of the present sequence, for `extend` and `branch`. Rejects with "bad_snapshot" for bytes
   * that are none, "other_model" for those of another model, weight format or setting.
   */
  restore(bytes: ArrayBuffer | Uint8Array): Promise<{ tokens: Uint32Array; prompt_tokens: number; note: string }>;
  /** One row of `vocab_size` logits per id. */
  logits(ids: ArrayLike<number>): Promise<Float32Array[]>;
  /** `n` cached greedy steps; row i is what token i was taken from. */
  greedy(ids: ArrayLike<number>, n: number): Promise<{ tokens: number[]; logits: Float32Array[] }>;
  profile(options?: ProfileOptions): Promise<ProfileReport>;
  /** Measures a run with all its conditions; `summarise` and `exportRun` make something of it. */
  report(options?: ReportOptions): Promise<Run>;
  /** Ends the worker and frees its memory. Every call that still waits rejects with the code "disposed". */
  dispose(): void;
}

/**
 * Codes from the checkpoint: missing_file, truncated, bad_header, bad_config, wrong_architecture, unknown_dtype,
 * missing_tensor, bad_shape, non_finite_weight, bad_tokenizer. From reading: network, http_status, io. From a call:
 * no_chat_template, bad_chat_template, chat_refused, bad_snapshot, other_model, empty_prompt, prompt_too_long, bad_token,
 * bad_option, bad_run, busy, disposed, out_of_order. From the machine: out_of_memory, unsupported_browser, internal. From a graphics
 * adapter: no_webgpu, no_adapter, software_adapter, self_test, device_lost, device_memory, device_limit, device.
 */
export class Zamba2Error extends Error {
  constructor(code: string, message: string, more?: { file?: string | null; nextStep?: string; cause?: unknown });
  readonly code: string;
  /** The file at fault, if one is. */
  readonly file: string | null;
  /** One sentence on what to do next. */
  readonly nextStep: string;
}

/** What a machine can do at best with the instructions of the kernels; all threads together. */
export interface Ceilings {
  threads: number;
  /** int8 products with the addition that collects them. */
  int8_gmacs_per_s: number;
  /** 16-bit products summed in 32 bits. */
  int16_gmacs_per_s: number;
  f32_gmacs_per_s: number;
  /** Reading memory far larger than any cache. */
  read_gb_per_s: number;
}

export interface KernelTime {
  kernel: string;
  /** Rows of activations: 1 is decode. */
  tokens: number;
  /** The median of nine rounds. */
  us: number;
  gmacs_per_s: number;
  gb_per_s: number;
  /** What holds the kernel back at best. */
  bound: "arithmetic" | "memory";
  /** The time that the ceilings allow, divided by the time taken. */
  percent_of_ceiling: number;
}

export interface KernelReport {
  ceilings: Ceilings;
  kernels: KernelTime[];
  relaxed_simd: boolean;
}

export interface BenchOptions {
  threads?: "auto" | number;
  relaxedSimd?: "auto" | false;
  signal?: AbortSignal;
}

/**
 * Measures single kernels at the sizes of Zamba2-1.2B against the machine's ceilings, in about ten seconds and 0.6 GB.
 * No model is needed; one that generates meanwhile disturbs the figures.
 */
export function benchKernels(options?: BenchOptions): Promise<KernelReport>;

/**
 * Loads a checkpoint and resolves when it can generate.
 * Rejects with a Zamba2Error, or with the signal's reason after an abort.
 */
export function load(options: LoadOptions): Promise<Model>;
/** A model that is still loading: for pausing, and for prompts that are read while the weights arrive. */
export function open(options: LoadOptions): Model;
/** The address of a repository on the Hugging Face Hub, as a `source`. `repository` is "owner/name". */
export function hubFolder(repository: string, revision?: string): string;
/** The models on this device. */
export function keptModels(): Promise<KeptModel[]>;
/** Deletes a model from this device; rejects with "busy" while another tab loads it. */
export function forgetModel(key: string): Promise<void>;

// ---- reports ----

export type * from "./report.d.ts";
import type { ReferenceReport, Run, Summary } from "./report.d.ts";

/** What `report` is doing: `run` of `runs` measured so far. */
export interface ReportProgress {
  phase: "ceilings" | "runs";
  run: number;
  runs: number;
}

/** As for `profile`, with other defaults: 16 decode steps, 5 runs, a built-in text of 35 tokens. */
export interface ReportOptions extends ProfileOptions {
  /** Default true: measures what the machine can do at best first, which takes a few seconds. */
  ceilings?: boolean;
  onProgress?: (progress: ReportProgress) => void;
}

/** Everything derived from a run. These four need no model; the first call starts a worker that stays. */
export function summarise(run: Run, language?: "en" | "ru"): Promise<Summary>;
/** The report that this one succeeds, as published or counted anew. */
export function referenceReport(kind: "published" | "recomputed", language?: "en" | "ru"): Promise<ReferenceReport>;
/** The run as text: a report, the run file itself, a table, or a trace for Perfetto and speedscope. */
export function exportRun(run: Run, format: "markdown" | "json" | "csv" | "trace", language?: "en" | "ru"): Promise<string>;
/** Reads and checks a run file; rejects with the code "bad_run", which says what is wrong and where. */
export function parseRun(text: string): Promise<Run>;
