// @ts-check
// The one error class of the JS module, and the plain form in which errors cross from the worker to the page.
// It stands below every other file of www/engine/. It does not translate, log or show anything.

/**
 * An error with a stable `code`, the file at fault (if one is) and one sentence on what to do next.
 */
export class Zamba2Error extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ file?: string | null, nextStep?: string, cause?: unknown }} [more]
   */
  constructor(code, message, { file = null, nextStep = "", cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "Zamba2Error";
    this.code = code;
    this.file = file;
    this.nextStep = nextStep;
  }
}

/**
 * @typedef {{ code: string, message: string, file: string | null, next_step: string }} ErrorReport
 *   The form that the wasm engine throws and that messages carry. `code` "aborted" stands for an AbortError.
 */

/** @param {unknown} value @returns {value is ErrorReport} */
export function isErrorReport(value) {
  return typeof value === "object" && value !== null && !(value instanceof Error)
    && typeof (/** @type {any} */ (value).code) === "string" && typeof (/** @type {any} */ (value).message) === "string";
}

/** @param {ErrorReport} report */
export function errorFromReport(report) {
  return new Zamba2Error(report.code, report.message, { file: report.file ?? null, nextStep: report.next_step });
}

/**
 * What a thrown value becomes in a message. A wasm trap loses its stack of Rust frames, so the panic text that the
 * hook wrote to the console is passed in: without it the reader would learn only "unreachable".
 * @param {unknown} thrown
 * @param {string | null} [panicText]
 * @returns {ErrorReport}
 */
export function reportFromThrown(thrown, panicText = null) {
  if (isErrorReport(thrown)) return { code: thrown.code, message: thrown.message, file: thrown.file ?? null, next_step: thrown.next_step };
  if (thrown instanceof Zamba2Error) return { code: thrown.code, message: thrown.message, file: thrown.file, next_step: thrown.nextStep };
  if (thrown instanceof DOMException && thrown.name === "AbortError") {
    return { code: "aborted", message: thrown.message, file: null, next_step: "" };
  }
  const text = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
  if (isOutOfMemory(thrown, panicText)) {
    return {
      code: "out_of_memory",
      message: `the browser gave no more memory (${text})`,
      file: null,
      next_step: "Load again with q4 weights, a smaller context or a smaller model.",
    };
  }
  return {
    code: "internal",
    message: `the engine stopped: ${panicText ?? text}`,
    file: null,
    next_step: "Reload the model. If it happens again, report it with the details.",
  };
}

/**
 * An allocation that fails inside wasm ends in the `unreachable` trap like a panic does, but the panic hook never
 * runs; the missing panic text is what tells the two apart.
 * @param {unknown} thrown
 * @param {string | null} panicText
 */
function isOutOfMemory(thrown, panicText) {
  if (thrown instanceof RangeError) return /memory|allocation|array (buffer )?length/i.test(thrown.message);
  return thrown instanceof WebAssembly.RuntimeError && /unreachable/i.test(thrown.message) && panicText === null;
}

/** After a trap the wasm memory may hold half-written state, so no later answer could be trusted. @param {ErrorReport} report */
export function isFatal(report) {
  return report.code === "internal" || report.code === "out_of_memory";
}

/** Whether the graphics device is what failed: the weights are gone with it, and the engine itself is sound. @param {ErrorReport} report */
export function isDeviceFault(report) {
  return ["device", "device_limit", "device_lost", "device_memory"].includes(report.code);
}
