// @ts-check
// The panel for one cell of the strip: type, size and recent time, and the block's part of the last profile. It opens
// below the strip, or below the part of a profile that it is opened from. It keeps no data of its own.

import { bytesText, countText, figure, number, t } from "../words.js";
import { cellName } from "./strip.js";

/** @import { Cell, Strip } from "./strip.js" */

const REFRESH_MS = 500;
/** The elements of a profile below which the panel may open: a card, or a row of cards. */
const PARTS = "#profile-result > *";

export class BlockPanel {
  /**
   * @param {HTMLElement} root @param {Strip} strip
   * @param {(block: number) => Node[]} profileOf the block's part of the last profile; empty without a profile
   */
  constructor(root, strip, profileOf) {
    this.root = root;
    this.place = /** @type {Element} */ (root.previousElementSibling);
    /**
     * What the panel was opened from, other than the strip, and the scroll position at that time.
     * @type {{ element: Element, part: HTMLElement, y: number } | null}
     */
    this.opener = null;
    this.strip = strip;
    this.profileOf = profileOf;
    this.profile = /** @type {HTMLElement} */ (root.querySelector("#block-profile"));
    this.at = 0;
    this.timer = 0;
    this.title = /** @type {HTMLElement} */ (root.querySelector("h2"));
    this.facts = /** @type {HTMLElement} */ (root.querySelector("dl"));
    root.querySelector("[data-act=previous]")?.addEventListener("click", () => this.step(-1));
    root.querySelector("[data-act=next]")?.addEventListener("click", () => this.step(1));
    root.querySelector("[data-act=close]")?.addEventListener("click", () => this.close());
    root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
    });
  }

  /** @param {Cell} cell @param {Element} [element] in the part of a view that the panel opens below */
  open(cell, element) {
    const part = /** @type {HTMLElement | null} */ (element?.closest(PARTS) ?? null);
    this.opener = element && part ? { element, part, y: window.scrollY } : null;
    (part ?? this.place).after(this.root);
    this.at = this.strip.cells.indexOf(cell);
    this.root.hidden = false;
    this.render();
    if (this.opener) {
      this.title.focus({ preventScroll: true });
      this.root.scrollIntoView({ block: "nearest" });
    } else {
      this.title.focus();
    }
    clearInterval(this.timer);
    this.timer = window.setInterval(() => this.renderFacts(), REFRESH_MS);
  }

  /** @param {boolean} [return_focus] whether focus and scroll position return to what the panel was opened from */
  close(return_focus = true) {
    clearInterval(this.timer);
    if (this.root.hidden) return;
    this.root.hidden = true;
    const { opener } = this;
    this.opener = null;
    this.place.after(this.root);
    if (!return_focus) return;
    if (opener) this.returnTo(opener);
    else if (this.strip.cells.length) this.strip.focus(Math.min(this.at, this.strip.cells.length - 1));
  }

  /** @param {NonNullable<BlockPanel["opener"]>} opener */
  returnTo({ element, part, y }) {
    // A bar is not focusable, and a table may have been sorted since: then the part as a whole gets the focus.
    if (element.isConnected && element instanceof HTMLElement) {
      element.focus({ preventScroll: true });
    } else {
      part.tabIndex = -1;
      part.focus({ preventScroll: true });
    }
    window.scrollTo({ top: y, behavior: "instant" });
  }

  /** @param {number} by */
  step(by) {
    const n = this.strip.cells.length;
    this.at = (this.at + by + n) % n;
    this.render();
  }

  render() {
    this.renderProfile();
    this.renderFacts();
  }

  /** Kept apart from the facts, which are replaced twice per second: a replaced table cannot be read or scrolled. */
  renderProfile() {
    const cell = this.strip.cells[this.at];
    const block = cell?.kind === "mamba" || cell?.kind === "hybrid" ? cell.index : null;
    if (!this.root.hidden) this.profile.replaceChildren(...(block === null ? [] : this.profileOf(block)));
  }

  renderFacts() {
    const cell = this.strip.cells[this.at];
    const info = this.strip.info;
    if (this.root.hidden || !cell || !info) return;
    this.title.textContent = cellName(cell);
    this.facts.replaceChildren(
      ...factsOf(cell, this.strip, this.profile.childElementCount > 0).map(([name, value]) => {
        const row = document.createElement("div");
        const term = document.createElement("dt");
        const detail = document.createElement("dd");
        term.textContent = name;
        detail.textContent = value;
        row.append(term, detail);
        return row;
      }),
    );
  }
}

/** @param {Cell} cell @param {Strip} strip @param {boolean} is_profiled @returns {[string, string][]} */
function factsOf(cell, strip, is_profiled) {
  const info = /** @type {NonNullable<Strip["info"]>} */ (strip.info);
  /** @param {number | null} shared */
  const callersOf = (shared) => strip.blocks.filter(({ index }) => info.shared_of_block[index] === shared);
  /** @type {[string, string][]} */
  const facts = [];
  if (cell.kind === "E") facts.push([t("panel.kind"), t(info.tied ? "panel.kind.E" : "panel.kind.E.untied")]);
  else if (cell.kind === "S") {
    const callers = callersOf(cell.index).map(({ index }) => index);
    facts.push([t("panel.kind"), t("panel.kind.S")], [t("panel.calls"), callers.join(", ")]);
  } else {
    facts.push([t("panel.kind"), t(`panel.kind.${cell.kind}`)]);
    const shared = info.shared_of_block[cell.index];
    if (shared !== null) {
      const callers = callersOf(shared);
      const call = callers.indexOf(cell) + 1;
      facts.push([t("panel.call"), t("panel.call.value", { call, calls: callers.length, shared })]);
    }
    if (cell.ms > 0) facts.push([t("panel.ms"), t("panel.ms.value", { ms: figure(cell.ms) })]);
    else if (!is_profiled) facts.push([t("panel.ms"), t("panel.ms.none")]);
    if (cell.ms > 0) facts.push([t("panel.ratio"), t("panel.ratio.value", { ratio: number(cell.ratio, 2) })]);
  }
  if (cell.bytes > 0) {
    facts.push([t("panel.bytes"), bytesText(cell.bytes)]);
    // Usually all tensors of a checkpoint have one dtype, so the share of bytes is the share of parameters.
    const total_bytes = strip.cells.reduce((sum, { bytes }) => sum + bytes, 0);
    const share = cell.bytes / total_bytes;
    facts.push([
      t("panel.parameters"),
      t("panel.parameters.value", { parameters: countText(share * info.parameters), percent: number(share * 100, 1) }),
    ]);
  }
  return facts;
}
