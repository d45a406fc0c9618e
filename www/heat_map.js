// @ts-check
// Token × block time as a canvas: one pixel column per token, one row per block, scaled up by CSS. Bright means slower
// than the median of the block's own kind. It stands on strings.js and statistics.js; the same figures are in a table.

import { figure, number, t } from "./strings.js";
import { median } from "./statistics.js";

/** @import { ModelInfo } from "./engine/zamba2.d.ts" */

const MAX_TOKENS = 512;
/** From the median (dark) to twice the median (bright), dark enough at rest to be quiet on both themes. */
const COLD = [36, 52, 71];
const WARM = [255, 214, 51];
/** Fewer columns than this would be drawn as wide bars and look like a chart of something else. */
const MIN_COLUMNS = 64;

export class HeatMap {
  /** @param {{ canvas: HTMLCanvasElement, finding: HTMLElement, table: HTMLTableElement, details: HTMLDetailsElement }} parts */
  constructor({ canvas, finding, table, details }) {
    this.canvas = canvas;
    this.finding = finding;
    this.table = table;
    this.details = details;
    /** @type {Float32Array[]} */
    this.columns = [];
    /** @type {ModelInfo["kinds"]} */
    this.kinds = [];
    details.addEventListener("toggle", () => this.fillTable());
    this.finish();
  }

  /** @param {ModelInfo["kinds"]} kinds */
  start(kinds) {
    this.kinds = kinds;
    this.columns = [];
    this.canvas.width = MIN_COLUMNS;
    this.canvas.height = Math.max(1, kinds.length);
    this.finish();
  }

  /** @param {Float32Array} blocks_us */
  token(blocks_us) {
    if (blocks_us.length !== this.kinds.length || this.columns.length === MAX_TOKENS) return;
    this.columns.push(blocks_us);
    if (this.columns.length > this.canvas.width) this.widen();
    this.drawColumn(this.columns.length - 1);
  }

  /** Setting the width clears the canvas, so the past is drawn again; doubling makes that rare. */
  widen() {
    this.canvas.width *= 2;
    for (let at = 0; at < this.columns.length; at++) this.drawColumn(at);
  }

  /** @param {number} at */
  drawColumn(at) {
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const blocks_us = this.columns[at];
    const middle = {
      mamba: median([...blocks_us].filter((_, i) => this.kinds[i] === "mamba")),
      hybrid: median([...blocks_us].filter((_, i) => this.kinds[i] === "hybrid")),
    };
    const pixels = context.createImageData(1, blocks_us.length);
    blocks_us.forEach((us, row) => {
      const ratio = us / (middle[this.kinds[row]] || 1);
      const heat = Math.min(1, Math.max(0, ratio - 0.8) / 1.2);
      for (let channel = 0; channel < 3; channel++) {
        pixels.data[row * 4 + channel] = COLD[channel] + heat * (WARM[channel] - COLD[channel]);
      }
      pixels.data[row * 4 + 3] = 255;
    });
    context.putImageData(pixels, at, 0);
  }

  /** Each block over the tokens shown. */
  rows() {
    const totals_us = this.kinds.map((_, block) => this.columns.reduce((sum, us) => sum + us[block], 0));
    const all_us = totals_us.reduce((sum, us) => sum + us, 0);
    return this.kinds.map((kind, block) => ({
      block,
      kind,
      median_ms: median(this.columns.map((us) => us[block])) / 1000,
      max_ms: this.columns.reduce((most, us) => Math.max(most, us[block]), 0) / 1000,
      share: totals_us[block] / all_us,
    }));
  }

  /** Writes the one-sentence finding, which is also the picture's text alternative. */
  finish() {
    const any = this.columns.length > 0;
    this.details.hidden = !any;
    this.canvas.hidden = !any;
    let text = t("heat.none");
    if (any) {
      const slowest = this.rows().reduce((a, b) => (b.median_ms > a.median_ms ? b : a));
      text = t("heat.finding", { block: slowest.block, ms: figure(slowest.median_ms), tokens: number(this.columns.length) });
    }
    this.finding.textContent = text;
    this.canvas.setAttribute("aria-label", text);
    this.fillTable();
  }

  fillTable() {
    if (!this.details.open || this.columns.length === 0) return;
    const body = document.createElement("tbody");
    for (const { block, kind, median_ms, max_ms, share } of this.rows()) {
      const row = body.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = String(block);
      row.append(head);
      row.insertCell().textContent = t(kind === "hybrid" ? "panel.kind.hybrid" : "panel.kind.mamba");
      row.insertCell().textContent = number(median_ms, 3);
      row.insertCell().textContent = number(max_ms, 3);
      row.insertCell().textContent = `${number(share * 100, 1)} %`;
    }
    this.table.tBodies[0]?.remove();
    this.table.append(body);
  }
}
