// @ts-check
// The page's end of the connection to the worker: numbered calls, each answered once, with events before the answer.
// The protocol is described in worker.js.

import { errorFromReport, isFatal, Zamba2Error } from "./errors.js";
import { checkBrowser, failedWorker, isOtherVersion, moduleWorker, outdated, refusedWorker } from "./module_worker.js";
import { Threads } from "./start_threads.js";

/** @import { EngineFiles } from "./assets.js" */
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

export class WorkerLink {
  #files;
  /** @type {Worker | null} */
  #worker = null;
  #threads;
  /** Messages until the worker's script has started; null afterwards. @type {MessageIn[] | null} */
  #unsent = [];
  /** @type {Map<number, PendingCall>} */
  #pending = new Map();
  #next_id = 1;
  /** The reason if no further call can succeed. @type {Zamba2Error | null} */
  dead = null;
  /** Events of any call in flight: the device was lost, the model is loaded again. @type {Listeners} */
  onAside = {};

  /** @param {EngineFiles} files */
  constructor(files) {
    checkBrowser();
    this.#files = files;
    this.#threads = new Threads(files.worker);
    try {
      this.#worker = moduleWorker(files.worker, "zamba2");
    } catch (thrown) {
      if (thrown instanceof Zamba2Error) throw thrown;
      void refusedWorker(files.worker, thrown).then((fault) => this.close(fault));
      return;
    }
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = async (event) => {
      event.preventDefault();
      const has_started = this.#unsent === null;
      const values = { file: "worker.js", detail: event.message || "worker.js" };
      this.close(
        has_started
          ? new Zamba2Error("internal", values, { next: "reload" })
          : await failedWorker(files.worker, event.message),
      );
    };
  }

  /** @param {MessageIn} message */
  post(message) {
    // Cloned as if it were sent now, because the caller may change its arguments.
    if (this.#unsent) this.#unsent.push(structuredClone(message));
    else this.#worker?.postMessage(message);
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
        // The caller gets its rejection at once; the worker's answer is ignored.
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
    this.#worker?.terminate();
    this.#threads.end();
    for (const call of this.#pending.values()) call.reject(reason);
    this.#pending.clear();
  }

  /** @param {MessageOut} message */
  async #receive(message) {
    if (message.kind === "hello") {
      if (isOtherVersion(message)) return this.close(outdated());
      const unsent = this.#unsent ?? [];
      this.#unsent = null;
      this.post({ kind: "files", builds: this.#files.builds });
      return unsent.forEach((earlier) => this.post(earlier));
    }
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
