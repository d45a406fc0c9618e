// @ts-check
// Chooses the build of the engine and the number of threads that the browser and the page allow, and reports why. It
// loads nothing.

import { BUILT } from "./built.js";
import { fact, Zamba2Error } from "./errors.js";

/** @import { ThreadsReason } from "./zamba2.d.ts" */

/**
 * The folder of the build in the package, and the number of threads, this worker included.
 * @typedef {{ folder: string, relaxed_simd: boolean, threads: number, threads_reason: ThreadsReason }} Build
 */

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

/** The build to use when the browser refuses shared memory. @param {Build} refused @returns {Build} */
export function withoutThreads({ relaxed_simd }) {
  return build(relaxed_simd, { threads: 1, threads_reason: "no_shared_memory" });
}

/** @param {boolean} relaxed_simd @param {{ threads: number, threads_reason: ThreadsReason }} chosen @returns {Build} */
function build(relaxed_simd, { threads, threads_reason }) {
  const built = Object.keys(BUILT).filter((name) => name !== GRAMMAR);
  const folder = nearestBuild(
    built,
    { threads: threads > 1, relaxed: relaxed_simd },
    {
      threads: threads_reason !== "no_shared_memory" && sharesMemory(),
      relaxed: supportsRelaxedSimd(),
    },
  );
  if (folder === null) {
    throw new Zamba2Error("no_build", { builds: built.join(", ") });
  }
  const has_threads = folder.startsWith("threads");
  return {
    folder,
    relaxed_simd: folder.endsWith("-relaxed"),
    threads: has_threads ? threads : 1,
    threads_reason: threads > 1 && !has_threads ? "not_built" : threads_reason,
  };
}

/**
 * The wanted build or, if the package lacks it, the nearest one: threads matter more than relaxed SIMD. All builds give
 * the same results.
 * @param {string[]} built @param {{ threads: boolean, relaxed: boolean }} wanted
 * @param {{ threads: boolean, relaxed: boolean }} allowed  by this browser and page
 * @returns {string | null}
 */
export function nearestBuild(built, wanted, allowed) {
  for (const threads of [wanted.threads, !wanted.threads]) {
    for (const relaxed of [wanted.relaxed, !wanted.relaxed]) {
      const folder = (threads ? "threads" : "single") + (relaxed ? "-relaxed" : "");
      const runs = (allowed.threads || !threads) && (allowed.relaxed || !relaxed);
      if (runs && built.includes(folder)) return folder;
    }
  }
  return null;
}

const supportsRelaxedSimd = () => WebAssembly.validate(RELAXED_SIMD_PROBE);

/** Whether threads can share memory here. */
const sharesMemory = () =>
  crossOriginIsolated && typeof SharedArrayBuffer === "function" && WebAssembly.validate(ATOMICS_PROBE);

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
