// @ts-check
// A note that something was removed, with a button that restores it, shown for a few seconds.

import { button, element } from "./dom.js";
import { write } from "./words.js";

/** @import { Key } from "./words.js" */

export const UNDO_MS = 6_000;

export class UndoRow {
  #timer = 0;

  /**
   * @param {HTMLElement} place  with the role `status`
   * @param {HTMLElement} next  gets the focus when the button that has it goes
   */
  constructor(place, next) {
    this.place = place;
    this.next = next;
  }

  /** @param {Key} note @param {() => void} act */
  offer(note, act) {
    this.end();
    const said = element("span", "");
    const undo = button("", () => {
      this.end();
      act();
    });
    write(said, note);
    write(undo, "kept.undo");
    this.place.replaceChildren(said, " ", undo);
    this.#timer = window.setTimeout(() => this.end(), UNDO_MS);
  }

  end() {
    clearTimeout(this.#timer);
    if (this.place.contains(document.activeElement)) this.next.focus();
    this.place.replaceChildren();
  }
}
