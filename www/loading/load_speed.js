// @ts-check
// The speed of a load: the mean over the last seconds, so that it follows the connection. It is reset after a pause,
// and when the origin of the bytes changes: this device is much faster than the network.

const WINDOW_MS = 5_000;
/** Over a shorter time the speed would be noise. */
const LEAST_MS = 300;

/** @import { LoadProgress } from "../engine/zamba2.d.ts" */

export class LoadSpeed {
  /** @type {{ ms: number, bytes: number }[]} */
  #samples = [];
  /** @type {LoadProgress["origin"]} */
  #origin = null;

  /**
   * Bytes per second; null while the load is paused or waits for a retry, and until it is known.
   * @param {Pick<LoadProgress, "loaded_bytes" | "origin" | "paused" | "waiting">} progress
   * @param {number} ms  since the load began
   */
  at({ loaded_bytes: bytes, origin, paused, waiting }, ms) {
    const last = this.#samples.at(-1);
    const is_another = origin !== this.#origin || (last && (ms < last.ms || bytes < last.bytes));
    if (is_another || paused || waiting) this.#samples = [];
    this.#origin = origin;
    if (paused || waiting) return null;
    this.#samples.push({ ms, bytes });
    while (ms - this.#samples[0].ms > WINDOW_MS) this.#samples.shift();
    const [first] = this.#samples;
    return ms - first.ms >= LEAST_MS ? (bytes - first.bytes) / ((ms - first.ms) / 1000) : null;
  }
}
