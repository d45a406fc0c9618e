// @ts-check
// The list of the runs measured here: each can be shown again or deleted.

import { element, namedButton } from "../dom.js";
import { number, t } from "../words.js";
import { STORED_RUNS } from "./run_store.js";

/** @import { RunShelf, ShelvedRun } from "./run_shelf.js" */

export class KeptRuns {
  root = element("div", "");

  /**
   * @param {RunShelf} shelf
   * @param {{ onShow: (run: ShelvedRun) => void, onDelete: (run: ShelvedRun) => void }} hooks
   */
  constructor(shelf, hooks) {
    this.shelf = shelf;
    this.hooks = hooks;
    this.root.id = "profile-kept";
    shelf.listeners.push(() => this.draw());
  }

  /** Also called when the language changes. */
  draw() {
    const runs = this.shelf.runs.filter(({ from }) => from === "here").reverse();
    this.root.hidden = runs.length === 0;
    const title = element("p", "note", t("profile.kept.title", { n: number(STORED_RUNS) }));
    this.root.replaceChildren(title, element("ul", "kept", ...runs.map((run) => this.item(run))));
  }

  /** @param {ShelvedRun} shelved */
  item(shelved) {
    const run = this.shelf.name(shelved);
    const show = namedButton(t("profile.kept.show"), t("profile.kept.show.name", { run }), () =>
      this.hooks.onShow(shelved),
    );
    const remove = namedButton(t("profile.kept.delete"), t("profile.kept.delete.name", { run }), () =>
      this.hooks.onDelete(shelved),
    );
    return element("li", "", `${run} `, show, " ", remove);
  }
}
