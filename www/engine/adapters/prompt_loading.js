// @ts-check
// The model behind a `LanguageModel`: loaded by the first session that needs it, or by the page.

import { engineCode, explained } from "./refusals.js";
import { loaded } from "./runs.js";

/** @import { LoadProgress, Model } from "../zamba2.d.ts" */
/** @import * as api from "./prompt_api.d.ts" */

export class Loading {
  /** @type {api.ModelSource} */
  #source;
  /** @type {Promise<Model> | null} */
  #model = null;
  /** @type {Set<(fraction: number) => void>} */
  #listeners = new Set();

  /** @param {api.ModelSource} source */
  constructor(source) {
    this.#source = source;
    if (typeof source === "function") return;
    this.#model = loaded(source);
    // Sessions that need the model get this error.
    this.#model.catch(() => {});
  }

  /** @returns {Promise<api.Availability>} */
  async availability() {
    if (!this.#model) return "downloadable";
    const later = new Promise((resolve) => setTimeout(resolve, 0, "downloading"));
    const now = this.#model.then(({ info }) => (info.chat ? "available" : "unavailable"));
    try {
      return await /** @type {Promise<api.Availability>} */ (Promise.race([now, later]));
    } catch {
      return "unavailable";
    }
  }

  /** @param {(monitor: EventTarget) => void} [monitor] @returns {Promise<Model>} */
  async model(monitor) {
    const target = new EventTarget();
    monitor?.(target);
    let last = -1;
    const report = (/** @type {number} */ fraction) => {
      if (fraction <= last) return;
      last = fraction;
      target.dispatchEvent(
        new ProgressEvent("downloadprogress", { lengthComputable: true, loaded: fraction, total: 1 }),
      );
    };
    this.#listeners.add(report);
    try {
      report(0);
      const model = await (this.#model ??= this.#load());
      report(1);
      return model;
    } catch (error) {
      if (engineCode(error) === null) throw error;
      const is_network = ["http_status", "network"].includes(engineCode(error) ?? "");
      throw new DOMException(explained(error), is_network ? "NetworkError" : "OperationError");
    } finally {
      this.#listeners.delete(report);
    }
  }

  async #load() {
    const load = /** @type {api.ModelLoader} */ (this.#source);
    /** @param {LoadProgress} progress */
    const onProgress = ({ loaded_bytes, total_bytes }) => {
      // The end is reported when the model can be used.
      const fraction = total_bytes > 0 ? Math.min(loaded_bytes / total_bytes, 0.999) : 0;
      for (const listener of this.#listeners) listener(fraction);
    };
    try {
      return await loaded(load({ onProgress }));
    } catch (error) {
      // The next session loads again.
      this.#model = null;
      throw error;
    }
  }
}
