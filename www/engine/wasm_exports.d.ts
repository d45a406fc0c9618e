/**
 * What `src/api/` exports, with the shapes of the plain objects that cross. The generated bindings type every such
 * object as `any`, and exist only after a build; tests/browser/wasm_exports.test.js compares their names and parameters
 * with these. Calls that wait are exclusive: during one, every other call would find the Rust object borrowed.
 */

import type {
  Ablation,
  AblationEffect,
  Ceilings,
  ChatMessage,
  GenerateOptions,
  GridSelection,
  InspectedParts,
  KernelChoice,
  KernelReport,
  MemoryReport,
  ModelInfo,
  ProfileSpans,
  ReferenceReport,
  RestoredSequence,
  Run,
  RunMemory,
  RunModel,
  Summary,
  TokenRank,
  Weights,
} from "./zamba2.d.ts";
import type { ErrorReport } from "./errors.js";

/** Bytes of a checkpoint's file. */
export interface ByteRange {
  file: string;
  start: number;
  end: number;
}

/** What is loaded at once: the embedding, a block, a shared transformer, the final norm, the output matrix. */
export interface Unit {
  name: string;
  block: number | null;
  /** In the checkpoint. */
  bytes: number;
  /** Quantised, as it is stored. */
  stored_bytes: number;
  ranges: ByteRange[];
}

/** Bytes of a file, with a hash of their own. */
export interface PackedPart {
  file: string;
  start: number;
  bytes: number;
  sha256: string;
}

/** The manifest of a packed folder. */
export interface Pack {
  format: string;
  weights: Weights;
  /** config.json and the tokenizer's files. */
  files: PackedFile[];
  shards: ({ shard: string; shard_bytes: number } & PackedPart)[];
  units: ({ name: string } & PackedPart)[];
}

export interface PackedFile {
  file: string;
  bytes: number;
  sha256: string;
}

/** A graphics device that has passed the self-test. */
export interface TestedDevice {
  /** The step of its timestamps in microseconds; null if there are none, or if they never advance. */
  timestamp_step_us: number | null;
  subgroups: boolean;
  f16: boolean;
  dropped: { feature: "subgroups" | "f16"; fault: ErrorReport }[];
}

export interface OpenedAdapter {
  software: boolean;
  max_binding_bytes: number;
  subgroups: boolean;
  f16: boolean;
  shaders: string;
}

export interface AdapterOptions {
  hardware_only: boolean;
  max_binding_bytes: number | null;
  timestamps: boolean;
  subgroups: boolean;
  f16: boolean;
}

export interface Step {
  token: number;
  text: string;
  done: "eos" | "length" | "stop" | "context" | null;
  probability: number;
  token_rank: TokenRank | null;
  us: number;
  blocks_us: Float32Array<ArrayBuffer>;
  drafted: number;
  accepted_draft: boolean;
}

/** `end_tokens` end a chat's turn, beside the tokens of config.json. */
export interface StartOptions extends GenerateOptions {
  end_tokens?: number[];
}

/** The tokens of the model as bytes, those of token `i` up to `ends[i]`. */
export interface TokenBytes {
  bytes: Uint8Array;
  ends: Uint32Array;
  /** Tokens that are something else at the beginning of a text. */
  not_first: Uint32Array;
  /** Those of the checkpoint. */
  end_tokens: Uint32Array;
}

/** What is kept of a sequence before the next token. */
export interface KeptPrefix {
  text: string;
  tokens: number;
  prompt_tokens: number;
}

/** The lens is left out without positions, attention if its position is null. */
export interface EngineInspectOptions {
  lens_positions: number[];
  top_k: number;
  half_lives: boolean;
  attention_position: number | null;
}

export type LineListener = (line: string) => void;
/** Called after each step; resolves to whether to continue. A call that it ends returns undefined. */
export type StepListener = (done: number, of: number) => Promise<boolean>;

/** One model: first its files, then its one sequence. */
export interface NewEngineOptions {
  weights: Weights;
  context: number | null;
  threads: number;
}

/** Whether a prompt is prefilled, and if not, which block comes next and whether its weights have not arrived. */
export interface Advance {
  done: boolean;
  block: number;
  waiting: boolean;
}

/** `fault` is that of a chat template that cannot be used. */
export interface ChatInfo {
  chat: boolean;
  fault: ErrorReport | null;
}

/** What a run file says about the loaded model; `prompt` is the default prompt of a report. */
export interface RunFacts {
  model: RunModel;
  memory: RunMemory;
  context: number;
  chunk_rows: number;
  prompt: string;
}

/** What is left of the unit that is being loaded. */
export interface RestOfUnit {
  stored_bytes: number;
  ranges: ByteRange[];
}

export interface WasmEngine {
  /** Frees memory and device; no call may follow. */
  free(): void;

  open_webgpu(options: AdapterOptions): Promise<OpenedAdapter>;
  open_config(text: string): ModelInfo;
  open_tokenizer(bytes: Uint8Array): void;
  open_chat_template(tokenizer_config: Uint8Array | null, jinja: Uint8Array | null): ChatInfo;
  open_generation_config(text?: string): Uint32Array<ArrayBuffer>;
  telltale_files(): string[];
  check_names(names: string[]): void;
  open_index(text: string): string[];
  header_bytes(file: string, file_bytes: number, first8: Uint8Array): number;
  open_shard(file: string, file_bytes: number, header: Uint8Array): void;
  open_manifest(text: string): Pack;
  plan(): Unit[];
  /** After `plan`, by the tensors that the checkpoint has. Equal copies of one count until they have been read. */
  model_info(): ModelInfo;
  /** After `plan`, before any weights. Leaves out features with which the device computes wrongly. */
  test_device(): Promise<TestedDevice | null>;

  push(bytes: Uint8Array): void;
  push_stored(bytes: Uint8Array): void;
  keep_stored(): void;
  take_stored(): Uint8Array<ArrayBuffer>;
  rest(): RestOfUnit | null;
  finish(): Promise<MemoryReport>;
  /** On the CPU, by a short trial; returns the number of threads in use from now on. */
  choose_threads(): number;
  /** After `test_device`, if `choose_kernels` will make a trial: begins to compile what it compares. */
  compile_variants(): void;
  /** After `finish`, on a graphics device, by a trial or from an earlier one. */
  choose_kernels(kept: KernelChoice[] | null): Promise<KernelChoice[]>;

  tokenize(text: string, add_special: boolean): Uint32Array<ArrayBuffer>;
  detokenize(ids: Uint32Array): string;
  render_chat(messages: ChatMessage[]): string;
  encode_chat(messages: ChatMessage[], content?: string): Uint32Array<ArrayBuffer>;
  chat_end_tokens(): Uint32Array;
  token_bytes(): TokenBytes;

  /** Throws what `start` would, also if there is no room for `n_more` tokens after `ids`. */
  check_prompt(ids: Uint32Array, n_more: number): void;
  /** Gives how many tokens of the prompt are cached. */
  start(prompt: Uint32Array, options: StartOptions): number;
  advance(max_blocks: number): Promise<Advance>;
  /** `allowed` has a bit per token; it is given if, and only if, the text follows a schema or a grammar. */
  step(allowed?: Uint32Array): Promise<Step>;
  /** Why the model drafts no tokens, whatever `lookup` is. */
  no_drafts(): "device" | "memory" | null;
  branch(index: number, token: number, options: GenerateOptions): KeptPrefix;
  continue_sequence(options: GenerateOptions): KeptPrefix;
  /** Adopts the sequence of an engine that was freed. */
  adopt(prompt: Uint32Array, generated: Uint32Array, options: GenerateOptions): KeptPrefix;
  /** Gives how many tokens are left to replay. */
  replay(max: number): Promise<number>;
  snapshot(note: string): Promise<Uint8Array<ArrayBuffer>>;
  restore(bytes: Uint8Array): Promise<RestoredSequence<number[]>>;
  reset(): void;

  /** A new sequence; one row per token. */
  logits(ids: Uint32Array): Promise<Float32Array<ArrayBuffer>>;
  /** Appends a token to the sequence. */
  append(token: number): Promise<Float32Array<ArrayBuffer>>;
  /** The token that greedy decoding takes. */
  argmax(logits: Float32Array): number;

  /** Leaves the sequence, as `ablate` does. */
  inspect(ids: Uint32Array, options: EngineInspectOptions, on_step: StepListener): Promise<InspectedParts | undefined>;
  ablate(
    ids: Uint32Array,
    ablation: Ablation,
    top_k: number,
    max_tokens: number,
    on_step: StepListener,
  ): Promise<AblationEffect | undefined>;

  set_profiling(level: "off" | "block" | "module"): void;
  /** For every n-th decode step; 0 for none. The CPU measures every step. */
  set_block_times(every: number): void;
  take_profile(): ProfileSpans;
  memory(): MemoryReport;
  run_facts(name: string): RunFacts;
  /** Which of the runs comes after `n_done` others; undefined after the last one. */
  next_run(warmup: number, runs: number, n_done: number): "warm_up" | "unprofiled" | "profiled" | undefined;
  /** `ids`, or fixed ones without them, cut or repeated to `length`. */
  measured_prompt(ids: Uint32Array | undefined, length: number): Uint32Array;
  ceilings(): Promise<Ceilings>;
  bench_kernels(): Omit<KernelReport, "relaxed_simd">;
  /** Closes the device of `open_webgpu`; returns the number of remaining cells. */
  bench_grid(
    seconds: number,
    selection: GridSelection | null,
    only_check: boolean,
    adapter_name: string,
    on_line: LineListener,
  ): Promise<number>;
}

/** Functions on run files, which need no engine. Runs cross as the text of a run file. */
export interface ReportFunctions {
  parse_run(text: string): Run;
  summarise(text: string): Summary;
  export_run(text: string, format: string, language: string): string;
  reference_report(kind: string): ReferenceReport;
}

export interface Bindings extends ReportFunctions {
  default(input: { module_or_path: WebAssembly.Module }): Promise<{ memory: WebAssembly.Memory }>;
  Engine: new (options: NewEngineOptions) => WasmEngine;
  /** The text of the first panic since the last call, on whichever thread. */
  take_panic(): string | undefined;
}

/** What the module of grammars exports. Its calls fail with a sentence. */
export interface GrammarBindings {
  Vocabulary: new (
    bytes: Uint8Array,
    ends: Uint32Array,
    not_first: Uint32Array,
    end_tokens: Uint32Array,
  ) => GrammarVocabulary;
}

export interface GrammarVocabulary {
  follow_schema(schema: string): GrammarConstraint;
  follow_grammar(grammar: string): GrammarConstraint;
}

export interface GrammarConstraint {
  /** The tokens that may come next, one bit per id. */
  allowed(): Uint32Array;
  commit(token: number): void;
}
