// @ts-check
// The frame around one chart: title, switches, the finding in words, the picture, what lies under the pointer, a table
// with the same figures, and buttons that save the picture. The picture is drawn anew at real pixels when its place
// changes size. It knows no data: a chart is given as functions.

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
   * `flush`: the picture reaches the card's edges, so that its columns stand under the strip's
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
    // The same figures are in the table; reading each hover aloud would drown them.
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
      // In the next frame: a drawing that changes the layout from within the observer would be reported as a loop.
      requestAnimationFrame(() => this.draw());
    }).observe(this.place);
  }

  /** @param {Chart} chart @param {string} [of] what of several the chart is about; joins the title */
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
    // A table is saved with the exports; a canvas has pixels only.
    const kinds = drawing instanceof SVGElement ? ["SVG", "PNG"] : drawing instanceof HTMLCanvasElement ? ["PNG"] : [];
    // A redraw while the pointer is on a button must not take the button away.
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
 * A group of radio buttons that looks like one switch.
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
    const words = document.createElement("span");
    words.textContent = choice.label;
    field.append(input, words);
    group.append(field);
  }
  return group;
}
