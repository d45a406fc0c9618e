// @ts-check
// The panel about the model, which the chip in the header opens: stored models, published models, and the form that
// loads a model. It closes when a load begins.

import { byId } from "../dom.js";
import { showCatalogue } from "./catalogue.js";

/** @import { ModelPicker } from "./model_picker.js" */
/** @import { StoragePanel } from "./storage_panel.js" */

export class ModelPanel {
  #panel = byId("model");
  #chip = byId("model-chip");

  /** @param {ModelPicker} picker @param {StoragePanel} kept */
  constructor(picker, kept) {
    this.picker = picker;
    this.kept = kept;
    this.#chip.addEventListener("click", () => (this.#panel.hidden ? this.open() : this.close()));
    byId("close-model").addEventListener("click", () => this.close());
    this.#panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
    });
    for (const choice of [picker.weights, picker.backend]) choice.addEventListener("change", () => this.draw());
  }

  open() {
    this.#show(true);
    this.draw();
    byId("model-title").focus();
  }

  close() {
    if (this.#panel.hidden) return;
    this.#show(false);
    this.#chip.focus();
  }

  /** @param {boolean} on */
  #show(on) {
    this.#panel.hidden = !on;
    this.#chip.setAttribute("aria-expanded", String(on));
  }

  draw() {
    if (this.#panel.hidden) return;
    void this.kept.show();
    void showCatalogue(byId("catalogue"), this.picker.weightsValue(), this.picker.machine().backend, (repo) => {
      this.picker.offer(repo);
      byId("load-model").focus();
    });
  }

  /** @param {string} name @param {string} weights */
  showName(name, weights) {
    byId("model-name").textContent = `${name} · ${weights}`;
  }
}
