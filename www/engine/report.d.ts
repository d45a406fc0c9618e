// The types of reports: the run as it is measured and kept in a file (docs/run-format.md), and what is derived from it.
// Times are in microseconds, sizes in bytes, and a multiplication with its addition is two FLOPs. src/report/ has the
// same structs.

import type { KernelChoice } from "./adapter.d.ts";
import type { Weights } from "./generate_options.d.ts";

/**
 * `zamba2-run/1`: what was measured, raw, with all conditions; a reader can recompute every figure. JSON-serialisable
 * (plain arrays).
 */
export interface Run {
  schema: "zamba2-run/1";
  made_ms: number; // since 1970
  label: string; // e.g. "q4 · 2 threads · relaxed SIMD"
  model: RunModel;
  conditions: RunConditions;
  timer: RunTimer;
  ceilings: RunCeilings | null;
  memory: RunMemory;
  prompt_tokens: number;
  decode_tokens: number;
  warmup: number;
  runs: ProfiledRun[];
  /** The same work without spans: the difference is the cost of recording. */
  unprofiled: UnprofiledRun[];
}

export interface RunModel {
  name: string; // last part of the source's address, or the folder's name
  parameters: number; // 1 215 064 704 for 1.2B: norms, A_log, D, dt_bias included, tied embedding once
  config: RunShapes;
}

/** What counting needs, under the checkpoint's names. */
export interface RunShapes {
  family?: "zamba2"; // older run files have none
  hidden_size: number;
  vocab_size: number;
  kinds: ("mamba" | "hybrid")[];
  d_state: number;
  d_conv: number;
  d_inner: number;
  n_mamba_heads: number;
  n_groups: number;
  n_attention_heads: number;
  n_kv_heads: number;
  intermediate_size: number;
  num_mem_blocks: number;
  use_shared_attention_adapter: boolean;
  adapter_rank: number;
  use_mem_rope: boolean;
  add_bias_linear: boolean;
  tie_word_embeddings: boolean;
}

export interface RunConditions {
  backend: string;
  weights: Weights;
  threads: number;
  isolated: boolean | null;
  context: number;
  chunk_rows: number; // rows of the prompt that were processed together
  kernels?: KernelChoice[]; // what a graphics adapter has chosen by a trial; older run files have none
  level: "block" | "module";
  host: string; // user agent, or "native x86_64-linux"
  hidden_ms: number; // time for which the tab was in the background
}

export interface RunTimer {
  source: string; // "performance.now", "timestamp_query", …: docs/run-format.md
  resolution_us: number;
}

export interface RunCeilings {
  threads: number;
  int8_gmacs_per_s: number;
  int16_gmacs_per_s: number;
  f32_gmacs_per_s: number;
  read_gb_per_s: number;
  copy_gb_per_s?: number | null; // bytes read plus bytes written; older run files have none
}

export interface RunMemory {
  weights_bytes: number;
  shared_bytes: number; // part of weights_bytes that the shared transformers hold
  ssm_state_bytes: number;
  conv_state_bytes: number;
  kv_bytes_per_token: number;
  process_bytes: number | null;
}

export interface ProfiledRun {
  prefill_us: number;
  step_us: number[];
  spans: Spans;
}

export interface UnprofiledRun {
  prefill_us: number;
  step_us: number[];
}

/** Columns of equal length. */
export interface Spans {
  names: string[];
  name: number[];
  parent: number[];
  pass: number[]; // pass 0 = prefill, n = n-th decode step
  start_us: number[];
  duration_us: number[];
  flops: number[]; // exact from shapes
  bytes: number[]; // that must move: weights read, states read and written, KV read and written
  fused_with?: number[]; // the first span of the same fused kernel, or -1
}

/** The part of a block that a module's time and work are attributed to. */
export type Part = "mamba" | "attention" | "ffn" | "other";

export interface Spread {
  median: number;
  p5: number;
  p95: number;
  n: number;
}

/**
 * Everything derived from a Run. Whole passes and blocks have medians; modules and types have means over the middle
 * half of the passes, in proportion to the median pass, so that self times and `untracked_us` sum to
 * `profiled_us.median`.
 */
export interface Summary {
  label: string;
  general: General;
  prefill: PhaseSummary;
  decode: PhaseSummary; // per token
  /** One entry per token of the sequence: 0 = after the prompt. */
  memory: MemoryAt[];
  process_bytes: number | null;
  ceilings: RunCeilings | null;
  /** The most useful first; each derived from the figures. */
  advice: Sentence[];
  /** Facts that weaken the figures: hidden tab, one run, coarse clock, above a ceiling. */
  cautions: Sentence[];
}

export interface General {
  model: string;
  forward_us: Spread;
  hidden_size: number;
  vocab_size: number;
  prompt_tokens: number;
  decode_tokens: number;
  n_blocks: number;
  parameters: number;
  runs: number;
  warmup: number;
  backend: string;
  weights: string;
  threads: number;
  host: string;
  context: number;
  timer: SentenceValue;
  timer_resolution_us: number;
  kernels: KernelChoice[];
}

export interface MemoryAt {
  step: number;
  weights_bytes: number;
  shared_bytes: number;
  ssm_state_bytes: number;
  conv_state_bytes: number;
  kv_bytes: number;
}

/** A key of `words/*.json` with the values of its placeholders; the units decide how they are written. */
export interface Sentence {
  key: string;
  values: Record<string, SentenceValue>;
}

export type SentenceValue =
  | { us: number }
  | { bytes: number }
  | { figure: number } // three significant digits
  | { whole: number } // no decimals
  | { giga: [value: number, decimals: number] } // in billions
  | { grouped: number }
  | { text: string }
  | { word: string }; // the key of a word

export interface PhaseSummary {
  wall_us: Spread; // without spans
  profiled_us: Spread; // with spans
  recording_percent: number; // (profiled − wall) / wall of the medians
  /** Within the spread of the runs, the overhead of profiling cannot be distinguished from noise. */
  is_recording_measurable: boolean;
  tokens: number; // L for prefill, 1 for decode
  flops: number;
  flops_by_kind: FlopsByKind;
  bytes: number;
  tflops: number; // flops / wall median
  gb_per_s: number;
  intensity: number; // flops / bytes
  roof: "arithmetic" | "memory"; // the nearer ceiling
  /** What limits the phase: a ceiling only if its time is near what that ceiling allows. */
  verdict:
    "held_by_arithmetic" | "held_by_memory" | "nearest_arithmetic" | "nearest_memory" | "above_ceiling" | "no_ceilings";
  peak_gflops: number | null; // the arithmetic ceiling that applies to these weights (2 × GMAC/s)
  percent_of_ceiling: number | null; // time the roofline allows / time taken
  blocks: BlockRow[];
  types: TypeRow[]; // the reference's class names; sorted by self time
  modules: ModuleRow[]; // every node below the model, sorted by self time
  /**
   * One pass, the median one, depth-first: model → block → module. Children follow one another from their parent's
   * start.
   */
  tree: TreeNode[];
  untracked_us: number; // profiled wall − sum of self times
}

export interface FlopsByKind {
  linear: number;
  conv1d: number;
  attention: number;
  ssm: number;
}

export interface TreeNode {
  path: string;
  name: string;
  type: string;
  part: Part;
  depth: number;
  start_us: number;
  us: number;
  self_us: number;
  block: number | null;
}

export interface BlockRow {
  block: number;
  kind: "mamba" | "hybrid";
  shared_transformer: number | null;
  call: number | null; // the n-th call of its shared transformer, from 1
  us: Spread;
  parts_us: Record<Part, number>; // sums to us.median
  flops: Record<Part | "total", number>;
  bytes: number;
  tflops: number;
  gb_per_s: number;
  percent_of_ceiling: number | null;
  ratio: number; // us ÷ median of its own kind
}

/** `time_percent` is of self time; `flops` are without those of modules inside. */
export interface TypeRow {
  type: string;
  count: number;
  us: number;
  self_us: number;
  mean_us: number;
  time_percent: number;
  flops: number;
  flops_percent: number;
}

/** `time_percent` is of self time; work and rates are of the module with all inside it. */
export interface ModuleRow {
  path: string; // "model.layers.5.shared_transformer.self_attn.q_proj"
  name: string; // its last step
  type: string;
  part: Part;
  block: number | null;
  count: number;
  us: number;
  self_us: number;
  time_percent: number;
  flops: number;
  bytes: number;
  tflops: number;
  gb_per_s: number;
  intensity: number | null;
  percent_of_ceiling: number | null;
}

/**
 * The report that this one succeeds. `published`: the printed digits; `recomputed`: every operation counted once, for
 * the same times.
 */
export interface ReferenceReport {
  kind: "published" | "recomputed";
  model: string;
  forward_us: number;
  hidden_size: number;
  vocab_size: number;
  prompt_tokens: number;
  n_blocks: number;
  parameters: number;
  flops: number;
  flops_by_kind: FlopsByKind;
  tflops: number;
  blocks: ReferenceBlock[];
  types: ReferenceType[];
  slowest: ReferenceModule[];
  /** What differs between published and recomputed. */
  explanation: Sentence;
}

export interface ReferenceBlock {
  block: number;
  mamba_flops: number;
  attention_flops: number;
  ffn_flops: number;
  other_flops: number;
  tflops: number | null;
}

export interface ReferenceType {
  type: string;
  count: number;
  total_us: number;
  mean_us: number;
}

export interface ReferenceModule {
  path: string;
  type: string;
  us: number;
}
