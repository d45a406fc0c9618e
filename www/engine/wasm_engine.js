// @ts-check
// The types of the wasm door, as src/api.rs offers it, and the one place that loads the wasm module. builds.js has chosen
// which one; the page starts its threads (start_threads.js).
// The generated bindings exist only after a build, so the checker reads these types instead of theirs.

import { chooseBuild, withoutThreads } from "./builds.js";
import { chooseDevice } from "./devices.js";
import { Zamba2Error } from "./errors.js";

/** @import { Build } from "./builds.js" */
/** @import { Device, WebGpuWishes } from "./devices.js" */
/** @import { SharedModule } from "./start_threads.js" */
/** @import { GenerateOptions, ProfileSpans, ReferenceReport, Run, Summary } from "./zamba2.d.ts" */

/** @typedef {import("./zamba2.d.ts").ModelInfo} ModelInfo */
/** @typedef {import("./zamba2.d.ts").MemoryReport} MemoryReport */
/** @typedef {{ name: string, block: number | null, bytes: number, stored_bytes: number, ranges: { file: string, start: number, end: number }[] }} Unit */
/** @typedef {{ token: number, text: string, done: "eos" | "length" | "stop" | "context" | null, probability: number, standing: import("./zamba2.d.ts").Standing | null, us: number, blocks_us: Float32Array<ArrayBuffer> }} Step */

/** What stands before the tokens that come next. @typedef {{ text: string, tokens: number, prompt_tokens: number }} KeptTokens */

/**
 * One call in flight: a second one during an await would find the Rust object borrowed.
 * @typedef {object} WasmEngine
 * @property {() => void} free  gives memory, threads and device back; nothing may follow
 * @property {(options: object) => Promise<Omit<import("./devices.js").OpenAdapter, "name">>} open_webgpu
 * @property {() => Promise<number | null>} prove_device  gives the step of the device's clock in microseconds
 * @property {(text: string) => ModelInfo} open_config
 * @property {(bytes: Uint8Array) => void} open_tokenizer
 * @property {(tokenizer_config: Uint8Array | null, jinja: Uint8Array | null) => { chat: boolean, fault: import("./errors.js").ErrorReport | null }} open_chat_template
 * @property {(messages: import("./zamba2.d.ts").ChatMessage[]) => string} render_chat
 * @property {() => Uint32Array} chat_end_tokens
 * @property {(text: string) => string[]} open_index
 * @property {(file: string, file_size: number, first8: Uint8Array) => number} header_bytes
 * @property {(file: string, file_size: number, header: Uint8Array) => void} open_shard
 * @property {() => Unit[]} plan
 * @property {(bytes: Uint8Array) => void} push
 * @property {(bytes: Uint8Array) => void} push_stored
 * @property {() => void} keep_stored
 * @property {() => Uint8Array<ArrayBuffer>} take_stored
 * @property {() => { stored_bytes: number, ranges: Unit["ranges"] } | null} rest
 * @property {(text: string) => unknown} open_manifest
 * @property {() => Promise<MemoryReport>} finish
 * @property {() => number} choose_threads  on the CPU, by a short trial; gives how many compute from now on
 * @property {(text: string, add_special: boolean) => Uint32Array} tokenize
 * @property {(ids: Uint32Array) => string} detokenize
 * @property {(prompt: Uint32Array, options: GenerateOptions) => void} start
 * @property {(max_blocks: number) => Promise<{ done: boolean, block: number, waiting: boolean }>} advance  `block` is the next one to run
 * @property {() => Promise<Step>} step
 * @property {(index: number, token: number, options: GenerateOptions) => KeptTokens} branch
 * @property {(options: GenerateOptions) => KeptTokens} resume
 * @property {(prompt: Uint32Array, generated: Uint32Array, options: GenerateOptions) => KeptTokens} take_up  the sequence of an engine that is gone
 * @property {(max: number) => Promise<number>} reread  gives how many tokens are left to be read again
 * @property {(note: string) => Promise<Uint8Array<ArrayBuffer>>} snapshot
 * @property {(bytes: Uint8Array) => Promise<{ tokens: number[], prompt_tokens: number, note: string }>} restore
 * @property {(ids: Uint32Array) => Promise<Float32Array<ArrayBuffer>>} logits
 * @property {(token: number) => Promise<Float32Array<ArrayBuffer>>} decode
 * @property {() => void} reset
 * @property {(level: "off" | "block" | "module") => void} set_profiling
 * @property {() => ProfileSpans} take_profile
 * @property {() => MemoryReport} memory
 * @property {(name: string) => { model: Run["model"], memory: Run["memory"], context: number, prompt: string }} run_facts
 * @property {() => Promise<import("./zamba2.d.ts").Ceilings>} ceilings
 * @property {() => Omit<import("./zamba2.d.ts").KernelReport, "relaxed_simd">} bench_kernels
 */

/**
 * What the bindings of a build export to the engine's worker.
 * @typedef {object} Bindings
 * @property {(input: { module_or_path: WebAssembly.Module }) => Promise<{ memory: WebAssembly.Memory }>} default
 * @property {new (options: { weights: string, context: number | null, threads: number }) => WasmEngine} Engine
 */

/**
 * What a build exports for reports, which need no engine. Runs cross as the text of a run file.
 * @typedef {object} Reports
 * @property {(text: string) => Run} parse_run
 * @property {(text: string, language: string) => Summary} summarise
 * @property {(text: string, format: string, language: string) => string} export_run
 * @property {(kind: string, language: string) => ReferenceReport} reference_report
 */

/** @type {Promise<Reports> | null} */
let reports = null;

/** The plain build, which every browser takes; loaded once. @returns {Promise<Reports>} */
export function loadReports() {
  const loaded = reports ?? loadBindings(chooseBuild({ threads: 1, relaxed_simd: false }))
    .then(({ bindings }) => /** @type {Reports} */ (/** @type {unknown} */ (bindings)));
  // A network that failed once may be back at the next call.
  loaded.catch(() => { reports = null; });
  reports = loaded;
  return loaded;
}

/**
 * @typedef {object} EngineOptions
 * @property {string} weights
 * @property {number | null} context
 * @property {"auto" | number} threads
 * @property {"auto" | false} relaxed_simd
 * @property {"auto" | "cpu" | "webgpu"} backend
 * @property {WebGpuWishes} webgpu
 * @property {boolean} [after_loss]  of the device that the engine before had
 */

/** The module of this worker and its threads, which serve one engine after another. @type {Promise<{ bindings: Bindings, build: Build }> | null} */
let started = null;

/**
 * An engine without a model. One that came before must have been freed.
 * @param {EngineOptions} options
 * @param {(n: number, shared: SharedModule) => Promise<number>} startThreads  gives how many are up
 * @returns {Promise<{ engine: WasmEngine, build: Build, device: Device }>} the build with the threads that are really there
 */
export async function createEngine(options, startThreads) {
  started ??= startModule(options, startThreads);
  const { bindings, build } = await started;
  const fresh = () => new bindings.Engine({ weights: options.weights, context: options.context, threads: build.threads });
  const engine = fresh();
  const device = await chooseDevice(engine, options.backend, options.webgpu, options.after_loss ?? false);
  if (device.webgpu || device.reason === "asked") return { engine, build, device };
  // A refused adapter may have left its engine half open.
  return { engine: fresh(), build, device };
}

/** @param {EngineOptions} options @param {(n: number, shared: SharedModule) => Promise<number>} startThreads */
async function startModule(options, startThreads) {
  let build = chooseBuild(options);
  let loaded;
  try {
    loaded = await loadBindings(build);
  } catch (thrown) {
    // Some devices refuse to set aside the addresses that a shared memory may grow to.
    const refused = thrown instanceof Zamba2Error && thrown.cause instanceof RangeError;
    if (!refused || build.threads === 1) throw thrown;
    build = withoutThreads(build);
    loaded = await loadBindings(build);
  }
  const { bindings, ...shared } = loaded;
  if (build.threads > 1) {
    const up = await startThreads(build.threads - 1, shared);
    if (up < build.threads - 1) build.threads_reason = "workers_failed";
    build.threads = up + 1;
  }
  return { bindings, build };
}

/**
 * @param {Build} build
 * @returns {Promise<{ bindings: Bindings } & SharedModule>}
 */
async function loadBindings({ folder }) {
  // Computed addresses: the files are made by the build, and the checker must not look for them in the sources.
  const address = new URL(`./${folder}/zamba2_wasm.js`, import.meta.url).href;
  try {
    const [bindings, module] = await Promise.all([import(address), compile(new URL("./zamba2_wasm_bg.wasm", address))]);
    const exports = await bindings.default({ module_or_path: module });
    return { bindings, address, module, memory: exports?.memory };
  } catch (cause) {
    throw new Zamba2Error("missing_file", `the engine could not be loaded: ${/** @type {Error} */ (cause).message}`, {
      file: "zamba2_wasm_bg.wasm",
      nextStep: "Build it with `cargo xtask build`, and serve pkg/ beside the page.",
      cause,
    });
  }
}

/** @param {URL} address */
async function compile(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address.pathname} is answered with ${response.status}`);
  // Compiling while the bytes arrive is refused where the host does not know the file's media type.
  const typed = response.headers.get("Content-Type")?.startsWith("application/wasm");
  return typed ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}
