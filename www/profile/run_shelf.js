// @ts-check
// The runs of this session, measured here or opened from files, shared by the Profile and Compare views. The engine
// makes the summaries, once per run. Nothing is stored on the device.

import { summarise } from "../../pkg/zamba2.js";
import { currentLanguage, number, t } from "../words.js";
import { conditionsText } from "./conditions.js";

/** @import { Run, Summary } from "../engine/zamba2.d.ts" */

/** @typedef {{ id: string, run: Run, from: "here" | "file", summary: Promise<Summary> | null }} ShelvedRun */

export class RunShelf {
  constructor() {
    /** @type {ShelvedRun[]} */
    this.runs = [];
    /** @type {(() => void)[]} */
    this.listeners = [];
  }

  /** @param {Run} run @param {"here" | "file"} from */
  add(run, from) {
    /** @type {ShelvedRun} */
    const shelved = { id: `run-${this.runs.length + 1}`, run, from, summary: null };
    this.runs.push(shelved);
    for (const listener of this.listeners) listener();
    return shelved;
  }

  /** @param {ShelvedRun} shelved */
  summary(shelved) {
    shelved.summary ??= summarise(shelved.run);
    return shelved.summary;
  }

  /** @param {ShelvedRun} shelved */
  name(shelved) {
    const { run, from } = shelved;
    const time = new Intl.DateTimeFormat(currentLanguage(), { hour: "2-digit", minute: "2-digit" }).format(run.made_ms);
    return t(`run.name.${from}`, {
      n: number(this.runs.indexOf(shelved) + 1),
      model: run.model.name,
      conditions: conditionsText(run.conditions),
      time,
    });
  }
}
