// @ts-check
// The engine of this worker and the device that it computes on: loading a model, falling back to kernels without some
// features or to the CPU, and loading the model again after the device was lost. It handles neither sequences nor
// messages.

import { atRevision, hubPlaceOf } from "./addresses.js";
import { UrlSource } from "./byte_source.js";
import { fact, isDeviceFault, isErrorReport, isFatal, reportFromThrown, Zamba2Error } from "./errors.js";
import { FileListSource } from "./file_list_source.js";
import { PauseGate } from "./gates.js";
import { commitOf } from "./hub.js";
import { loadCheckpoint } from "./loading.js";
import { clockResolutionUs } from "./numbers.js";
import { sourceName } from "./reporting.js";
import { anySignal } from "./signals.js";
import { openStored } from "./store.js";
import { forgetOutdated } from "./updates.js";
import { createEngine, takePanic } from "./wasm_engine.js";

/** @import { ByteSource } from "./byte_source.js" */
/** @import { ErrorReport } from "./errors.js" */
/** @import { WaitListener } from "./retry_policy.js" */
/** @import { StoreFolder } from "./store.js" */
/** @import { Loaded } from "./loading.js" */
/** @import { LoadedFacts } from "./reporting.js" */
/** @import { SharedModule } from "./start_threads.js" */
/** @import { TestedDevice } from "./wasm_exports.d.ts" */
/** @import { EngineOptions, OpenEngine, WasmEngine } from "./wasm_engine.js" */
/** @import { CallContext, LoadedReport, LoadRequest } from "./worker.js" */
/** @import { FoundKernels, LoadedInfo, LoadProgress } from "./zamba2.d.ts" */

/** @typedef {Pick<CallContext, "signal" | "emit">} LoadContext */

/**
 * @typedef {object} HostHooks
 * @property {(n: number, shared: SharedModule) => Promise<number>} startThreads  gives how many are up
 * @property {(engine: WasmEngine) => Promise<void>} onUnit  after each unit of a load
 * @property {() => void} onLoadFailed  the engine of a load is gone; another load may follow
 */

/** Device losses after which the model moves to the CPU or, if WebGPU was requested, the fault is final. */
const MAX_LOSSES = 3;

export class Host {
  #hooks;
  /** @type {WasmEngine | null} */
  #engine = null;
  /** @type {LoadedFacts | null} */
  #facts = null;
  /** The request of the current model, for loading it again after a device loss. @type {LoadRequest | null} */
  #request = null;
  /** A device fault without recovery so far: the weights are lost. @type {ErrorReport | null} */
  #device_fault = null;
  #n_losses = 0;
  /**
   * The result of the adapter's self-test before the weights, in this load or the last one.
   * @type {TestedDevice | null}
   */
  #tested = null;
  /** Features that were dropped after the weights had arrived. @type {TestedDevice["dropped"]} */
  #dropped = [];
  #pause = new PauseGate();
  /** How often a decode step measures its blocks: 0 for never, n for every n-th. */
  block_times_every = 0;
  /** Reports a pause as progress of the load in flight. @type {((paused: boolean) => void) | null} */
  #onPauseChange = null;

  /** @param {HostHooks} hooks */
  constructor(hooks) {
    this.#hooks = hooks;
  }

  engine() {
    if (!this.#engine) throw new Zamba2Error("out_of_order", { fact: fact("not_loaded") });
    return this.#engine;
  }

  facts() {
    if (!this.#facts) throw new Zamba2Error("out_of_order", { fact: fact("not_loaded") });
    return this.#facts;
  }

  get is_loading() {
    return this.#onPauseChange !== null;
  }

  /** @param {boolean} paused */
  setPaused(paused) {
    this.#pause.set(paused);
    this.#onPauseChange?.(paused);
  }

  /** @param {LoadRequest} request @param {LoadContext} context */
  load(request, context) {
    this.#request = request;
    this.#dropped = [];
    return this.#load(request.engine, context);
  }

  /** Loads the model again if an earlier call has lost the device. @param {LoadContext} context */
  async ensureDevice(context) {
    if (this.#device_fault) await this.#rebuild(this.#device_fault, context);
  }

  /**
   * Returns a new engine if `thrown` is a fault of the device, and rethrows it otherwise.
   * @param {unknown} thrown
   * @param {LoadContext} context
   */
  async recover(thrown, context) {
    if (!isErrorReport(thrown) || !this.#isRecoverable(thrown)) throw thrown;
    await this.#rebuild(thrown, context);
    return this.engine();
  }

  /**
   * The report for a failed call. The engine is dropped if its later results could not be trusted.
   * @param {unknown} thrown
   */
  failed(thrown) {
    const report = reportFromThrown(thrown, takePanic());
    if (isFatal(report)) this.#engine = null;
    if (this.#engine && this.#isRecoverable(report)) this.#device_fault = report;
    return report;
  }

  /** Whether loading again may help. On the CPU it would fail the same way. @param {ErrorReport} fault */
  #isRecoverable(fault) {
    return isDeviceFault(fault) && this.#facts?.backend === "webgpu";
  }

  /**
   * Loads the model again after its device has failed: on the same kind of device if it was lost; on the CPU if it
   * failed otherwise or too often, and the backend is `auto`. This always ends: a device is opened at most `MAX_LOSSES`
   * times, and nothing is recoverable on the CPU.
   * @param {ErrorReport} fault @param {LoadContext} context
   */
  async #rebuild(fault, { signal, emit }) {
    const { engine: options } = /** @type {LoadRequest} */ (this.#request);
    this.#n_losses += 1;
    const same_device = fault.code === "device_lost" && this.#n_losses < MAX_LOSSES;
    if (!same_device && options.backend !== "auto") throw fault;
    emit("device", { state: "lost", fault });
    this.#engine?.free();
    this.#engine = null;
    // The page must not mistake this load for the progress of its own call.
    /** @type {LoadContext} */
    const context = {
      signal,
      emit: (event, data) => emit(event === "progress" ? "reload" : event, /** @type {any} */ (data)),
    };
    const info = same_device
      ? await this.#load({ ...options, after_loss: true }, context)
      : await this.#loadOnDevice({ ...options, backend: "cpu" }, fault, context);
    this.#device_fault = null;
    emit("device", { state: "ready", info });
  }

  /**
   * Loads the model. If only the device fails and the backend is `auto`, loads it on the CPU.
   * @param {EngineOptions} options @param {LoadContext} context @returns {Promise<LoadedReport>}
   */
  async #load(options, context) {
    try {
      return await this.#loadOnDevice(options, null, context);
    } catch (thrown) {
      if (!isErrorReport(thrown)) throw thrown;
      if (thrown.code === "self_test" && this.#dropFeature(thrown)) return this.#load(options, context);
      if (options.backend !== "auto" || !(isDeviceFault(thrown) || thrown.code === "self_test")) throw thrown;
      return this.#loadOnDevice({ ...options, backend: "cpu" }, thrown, context);
    }
  }

  /**
   * Whether dropping one feature may help: the adapter passed its self-test, and failed with the weights in memory. (In
   * the self-test the engine itself has tried without the features.)
   * @param {ErrorReport} fault
   */
  #dropFeature(fault) {
    const { webgpu } = /** @type {LoadRequest} */ (this.#request).engine;
    const feature = /** @type {const} */ (["subgroups", "f16"]).find((name) => this.#tested?.[name]);
    if (!feature) return false;
    webgpu[feature] = false;
    this.#dropped.push({ feature, fault });
    return true;
  }

  /**
   * @param {EngineOptions} options @param {ErrorReport | null} fault  why the CPU was chosen instead of the adapter
   * @param {LoadContext} context @returns {Promise<LoadedReport>}
   */
  async #loadOnDevice(options, fault, { signal, emit }) {
    const from_ms = performance.now();
    this.#tested = null;
    const progress = initialProgress();
    const report = () => emit("progress", { ...progress });
    this.#onPauseChange = (paused) => {
      progress.paused = paused;
      report();
    };
    // After a failed load, requests in flight would occupy connections that the next load needs.
    const attempt = new AbortController();
    /** @type {OpenEngine | null} */
    let opened = null;
    try {
      opened = await createEngine(options, this.#hooks.startThreads);
      const wasm_ms = performance.now() - from_ms;
      const loaded = await this.#loadWeights(opened, progress, report, anySignal([signal, attempt.signal]));
      this.#engine = opened.engine;
      const kernels = this.#tested && (await findKernels(opened, options));
      // After a device loss the same commit is loaded again, and the same kernels are used: others would give other
      // bits.
      const request = /** @type {LoadRequest} */ (this.#request);
      if (kernels) request.engine.webgpu.kernels = [kernels];
      this.#request = { ...request, refresh: false, commit: progress.commit };
      const running = { ...runningOn(opened, fault), adapter: this.#adapterReport(opened, kernels) };
      const {
        source,
        engine: { weights },
      } = /** @type {LoadRequest} */ (this.#request);
      const { relaxed_simd } = opened.build;
      this.#facts = { name: sourceName(source), weights, tokenizer: loaded.tokenizer, relaxed_simd, ...running };
      const { info, timing, memory, tokenizer, chat, chat_fault } = loaded;
      const load_ms = performance.now() - from_ms;
      return {
        ...info,
        ...running,
        build: opened.build.folder,
        isolated: crossOriginIsolated,
        keeping: progress.keeping,
        commit: progress.commit,
        tokenizer,
        chat,
        chat_fault,
        memory,
        timing: { load_ms, wasm_ms, ...timing, clock_resolution_us: clockResolutionUs() },
      };
    } catch (thrown) {
      attempt.abort();
      this.#hooks.onLoadFailed();
      // Only the device has failed, and another engine may be created.
      if (opened?.device.webgpu && isErrorReport(thrown)) opened.engine.free();
      throw thrown;
    } finally {
      this.#onPauseChange = null;
    }
  }

  /** @param {OpenEngine} opened @param {FoundKernels | null} kernels */
  #adapterReport({ device: { adapter } }, kernels) {
    if (!adapter || !this.#tested) return null;
    return { ...adapter, ...this.#tested, dropped: [...this.#dropped, ...this.#tested.dropped], kernels };
  }

  /**
   * The source for `address`. All files of a load are of one commit: that of the stored part of the model, or else the
   * newest of the revision, which is requested once.
   * @param {string} address @param {StoreFolder | null} stored @param {LoadProgress} progress
   * @param {AbortSignal} signal @param {WaitListener} onWait @returns {Promise<ByteSource>}
   */
  async #urlSource(address, stored, progress, signal, onWait) {
    const { retry, refresh, commit } = /** @type {LoadRequest} */ (this.#request);
    const options = { retry: retry ?? undefined, onWait };
    const is_resumed = stored !== null && stored.has_begun && !refresh;
    const place = hubPlaceOf(address);
    if (is_resumed) progress.commit = stored.journal.commit ?? null;
    else if (place) progress.commit = commit ?? (await commitOf(place, signal, options));
    const source = new UrlSource(progress.commit ? atRevision(address, progress.commit) : address, options);
    if (is_resumed || !stored) return source;
    // With a source of its own: versions that it has seen must not be expected during the load.
    if (refresh) await forgetOutdated(new UrlSource(source.folder.href, options), stored, signal);
    await stored.storeCommit(progress.commit);
    return source;
  }

  /**
   * @param {OpenEngine} opened @param {LoadProgress} progress @param {() => void} report @param {AbortSignal} signal
   * @returns {Promise<Loaded>}
   */
  async #loadWeights(opened, progress, report, signal) {
    const { source, packed, keep, refresh, engine: options } = /** @type {LoadRequest} */ (this.#request);
    const { engine } = opened;
    const { weights } = options;
    const onWait = (/** @type {LoadProgress["waiting"]} */ waiting) => {
      progress.waiting = waiting;
      report();
    };
    // Files that the user chose are on this device already.
    const { stored, reason } =
      keep && typeof source === "string" ? await openStored(source, weights, refresh) : { stored: null, reason: null };
    if (stored) progress.keeping = { state: "kept", reason: null };
    else if (reason) progress.keeping = { state: "refused", reason };
    try {
      const bytes =
        typeof source === "string"
          ? await this.#urlSource(source, stored, progress, signal, onWait)
          : new FileListSource(source);
      return await loadCheckpoint(
        engine,
        bytes,
        stored,
        {
          signal,
          is_packed: packed,
          unpaused: () => this.#pause.opened(signal),
          onPlanned: async () => {
            this.#tested = await engine.test_device();
            const makes_trial = this.#tested && earlierKernels(opened, options)?.choices === null;
            if (makes_trial) engine.compile_variants();
          },
          onUnit: () => this.#hooks.onUnit(engine),
          onProgress: report,
        },
        progress,
      );
    } catch (thrown) {
      // The stored data belong to another version of the files; every later load would fail the same way.
      if (thrown instanceof Zamba2Error && thrown.code === "changed") await stored?.clear();
      throw thrown;
    } finally {
      await stored?.close();
    }
  }
}

/** @returns {LoadProgress} */
function initialProgress() {
  return {
    phase: "config",
    origin: null,
    loaded_bytes: 0,
    total_bytes: 0,
    received_bytes: 0,
    device_bytes: 0,
    unit: null,
    block: null,
    unit_loaded_bytes: 0,
    unit_bytes: 0,
    blocks_ready: 0,
    n_blocks: 0,
    paused: false,
    waiting: null,
    keeping: { state: "off", reason: null },
    commit: null,
    info: null,
    tokenizer: false,
    chat: false,
  };
}

/**
 * The backend, and why it was chosen.
 * @param {OpenEngine} opened @param {ErrorReport | null} fault
 */
function runningOn(opened, fault) {
  const { build, device } = opened;
  const cpu = build.relaxed_simd ? "cpu-relaxed-simd" : "cpu-simd128";
  return {
    backend: /** @type {LoadedInfo["backend"]} */ (device.webgpu ? "webgpu" : cpu),
    backend_reason: fault ? /** @type {LoadedInfo["backend_reason"]} */ (fault.code) : device.reason,
    backend_fault: fault ?? device.fault,
    ...chooseThreads(opened),
  };
}

/**
 * What an earlier load has found on the device, without choices if a trial is to be made; null if the kernels stay as
 * they are.
 * @param {OpenEngine} opened @param {EngineOptions} options
 */
function earlierKernels({ device: { adapter } }, { weights, webgpu: { tune, kernels } }) {
  if (!adapter || tune === "off" || (tune === "auto" && adapter.software)) return null;
  const { name, shaders } = adapter;
  const earlier = kernels.find(
    (found) => found.adapter === name && found.shaders === shaders && found.weights === weights,
  );
  return { adapter: name, shaders, weights, choices: earlier?.choices ?? null };
}

/**
 * The fastest kernels on the device, from an earlier load or by a trial.
 * @param {OpenEngine} opened @param {EngineOptions} options @returns {Promise<FoundKernels | null>}
 */
async function findKernels(opened, options) {
  const earlier = earlierKernels(opened, options);
  if (!earlier) return null;
  const choices = await opened.engine.choose_kernels(earlier.choices);
  return choices.length > 0 ? { ...earlier, choices } : null;
}

/**
 * The threads that the loaded model uses. With `auto`, a trial may find that fewer are faster.
 * @param {OpenEngine} opened @returns {Pick<LoadedInfo, "threads" | "threads_reason">}
 */
function chooseThreads({ engine, build, device }) {
  if (build.threads_reason !== "auto" || device.webgpu) {
    return { threads: build.threads, threads_reason: build.threads_reason };
  }
  const threads = engine.choose_threads();
  return { threads, threads_reason: threads < build.threads ? "measured" : "auto" };
}
