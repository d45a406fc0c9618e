// @ts-check
// The runs that the Profile and Compare views share: those measured here, the last of which are stored on this device,
// and those opened from files. The engine computes the summaries, once per run.

import { summarise } from "../../pkg/zamba2.js";
import { currentLanguage, number, t } from "../words.js";
import { conditionsText } from "./conditions.js";
import { forgetRun, storedRuns, storeRun } from "./run_store.js";

/** @import { Run, Summary } from "../engine/zamba2.d.ts" */

/**
 * @typedef {object} ShelvedRun
 * @property {string} id
 * @property {number} n  in the order of arrival, from 1
 * @property {Run} run
 * @property {"here" | "file"} from
 * @property {Promise<number | null>} key  where it is stored; null if it is not
 * @property {Promise<Summary> | null} summary
 */

export class RunShelf {
  #n_added = 0;

  constructor() {
    /** @type {ShelvedRun[]} */
    this.runs = [];
    /** @type {(() => void)[]} */
    this.listeners = [];
    /** Resolves when the stored runs are on the shelf. */
    this.restored = this.#restore();
  }

  async #restore() {
    const stored = await storedRuns();
    for (const { key, run } of stored) this.#put(run, "here", Promise.resolve(key));
    if (stored.length > 0) this.#changed();
  }

  /** @param {Run} run @param {"here" | "file"} from */
  add(run, from) {
    const shelved = this.#put(run, from, from === "here" ? storeRun(run) : Promise.resolve(null));
    this.#changed();
    return shelved;
  }

  /** @param {ShelvedRun} shelved */
  async delete(shelved) {
    this.runs = this.runs.filter((one) => one !== shelved);
    this.#changed();
    const key = await shelved.key;
    if (key !== null) await forgetRun(key);
  }

  /** @param {Run} run @param {"here" | "file"} from @param {Promise<number | null>} key */
  #put(run, from, key) {
    this.#n_added += 1;
    const n = this.#n_added;
    /** @type {ShelvedRun} */
    const shelved = { id: `run-${n}`, n, run, from, key, summary: null };
    this.runs.push(shelved);
    return shelved;
  }

  #changed() {
    for (const listener of this.listeners) listener();
  }

  /** @param {ShelvedRun} shelved */
  summary(shelved) {
    shelved.summary ??= summarise(shelved.run);
    return shelved.summary;
  }

  /** @param {ShelvedRun} shelved */
  name({ n, run, from }) {
    const made = new Date(run.made_ms);
    /** @type {Intl.DateTimeFormatOptions} */
    const format =
      made.toDateString() === new Date().toDateString()
        ? { hour: "2-digit", minute: "2-digit" }
        : { dateStyle: "short", timeStyle: "short" };
    return t(`run.name.${from}`, {
      n: number(n),
      model: run.model.name,
      conditions: conditionsText(run.conditions),
      time: new Intl.DateTimeFormat(currentLanguage(), format).format(made),
    });
  }
}
