/** Types of measurements: spans of a profile, single kernels, and the options of a report. Part of zamba2.d.ts. */

import type { Weights } from "./generate_options.d.ts";

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
  /** Discarded runs before the measured ones. Default 1. */
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
  /** The first span of the same fused kernel, or -1: the times of such spans are shares of the kernel's time. */
  fused_with: Int32Array;
}

export interface ProfileRun {
  /** The blocks alone. */
  prefill_ms: number;
  /** From the token ids to the first token. */
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
  /** The same work without spans: the difference is the overhead of measuring. */
  unprofiled: ProfileRun[];
}

/** The ceilings of the machine for the kernels' instructions, with all threads. */
export interface Ceilings {
  threads: number;
  /** int8 multiply-adds. */
  int8_gmacs_per_s: number;
  /** 16-bit products summed in 32 bits. */
  int16_gmacs_per_s: number;
  f32_gmacs_per_s: number;
  /** Reading memory far larger than any cache. */
  read_gb_per_s: number;
  /** Copying such memory: bytes read plus bytes written. */
  copy_gb_per_s: number;
}

export interface KernelTime {
  kernel: string;
  /** Rows of activations: 1 is decode. */
  tokens: number;
  /** The median of nine rounds. */
  us: number;
  gmacs_per_s: number;
  gb_per_s: number;
  /** The nearer ceiling of its roofline. */
  bound: "arithmetic" | "memory";
  /** The time at the ceiling, divided by the time taken. */
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
  /** As for `load`. */
  base?: string | URL;
  signal?: AbortSignal;
}

/** Cells of `benchGrid`; an absent list stands for all. */
export interface GridSelection {
  ops?: string[];
  variants?: string[];
  formats?: Weights[];
  matrices?: string[];
  tokens?: number[];
}

export interface GridOptions {
  /** Default 60: no measurement begins after this time. */
  seconds?: number;
  selection?: GridSelection;
  /** Compares results with the CPU's, and measures nothing. Default false. */
  check?: boolean;
  /** As for `load`. */
  base?: string | URL;
  /** Called with every line as soon as it is there. */
  onLine?: (line: string) => void;
  signal?: AbortSignal;
}

export interface GridResult {
  lines: string[];
  /** Cells for which there was no time. */
  left: number;
}

/** What `report` is doing: `run` of `runs` measured so far. */
export interface ReportProgress {
  phase: "ceilings" | "warm_up" | "runs";
  run: number;
  runs: number;
}

/** As for `profile`, with other defaults: 16 decode steps, 5 runs, a built-in text of 35 tokens. */
export interface ReportOptions extends ProfileOptions {
  /** Default true: measures the machine's ceilings first, which takes a few seconds. */
  ceilings?: boolean;
  onProgress?: (progress: ReportProgress) => void;
}
