// @ts-check
// Options of the public module: their defaults, and checks that need no engine.

import { parseAddress } from "./addresses.js";
import { badOption, fact, Zamba2Error } from "./errors.js";

/** @import * as api from "./zamba2.d.ts" */
/** @import { WorkerPrompt } from "./worker.js" */

/** @type {Required<api.GenerateOptions>} */
export const GENERATE_DEFAULTS = {
  max_tokens: 256,
  temperature: 0.7,
  top_k: 40,
  top_p: 0.95,
  min_p: 0,
  repetition_penalty: 1,
  seed: 42,
  stop: [],
  ignore_eos: false,
  alternatives: 0,
  marks: false,
};

/** @type {Required<api.WebGpuOptions>} */
export const WEBGPU_DEFAULTS = { maxBindingBytes: null, timestamps: true, subgroups: true, f16: true };

/** Far more than helps. */
const MAX_THREADS = 64;

/** @param {string} name @param {unknown} value @param {readonly unknown[]} allowed */
export function checkOneOf(name, value, allowed) {
  if (allowed.includes(value)) return;
  throw badOption(name, fact("not_one_of", { value: String(value), allowed: allowed.join(", ") }));
}

/** @param {string} name @param {unknown} value @param {number} least @param {number} most */
export function checkCount(name, value, least, most) {
  if (Number.isInteger(value) && Number(value) >= least && Number(value) <= most) return;
  throw badOption(name, fact("not_whole_range", { value: String(value), least, most }));
}

/** @param {"auto" | number} threads @param {"auto" | false} relaxedSimd */
export function checkBuildOptions(threads, relaxedSimd) {
  checkOneOf("relaxedSimd", relaxedSimd, ["auto", false]);
  if (threads === "auto" || (Number.isInteger(threads) && threads >= 1 && threads <= MAX_THREADS)) return;
  throw badOption("threads", fact("not_threads", { value: String(threads), most: MAX_THREADS }));
}

/** @param {NonNullable<api.LoadOptions["retry"]>} retry */
export function checkRetry(retry) {
  const known = { attempts: 1, first_delay_ms: 0, stall_ms: 1 };
  for (const [name, value] of Object.entries(retry)) {
    const least = known[/** @type {keyof typeof known} */ (name)];
    if (least === undefined) {
      throw badOption(`retry.${name}`, fact("no_such_option", { allowed: Object.keys(known).join(", ") }));
    }
    // Timers of browsers have 32 bits; a longer delay would fire at once.
    if (!(Number.isInteger(value) && value >= least && value < 2 ** 31)) {
      throw badOption(`retry.${name}`, fact("not_whole_from", { value: String(value), least }));
    }
  }
}

/** @param {api.WebGpuOptions} wishes */
export function checkWebGpu(wishes) {
  for (const [name, value] of Object.entries(wishes)) {
    if (!(name in WEBGPU_DEFAULTS)) {
      throw badOption(`webgpu.${name}`, fact("no_such_option", { allowed: Object.keys(WEBGPU_DEFAULTS).join(", ") }));
    }
    const is_bytes = value === null || (Number.isInteger(value) && value > 0);
    if (name === "maxBindingBytes" ? is_bytes : typeof value === "boolean") continue;
    throw badOption(`webgpu.${name}`, fact("wrong_value", { value: String(value) }));
  }
}

/** @param {api.LoadOptions["source"]} source */
export function sourceForWorker(source) {
  if (typeof source === "string" || source instanceof URL) {
    return parseAddress(String(source), document.baseURI).folder;
  }
  const files = [...source];
  if (!files.every((file) => file instanceof File)) throw badOption("source", fact("not_a_source"), { next: "source" });
  return files;
}

/** @param {api.Prompt} prompt @returns {WorkerPrompt} */
export function promptForWorker(prompt) {
  if (typeof prompt === "string" || "messages" in prompt) return prompt;
  return Uint32Array.from(prompt);
}

/** @param {unknown} run */
export function runText(run) {
  if (run && typeof run === "object") return JSON.stringify(run);
  throw new Zamba2Error("bad_run", { field: "run", fact: fact("run_not_a_run") }, { next: "given" });
}
