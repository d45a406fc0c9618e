// @ts-check
// The one error class of the module, and the plain form `{ code, values }` in which errors are sent from the worker to
// the page. Messages are English; other languages are rendered from code and values.

/** @import { ErrorCode, ErrorFact, ErrorValues } from "./zamba2.d.ts" */

/**
 * @typedef {{ code: ErrorCode | "aborted", values: ErrorValues, next?: string | null }} ErrorReport
 *   The form that the wasm engine throws and that messages carry. `code` "aborted" stands for an AbortError.
 */

/** After these errors the wasm memory may be in an inconsistent state, so later results cannot be trusted. */
const FATAL = new Set(["internal", "out_of_memory"]);
/** Faults of the graphics device: the weights on it are lost, but the engine itself is intact. */
const DEVICE_FAULTS = new Set(["device", "device_limit", "device_lost", "device_memory"]);

/** English sentences by key. @type {Record<string, string>} */
let sentences = {};

/**
 * Sets the sentences of error messages. The page's module does it; workers have none, because the page renders their
 * errors.
 * @param {Record<string, string>} words
 */
export function useSentences(words) {
  sentences = words;
}

/** An error with a stable code, its values, and what to do next. */
export class Zamba2Error extends Error {
  /**
   * @param {ErrorCode} code
   * @param {ErrorValues} [values]  the placeholders of the sentence `error.<code>`
   * @param {{ next?: string | null, cause?: unknown }} [more]  `next` names one of the code's other next steps
   */
  constructor(code, values = {}, { next = null, cause } = {}) {
    super(sentence(code, values), cause === undefined ? undefined : { cause });
    this.name = "Zamba2Error";
    this.code = code;
    this.values = values;
    this.next = next;
  }

  /** The file that the error is about, if there is one. */
  get file() {
    return typeof this.values.file === "string" ? this.values.file : null;
  }

  /** Whether the engine is unusable: every further call would fail. */
  get fatal() {
    return isFatal(this);
  }

  get nextStep() {
    const key = `error.${this.code}.next`;
    return fill(sentences[this.next ? `${key}.${this.next}` : key] ?? "", this.values);
  }
}

/** @param {string} code @param {ErrorValues} values */
function sentence(code, values) {
  const text = fill(sentences[`error.${code}`] ?? code, values);
  return "attempts" in values ? text + fill(sentences["fact.attempts"] ?? "", values) : text;
}

/** Like `english` in src/base/error.rs. @param {string} template @param {ErrorValues} values @returns {string} */
function fill(template, values) {
  return template.replace(/\{(\w+)(:size)?\}/g, (_, name, size) => {
    const value = values[name];
    if (size) return `${(Number(value) / 1e9).toFixed(2)} GB`;
    if (Array.isArray(value)) return `[${value.join(", ")}]`;
    if (typeof value !== "object" || value === null) return String(value);
    return fill(sentences[`fact.${value.id}`] ?? value.id, /** @type {ErrorValues} */ (value));
  });
}

/** A reason as a value: the sentence `fact.<id>`. @param {string} id @param {Record<string, unknown>} [values] */
export function fact(id, values = {}) {
  return /** @type {ErrorFact} */ ({ id, ...values });
}

/** @param {string} name  the option @param {ErrorFact} why @param {{ next?: string, cause?: unknown }} [more] */
export function badOption(name, why, more) {
  return new Zamba2Error("bad_option", { name, fact: why }, more);
}

/** @param {unknown} value @returns {value is ErrorReport} */
export function isErrorReport(value) {
  return (
    typeof value === "object"
    && value !== null
    && !(value instanceof Error)
    && typeof (/** @type {any} */ (value).code) === "string"
    && typeof (/** @type {any} */ (value).values) === "object"
  );
}

/** @param {ErrorReport} report */
export function errorFromReport({ code, values, next }) {
  return new Zamba2Error(/** @type {ErrorCode} */ (code), values, { next });
}

/**
 * The message for a thrown value. A wasm trap says only "unreachable", so the text of the panic before it is passed in.
 * @param {unknown} thrown
 * @param {string | null} [panic]
 * @returns {ErrorReport}
 */
export function reportFromThrown(thrown, panic = null) {
  if (isErrorReport(thrown)) return { code: thrown.code, values: thrown.values, next: thrown.next ?? null };
  if (thrown instanceof Zamba2Error) return { code: thrown.code, values: thrown.values, next: thrown.next };
  if (thrown instanceof DOMException && thrown.name === "AbortError") return { code: "aborted", values: {} };
  const text = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
  if (isOutOfMemory(thrown, panic)) return { code: "out_of_memory", values: { detail: text } };
  return { code: "internal", values: { detail: panic ?? text } };
}

/**
 * A failed allocation inside wasm ends in the `unreachable` trap, like a panic, but without a panic's text.
 * @param {unknown} thrown
 * @param {string | null} panic
 */
function isOutOfMemory(thrown, panic) {
  if (thrown instanceof RangeError) return /memory|allocation|array (buffer )?length/i.test(thrown.message);
  return thrown instanceof WebAssembly.RuntimeError && /unreachable/i.test(thrown.message) && panic === null;
}

/** @param {{ code: string }} error */
export const isFatal = ({ code }) => FATAL.has(code);

/** @param {{ code: string }} error */
export const isDeviceFault = ({ code }) => DEVICE_FAULTS.has(code);
