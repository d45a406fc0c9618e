// @ts-check
// The panel for one cell of the strip: type, size and recent time, and the block's part of the last profile. It keeps
// no data of its own.

import { bytesText, countText, figure, number, t } from "../words.js";
import { cellName } from "./strip.js";

/** @import { Cell, Strip } from "./strip.js" */

const REFRESH_MS = 500;

export class BlockPanel {
  /**
   * @param {HTMLElement} root @param {Strip} strip
   * @param {(block: number) => Node[]} profileOf the block's part of the last profile; empty without a profile
   */
  constructor(root, strip, profileOf) {
    this.root = root;
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

  /** @param {Cell} cell */
  open(cell) {
    this.at = this.strip.cells.indexOf(cell);
    this.root.hidden = false;
    this.render();
    this.renderProfile();
    this.title.focus();
    clearInterval(this.timer);
    this.timer = window.setInterval(() => this.render(), REFRESH_MS);
  }

  /** @param {boolean} [return_focus] whether focus returns to the strip */
  close(return_focus = true) {
    clearInterval(this.timer);
    if (this.root.hidden) return;
    this.root.hidden = true;
    if (return_focus && this.strip.cells.length) this.strip.focus(Math.min(this.at, this.strip.cells.length - 1));
  }

  /** @param {number} by */
  step(by) {
    const n = this.strip.cells.length;
    this.at = (this.at + by + n) % n;
    this.render();
    this.renderProfile();
  }

  /** Not part of `render`: a table that is replaced twice per second cannot be read or scrolled. */
  renderProfile() {
    const cell = this.strip.cells[this.at];
    const block = cell?.kind === "mamba" || cell?.kind === "hybrid" ? cell.index : null;
    if (!this.root.hidden) this.profile.replaceChildren(...(block === null ? [] : this.profileOf(block)));
  }

  render() {
    const cell = this.strip.cells[this.at];
    const info = this.strip.info;
    if (this.root.hidden || !cell || !info) return;
    this.title.textContent = cellName(cell);
    this.facts.replaceChildren(
      ...factsOf(cell, this.strip).map(([name, value]) => {
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

/** @param {Cell} cell @param {Strip} strip @returns {[string, string][]} */
function factsOf(cell, strip) {
  const info = /** @type {NonNullable<Strip["info"]>} */ (strip.info);
  const hybrids = strip.blocks.filter(({ kind }) => kind === "hybrid");
  /** @type {[string, string][]} */
  const facts = [];
  if (cell.kind === "E") facts.push([t("panel.kind"), t(info.tied ? "panel.kind.E" : "panel.kind.E.untied")]);
  else if (cell.kind === "S") {
    // Hybrid blocks call the shared transformers in turn.
    const callers = hybrids.filter((_, call) => call % info.n_shared_blocks === cell.index);
    facts.push([t("panel.kind"), t("panel.kind.S")], [t("panel.calls"), callers.map(({ index }) => index).join(", ")]);
  } else {
    facts.push([t("panel.kind"), t(`panel.kind.${cell.kind}`)]);
    if (cell.kind === "hybrid") {
      const call = hybrids.indexOf(cell);
      facts.push([
        t("panel.call"),
        t("panel.call.value", { call: call + 1, calls: hybrids.length, shared: call % info.n_shared_blocks }),
      ]);
    }
    facts.push([t("panel.ms"), cell.ms > 0 ? t("panel.ms.value", { ms: figure(cell.ms) }) : t("panel.ms.none")]);
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
