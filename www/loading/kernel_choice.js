// @ts-check
// Remembers the kernels that the engine has found to be the fastest on this device, so that the trial runs only once.
// `?tune=off` in the address disables it.

import { remember, remembered } from "../preferences.js";

/** @import { AdapterInfo, FoundKernels, WebGpuOptions } from "../engine/zamba2.d.ts" */

const NAME = "kernels";
/** The most choices, for different devices, formats and versions; the oldest are dropped. */
const MOST = 8;

/** @returns {FoundKernels[]} */
function found() {
  try {
    const list = JSON.parse(remembered(NAME) ?? "[]");
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

/** @returns {WebGpuOptions} */
export function kernelOptions() {
  const is_off = new URLSearchParams(location.search).get("tune") === "off";
  return is_off ? { tune: "off" } : { kernels: found() };
}

/** @param {AdapterInfo | null} adapter */
export function rememberKernels(adapter) {
  if (!adapter?.kernels) return;
  const { kernels } = adapter;
  const others = found().filter(
    (other) =>
      other.adapter !== kernels.adapter || other.shaders !== kernels.shaders || other.weights !== kernels.weights,
  );
  remember(NAME, JSON.stringify([kernels, ...others].slice(0, MOST)));
}
