// @ts-check
// The sheet behind "?": what this page is, its keys, and the backend in use.

import { byId } from "./dom.js";

export class HelpSheet {
  #sheet = byId("help-sheet");
  #button = byId("help");

  constructor() {
    this.#button.addEventListener("click", () => this.toggle());
    byId("close-help").addEventListener("click", () => this.toggle());
    this.#sheet.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.toggle();
    });
  }

  toggle() {
    const open = this.#sheet.hidden;
    this.#sheet.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    (open ? byId("help-title") : this.#button).focus();
  }
}
