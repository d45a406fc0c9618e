// @ts-check
// The waits of the worker that messages control: a paused load, back-pressure of pieces, and yielding to messages.

/** Pauses a load until the user resumes it. */
export class PauseGate {
  /** @type {Promise<void> | null} */
  #pause = null;
  #resume = () => {};

  /** @param {boolean} paused */
  set(paused) {
    if (paused === (this.#pause !== null)) return;
    if (paused) {
      this.#pause = new Promise((resolve) => (this.#resume = resolve));
    } else {
      this.#pause = null;
      this.#resume();
    }
  }

  /** Waits while the load is paused. @param {AbortSignal} signal  ends the wait, too */
  async opened(signal) {
    if (!this.#pause) return;
    const aborted = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    await Promise.race([this.#pause, aborted]);
  }
}

/** Back-pressure: generation waits until the page has consumed the piece before the last one. */
export class PieceGate {
  #n_read = 0;
  /** @type {(() => void) | null} */
  #wake = null;

  /** The page has consumed a piece. */
  read() {
    this.#n_read += 1;
    this.#wake?.();
  }

  /** Nothing consumes pieces any more: all waits end. */
  open() {
    this.#n_read = Infinity;
    this.#wake?.();
  }

  /**
   * Waits until piece `index` may be generated. Being one piece ahead of the page is enough to overlap work, and at
   * most that one is wasted by an abort.
   * @param {number} index
   */
  async opened(index) {
    while (this.#n_read < index - 1) await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
  }
}

const channel = new MessageChannel();
/** @type {(() => void)[]} */
const yielding = [];
channel.port1.onmessage = () => yielding.shift()?.();

/**
 * Yields to waiting messages. A message port is a macrotask without the 4 ms minimum of nested timeouts.
 * @returns {Promise<void>}
 */
export function yieldToMessages() {
  return new Promise((resolve) => {
    yielding.push(resolve);
    channel.port2.postMessage(0);
  });
}
