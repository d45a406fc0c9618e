// @ts-check
// Loads the wasm module that builds.js has chosen, and creates engines in it. The page starts its threads
// (start_threads.js). It loads no model.

import { chooseBuild, GRAMMAR, withoutThreads } from "./builds.js";
import { BUILT } from "./built.js";
import { chooseDevice } from "./devices.js";
import { fact, Zamba2Error } from "./errors.js";
import { outdated } from "./module_worker.js";
import { policyFault } from "./policy.js";
import { withOwnMemory } from "./unshared.js";

/** @import { BuildFiles } from "./assets.js" */
/** @import { Build } from "./builds.js" */
/** @import { Device, WebGpuWishes } from "./devices.js" */
/** @import { SharedModule } from "./start_threads.js" */
/** @import * as wasm_exports from "./wasm_exports.d.ts" */
/** @import { Weights } from "./zamba2.d.ts" */

// The types of the wasm module, for the other files of this folder.
/** @typedef {wasm_exports.WasmEngine} WasmEngine */
/** @typedef {wasm_exports.Bindings} Bindings */
/** @typedef {wasm_exports.ReportFunctions} ReportFunctions */
/** @typedef {wasm_exports.KeptPrefix} KeptPrefix */
/** @typedef {wasm_exports.Step} Step */
/** @typedef {wasm_exports.Unit} Unit */

/** The custom section of the module with the id of its build. */
const ID_SECTION = "zamba2_build";

/** Where the builds are. @type {Record<string, BuildFiles>} */
let files = {};

/** @param {Record<string, BuildFiles>} builds */
export function useBuilds(builds) {
  files = builds;
}

/** @type {Promise<ReportFunctions> | null} */
let reports = null;

/**
 * The functions on reports, loaded once, from the build that models use by default, so that the browser already has it.
 * @returns {Promise<ReportFunctions>}
 */
export function loadReports() {
  reports ??= loadAllowed(chooseBuild({ threads: "auto", relaxed_simd: "auto" })).then(({ bindings }) => bindings);
  // The next call may succeed, for example when the network is back.
  reports.catch(() => (reports = null));
  return reports;
}

/** @type {Promise<wasm_exports.GrammarBindings> | null} */
let grammar = null;
/** How often the grammar module was dropped. */
let n_dropped = 0;

/** The grammar module, for structured output. @returns {Promise<wasm_exports.GrammarBindings>} */
export function loadGrammar() {
  grammar ??= loadBindings({ folder: GRAMMAR, shared: null }, n_dropped).then(
    ({ bindings }) => /** @type {any} */ (bindings),
  );
  grammar.catch(() => (grammar = null));
  return grammar;
}

/** The next call loads a fresh instance with its own memory. */
export function dropGrammar() {
  grammar = null;
  n_dropped += 1;
}

/**
 * @typedef {object} EngineOptions
 * @property {Weights} weights
 * @property {number | null} context
 * @property {"auto" | number} threads
 * @property {"auto" | false} relaxed_simd
 * @property {"auto" | "cpu" | "webgpu"} backend
 * @property {WebGpuWishes} webgpu
 * @property {boolean} [after_loss]  the engine before this one lost its device
 */

/**
 * `build` has the number of threads that are actually running.
 * @typedef {{ engine: WasmEngine, build: Build, device: Device }} OpenEngine
 */

/**
 * The module of this worker and its threads; they serve one engine after another.
 * @type {Promise<{ bindings: Bindings, build: Build }> | null}
 */
let started = null;
/** The bindings of the module in `started`. @type {Bindings | null} */
let started_bindings = null;

/**
 * The text of the last panic since the previous call. A panic ends in a trap, which carries no text itself.
 * @returns {string | null}
 */
export function takePanic() {
  try {
    return started_bindings?.take_panic() ?? null;
  } catch {
    // When memory has run out, there may be none for the text.
    return null;
  }
}

/**
 * An engine without a model. The one before it must have been freed.
 * @param {EngineOptions} options
 * @param {(n: number, shared: SharedModule) => Promise<number>} startThreads  gives how many are up
 * @returns {Promise<OpenEngine>}
 */
export async function createEngine(options, startThreads) {
  started ??= startModule(options, startThreads);
  const { bindings, build } = await started;
  started_bindings = bindings;
  const { weights, context } = options;
  const fresh = () => new bindings.Engine({ weights, context, threads: build.threads });
  const engine = fresh();
  const device = await chooseDevice(engine, options.backend, options.webgpu, options.after_loss ?? false);
  if (device.webgpu || device.reason === "asked") return { engine, build, device };
  // A refused adapter may have left this engine partly opened.
  return { engine: fresh(), build, device };
}

/** @param {EngineOptions} options @param {(n: number, shared: SharedModule) => Promise<number>} startThreads */
async function startModule(options, startThreads) {
  const { build, bindings, ...shared } = await loadAllowed(chooseBuild(options));
  if (build.threads > 1) {
    const up = await startThreads(build.threads - 1, shared);
    if (up < build.threads - 1) build.threads_reason = "workers_failed";
    build.threads = up + 1;
  }
  return { bindings, build };
}

/** A build with its threads, or without if it gets no shared memory. @param {Build} build */
async function loadAllowed(build) {
  try {
    return { build, ...(await loadBindings(build)) };
  } catch (thrown) {
    // Some devices refuse to reserve the address space into which a shared memory may grow.
    const refused = thrown instanceof Zamba2Error && thrown.cause instanceof RangeError;
    if (!refused || !build.shared) throw thrown;
    const single = withoutThreads(build);
    return { build: single, ...(await loadBindings(single)) };
  }
}

/**
 * @param {{ folder: string, shared: boolean | null }} build  `shared` is null for a module that has no shared memory
 * @param {number} [instance]  another number gives other bindings, with a memory of their own
 * @returns {Promise<{ bindings: Bindings } & SharedModule>}
 */
async function loadBindings({ folder, shared }, instance = 0) {
  if (!(folder in BUILT)) throw new Zamba2Error("no_build", { builds: Object.keys(BUILT).join(", ") });
  const { bindings: file, module: module_address } = files[folder];
  const address = instance === 0 ? file : `${file}#${instance}`;
  try {
    const [bindings, { module, memory }] = await Promise.all([
      import(/* webpackIgnore: true */ /* @vite-ignore */ address),
      shared === false ? compileWithOwnMemory(module_address) : compile(module_address),
    ]);
    // Files of two deployments are not guaranteed to be compatible.
    for (const [file, id] of [
      ["zamba2_wasm.js", bindings.BUILD_ID],
      ["zamba2_wasm_bg.wasm", idOf(module)],
    ]) {
      if (id !== BUILT[folder]) throw outdated(file);
    }
    const exports = await bindings.default({ module_or_path: module, memory });
    return { bindings, address, module, memory: exports?.memory };
  } catch (cause) {
    if (cause instanceof Zamba2Error) throw cause;
    const policy =
      (await policyFault("zamba2_wasm.js", address))
      ?? (await policyFault("zamba2_wasm_bg.wasm", module_address))
      ?? (await policyFault("zamba2_wasm_bg.wasm", "wasm-eval"));
    const detail = /** @type {Error} */ (cause).message;
    throw policy ?? new Zamba2Error("engine_missing", { file: "zamba2_wasm_bg.wasm", detail }, { cause });
  }
}

/** @param {WebAssembly.Module} module */
function idOf(module) {
  const [section] = WebAssembly.Module.customSections(module, ID_SECTION);
  return section && new TextDecoder().decode(section);
}

/**
 * The bindings create the memory of this module.
 * @param {string} address @returns {Promise<{ module: WebAssembly.Module, memory?: WebAssembly.Memory }>}
 */
async function compile(address) {
  const response = await fetched(address);
  // Browsers refuse streaming compilation of other media types.
  const typed = response.headers.get("Content-Type")?.startsWith("application/wasm");
  return {
    module: await (typed
      ? WebAssembly.compileStreaming(response)
      : response.arrayBuffer().then((bytes) => WebAssembly.compile(bytes))),
  };
}

/** Not while it arrives, because its bytes are changed first. @param {string} address */
async function compileWithOwnMemory(address) {
  const bytes = new Uint8Array(await (await fetched(address)).arrayBuffer());
  const limits = withOwnMemory(bytes);
  const module = await WebAssembly.compile(bytes);
  return { module, memory: limits ? new WebAssembly.Memory(limits) : undefined };
}

/** @param {string} address */
async function fetched(address) {
  const response = await fetch(address);
  if (response.ok) return response;
  const file = new URL(address).pathname;
  const detail = fact("answered_with", { file, status: response.status });
  throw new Zamba2Error("engine_missing", { file: "zamba2_wasm_bg.wasm", detail });
}
