// @ts-check
// Starts and ends the engine's threads from the page. The engine's worker requests them by message instead of starting
// them itself: in Firefox 153 `new Worker` inside a worker may block forever while other nested workers load, and with
// it the timers that would detect this.

import { isOtherVersion, moduleWorker, THREAD } from "./module_worker.js";

/**
 * What a thread needs.
 * @typedef {{ address: string, module: WebAssembly.Module, memory: WebAssembly.Memory }} SharedModule
 */

/** A worker starts in tens of milliseconds. After this time the engine runs with the threads that are ready. */
const START_MS = 5_000;
/** Time is counted in ticks, because a busy page receives no messages: no worker counts as late meanwhile. */
const TICK_MS = 100;

/** The workers that are the threads of one engine. */
export class Threads {
  #script;
  /** @type {Worker[]} */
  #workers = [];
  #ended = false;

  /** @param {string} script  the address of the workers' script */
  constructor(script) {
    this.#script = script;
  }

  /** Starts `n` threads; returns how many are running. @param {number} n @param {SharedModule} shared */
  async start(n, shared) {
    const started = await Promise.all(Array.from({ length: n }, (_, i) => this.#startOne(i + 1, shared)));
    const serving = this.#ended ? [] : started.filter((worker) => worker !== null);
    // Only now: a worker that was given up must never hold a lock in the shared memory.
    for (const worker of serving) worker.postMessage("serve");
    return serving.length;
  }

  end() {
    this.#ended = true;
    for (const worker of this.#workers.splice(0)) worker.terminate();
  }

  /** @param {number} number */
  #create(number) {
    if (this.#ended) return null;
    try {
      const worker = moduleWorker(this.#script, `${THREAD}-${number}`);
      this.#workers.push(worker);
      return worker;
    } catch {
      // A content security policy may forbid the worker; the engine then has fewer threads.
      return null;
    }
  }

  /** @param {number} number @param {SharedModule} shared @returns {Promise<Worker | null>} */
  #startOne(number, shared) {
    return new Promise((resolve) => {
      const worker = this.#create(number);
      if (!worker) return resolve(null);
      let ticks = 0;
      const ticking = setInterval(() => {
        ticks += 1;
        if (this.#ended || ticks * TICK_MS >= START_MS) settle(false);
      }, TICK_MS);
      /** @param {boolean} up */
      const settle = (up) => {
        clearInterval(ticking);
        if (!up) worker.terminate();
        resolve(up ? worker : null);
      };
      worker.onmessage = ({ data }) => {
        const is_new = data?.kind === "hello" && !isOtherVersion(data);
        if (is_new) worker.postMessage(shared);
        else settle(data === "ready");
      };
      worker.onerror = (event) => {
        event.preventDefault();
        settle(false);
      };
    });
  }
}
