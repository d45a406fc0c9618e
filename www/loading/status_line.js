// @ts-check
// The line that shows what the page is doing: a status, which is announced, and details beside it, which are not.

import { byId } from "../dom.js";
import { bytesText, countText, isKey, number, t, write } from "../words.js";
import { Arrival } from "./arrival.js";
import { LoadSpeed } from "./load_speed.js";
import { shortCommit } from "./storage_panel.js";

/** @import { LoadedInfo, LoadProgress } from "../engine/zamba2.d.ts" */
/** @import { Key, Values } from "../words.js" */

export class StatusLine {
  #status = byId("status");
  #detail = byId("status-detail");
  #arrival = new Arrival();
  #speed = new LoadSpeed();

  /** @param {Key} key @param {Values} [values] @param {string} [detail] */
  show(key, values, detail = "") {
    write(this.#status, key, values);
    this.detail(detail);
  }

  /** @param {string} text */
  detail(text) {
    this.#detail.textContent = text;
  }

  /** Whether `key` is the current status. @param {Key} key */
  shows(key) {
    return this.#status.dataset.t === key;
  }

  /**
   * @param {LoadProgress} progress @param {number} elapsed_ms
   * @param {boolean} running  a prompt is prefilled as blocks arrive
   */
  showProgress(progress, elapsed_ms, running) {
    if (progress.phase === "ready") return;
    const from_device = progress.phase === "weights" && progress.origin === "device";
    const key = running ? "status.early" : from_device ? "status.reading" : `status.${progress.phase}`;
    write(this.#status, /** @type {Key} */ (key));
    if (progress.phase !== "weights") return this.detail(this.#arrival.text(progress, "").replace(/^ · /, ""));
    const bytes_per_s = this.#speed.at(progress, elapsed_ms);
    const speed = bytes_per_s === null ? "" : t("status.speed", { speed: bytesText(bytes_per_s) });
    const left_s = bytes_per_s ? (progress.total_bytes - progress.loaded_bytes) / bytes_per_s : null;
    const left = left_s === null ? "" : t("status.left", { seconds: number(Math.ceil(left_s)) });
    this.detail(
      t("status.weights.detail", {
        ready: progress.blocks_ready,
        blocks: progress.n_blocks,
        loaded: bytesText(progress.loaded_bytes),
        total: bytesText(progress.total_bytes),
      })
        + speed
        + this.#arrival.text(progress, left),
    );
  }

  /** @param {LoadedInfo} info @param {number} weight_bytes */
  showReady(info, weight_bytes) {
    this.show(
      "status.ready",
      {},
      t("status.ready.detail", {
        bytes: bytesText(weight_bytes),
        seconds: number(info.timing.load_ms / 1000, 1),
        parameters: countText(info.parameters),
        weights: info.weights,
      })
        + (info.commit ? t("status.commit", { commit: shortCommit(info.commit) }) : "")
        + keepingText(info.keeping),
    );
  }
}

/** Whether the weights are stored on this device, as text. @param {LoadedInfo["keeping"]} keeping */
function keepingText({ state, reason }) {
  if (state === "off") return "";
  if (state === "kept") return t("status.kept");
  const key = `status.not_kept.${reason}`;
  return isKey(key) ? t(key) : t("status.not_kept", { reason: reason ?? "" });
}
