// @ts-check
// Chooses the backend, a graphics adapter or the CPU, and reports why. It runs in the worker. The engine opens the
// adapter here and tests it later, while the weights are downloaded.

import { fact, reportFromThrown, Zamba2Error } from "./errors.js";
import { requestSubgroups } from "./subgroups.js";

/** @import { ErrorReport } from "./errors.js" */
/** @import { AdapterInfo, BackendReason, LoadOptions } from "./zamba2.d.ts" */
/** @import { WasmEngine } from "./wasm_engine.js" */

/** @typedef {Required<NonNullable<LoadOptions["webgpu"]>>} WebGpuWishes */
/**
 * Facts of an adapter before its self-test.
 * @typedef {Omit<AdapterInfo, "timestamp_step_us" | "dropped" | "kernels">} OpenAdapter
 */
/**
 * @typedef {{ webgpu: boolean, reason: BackendReason, fault: ErrorReport | null, adapter: OpenAdapter | null }} Device
 */

/** Some drivers never respond. */
const OPENING_MS = 60_000;

/** After a device loss the browser may have no adapter until its graphics process has restarted. */
const RESTART_TRIES = 10;
const RESTART_WAIT_MS = 300;

/** @param {BackendReason} reason @param {ErrorReport | null} [fault] @returns {Device} */
const cpu = (reason, fault = null) => ({ webgpu: false, reason, fault, adapter: null });

/** The type checker's library lacks WebGPU. @returns {any} */
const gpu = () => /** @type {any} */ (navigator).gpu;

/**
 * Opens an adapter for `engine` if one is wanted and available. An engine whose adapter was refused must not be used.
 * @param {WasmEngine} engine @param {"auto" | "cpu" | "webgpu"} wanted @param {WebGpuWishes} wishes
 * @param {boolean} after_loss  the previous device was lost
 * @returns {Promise<Device>}
 */
export async function chooseDevice(engine, wanted, wishes, after_loss) {
  if (wanted === "cpu") return cpu("asked");
  try {
    const adapter = await openAdapter(engine, wanted, wishes, after_loss);
    return { webgpu: true, reason: wanted === "auto" ? "auto" : "asked", fault: null, adapter };
  } catch (thrown) {
    if (wanted === "webgpu") throw thrown;
    const fault = reportFromThrown(thrown);
    return cpu(isReason(fault.code) ? fault.code : "device", fault);
  }
}

/** @param {string} code @returns {code is BackendReason} */
const isReason = (code) =>
  ["no_webgpu", "no_adapter", "software_adapter", "device_lost", "device_memory"].includes(code);

/** @param {boolean} after_loss */
async function requestAdapter(after_loss) {
  for (let left = after_loss ? RESTART_TRIES : 1; ;) {
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
  // wgpu reads this property, and would fail in the middle of a call.
  if (!adapter.info) throw new Zamba2Error("no_adapter", { fact: fact("early_webgpu") });
  const software = Boolean(adapter.info.isFallbackAdapter ?? adapter.isFallbackAdapter);
  const name = adapterName(adapter.info);
  const shown = name || fact("unnamed_adapter");
  if (software && wanted === "auto") throw new Zamba2Error("software_adapter", { adapter: shown });
  const subgroups = wishes.subgroups && adapter.features.has("subgroups");
  if (subgroups) requestSubgroups();
  const { maxBindingBytes: max_binding_bytes, timestamps, f16 } = wishes;
  const opening = engine.open_webgpu({
    hardware_only: wanted === "auto",
    max_binding_bytes,
    timestamps,
    f16,
    subgroups,
  });
  const no_answer = fact("no_answer", { adapter: shown, seconds: OPENING_MS / 1000 });
  const facts = await inTime(opening, () => new Zamba2Error("no_adapter", { fact: no_answer }));
  return { name, ...facts };
}

/** @param {any} info  the browser's GPUAdapterInfo; browsers may leave any of it empty */
function adapterName(info) {
  return info?.description || [info?.vendor, info?.architecture, info?.device].filter(Boolean).join(" ");
}

/** @template T @param {Promise<T>} promise @param {() => Error} late @returns {Promise<T>} */
function inTime(promise, late) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), OPENING_MS);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
