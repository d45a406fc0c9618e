// @ts-check
// Measures how long the page is hidden. Only the page can do this; in a worker nothing is counted.

export class HiddenTime {
  #total_ms = 0;
  /** @type {number | null} */
  #since_ms = null;
  #watch = () => {
    if (globalThis.document?.hidden) this.#since_ms ??= performance.now();
    else this.#add();
  };

  constructor() {
    globalThis.document?.addEventListener("visibilitychange", this.#watch);
    this.#watch();
  }

  #add() {
    if (this.#since_ms !== null) this.#total_ms += performance.now() - this.#since_ms;
    this.#since_ms = null;
  }

  stop() {
    globalThis.document?.removeEventListener("visibilitychange", this.#watch);
    this.#add();
    return this.#total_ms;
  }
}
