/**
 * Zamba2 language models in the browser.
 *
 * ```js
 * import { load } from "zamba2-web";
 * const model = await load({ source: "/models/rustdoc-5m/" });
 * let text = "";
 * for await (const piece of model.generate("Ownership is", { seed: 7 })) text += piece;
 * ```
 *
 * Times are milliseconds (`_ms`) or microseconds (`_us`), sizes are bytes (`_bytes`).
 */

export interface LoadOptions {
  /**
   * The URL of a checkpoint folder or of a file in it (a relative one is resolved against the page), a page of a
   * repository on the Hugging Face Hub, or `hf://owner/name@revision`. Or the checkpoint's files: config.json,
   * model.safetensors or its shards with model.safetensors.index.json, tokenizer.json for text, and
   * tokenizer_config.json or chat_template.jinja for chats; of a chosen folder the files directly inside count.
   */
  source: string | URL | Iterable<File>;
  /**
   * Default "auto": WebGPU if a hardware adapter passes a self-test (every kernel and a small model against the CPU),
   * otherwise the CPU, with the reason in `info.backend_reason`. "webgpu" also accepts a software adapter, and fails if
   * there is no adapter. "cpu" requests no adapter.
   */
  backend?: "auto" | "cpu" | "webgpu";
  /** Features of the graphics adapter that may be used, to simulate lesser ones. */
  webgpu?: WebGpuOptions;
  /** Default "q8". The checkpoint's own dtype (f32, f16, bf16) is converted while it loads. */
  weights?: Weights;
  /**
   * Threads, the engine's worker included: 1 to 64. Default "auto": one per core, at most 8, or fewer if a trial of
   * about 0.1 s after the load finds them faster, as for small models. More than one needs a cross-origin isolated
   * page; otherwise there is one, with the reason in `info.threads_reason`. Results do not depend on the number.
   */
  threads?: "auto" | number;
  /**
   * Default "auto": relaxed SIMD if the browser supports it. False: SIMD128 only, for comparison. Results are the same.
   */
  relaxedSimd?: "auto" | false;
  /** Tokens that prompt and answer may fill together. Default: as many as the
   * checkpoint supports, but at most 2,048 and a KV cache of 256 MB. */
  context?: number;
  /**
   * Default false: a packed checkpoint (`zamba2 pack`) is recognised when the source has no safetensors. True: its
   * manifest is read first, and files that it does not list are not requested.
   */
  packed?: boolean;
  /**
   * Default true: quantised weights from a URL are stored on this device, and the next load of the same URL and format
   * needs no network. If the browser refuses storage the load continues in memory, with the reason in `info.keeping`.
   * Chosen files are not stored.
   */
  keep?: boolean;
  /**
   * Default false: what is stored is used without asking the source. True: files that have changed at the source are
   * fetched again, weights only if they changed.
   */
  refresh?: boolean;
  /**
   * Retry with backoff, or after the pause that the server asks for (`Retry-After`, `RateLimit`) up to 15 minutes.
   * Defaults: 6 attempts without a byte between them, 500 ms before the first, 20 s until a stall.
   */
  retry?: { attempts?: number; first_delay_ms?: number; stall_ms?: number };
  /**
   * The address of the folder with the package's files, if they are not beside this module: for bundlers that do not
   * recognise `new URL("…", import.meta.url)`, such as esbuild and Rollup, and for files on another origin. Later
   * reports (`summarise` and the like) use it as well.
   */
  base?: string | URL;
  /**
   * Called at most about 20 times a second, and at the end of every unit; again when the model is reloaded after a lost
   * device.
   */
  onProgress?: (progress: LoadProgress) => void;
  /** Called when the graphics device fails, and when the model has been reloaded. */
  onDevice?: (event: DeviceEvent) => void;
  /** Aborting rejects at once with the signal's reason; the worker ends. */
  signal?: AbortSignal;
}

/**
 * The graphics device was lost, and the weights with it: they are loaded again, from this device if they are stored
 * there. A run in progress continues after its last token.
 */
export type DeviceEvent = { state: "lost"; fault: Zamba2Error } | { state: "ready"; info: LoadedInfo };

export interface LoadProgress {
  phase: "config" | "header" | "weights" | "ready";
  /** The origin of the current unit. */
  origin: "device" | "source" | null;
  /** In bytes of the source, also for units that are read from this device. */
  loaded_bytes: number;
  /** 0 until the headers are read. */
  total_bytes: number;
  /** Bytes of weights from the network, or from the chosen files, in this load. */
  received_bytes: number;
  /** Bytes of quantised weights from this device in this load. */
  device_bytes: number;
  paused: boolean;
  /** The wait before a retry; null without one. */
  waiting: {
    file: string;
    at: number;
    reason: "offline" | "stalled" | "dropped" | "status";
    status: number | null;
    attempt: number;
    delay_ms: number;
  } | null;
  keeping: Keeping;
  /** As in `LoadedInfo`; null before it is known. */
  commit: string | null;
  /** "embed_tokens", "blocks.N", "shared_transformer.B", "final_layernorm", "lm_head"; null outside "weights". */
  unit: string | null;
  /** The block's number where the unit is a block. */
  block: number | null;
  unit_loaded_bytes: number;
  unit_bytes: number;
  blocks_ready: number;
  n_blocks: number;
  /** From config.json, and what is shared from the headers of the weights; null before config.json is read. */
  info: ModelInfo | null;
  /** Whether there is a tokenizer, and whether there is a chat template; false before that is known. */
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
  n_shared_transformers: number;
  /** For each block, the shared transformer that it calls; null for a block that calls none. */
  shared_of_block: (number | null)[];
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
  /** Of the WebAssembly memory, which never shrinks. */
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
 * The reason for the number in `info.threads`, in the order of the values: the default; a trial after the load found
 * fewer threads faster; the option; the page is not cross-origin isolated; the browser provides no shared WebAssembly
 * memory; some workers did not start within seconds.
 */
export type ThreadsReason = "auto" | "measured" | "asked" | "not_isolated" | "no_shared_memory" | "workers_failed";

export interface LoadedInfo extends ModelInfo {
  backend: "cpu-simd128" | "cpu-relaxed-simd" | "webgpu";
  backend_reason: BackendReason;
  /** Why an adapter that was wanted is not used. */
  backend_fault: Zamba2Error | null;
  /** If `backend` is "webgpu". */
  adapter: AdapterInfo | null;
  threads: number;
  threads_reason: ThreadsReason;
  /** The build of the engine that runs: its folder in the package. */
  build: string;
  /** Whether the engine's worker is cross-origin isolated, which shared memory and a fine clock need. */
  isolated: boolean;
  weights: Weights;
  keeping: Keeping;
  /** The commit of the Hub's repository that all files of this load are of; null for other sources. */
  commit: string | null;
  /** Whether there is a tokenizer.json; without it prompts must be token ids. */
  tokenizer: boolean;
  /** Whether the checkpoint has a chat template that can be used. */
  chat: boolean;
  /** What is wrong with the chat template, or why it could not be fetched; the model works without it. */
  chat_fault: Zamba2Error | null;
  timing: LoadTiming;
  memory: MemoryReport;
}

/** One turn of a conversation. Most templates support the roles "system" (only first), "user" and "assistant". */
export interface ChatMessage {
  role: string;
  content: string;
}

/** A conversation for the assistant to answer. */
export interface ChatPrompt {
  messages: ChatMessage[];
  /**
   * What control tokens in the messages of "user" and "tool" become. "plain" (the default): text, so `<|im_end|>` in a
   * message ends no turn. "control": tokens, as in the reference. If the template changes the text of messages so much
   * that its own tokens cannot be distinguished, both are "control".
   */
  content?: "plain" | "control";
}

/** Text to continue, token ids, or a conversation for the assistant to answer. */
export type Prompt = string | ArrayLike<number> | ChatPrompt;

export interface RunOptions extends GenerateOptions {
  /** Aborting makes the loop throw the signal's reason; the engine stops within one token, or one block of prefill. */
  signal?: AbortSignal;
  /** Called after each block of prefill. */
  onPrefill?: (progress: { block: number; prompt_tokens: number; cached_tokens: number; done: boolean }) => void;
  /** Called while `branch` or `continue` replays tokens, which restores the state of an earlier place. */
  onReplay?: (progress: { replayed: number; tokens: number }) => void;
  /**
   * Called by `branch` and `continue` before the first piece, with the generated text and the number of tokens that are
   * kept.
   */
  onKept?: (kept: { text: string; tokens: number }) => void;
}

/** The rank of a token in the model's distribution, before penalty, temperature and filters. */
export interface TokenRank {
  /** The token as text; its name where it is no whole character. */
  text: string;
  /** What it adds to a text in UTF-8, perhaps part of a character; null for one that is not shown (an end token). */
  bytes: number[] | null;
  /** 1 is the most probable. */
  rank: number;
  probability: number;
  /** Most probable first. */
  alternatives: { token: number; text: string; bytes: number[] | null; probability: number }[];
}

export interface Piece {
  /** Often one token's text; empty while a character is incomplete or might belong to a stop string. */
  text: string;
  token: number;
  /** 0 for the first generated token. */
  index: number;
  /** Of this token in the distribution that was sampled from. */
  probability: number;
  /** null unless `alternatives` is set. */
  token_rank: TokenRank | null;
  /**
   * The whole step, measured in the worker: since the token before, if the device had begun it by then. The first step
   * samples from the prefill's logits and costs no pass.
   */
  us: number;
  /**
   * Time of each block in this step, if it was measured (`timeBlocks`); empty in the first step and in one after an
   * accepted draft, which needs no pass.
   */
  blocks_us: Float32Array;
  /** Tokens that the pass of this step has drafted after this one (`lookup`). */
  drafted: number;
  /** Whether this token was drafted by an earlier pass, and the sampler confirmed it. */
  accepted_draft: boolean;
  /** The text, so that `out += piece` works. */
  toString(): string;
}

export interface RunSummary {
  reason: "eos" | "length" | "stop" | "context" | "aborted";
  prompt_tokens?: number;
  /** Tokens of the prompt that were not read again; null when the run continued an existing sequence. */
  cached_tokens?: number | null;
  tokens: number;
  /** From the call of `generate` to the first piece on the page. */
  ttft_ms: number;
  prefill_ms?: number;
  /** From the first token to the last, in the worker; including waits for a slow consumer. */
  decode_ms?: number;
  /** Of the tokens that were read; null when the run read none of a prompt. */
  prefill_tokens_per_s?: number | null;
  /** (tokens - 1) / time between first and last token; null for fewer than two tokens. */
  decode_tokens_per_s?: number | null;
  /** Gaps between tokens; null for fewer than two tokens. */
  gap_ms_p50?: number | null;
  gap_ms_p95?: number | null;
  /** Tokens that were drafted (`lookup`), and how many of them became tokens of the text. */
  drafted?: number;
  accepted_drafts?: number;
  /**
   * Why a run with `lookup` could make no drafts: "device": a graphics adapter makes none; "memory": there is no room
   * for their buffers. Null if it could, and without `lookup`.
   */
  no_drafts?: "device" | "memory" | null;
  memory?: MemoryReport;
}

/**
 * A loaded model. Calls queue behind one another, except that a second `generate` during a first one throws `busy`.
 * After a `fatal` error every call rejects; load the model again.
 */
export interface Model {
  /** Resolves when the model has loaded, rejects if it cannot. */
  readonly ready: Promise<void>;
  /** Throws before `ready`. */
  readonly info: LoadedInfo;
  /** Pauses the load; requests in flight still finish. */
  pauseLoading(): void;
  resumeLoading(): void;
  /** The last run's figures: set when its loop has ended, null before and during a run. */
  readonly last: RunSummary | null;
  /** `special` (default true) adds the tokenizer's special tokens. */
  tokenize(text: string, options?: { special?: boolean }): Promise<Uint32Array>;
  detokenize(ids: ArrayLike<number>): Promise<string>;
  /** The text of a conversation up to the assistant's next turn. */
  renderChat(messages: ChatMessage[]): Promise<string>;
  /**
   * Measures block times in every n-th decode step from now on, also in a run that has begun; `every` 0 (the default)
   * measures none. On a graphics adapter a measured step is slower, because it takes a compute pass for each block. The
   * CPU measures every step.
   */
  timeBlocks(every: number): void;
  /** The tokens of a conversation up to the assistant's next turn, as `generate` reads them. */
  tokenizeChat(prompt: ChatPrompt): Promise<Uint32Array>;
  /**
   * Continues a prompt. While the model is loading, each block runs on the prompt as soon as it has arrived. The worker
   * is at most one token ahead of the loop; leaving the loop stops it. An iterator that is neither read to its end nor
   * returned keeps the model busy.
   *
   * A prompt that begins as the sequence before it reads only the rest (`cache_prompt`).
   *
   * A conversation is rendered with the checkpoint's chat template, and its answer ends with the turn. It rejects with
   * "no_chat_template", "bad_chat_template", or "chat_refused" and the template's own message.
   */
  generate(prompt: Prompt, options?: RunOptions): AsyncGenerator<Piece, void, void>;
  /**
   * Rewinds the last run to generated token `index` and continues with `token` in its place; the first piece is that
   * token. Tokens are replayed as they were computed before: with the original token and options the pieces are
   * bit-identical. Rejects with "out_of_order" when another call has replaced the run.
   */
  branch(index: number, token: number, options?: RunOptions): AsyncGenerator<Piece, void, void>;
  /**
   * Continues after the last token of the last run or of a restored one. `max_tokens` counts from the prompt. With the
   * same options the pieces are those of an uninterrupted run.
   */
  continue(options?: RunOptions): AsyncGenerator<Piece, void, void>;
  /**
   * The sequence so far as bytes: tokens, state, keys and values, no weights. `note` is kept with it. Rejects with
   * "out_of_order" before the first token.
   */
  snapshot(options?: { note?: string }): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Replaces the current sequence by a snapshot, for `continue` and `branch`. Rejects with "bad_snapshot" for other
   * bytes, "other_model" for another model, weight format or setting.
   */
  restore(bytes: ArrayBuffer | Uint8Array): Promise<RestoredSequence<Uint32Array>>;
  /**
   * A new sequence: one row of `vocab_size` logits per id. If the ids are refused, the current sequence is kept, here
   * and in `greedy`, `profile` and `report`.
   */
  logits(ids: ArrayLike<number>): Promise<Float32Array[]>;
  /** `n` greedy decode steps after `logits(ids)`; row i is what token i was chosen from. */
  greedy(ids: ArrayLike<number>, n: number): Promise<{ tokens: number[]; logits: Float32Array[] }>;
  /**
   * What happens inside while the model reads tokens: the logit lens, the memory of the SSM heads, attention. It reads
   * them in a pass of its own and leaves the sequence. Like any call it waits for a `generate` that is running.
   * Without `ids` it rejects with "out_of_order" where `continue` would.
   */
  inspect(options?: InspectOptions): Promise<Inspection>;
  /** The tokens of the last run or of a restored sequence, prompt and answer; empty before, or after another call. */
  sequenceIds(): Promise<Uint32Array>;
  /** What follows with and without a block, or without its call of a shared transformer. */
  ablate(options: AblateOptions): Promise<AblationEffect>;
  profile(options?: ProfileOptions): Promise<ProfileReport>;
  /** Measures a run with all its conditions, for `summarise` and `exportRun`. */
  report(options?: ReportOptions): Promise<Run>;
  /** Ends the worker and frees its memory. Calls in flight reject with the code "disposed". */
  dispose(): void;
}

export interface RestoredSequence<Tokens> {
  tokens: Tokens;
  prompt_tokens: number;
  note: string;
}

/** The stable names of errors, for programs. */
// prettier-ignore
export type ErrorCode =
  | "already_quantised" | "bad_chat_template" | "bad_config" | "bad_grammar" | "bad_header" | "bad_option"
  | "bad_prompt_token" | "bad_run" | "bad_shape" | "bad_snapshot" | "bad_token" | "bad_tokenizer" | "browsers_only"
  | "busy" | "changed" | "chat_refused" | "damaged" | "device" | "device_limit" | "device_lost" | "device_memory"
  | "disposed" | "empty_prompt" | "engine_missing" | "folder_not_empty" | "foreign_layout" | "gguf" | "http_status"
  | "internal" | "io" | "lfs_pointer" | "memory_limit" | "missing_file" | "missing_tensor" | "network" | "no_adapter"
  | "no_build" | "no_chat_template" | "no_webgpu" | "non_finite_logits" | "non_finite_weight" | "other_model"
  | "out_of_memory" | "out_of_order" | "outdated" | "policy" | "prompt_too_long" | "self_test" | "software_adapter"
  | "torch_only" | "truncated" | "unknown_dtype" | "unmerged_adapter" | "unsupported_browser" | "unsupported_config"
  | "web_page" | "write" | "wrong_architecture";

/** A reason: the sentence `fact.<id>` with its placeholders, or the text of a library or the browser. */
export type ErrorFact = string | { id: string; [placeholder: string]: unknown };

/** The placeholders of an error's sentence. */
export type ErrorValues = Record<string, string | number | number[] | ErrorFact>;

/**
 * Everything that a call can reject with, beside an AbortError. `message` is English; an application in another
 * language renders `code` and `values`.
 */
export class Zamba2Error extends Error {
  constructor(code: ErrorCode, values?: ErrorValues, more?: { next?: string | null; cause?: unknown });
  readonly code: ErrorCode;
  readonly values: ErrorValues;
  /** Which of the code's other next steps applies; null for the usual one. */
  readonly next: string | null;
  /** The file that the error is about, if there is one. */
  readonly file: string | null;
  /** Whether the engine is unusable: every further call would fail, and the model has to be loaded again. */
  readonly fatal: boolean;
  /** One English sentence on what to do next. */
  readonly nextStep: string;
}

/**
 * Measures single kernels at the sizes of Zamba2-1.2B against the machine's ceilings, in about ten seconds and 0.6 GB.
 * It needs no model; one that runs meanwhile disturbs the figures.
 */
export function benchKernels(options?: BenchOptions): Promise<KernelReport>;

/**
 * Compares every variant of the graphics adapter's kernels with the CPU and measures it at the sizes of Zamba2-1.2B:
 * one line of JSON each, as `zamba2 bench-kernels --backend webgpu` writes them, the most useful first. Takes up to
 * 0.5 GB on the adapter. Software adapters are measured as well.
 */
export function benchGrid(options?: GridOptions): Promise<GridResult>;

/**
 * Loads a checkpoint and resolves when it can generate.
 * Rejects with a Zamba2Error, or with the signal's reason after an abort.
 */
export function load(options: LoadOptions): Promise<Model>;
/** A model that is still loading: it can be paused, and takes prompts while the weights arrive. */
export function open(options: LoadOptions): Model;
/** The URL of a repository on the Hugging Face Hub, as a `source`. `repository` is "owner/name". */
export function hubFolder(repository: string, revision?: string): string;
/**
 * What a pasted address means; throws "bad_option" for what is no source, such as the page of a data set. Relative
 * addresses are resolved against `base`. With `names`, "owner/name" and "owner/name@revision" are repositories on the
 * Hub. `load` does the same to its `source`, without `names`.
 */
export function parseAddress(text: string, base: string, options?: { names?: boolean }): Address;
/**
 * Whether the source of a stored model has other files by now, and the commit that its revision is at (null for other
 * sources than the Hub). Fetches small files and the first bytes of others. Load with `refresh` to take them.
 */
export function newerFiles(
  key: string,
  options?: { signal?: AbortSignal },
): Promise<{ newer: boolean; commit: string | null }>;
/** The models on this device. */
export function keptModels(): Promise<KeptModel[]>;
/** Deletes a model from this device; rejects with "busy" while another tab loads it. */
export function forgetModel(key: string): Promise<void>;

// ---- reports ----

export { NUMBER_OPTIONS, WEIGHTS } from "./generate_options.js";
export type { GenerateOptions, NumberOption, Weights } from "./generate_options.d.ts";
export type * from "./adapter.d.ts";
export type * from "./inspect.d.ts";
export type * from "./sources.d.ts";
export type * from "./profile.d.ts";
export type * from "./report.d.ts";
import type { AdapterInfo, BackendReason, WebGpuOptions } from "./adapter.d.ts";
import type { GenerateOptions, Weights } from "./generate_options.d.ts";
import type { AblateOptions, AblationEffect, InspectOptions, Inspection } from "./inspect.d.ts";
import type { BenchOptions, GridOptions, GridResult, KernelReport } from "./profile.d.ts";
import type { ProfileOptions, ProfileReport, ReportOptions } from "./profile.d.ts";
import type { Address, Keeping, KeptModel } from "./sources.d.ts";
import type { ReferenceReport, Run, Summary } from "./report.d.ts";

/** Everything derived from a run. These four need no model; the first call starts a worker that stays. */
export function summarise(run: Run): Promise<Summary>;
/** The report that this one replaces, as published or counted again. */
export function referenceReport(kind: "published" | "recomputed"): Promise<ReferenceReport>;
/** The run as text: a report, the run file itself, a table, or a trace for Perfetto and speedscope. */
export function exportRun(run: Run, format: "markdown" | "json" | "csv" | "trace", language?: string): Promise<string>;
/** Parses and checks a run file; rejects with the code "bad_run" and the field at fault. */
export function parseRun(text: string): Promise<Run>;
