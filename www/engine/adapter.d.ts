// Backends: why one was chosen, and the graphics adapter.

import type { Weights, Zamba2Error } from "./zamba2.d.ts";

export interface WebGpuOptions {
  /** The largest binding; larger matrices are split. Default null: the adapter's limit. */
  maxBindingBytes?: number | null;
  /** Default true: timestamp queries measure blocks and modules. Otherwise each span is waited for. */
  timestamps?: boolean;
  /** Default true: kernels for adapters with subgroups. */
  subgroups?: boolean;
  /** Default true: kernels for adapters with 16-bit floats. */
  f16?: boolean;
  /**
   * Default "auto": the fastest variant of each kernel is found by a trial of about 0.3 s after loading, but not on a
   * software adapter, where it would take long.
   */
  tune?: "auto" | "off" | "always";
  /** `info.adapter.kernels` of earlier loads: what was found on the same device is used again. Default none. */
  kernels?: FoundKernels[];
}

/** The kernel that a trial has found for an op, out of how many. */
export interface KernelChoice {
  op: string;
  variant: string;
  of: number;
}

/** What a trial has found, and for what. */
export interface FoundKernels {
  adapter: string;
  /** A name for this version of the kernels. */
  shaders: string;
  weights: Weights;
  choices: KernelChoice[];
}

/**
 * Why `info.backend` is what it is: the default, the option, or why no graphics adapter is used. The browser has no
 * WebGPU (or not for this page); there is no adapter; it is a software adapter; it failed the self-test; its device was
 * lost too often, ran out of memory, has too small limits for this model, or failed otherwise.
 */
export type BackendReason =
  | "auto"
  | "asked"
  | "no_webgpu"
  | "no_adapter"
  | "software_adapter"
  | "self_test"
  | "device_lost"
  | "device_memory"
  | "device_limit"
  | "device";

export interface AdapterInfo {
  /** As far as the browser exposes it; empty if it does not. */
  name: string;
  /** A software adapter: correct, but slower than the CPU backend. */
  software: boolean;
  max_binding_bytes: number;
  /** The measured step of timestamp queries; null if there are none or they never advance: spans are waited for. */
  timestamp_step_us: number | null;
  /** Whether kernels use these features. */
  subgroups: boolean;
  f16: boolean;
  /** Features that the adapter has and that failed the self-test, which it passes without them. */
  dropped: { feature: "subgroups" | "f16"; fault: Zamba2Error }[];
  /** A name for this version of the kernels. */
  shaders: string;
  /** The variants of kernels in use; null if the first ones are, because no trial was made or it was of no use. */
  kernels: FoundKernels | null;
}
