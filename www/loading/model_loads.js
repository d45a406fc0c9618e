// @ts-check
// Loads models, one at a time. The model in use is kept until the next one's configuration and headers have been read,
// so that a wrong address or file does not lose it; then its memory is needed.

import { open } from "../../pkg/zamba2.js";
import { kernelOptions, rememberKernels } from "./kernel_choice.js";

/** @import { DeviceEvent, LoadProgress, Model } from "../engine/zamba2.d.ts" */
/** @import { Choice } from "./model_picker.js" */

/** For readability only: the details beside the status are not a live region. */
const TICK_MS = 250;

/**
 * @typedef {object} LoadHooks
 * @property {() => void} onStart  a load begins, and nothing else has changed
 * @property {(choice: Choice) => void} onDrop  the model in use goes, because this one takes its place
 * @property {(model: Model, choice: Choice) => void} onTaken  the model that is loading is the one in use from now on
 * @property {(progress: LoadProgress, elapsed_ms: number) => void} onTick  also while nothing arrives
 * @property {(progress: LoadProgress) => void} onProgress  of the model in use
 * @property {(model: Model) => void} onReady
 * @property {(end: LoadEnd) => void} onEnded  a load has failed or was stopped
 * @property {(event: DeviceEvent) => void} onDevice
 * @property {() => void} onStored  what is stored on this device may have changed
 *
 * @typedef {object} LoadEnd
 * @property {unknown} thrown  null if it was stopped
 * @property {boolean} is_taken  the model before is gone
 * @property {() => void} again
 */

/** Whether two choices have the same stored weights. @param {Choice | null} a @param {Choice} b */
const areOfOneKey = (a, b) => a?.source === b.source && a.weights === b.weights;

export class ModelLoads {
  /** The loaded model. @type {Model | null} */
  model = null;
  /** The model that will replace it. @type {Model | null} */
  pending = null;
  /** How the model in use was chosen. @type {Choice | null} */
  choice = null;
  /** @type {AbortController | null} */
  #loading = null;

  /** @param {LoadHooks} hooks */
  constructor(hooks) {
    this.hooks = hooks;
  }

  get is_loading() {
    return this.#loading !== null;
  }

  stop() {
    this.#loading?.abort();
  }

  /**
   * @param {Choice} choice @param {"auto" | false} relaxed_simd
   * @param {boolean} [refresh]  newer files of the source replace stored ones
   */
  async load(choice, relaxed_simd, refresh = false) {
    this.#loading?.abort();
    const controller = new AbortController();
    this.#loading = controller;
    const { hooks } = this;
    hooks.onStart();
    const started_ms = performance.now();
    /** @type {LoadProgress | null} */
    let latest = null;
    const tick = () => latest && hooks.onTick(latest, performance.now() - started_ms);
    // On a timer, not on progress events: there are none while the network stalls, but the shown speed must fall.
    const ticking = setInterval(tick, TICK_MS);
    let is_taken = false;
    const take = () => {
      is_taken = true;
      this.#take(loaded, choice);
    };
    /** @type {Model} */
    let loaded;
    try {
      const { name: _, ...chosen } = choice;
      loaded = open({
        ...chosen,
        relaxedSimd: relaxed_simd,
        webgpu: kernelOptions(),
        refresh,
        signal: controller.signal,
        onProgress(progress) {
          if (controller.signal.aborted) return;
          if (!is_taken && progress.phase === "weights") take();
          if (is_taken) hooks.onProgress(progress);
          const is_new = progress.phase !== latest?.phase;
          latest = progress;
          if (is_new) tick();
        },
        onDevice: hooks.onDevice,
      });
      // Newer files would replace stored ones that the model in use still needs.
      if (!this.model || (refresh && areOfOneKey(this.choice, choice))) take();
      await loaded.ready;
      if (controller.signal.aborted) return loaded.dispose();
      this.#loading = null;
      this.pending = null;
      this.model = loaded;
      rememberKernels(loaded.info.adapter);
      hooks.onReady(loaded);
    } catch (thrown) {
      const is_stopped = controller.signal.aborted;
      // Another load has begun.
      if (is_stopped && this.#loading !== controller) return;
      this.#loading = null;
      this.pending = null;
      const again = () => void this.load(choice, relaxed_simd, refresh);
      hooks.onEnded({ thrown: is_stopped ? null : thrown, is_taken, again });
    } finally {
      clearInterval(ticking);
      hooks.onStored();
    }
  }

  /** Replaces the model in use: two models might not fit into memory. @param {Model} loaded @param {Choice} choice */
  #take(loaded, choice) {
    this.hooks.onDrop(choice);
    this.model?.dispose();
    this.model = null;
    this.pending = loaded;
    this.choice = choice;
    this.hooks.onTaken(loaded, choice);
  }
}
