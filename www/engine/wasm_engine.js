// @ts-check
// The types of the wasm door, as src/api.rs offers it, and the one place that loads the wasm module.
// The generated bindings exist only after a build, so the checker reads these types instead of theirs.

import { Zamba2Error } from "./errors.js";

/** @import { GenerateOptions, ProfileSpans } from "./zamba2.d.ts" */

/** @typedef {import("./zamba2.d.ts").ModelInfo} ModelInfo */
/** @typedef {import("./zamba2.d.ts").MemoryReport} MemoryReport */
/** @typedef {{ name: string, block: number | null, bytes: number, ranges: { file: string, start: number, end: number }[] }} Unit */
/** @typedef {{ token: number, text: string, done: "eos" | "length" | "stop" | "context" | null, probability: number, blocks_us: Float32Array<ArrayBuffer> }} Step */

/**
 * One call in flight: a second one during an await would find the Rust object borrowed.
 * @typedef {object} WasmEngine
 * @property {(text: string) => ModelInfo} open_config
 * @property {(bytes: Uint8Array) => void} open_tokenizer
 * @property {(text: string) => string[]} open_index
 * @property {(file: string, file_size: number, first8: Uint8Array) => number} header_bytes
 * @property {(file: string, file_size: number, header: Uint8Array) => void} open_shard
 * @property {() => Unit[]} plan
 * @property {(bytes: Uint8Array) => void} push
 * @property {() => MemoryReport} finish
 * @property {(text: string, add_special: boolean) => Uint32Array} tokenize
 * @property {(ids: Uint32Array) => string} detokenize
 * @property {(prompt: Uint32Array, options: GenerateOptions) => void} start
 * @property {(max_blocks: number) => Promise<{ done: boolean, block: number }>} advance  `block` is the next one to run
 * @property {() => Promise<Step>} step
 * @property {(ids: Uint32Array) => Promise<Float32Array<ArrayBuffer>>} logits
 * @property {(token: number) => Promise<Float32Array<ArrayBuffer>>} decode
 * @property {() => void} reset
 * @property {(level: "off" | "block" | "module") => void} set_profiling
 * @property {() => ProfileSpans} take_profile
 * @property {() => MemoryReport} memory
 */

/**
 * A module of one function that uses a vector instruction (i8x16.popcnt). `validate` answers
 * whether this browser knows SIMD128 without compiling the engine first.
 */
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 25, 1, 23, 0, 253, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0, 0, 0, 0, 0, 0, 0, 253, 98, 26, 11,
]);

/**
 * @param {{ weights: string, context: number | null }} options
 * @returns {Promise<WasmEngine>}
 */
export async function createEngine(options) {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD_PROBE)) {
    throw new Zamba2Error("unsupported_browser", "this browser has no WebAssembly SIMD", {
      nextStep: "Use Chrome 91, Edge 91, Firefox 89, Safari 16.4 or newer.",
    });
  }
  let bindings;
  try {
    // A computed address: the file is made by the build, and the checker must not look for it in the sources.
    bindings = await import(new URL("./zamba2_wasm.js", import.meta.url).href);
    await bindings.default();
  } catch (cause) {
    throw new Zamba2Error("missing_file", `the engine could not be loaded: ${/** @type {Error} */ (cause).message}`, {
      file: "zamba2_wasm_bg.wasm",
      nextStep: "Build it with `cargo xtask build`, and serve pkg/ beside the page.",
      cause,
    });
  }
  return new bindings.Engine({ weights: options.weights, context: options.context });
}
