// @ts-check
// What computes, the graphics adapter or the processor, and why. It stands beside builds.js, runs in the engine's worker,
// and leaves the opening of the adapter to the engine, which tests it later, while weights arrive.

import { fact, reportFromThrown, Zamba2Error } from "./errors.js";

/** @import { ErrorReport } from "./errors.js" */
/** @import { AdapterInfo, BackendReason, LoadOptions } from "./zamba2.d.ts" */
/** @import { WasmEngine } from "./wasm_engine.js" */

/** @typedef {Required<NonNullable<LoadOptions["webgpu"]>>} WebGpuWishes */
/** What is known of an adapter before it is tested. @typedef {Omit<AdapterInfo, "timestamp_step_us">} OpenAdapter */
/** @typedef {{ webgpu: boolean, reason: BackendReason, fault: ErrorReport | null, adapter: OpenAdapter | null }} Device */

/** A driver that compiles this long will not answer. */
const OPENING_MS = 60_000;

/** After the loss of a device the browser may be starting its graphics anew, and has no adapter meanwhile. */
const RESTART_TRIES = 10;
const RESTART_WAIT_MS = 300;

/** @param {BackendReason} reason @param {ErrorReport | null} [fault] @returns {Device} */
const processor = (reason, fault = null) => ({ webgpu: false, reason, fault, adapter: null });

/** The browser's own type is not among the checker's libraries. @returns {any} */
const gpu = () => /** @type {any} */ (navigator).gpu;

/**
 * Opens the adapter for `engine` where one is wanted and there. After a refusal the engine must not be used.
 * @param {WasmEngine} engine @param {"auto" | "cpu" | "webgpu"} wanted @param {WebGpuWishes} wishes
 * @param {boolean} after_loss  of the device before
 * @returns {Promise<Device>}
 */
export async function chooseDevice(engine, wanted, wishes, after_loss) {
  if (wanted === "cpu") return processor("asked");
  try {
    return { webgpu: true, reason: wanted === "auto" ? "auto" : "asked", fault: null, adapter: await openAdapter(engine, wanted, wishes, after_loss) };
  } catch (thrown) {
    if (wanted === "webgpu") throw thrown;
    const fault = reportFromThrown(thrown);
    return processor(isReason(fault.code) ? fault.code : "device", fault);
  }
}

/** @param {string} code @returns {code is BackendReason} */
const isReason = (code) => ["no_webgpu", "no_adapter", "software_adapter", "device_lost", "device_memory"].includes(code);

/** @param {boolean} after_loss */
async function requestAdapter(after_loss) {
  for (let left = after_loss ? RESTART_TRIES : 1; ; ) {
    const adapter = await gpu().requestAdapter({ powerPreference: "high-performance" });
    left -= 1;
    if (adapter || left === 0) return adapter;
    await new Promise((resolve) => setTimeout(resolve, RESTART_WAIT_MS));
  }
}

/**
 * @param {WasmEngine} engine @param {"auto" | "webgpu"} wanted @param {WebGpuWishes} wishes @param {boolean} after_loss
 * @returns {Promise<OpenAdapter>}
 */
async function openAdapter(engine, wanted, wishes, after_loss) {
  if (!gpu()) throw new Zamba2Error("no_webgpu", { fact: fact(isSecureContext ? "no_webgpu" : "insecure_page") });
  const adapter = await requestAdapter(after_loss);
  if (!adapter) throw new Zamba2Error("no_adapter", { fact: fact("no_browser_adapter") });
  const software = Boolean(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
  const name = adapterName(adapter.info) || (software ? "software adapter" : "graphics adapter");
  if (software && wanted === "auto") throw new Zamba2Error("software_adapter", { adapter: name });
  const subgroups = wishes.subgroups && adapter.features.has("subgroups");
  if (subgroups) requestSubgroups();
  const { maxBindingBytes: max_binding_bytes, timestamps, f16 } = wishes;
  const opening = engine.open_webgpu({ hardware_only: wanted === "auto", max_binding_bytes, timestamps, f16, subgroups });
  const facts = await inTime(opening, () => new Zamba2Error("no_adapter", { fact: fact("no_answer", { adapter: name, seconds: OPENING_MS / 1000 }) }));
  return { name, ...facts };
}

/** @param {any} info  the browser's GPUAdapterInfo; browsers may leave any of it empty */
function adapterName(info) {
  return info?.description || [info?.vendor, info?.architecture, info?.device].filter(Boolean).join(" ");
}

let subgroups_requested = false;

/** wgpu knows no subgroups in browsers, but hands the shaders on as they are: the device only has to be asked for them. */
function requestSubgroups() {
  if (subgroups_requested) return;
  subgroups_requested = true;
  const { prototype } = /** @type {any} */ (globalThis).GPUAdapter;
  const request = prototype.requestDevice;
  /** @param {any} [descriptor] */
  prototype.requestDevice = function (descriptor = {}) {
    return request.call(this, { ...descriptor, requiredFeatures: [...(descriptor.requiredFeatures ?? []), "subgroups"] });
  };
}

/** @template T @param {Promise<T>} promise @param {() => Error} late @returns {Promise<T>} */
function inTime(promise, late) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), OPENING_MS);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
