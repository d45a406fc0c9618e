// Backends: why one was chosen, and the graphics adapter.

import type { Zamba2Error } from "./zamba2.d.ts";

export interface WebGpuOptions {
  /** The largest binding; larger matrices are split. Default null: the adapter's limit. */
  maxBindingBytes?: number | null;
  /** Default true: timestamp queries measure blocks and modules. Otherwise each span is waited for. */
  timestamps?: boolean;
  /** Default true: kernels for adapters with subgroups. */
  subgroups?: boolean;
  /** Default true: kernels for adapters with 16-bit floats. */
  f16?: boolean;
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
  /** As far as the browser exposes it. */
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
}
