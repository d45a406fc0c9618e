// @ts-check
// Chooses the build of the engine and the number of threads that the browser and the page allow, and reports why. It
// loads nothing.

import { BUILT } from "./built.js";
import { fact, Zamba2Error } from "./errors.js";

/** @import { ThreadsReason } from "./zamba2.d.ts" */

/**
 * The folder of the build in the package, the number of threads, this worker included, and whether they share memory:
 * without, the module gets memory of its own, which only one thread can use.
 * @typedef {{ folder: string, relaxed_simd: boolean, shared: boolean, threads: number, threads_reason: ThreadsReason }}
 *   Build
 */

/** The folders of the engine's builds. */
const RELAXED_SIMD = "relaxed-simd";
const SIMD128 = "simd128";

/** The folder of the grammar module, which is not a build of the engine. */
export const GRAMMAR = "grammar";

/** More threads than this are limited by memory bandwidth. */
const MAX_AUTO_THREADS = 8;

// Feature detection: each probe is a module with one function; `validate` returns whether the browser supports it.

/** i8x16.popcnt, from SIMD128. */
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 25, 1, 23, 0, 253, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0, 0, 0, 0, 0, 0, 253, 98, 26, 11,
]);
/** i8x16.relaxed_swizzle of two splats. */
const RELAXED_SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15,
  253, 128, 2, 11,
]);
/** i32.atomic.load from a shared memory. */
const ATOMICS_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 4, 1, 3, 1, 1, 10, 11, 1, 9, 0, 65, 0, 254, 16, 2, 0,
  26, 11,
]);

/**
 * @param {{ threads: "auto" | number, relaxed_simd: "auto" | false }} options
 * @returns {Build}
 */
export function chooseBuild(options) {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD_PROBE)) {
    throw new Zamba2Error("unsupported_browser", { fact: fact("no_wasm_simd") });
  }
  const relaxed_simd = options.relaxed_simd === "auto" && supportsRelaxedSimd();
  return build(relaxed_simd, chooseThreads(options.threads));
}

/** The build as it runs when the browser refuses shared memory. @param {Build} refused @returns {Build} */
export function withoutThreads(refused) {
  return { ...refused, shared: false, threads: 1, threads_reason: "no_shared_memory" };
}

/** @param {boolean} relaxed_simd @param {{ threads: number, threads_reason: ThreadsReason }} chosen @returns {Build} */
function build(relaxed_simd, chosen) {
  const built = Object.keys(BUILT).filter((name) => name !== GRAMMAR);
  const folder = nearestBuild(built, relaxed_simd, supportsRelaxedSimd());
  if (folder === null) {
    throw new Zamba2Error("no_build", { builds: built.join(", ") });
  }
  return { folder, relaxed_simd: folder === RELAXED_SIMD, shared: chosen.threads > 1, ...chosen };
}

/**
 * The requested build or, if the package lacks it, the other one, where it runs. Both give the same results.
 * @param {string[]} built @param {boolean} wants_relaxed @param {boolean} allows_relaxed  whether this browser does
 * @returns {string | null}
 */
export function nearestBuild(built, wants_relaxed, allows_relaxed) {
  const names = wants_relaxed ? [RELAXED_SIMD, SIMD128] : [SIMD128, RELAXED_SIMD];
  return names.find((name) => built.includes(name) && (allows_relaxed || name !== RELAXED_SIMD)) ?? null;
}

const supportsRelaxedSimd = () => WebAssembly.validate(RELAXED_SIMD_PROBE);

/** @param {"auto" | number} asked @returns {{ threads: number, threads_reason: ThreadsReason }} */
function chooseThreads(asked) {
  const threads = asked === "auto" ? Math.min(navigator.hardwareConcurrency, MAX_AUTO_THREADS) : asked;
  // An explicit choice of one thread needs no isolation.
  if (asked === 1) return { threads, threads_reason: "asked" };
  if (!crossOriginIsolated) return { threads: 1, threads_reason: "not_isolated" };
  if (typeof SharedArrayBuffer !== "function" || !WebAssembly.validate(ATOMICS_PROBE)) {
    return { threads: 1, threads_reason: "no_shared_memory" };
  }
  return { threads, threads_reason: asked === "auto" ? "auto" : "asked" };
}
