// @ts-check
// The frame of a chart: title, switches, the finding as text, the picture, a readout for the pointer, a table with the
// same data, and buttons that save the picture. On resize the picture is drawn again at its size in pixels. Charts are
// passed as functions.

import { t } from "../words.js";
import { saveAsPng, saveAsSvg } from "./save_picture.js";

/** @import { Key } from "../words.js" */

/**
 * @typedef {object} Chart
 * @property {string} finding  one sentence; also the picture's accessible label
 * @property {(width: number, readout: (text: string) => void) => Element} draw
 * @property {() => HTMLTableElement} table
 */

export class ChartFrame {
  /**
   * @param {{ id: string, title: Key, note?: Key, flush?: boolean }} options
   * `flush`: the picture extends to the card's edges, so that its columns align with the strip's
   */
  constructor({ id, title, note, flush = false }) {
    this.id = id;
    this.title = title;
    this.note = note;
    /** @type {Chart | null} */
    this.chart = null;
    this.width = 0;
    this.element = document.createElement("section");
    this.element.className = "card chart";
    this.element.id = id;
    this.element.setAttribute("aria-labelledby", `${id}-title`);
    this.heading = document.createElement("h2");
    this.heading.id = `${id}-title`;
    this.controls = document.createElement("div");
    this.controls.className = "chart-controls";
    this.saves = document.createElement("div");
    this.saves.className = "chart-saves";
    const head = document.createElement("div");
    head.className = "chart-head";
    head.append(this.heading, this.controls, this.saves);
    this.finding = document.createElement("p");
    this.finding.className = "finding";
    this.finding.id = `${id}-finding`;
    this.place = document.createElement("div");
    this.place.className = flush ? "drawing flush" : "drawing";
    this.readout = document.createElement("p");
    this.readout.className = "readout";
    // The table has the same data; announcing each hover would be too much.
    this.readout.setAttribute("aria-hidden", "true");
    this.details = document.createElement("details");
    this.summary = document.createElement("summary");
    this.scroll = document.createElement("div");
    this.scroll.className = "scroll";
    this.scroll.tabIndex = 0;
    this.scroll.setAttribute("role", "region");
    this.scroll.setAttribute("aria-labelledby", `${id}-title`);
    this.details.append(this.summary, this.scroll);
    this.details.addEventListener("toggle", () => this.fillTable());
    this.element.append(head, this.finding, this.place, this.readout, this.details);
    new ResizeObserver(([{ contentRect }]) => {
      if (Math.round(contentRect.width) === this.width) return;
      this.width = Math.round(contentRect.width);
      // In the next frame: changing the layout inside the observer causes a ResizeObserver loop error.
      requestAnimationFrame(() => this.draw());
    }).observe(this.place);
  }

  /** @param {Chart} chart @param {string} [of] subject of the chart, appended to the title */
  show(chart, of = "") {
    this.chart = chart;
    this.heading.textContent = of ? `${t(this.title)} · ${of}` : t(this.title);
    this.summary.textContent = t("chart.table");
    this.readout.textContent = this.note ? t(this.note) : "";
    this.draw();
    this.fillTable();
  }

  draw() {
    if (!this.chart || this.width < 40) return;
    this.finding.textContent = this.chart.finding;
    const idle = this.note ? t(this.note) : "";
    const drawing = this.chart.draw(this.width, (text) => {
      this.readout.textContent = text || idle;
    });
    this.place.replaceChildren(drawing);
    this.offerSaves(drawing);
  }

  fillTable() {
    if (this.chart && this.details.open) this.scroll.replaceChildren(this.chart.table());
  }

  /** @param {Element} drawing */
  offerSaves(drawing) {
    const name = this.heading.textContent ?? "";
    // Tables are saved by the exports; a canvas can only be saved as PNG.
    const kinds = drawing instanceof SVGElement ? ["SVG", "PNG"] : drawing instanceof HTMLCanvasElement ? ["PNG"] : [];
    // A redraw must not replace a button that the pointer is on.
    if (this.saves.childElementCount !== kinds.length) {
      this.saves.replaceChildren(
        ...kinds.map((kind) => {
          const button = document.createElement("button");
          button.type = "button";
          button.className = "small";
          button.textContent = kind;
          button.addEventListener("click", () => {
            const shown = this.place.firstElementChild;
            if (shown) void (kind === "SVG" ? saveAsSvg(shown, this.id) : saveAsPng(shown, this.id));
          });
          return button;
        }),
      );
    }
    [...this.saves.children].forEach((button, at) =>
      button.setAttribute("aria-label", t("chart.save", { name, kind: kinds[at] })),
    );
  }
}

/**
 * A segmented control: a group of radio buttons.
 * @template {string} Value
 * @param {{ name: string, label: string, choices: { value: Value, label: string }[], chosen: Value,
 *   onChoose: (value: Value) => void }} options
 */
export function segmented({ name, label, choices, chosen, onChoose }) {
  const group = document.createElement("div");
  group.className = "segmented";
  group.setAttribute("role", "radiogroup");
  group.setAttribute("aria-label", label);
  for (const choice of choices) {
    const field = document.createElement("label");
    const input = document.createElement("input");
    input.type = "radio";
    input.name = name;
    input.value = choice.value;
    input.checked = choice.value === chosen;
    input.addEventListener("change", () => onChoose(choice.value));
    const caption = document.createElement("span");
    caption.textContent = choice.label;
    field.append(input, caption);
    group.append(field);
  }
  return group;
}
