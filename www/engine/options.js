// @ts-check
// Checks and defaults of the public module's arguments, as far as they need no engine. A value of the wrong type never
// reaches the worker, and its error names the option; ranges that depend on the model are checked there.

import { parseAddress } from "./addresses.js";
import { badOption, fact, Zamba2Error } from "./errors.js";
import { GENERATE_DEFAULTS, NUMBER_OPTIONS } from "./generate_options.js";
import { MAX_ABLATED_TOKENS, MAX_TOP_K } from "./limits.js";

/** @import * as api from "./zamba2.d.ts" */
/** @import { WorkerPrompt } from "./worker.js" */

/** @type {Required<api.WebGpuOptions>} */
export const WEBGPU_DEFAULTS = {
  maxBindingBytes: null,
  timestamps: true,
  subgroups: true,
  f16: true,
  tune: "auto",
  kernels: [],
};

/** More than any machine benefits from. */
const MAX_THREADS = 64;
/** The largest count and the largest token id that WebAssembly takes. */
const MAX_U32 = 2 ** 32 - 1;

/** A value as it appears in a sentence of any language. @param {unknown} value */
function shown(value) {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "function" || (typeof value === "object" && value !== null)) return "{…}";
  return String(value);
}

/** @param {string} name @param {unknown} value @param {readonly unknown[]} allowed */
export function checkOneOf(name, value, allowed) {
  if (allowed.includes(value)) return;
  throw badOption(name, fact("not_one_of", { value: String(value), allowed: allowed.join(", ") }));
}

/** @param {string} name @param {unknown} value @param {number} least @param {number} [most] */
export function checkCount(name, value, least, most = MAX_U32) {
  if (Number.isInteger(value) && Number(value) >= least && Number(value) <= most) return;
  throw badOption(name, fact("not_whole_range", { value: shown(value), least, most }));
}

/** @param {string} name @param {unknown} value */
export function checkText(name, value) {
  if (typeof value !== "string") throw badOption(name, fact("not_text", { value: shown(value) }));
}

/**
 * The options of a run, with defaults for absent ones.
 * @param {Record<string, unknown>} given
 * @returns {Required<api.GenerateOptions>}
 */
export function generateOptions(given) {
  /** @type {Record<string, unknown>} */
  const options = { ...GENERATE_DEFAULTS };
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const standard = options[name];
    const number = NUMBER_OPTIONS.find((option) => option.name === name);
    if (number) {
      options[name] = checkedNumber(number, value);
      continue;
    }
    if (!(name in GENERATE_DEFAULTS)) {
      throw badOption(name, fact("no_such_option", { allowed: Object.keys(GENERATE_DEFAULTS).join(", ") }));
    } else if (name === "json_schema") {
      options[name] = checkedSchema(value);
      continue;
    } else if (name === "grammar") {
      if (value !== null) checkText(name, value);
    } else if (typeof standard === "number") {
      checkCount(name, value, 0);
    } else if (typeof standard === "boolean") {
      if (typeof value !== "boolean") throw badOption(name, fact("not_a_flag", { value: shown(value) }));
    } else {
      const is_list = Array.isArray(value) && value.every((stop) => typeof stop === "string");
      if (!is_list) throw badOption(name, fact("not_texts", { value: shown(value) }));
    }
    options[name] = value;
  }
  if (options.json_schema !== null && options.grammar !== null) throw badOption("grammar", fact("one_constraint"));
  return /** @type {Required<api.GenerateOptions>} */ (options);
}

/**
 * A copy as plain JSON, which can be sent to the worker and includes the results of `toJSON`.
 * @param {unknown} schema
 */
function checkedSchema(schema) {
  if (schema === null || typeof schema === "boolean") return schema;
  let plain;
  try {
    plain = JSON.parse(JSON.stringify(schema));
  } catch (cause) {
    throw badOption("json_schema", String(/** @type {Error} */ (cause).message), { cause });
  }
  if (typeof plain === "object" && plain !== null && !Array.isArray(plain)) return plain;
  throw badOption("json_schema", fact("not_a_schema", { value: shown(schema) }));
}

/**
 * An option with more than 32 bits may be a BigInt, if a number can represent it. The engine checks ranges of
 * fractions.
 * @param {api.NumberOption} option @param {unknown} value @returns {number}
 */
function checkedNumber({ name, min, max, is_integer }, value) {
  if (is_integer) {
    const is_bigint = typeof value === "bigint" && max > MAX_U32 && value >= BigInt(min) && value <= BigInt(max);
    const whole = is_bigint ? Number(value) : value;
    checkCount(name, whole, min, max);
    return Number(whole);
  }
  if (!Number.isFinite(value)) throw badOption(name, fact("not_finite", { value: shown(value) }));
  return Number(value);
}

/**
 * Token ids for the worker, which knows the model and checks them against the vocabulary.
 * @param {string} name @param {unknown} ids @returns {Uint32Array}
 */
export function idsForWorker(name, ids) {
  const is_list = typeof ids === "object" && ids !== null && ("length" in ids || Symbol.iterator in ids);
  if (!is_list) throw badOption(name, fact("not_token_ids", { value: shown(ids) }));
  const list = Array.from(/** @type {ArrayLike<unknown>} */ (ids));
  for (const id of list) {
    if (Number.isInteger(id) && Number(id) >= 0 && Number(id) <= MAX_U32) continue;
    throw badOption(name, fact("not_a_token_id", { value: shown(id) }));
  }
  return Uint32Array.from(/** @type {number[]} */ (list));
}

/** @param {unknown} messages */
export function checkMessages(messages) {
  const is_message = (/** @type {any} */ one) => typeof one?.role === "string" && typeof one.content === "string";
  if (!Array.isArray(messages) || !messages.every(is_message)) throw badOption("messages", fact("not_messages"));
}

/** @param {unknown} bytes @returns {Uint8Array} */
export function bytesForWorker(bytes) {
  if (bytes instanceof ArrayBuffer) return new Uint8Array(bytes);
  if (bytes instanceof Uint8Array) return new Uint8Array(bytes);
  throw badOption("bytes", fact("not_bytes", { value: shown(bytes) }));
}

/** @param {unknown} signal */
export function checkSignal(signal) {
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw badOption("signal", fact("not_a_signal", { value: shown(signal) }));
  }
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
    if (isWebGpuOption(name, value)) continue;
    throw badOption(`webgpu.${name}`, fact("wrong_value", { value: shown(value) }));
  }
}

/** @param {string} name @param {any} value */
function isWebGpuOption(name, value) {
  switch (name) {
    case "maxBindingBytes":
      return value === null || (Number.isInteger(value) && value > 0);
    case "tune":
      return ["auto", "off", "always"].includes(value);
    case "kernels":
      // The engine ignores entries that do not match, such as those of another device or version.
      return Array.isArray(value) && value.every((found) => typeof found === "object" && found !== null);
    default:
      return typeof value === "boolean";
  }
}

/** @param {api.LoadOptions["source"]} source */
export function sourceForWorker(source) {
  if (typeof source === "string" || source instanceof URL) {
    return parseAddress(String(source), globalThis.document?.baseURI ?? location.href).folder;
  }
  const files = [...source];
  if (!files.every((file) => file instanceof File)) throw badOption("source", fact("not_a_source"), { next: "source" });
  return files;
}

/** @param {api.Prompt} prompt @returns {WorkerPrompt} */
export function promptForWorker(prompt) {
  if (typeof prompt === "string") return prompt;
  if (typeof prompt === "object" && prompt !== null && "messages" in prompt) {
    checkMessages(prompt.messages);
    return { messages: prompt.messages.map(({ role, content }) => ({ role, content })) };
  }
  return idsForWorker("prompt", prompt);
}

/** The parts of an inspection. @type {readonly api.InspectPart[]} */
const INSPECT_PARTS = ["lens", "memory", "attention"];

/**
 * `InspectOptions` with defaults; null where they depend on the sequence.
 * @typedef {Required<Pick<api.InspectOptions, "what" | "top_k">>
 *   & { ids: Uint32Array | null, positions: number[] | null, query: number | null }} InspectRequest
 */
/** @typedef {api.Ablation & { ids: Uint32Array | null, top_k: number, max_tokens: number }} AblateRequest */

/** @param {api.InspectOptions} options @returns {InspectRequest} */
export function inspectRequest({ ids, what = [...INSPECT_PARTS], positions, top_k = 5, query }) {
  if (!Array.isArray(what)) checkOneOf("what", what, INSPECT_PARTS);
  for (const part of what) checkOneOf("what", part, INSPECT_PARTS);
  checkCount("top_k", top_k, 1, MAX_TOP_K);
  if (query !== undefined) checkCount("query", query, 0);
  return {
    ids: ids === undefined ? null : idsForWorker("ids", ids),
    what: [...what],
    positions: positions === undefined ? null : [...idsForWorker("positions", positions)],
    top_k,
    query: query ?? null,
  };
}

/** @param {api.AblateOptions} options @returns {AblateRequest} */
export function ablateRequest({ ids, block, part = "block", top_k = 5, max_tokens = 0 }) {
  checkCount("block", block, 0);
  checkOneOf("part", part, ["block", "shared"]);
  checkCount("top_k", top_k, 1, MAX_TOP_K);
  checkCount("max_tokens", max_tokens, 0, MAX_ABLATED_TOKENS);
  return { ids: ids === undefined ? null : idsForWorker("ids", ids), block, part, top_k, max_tokens };
}

/** @param {unknown} run */
export function runText(run) {
  if (run && typeof run === "object") return JSON.stringify(run);
  throw new Zamba2Error("bad_run", { field: "run", fact: fact("run_not_a_run") }, { next: "given" });
}
