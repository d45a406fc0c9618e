// @ts-check
// Heat map of token × block time of the current run, a canvas that grows with each token: one pixel column per token,
// one row per block, scaled up by CSS. Bright means slower than the median of the block's type. Colours, finding and
// table rows come from charts/token_heat.js.

import { heatChannel, heatFinding, heatOfRatio, heatRows, kindMedians } from "../charts/token_heat.js";
import { number, t } from "../words.js";

/** @import { ModelInfo } from "../engine/zamba2.d.ts" */

const MAX_TOKENS = 512;
/** With fewer columns, CSS would scale each to a wide bar. */
const MIN_COLUMNS = 64;

export class HeatMap {
  /**
   * @param {{ canvas: HTMLCanvasElement, finding: HTMLElement, table: HTMLTableElement,
   *   details: HTMLDetailsElement }} parts
   */
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

  /** Setting the width clears the canvas, so all columns are drawn again; doubling makes that rare. */
  widen() {
    this.canvas.width *= 2;
    for (let at = 0; at < this.columns.length; at++) this.drawColumn(at);
  }

  /** @param {number} at */
  drawColumn(at) {
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const blocks_us = this.columns[at];
    const middle = kindMedians(blocks_us, this.kinds);
    const pixels = context.createImageData(1, blocks_us.length);
    blocks_us.forEach((us, row) => {
      const heat = heatOfRatio(us / (middle[this.kinds[row]] || 1));
      for (let channel = 0; channel < 3; channel++) pixels.data[row * 4 + channel] = heatChannel(heat, channel);
      pixels.data[row * 4 + 3] = 255;
    });
    context.putImageData(pixels, at, 0);
  }

  /** Writes the finding, which is also the text alternative of the canvas. */
  finish() {
    const any = this.columns.length > 0;
    this.details.hidden = !any;
    this.canvas.hidden = !any;
    const text = heatFinding(this);
    this.finding.textContent = text;
    this.canvas.setAttribute("aria-label", text);
    this.fillTable();
  }

  fillTable() {
    if (!this.details.open || this.columns.length === 0) return;
    const body = document.createElement("tbody");
    for (const { block, kind, median_ms, max_ms, share } of heatRows(this)) {
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
