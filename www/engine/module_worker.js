// @ts-check
// Starts the package's worker script, also from another origin, and finds out why it did not start: browsers do not
// report it, because a worker's error event has no message in that case.

import { SCRIPTS_ID } from "./built.js";
import { fact, Zamba2Error } from "./errors.js";
import { policyFault, watchPolicy } from "./policy.js";

/** @import { ErrorFact } from "./zamba2.d.ts" */

/** Prefix of the names of workers that are threads. */
export const THREAD = "zamba2-thread";

/** The script's name in errors. */
const FILE = "zamba2_worker.js";

const EMBEDDER_POLICY = "Cross-Origin-Embedder-Policy";

/** Throws in runtimes that are not browsers; importing the module there is harmless. */
export function checkBrowser() {
  if (typeof Worker !== "function" || typeof location !== "object") throw new Zamba2Error("browsers_only");
}

/**
 * A worker that runs the script at `address`.
 * @param {string} address @param {string} name
 */
export function moduleWorker(address, name) {
  watchPolicy();
  let reads_type = false;
  /** @type {WorkerOptions} */
  const options = {
    name,
    // Read only by browsers that support module workers; others would run the module as a classic script.
    get type() {
      reads_type = true;
      return /** @type {const} */ ("module");
    },
  };
  // Browsers start no worker from another origin, but a script of this origin may import one.
  const is_own = new URL(address).origin === self.origin;
  const script = is_own ? address : URL.createObjectURL(importing(address));
  const worker = new Worker(script, options);
  if (!is_own) worker.addEventListener("message", () => URL.revokeObjectURL(script), { once: true });
  if (reads_type) return worker;
  worker.terminate();
  throw new Zamba2Error("unsupported_browser", { fact: fact("no_module_workers") });
}

/** @param {string} address */
const importing = (address) => new Blob([`import ${JSON.stringify(address)};`], { type: "text/javascript" });

/** Whether a worker's first message shows that its script is of another version. @param {any} data */
export const isOtherVersion = (data) => data?.kind === "hello" && data.scripts_id !== SCRIPTS_ID;

/** The error for files of two versions. @param {string} file */
export const outdated = (file = FILE) => new Zamba2Error("outdated", { file });

/** Why a worker could not be created. @param {string} address @param {unknown} cause */
export async function refusedWorker(address, cause) {
  const detail = /** @type {Error} */ (cause).message;
  const next = self.origin === "null" ? "frame" : null;
  return (await blocked(address)) ?? new Zamba2Error("engine_missing", { file: FILE, detail }, { next, cause });
}

/** @param {string} address */
const blocked = async (address) => (await policyFault(FILE, address)) ?? (await policyFault(FILE, "blob:"));

/**
 * Why a script did not start.
 * @param {string} address @param {string} message  of the worker's error event, often empty
 */
export async function failedWorker(address, message) {
  const policy = await blocked(address);
  if (policy) return policy;
  // In a sandboxed frame every script has another origin.
  const next = self.origin === "null" ? "frame" : null;
  const missing = (/** @type {ErrorFact} */ detail) =>
    new Zamba2Error("engine_missing", { file: FILE, detail }, { next });
  try {
    const response = await fetch(address, { cache: "no-store" });
    if (!response.ok) return missing(fact("answered_with", { file: FILE, status: response.status }));
    const type = response.headers.get("Content-Type") ?? "";
    // Some hosts send their start page for missing files, and browsers run scripts of JavaScript types only.
    if (!/javascript|ecmascript/i.test(type)) {
      return missing(type ? fact("sent_as", { file: FILE, type }) : fact("sent_without_type", { file: FILE }));
    }
    // A script of another origin has the policy of the blob that imports it, which is the page's.
    if (crossOriginIsolated && new URL(address).origin === self.origin && !response.headers.get(EMBEDDER_POLICY)) {
      return missing(fact("sent_without_policy", { file: FILE, header: EMBEDDER_POLICY }));
    }
  } catch (cause) {
    return missing(/** @type {Error} */ (cause).message);
  }
  return new Zamba2Error("internal", { file: FILE, detail: message || FILE }, { next: "reload" });
}
