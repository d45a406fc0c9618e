// @ts-check
// The block strip: shows progress while the model loads and block times while it generates; a click opens a block.
// Progress and times come from the engine through main.js.

import { PacedFrame } from "../paced_frame.js";
import { figure, number, t } from "../words.js";
import { median } from "../statistics.js";

/** @import { LoadProgress, ModelInfo } from "../engine/zamba2.d.ts" */

/**
 * A block's time is the median over this many tokens. A mean would be dominated by preemptions, which take many times
 * as long as a block.
 */
const WINDOW_TOKENS = 8;
/** Smaller deviations are noise of the timer and of other load on the machine. */
const TINT_FROM_RATIO = 1.05;
/** At twice the median the tint is full. */
const TINT_FULL_RATIO = 2;
/** A stronger tint would drop the cell's number below 4.5:1 contrast in dark mode. */
const TINT_MAX_PERCENT = 38;
/** During loading and prefill, only one or two cells change at a time. */
const DRAW_INTERVAL_MS = 100;
/** During decode all cells change, on the same cores that compute the next token. */
const LIVE_INTERVAL_MS = 400;

/**
 * @typedef {object} Cell
 * @property {HTMLButtonElement} button
 * @property {"E" | "S" | "mamba" | "hybrid"} kind
 * @property {number} index  of the block or of the shared transformer
 * @property {string} unit  the name in load progress
 * @property {"absent" | "receiving" | "ready" | "error"} state
 * @property {number} received  share of its bytes, 0 to 1
 * @property {number} bytes  in the checkpoint; 0 until known
 * @property {number[]} recent_ms  its times for the last tokens
 * @property {number} ms  their median; 0 before the first token
 * @property {number} ratio  ms over the median of its kind
 * @property {string} shown  the state last drawn
 */

export class Strip {
  /** @param {HTMLElement} root @param {HTMLElement} scale @param {(cell: Cell) => void} onOpen */
  constructor(root, scale, onOpen) {
    this.root = root;
    this.scale = scale;
    this.onOpen = onOpen;
    /** @type {Cell[]} */
    this.cells = [];
    /** @type {Cell[]} */
    this.blocks = [];
    /** @type {ModelInfo | null} */
    this.info = null;
    this.focused = 0;
    this.pace = new PacedFrame(DRAW_INTERVAL_MS, () => this.draw());
    this.swept = -1;
    this.scale_ms = 0;
    root.addEventListener("keydown", (event) => this.onKey(event));
    root.addEventListener("click", (event) => {
      const cell = this.cells.find(({ button }) => button.contains(/** @type {Node} */ (event.target)));
      if (cell) this.openCell(cell);
    });
    // Labels are updated on focus only, so that frequent updates do not touch the accessibility tree.
    root.addEventListener("focusin", () => this.label(this.cells[this.focused]));
  }

  /** @param {ModelInfo} info */
  build(info) {
    this.info = info;
    this.focused = 0;
    const shared = Array.from({ length: info.n_shared_transformers }, (_, i) =>
      this.makeCell("S", i, `shared_transformer.${i}`),
    );
    this.blocks = info.kinds.map((kind, i) => this.makeCell(kind, i, `blocks.${i}`));
    this.cells = [this.makeCell("E", 0, "embed_tokens"), ...shared, ...this.blocks];
    this.root.replaceChildren(...this.cells.map(({ button }) => button));
    this.root.style.setProperty("--top-span", String(Math.max(1, Math.floor(6 / (1 + shared.length)))));
    this.cells[0].button.tabIndex = 0;
    this.scale_ms = 0;
    this.swept = -1;
    this.draw();
    this.relabel();
  }

  /** @param {Cell["kind"]} kind @param {number} index @param {string} unit @returns {Cell} */
  makeCell(kind, index, unit) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "cell";
    button.tabIndex = -1;
    button.dataset.kind = kind;
    const fill = document.createElement("span");
    fill.className = "fill";
    const name = document.createElement("span");
    name.className = "name";
    const many = (this.info?.n_shared_transformers ?? 1) > 1;
    name.textContent = kind === "E" ? "E" : kind === "S" ? (many ? `S${index}` : "S") : String(index);
    button.append(fill, name);
    return {
      button,
      kind,
      index,
      unit,
      state: "absent",
      received: 0,
      bytes: 0,
      recent_ms: [],
      ms: 0,
      ratio: 1,
      shown: "",
    };
  }

  /** @param {LoadProgress} progress */
  onProgress(progress) {
    const { info } = progress;
    if (info && !sharesLike(info, this.info)) this.build(info);
    if (info) this.info = info;
    const cell = this.cells.find(({ unit }) => unit === progress.unit);
    if (!cell) return;
    cell.bytes = progress.unit_bytes;
    cell.received = progress.unit_bytes === 0 ? 1 : progress.unit_loaded_bytes / progress.unit_bytes;
    const before = cell.state;
    cell.state = cell.received >= 1 ? "ready" : "receiving";
    if (cell.state !== before) this.label(cell);
    this.pace.interval_ms = DRAW_INTERVAL_MS;
    this.pace.request();
  }

  /** Removes all cells; the next progress event creates new ones. */
  clear() {
    this.info = null;
    this.cells = [];
    this.blocks = [];
    this.root.replaceChildren();
    this.scale.textContent = "";
  }

  /** Marks the cell that was being read when loading failed. */
  fail() {
    const cell =
      this.cells.find(({ state }) => state === "receiving") ?? this.cells.find(({ state }) => state === "absent");
    if (!cell) return;
    cell.state = "error";
    this.label(cell);
    this.draw();
  }

  /** @param {number} block the block that prefill is at, or -1 */
  sweep(block) {
    this.swept = block;
    this.pace.interval_ms = DRAW_INTERVAL_MS;
    this.pace.request();
  }

  /** @param {Float32Array} blocks_us time of each block for one token */
  token(blocks_us) {
    if (blocks_us.length !== this.blocks.length) return;
    this.swept = -1;
    for (const cell of this.blocks) {
      cell.recent_ms.push(blocks_us[cell.index] / 1000);
      if (cell.recent_ms.length > WINDOW_TOKENS) cell.recent_ms.shift();
    }
    this.pace.interval_ms = LIVE_INTERVAL_MS;
    this.pace.request();
  }

  /** Draws at once and updates all labels. */
  settle() {
    this.swept = -1;
    this.draw();
    this.relabel();
  }

  draw() {
    for (const cell of this.blocks) cell.ms = median(cell.recent_ms);
    const ran = this.blocks.some(({ ms }) => ms > 0);
    if (ran) this.compare();
    for (const cell of this.cells) {
      const { button, kind, state } = cell;
      const timed = ran && (kind === "mamba" || kind === "hybrid");
      const swept = cell === this.blocks[this.swept];
      // One pixel is 0.02 of the cell's height.
      const fill = (timed ? cell.ms / this.scale_ms : state === "absent" ? 0 : cell.received).toFixed(2);
      const excess = (cell.ratio - TINT_FROM_RATIO) / (TINT_FULL_RATIO - TINT_FROM_RATIO);
      const tint = timed ? Math.round(Math.min(1, Math.max(0, excess)) * TINT_MAX_PERCENT) : 0;
      // Setting even the same value costs a restyle and a repaint of the cell.
      const shown = `${state} ${timed} ${swept} ${fill} ${tint}`;
      if (cell.shown === shown) continue;
      cell.shown = shown;
      button.dataset.state = state;
      button.classList.toggle("timed", timed);
      button.classList.toggle("swept", swept);
      button.style.setProperty("--fill", fill);
      button.style.setProperty("--tint", `${tint}%`);
    }
    const scale = ran ? t("legend.scale", { ms: figure(this.scale_ms) }) : "";
    if (this.scale.textContent !== scale) this.scale.textContent = scale;
  }

  /**
   * Updates the ratios within each type and the scale. The scale grows at once but shrinks with hysteresis, so that it
   * does not flicker.
   */
  compare() {
    for (const kind of ["mamba", "hybrid"]) {
      const cells = this.blocks.filter((cell) => cell.kind === kind);
      const middle = median(cells.map(({ ms }) => ms));
      for (const cell of cells) cell.ratio = middle > 0 ? cell.ms / middle : 1;
    }
    const highest = Math.max(...this.blocks.map(({ ms }) => ms));
    if (highest > this.scale_ms || highest < 0.6 * this.scale_ms) this.scale_ms = highest * 1.15;
  }

  /**
   * Positions of the blocks' cells relative to the left edge of `place`, for charts aligned with them. Null if the
   * cells are in several rows or there are not `n` of them.
   * @param {HTMLElement} place @param {number} n
   */
  columnsOver(place, n) {
    const areas = this.blocks.map(({ button }) => button.getBoundingClientRect());
    if (areas.length !== n || areas.some(({ top }) => top !== areas[0].top)) return null;
    const { left } = place.getBoundingClientRect();
    return areas.map((area) => ({ x: area.left - left, width: area.width }));
  }

  /** @param {Cell} cell */
  openCell(cell) {
    this.focus(this.cells.indexOf(cell), false);
    this.onOpen(cell);
  }

  relabel() {
    for (const cell of this.cells) this.label(cell);
  }

  /** @param {Cell | undefined} cell */
  label(cell) {
    if (!cell) return;
    const parts = [cellName(cell)];
    if (cell.kind === "hybrid") parts.push(t("cell.hybrid"));
    const state =
      cell.ms > 0
        ? t("cell.time", { ms: figure(cell.ms), ratio: number(cell.ratio, 2) })
        : cell.state === "receiving"
          ? t("cell.receiving", { percent: number(cell.received * 100) })
          : t(`cell.${cell.state}`);
    const label = `${parts.join(", ")}: ${state}`;
    cell.button.setAttribute("aria-label", label);
    cell.button.title = label;
  }

  /** @param {number} at @param {boolean} [take] whether to move focus there as well */
  focus(at, take = true) {
    this.cells[this.focused].button.tabIndex = -1;
    this.focused = at;
    this.cells[at].button.tabIndex = 0;
    if (take) this.cells[at].button.focus();
  }

  /**
   * Toolbar pattern: one tab stop; arrow keys move, up and down by one row of the current layout.
   * @param {KeyboardEvent} event
   */
  onKey(event) {
    const columns = getComputedStyle(this.root).gridTemplateColumns.split(" ").length;
    const last = this.cells.length - 1;
    /** @type {Record<string, number>} */
    const target = {
      ArrowRight: this.focused + 1,
      ArrowLeft: this.focused - 1,
      ArrowDown: this.focused + columns,
      ArrowUp: this.focused - columns,
      Home: 0,
      End: last,
    };
    if (!(event.key in target) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.focus(Math.min(last, Math.max(0, target[event.key])));
  }
}

/**
 * Whether the strip is the same for both. config.json comes first; the headers of the weights decide what is shared.
 * @param {ModelInfo} info @param {ModelInfo | null} other
 */
function sharesLike({ shared_of_block }, other) {
  return other !== null && shared_of_block.join() === other.shared_of_block.join();
}

/** @param {Cell} cell */
export function cellName(cell) {
  if (cell.kind === "E") return t("cell.E");
  return cell.kind === "S" ? t("cell.S", { n: cell.index }) : t("cell.block", { n: cell.index });
}
