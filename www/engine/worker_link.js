// @ts-check
// The page's end of the worker: numbered calls, each answered once, with events before the answer. The protocol is
// described in worker.js.

import { errorFromReport, fact, isFatal, Zamba2Error } from "./errors.js";
import { Threads } from "./start_threads.js";

/** @import { Calls, Events, MessageIn, MessageOut } from "./worker.js" */

/** Events of one call. @typedef {{ [E in keyof Events]?: (data: Events[E]) => void }} Listeners */

/**
 * @typedef {object} PendingCall
 * @property {(value: any) => void} resolve
 * @property {(error: unknown) => void} reject
 * @property {Listeners} on
 */

/** @param {AbortSignal | undefined} signal */
export const abortReason = (signal) => signal?.reason ?? new DOMException("The operation was aborted.", "AbortError");

/** The engine's worker, or why there is none. */
function startWorker() {
  let reads_type = false;
  /** @type {WorkerOptions} */
  const options = {
    name: "zamba2",
    // A browser that does not know module workers does not read it, and would take the module for a classic script.
    get type() {
      reads_type = true;
      return /** @type {const} */ ("module");
    },
  };
  let worker;
  try {
    worker = new Worker(new URL("./worker.js", import.meta.url), options);
  } catch (cause) {
    const detail = /** @type {Error} */ (cause).message;
    const next = self.origin === "null" ? "frame" : null;
    throw new Zamba2Error("engine_missing", { file: "worker.js", detail }, { next, cause });
  }
  if (reads_type) return worker;
  worker.terminate();
  throw new Zamba2Error("unsupported_browser", { fact: fact("no_module_workers") });
}

export class WorkerLink {
  #worker;
  #threads = new Threads();
  /** @type {Map<number, PendingCall>} */
  #pending = new Map();
  #next_id = 1;
  /** Why no further call can succeed. @type {Zamba2Error | null} */
  dead = null;
  /** Events of whatever call is in flight: the device was lost, the model is loaded again. @type {Listeners} */
  onAside = {};

  constructor() {
    this.#worker = startWorker();
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const detail = event.message || "worker.js";
      this.close(new Zamba2Error("internal", { file: "worker.js", detail }, { next: "reload" }));
    };
  }

  /** @param {MessageIn} message */
  post(message) {
    this.#worker.postMessage(message);
  }

  /**
   * @template {keyof Calls} K
   * @param {K} call @param {Parameters<Calls[K]>[0]} args @param {{ signal?: AbortSignal, on?: Listeners }} [options]
   * @returns {{ id: number, answer: Promise<ReturnType<Calls[K]>> }}
   */
  start(call, args, { signal, on = {} } = {}) {
    const id = this.#next_id++;
    const answer = new Promise((resolve, reject) => {
      if (this.dead) return reject(this.dead);
      if (signal?.aborted) return reject(abortReason(signal));
      const onAbort = () => {
        this.post({ kind: "abort", id });
        // The caller gets its rejection at once; the worker's own answer is ignored.
        if (this.#pending.delete(id)) reject(abortReason(signal));
      };
      const settled = () => signal?.removeEventListener("abort", onAbort);
      signal?.addEventListener("abort", onAbort);
      this.#pending.set(id, {
        on,
        resolve: (value) => {
          settled();
          resolve(value);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      });
      this.post(/** @type {MessageIn} */ ({ kind: "call", id, call, args }));
    });
    return { id, answer };
  }

  /** Ends the worker; every call in flight rejects with the reason. @param {Zamba2Error} reason */
  close(reason) {
    if (this.dead) return;
    this.dead = reason;
    this.#worker.terminate();
    this.#threads.end();
    for (const call of this.#pending.values()) call.reject(reason);
    this.#pending.clear();
  }

  /** @param {MessageOut} message */
  async #receive(message) {
    if (message.kind === "start_threads") {
      return this.post({ kind: "threads_up", n: await this.#threads.start(message.n, message.shared) });
    }
    if (message.kind === "event") {
      const { id, event, data } = message;
      const listeners = event === "device" || event === "reload" ? this.onAside : this.#pending.get(id)?.on;
      return listeners?.[event]?.(data);
    }
    const call = this.#pending.get(message.id);
    if (!call) return;
    this.#pending.delete(message.id);
    if (message.kind === "value") return call.resolve(message.value);
    const { error } = message;
    if (error.code === "aborted") return call.reject(abortReason(undefined));
    const thrown = errorFromReport(error);
    call.reject(thrown);
    if (isFatal(error)) this.close(thrown);
  }
}
