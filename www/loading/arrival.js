// @ts-check
// Texts for a load that is not receiving bytes: paused, or waiting before a retry.

import { number, t } from "../words.js";

/** @import { LoadProgress } from "../engine/zamba2.d.ts" */

/** Longer waits show a countdown. */
const COUNTED_MS = 3_000;

export class Arrival {
  /** Which wait is shown, and when it was first reported. */
  #wait = "";
  #since_ms = 0;

  /**
   * A part of the status line, which begins with " · " or is empty.
   * @param {LoadProgress} progress @param {string} otherwise  the text while bytes arrive
   */
  text({ paused, waiting }, otherwise) {
    if (paused) return t("status.paused");
    if (!waiting) return otherwise;
    const { reason, status, attempt, delay_ms } = waiting;
    const wait = JSON.stringify(waiting);
    if (wait !== this.#wait) {
      this.#wait = wait;
      this.#since_ms = performance.now();
    }
    if (reason === "status" && delay_ms >= COUNTED_MS) {
      const left_ms = Math.max(0, delay_ms - (performance.now() - this.#since_ms));
      return t("status.wait.later", { status: String(status), seconds: number(Math.ceil(left_ms / 1000)) });
    }
    return t(`status.wait.${reason}`, { attempt: number(attempt), status: String(status) });
  }
}
