// @ts-check
// Starts the package's worker script, also from another origin, and finds out why it did not start. Browsers do not
// say: a worker's error event has no message then.

import { SCRIPTS_ID } from "./built.js";
import { fact, Zamba2Error } from "./errors.js";
import { policyFault, watchPolicy } from "./policy.js";

/** Names of workers that are threads begin with it. */
export const THREAD = "zamba2-thread";

/** What the script is called in errors. */
const FILE = "zamba2_worker.js";

const EMBEDDER_POLICY = "Cross-Origin-Embedder-Policy";

/** Refuses runtimes that are no browser; importing the module there is harmless. */
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
    // A browser that does not know module workers does not read it, and would take the module for a classic script.
    get type() {
      reads_type = true;
      return /** @type {const} */ ("module");
    },
  };
  // Browsers start no worker from another origin, but one of this origin may import its script.
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

/** Whether a worker's first message shows that its script is of another version than this module. @param {any} data */
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
  // In a sandboxed frame every script is of another origin.
  const next = self.origin === "null" ? "frame" : null;
  const missing = (/** @type {string} */ detail) => new Zamba2Error("engine_missing", { file: FILE, detail }, { next });
  try {
    const response = await fetch(address, { cache: "no-store" });
    if (!response.ok) return missing(`${FILE} is answered with ${response.status}`);
    const type = response.headers.get("Content-Type") ?? "";
    // Hosts send their start page for a file that they do not have, and browsers run scripts of these types only.
    if (!/javascript|ecmascript/i.test(type)) return missing(`${FILE} is sent as ${type || "a file of unknown type"}`);
    // Another origin's script has the policy of the blob that imports it, which is the page's.
    if (crossOriginIsolated && new URL(address).origin === self.origin && !response.headers.get(EMBEDDER_POLICY)) {
      return missing(`${FILE} is sent without ${EMBEDDER_POLICY}, which workers of an isolated page need`);
    }
  } catch (cause) {
    return missing(/** @type {Error} */ (cause).message);
  }
  return new Zamba2Error("internal", { file: FILE, detail: message || FILE }, { next: "reload" });
}
