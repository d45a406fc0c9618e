// @ts-check
// The form that chooses a model: its source, the format of its weights, backend, threads and context, as options of
// `load`. The page's address can choose as well: `?model=owner/name&weights=q4&backend=cpu&threads=1&simd=plain`. Files
// are chosen with two inputs; dropped_files.js handles dropped ones. It loads nothing itself.

import { keptModels, parseAddress, WEIGHTS } from "../../pkg/zamba2.js";
import { byId } from "../dom.js";
import { PageError } from "../errors.js";
import { remembered } from "../preferences.js";
import { embeddedFolder, isEmbeddedPacked } from "../site.js";
import { number, t } from "../words.js";

/** @import { KeptModel, Weights } from "../engine/zamba2.d.ts" */

/**
 * The smallest download of the embedded model; docs/quantization.md says what it costs. The module's default is more
 * exact. @type {Weights}
 */
const DEFAULT_WEIGHTS = "q4";
const HUB_ORIGIN = "https://huggingface.co";

/** @typedef {"auto" | "cpu" | "webgpu"} Backend */
/**
 * @typedef {{ source: string | File[], name: string, weights: Weights, backend: Backend, threads: "auto" | number,
 *   context?: number, packed?: boolean }} Choice
 */

/** Offered sizes of the context; the KV cache grows with it. */
const CONTEXTS = [1024, 2048, 4096, 8192, 16384];

export class ModelPicker {
  /**
   * @param {{ onChoice: (choice: Choice, refresh: boolean) => void, onFault: (thrown: unknown) => void }} hooks
   *   `refresh`: newer files of the source replace stored ones
   */
  constructor({ onChoice, onFault }) {
    this.onChoice = onChoice;
    this.onFault = onFault;
    this.kind = /** @type {HTMLSelectElement} */ (byId("source"));
    this.weights = /** @type {HTMLSelectElement} */ (byId("weights"));
    for (const name of [...WEIGHTS].reverse()) {
      const option = new Option(t(`model.weights.${name}`), name, name === DEFAULT_WEIGHTS, name === DEFAULT_WEIGHTS);
      option.dataset.t = `model.weights.${name}`;
      this.weights.append(option);
    }
    this.backend = /** @type {HTMLSelectElement} */ (byId("backend"));
    this.threads = /** @type {HTMLSelectElement} */ (byId("threads"));
    this.context = /** @type {HTMLSelectElement} */ (byId("context"));
    this.context.append(...CONTEXTS.map((tokens) => new Option(number(tokens), String(tokens))));
    this.address = /** @type {HTMLInputElement} */ (byId("address"));
    const wishes = new URLSearchParams(location.search);
    /** For measurements only, so it has no field. @type {"auto" | false} */
    this.relaxedSimd = wishes.get("simd") === "plain" ? false : "auto";
    const backend = wishes.get("backend");
    if (backend === "cpu" || backend === "webgpu") this.backend.value = backend;
    this.offerThreads(wishes.get("threads") ?? "auto");
    const weights = wishes.get("weights") ?? "";
    if (/** @type {readonly string[]} */ (WEIGHTS).includes(weights)) this.weights.value = weights;
    this.wished = wishes.get("model") ?? "";
    /** @type {Choice} */
    this.chosen = this.embedded();

    this.kind.addEventListener("change", () => this.showFields());
    byId("model-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.chooseForm();
    });
    for (const [button, input] of [
      ["choose-folder", "folder-input"],
      ["choose-files", "files-input"],
    ]) {
      const field = /** @type {HTMLInputElement} */ (byId(input));
      byId(button).addEventListener("click", () => field.click());
      field.addEventListener("change", () => {
        const files = [...(field.files ?? [])];
        // Cleared, so that choosing the same folder again counts as a change.
        field.value = "";
        if (files.length) this.chooseFiles(files);
      });
    }
    this.showFields();
  }

  /**
   * Loads the first model of a visit: the one in the page's address, otherwise the last one if all of it is stored on
   * this device, otherwise the embedded one.
   */
  async begin() {
    if (this.wished) {
      this.kind.value = "url";
      this.address.value = this.wished;
      this.showFields();
      return this.chooseAddress();
    }
    const last = remembered("model");
    const is_last = (/** @type {KeptModel} */ { source, weights }) => `${weights} ${source}` === last;
    const kept = last ? (await keptModels()).find((one) => one.complete && is_last(one)) : undefined;
    if (kept) this.openKept(kept);
    else this.choose(this.embedded());
  }

  weightsValue() {
    return /** @type {Weights} */ (this.weights.value);
  }

  /** @returns {Pick<Choice, "backend" | "threads" | "context">} */
  machine() {
    const threads = this.threads.value === "auto" ? "auto" : Number(this.threads.value);
    const context = this.context.value === "auto" ? {} : { context: Number(this.context.value) };
    return { backend: /** @type {Backend} */ (this.backend.value), threads, ...context };
  }

  /** Chooses the model of the form. */
  chooseForm() {
    if (this.kind.value === "embedded") return this.choose(this.embedded());
    if (this.kind.value === "url") return this.chooseAddress();
    const { source } = this.chosen;
    if (typeof source === "string") return byId("choose-folder").focus();
    this.choose({ ...this.chosen, weights: this.weightsValue(), ...this.machine() });
  }

  /**
   * Fills in the address of a model, or the name of its repository on the Hub.
   * @param {string} source @param {string} [weights]
   */
  offer(source, weights) {
    const of_embedded = WEIGHTS.find((one) => embeddedFolder(one) === source);
    this.kind.value = of_embedded ? "embedded" : "url";
    this.address.value = of_embedded ? "" : source;
    if (/** @type {readonly unknown[]} */ (WEIGHTS).includes(weights)) this.weights.value = String(weights);
    this.showFields();
  }

  /** One entry per core, and the value from the page's address. @param {string} chosen */
  offerThreads(chosen) {
    const counts = Array.from({ length: navigator.hardwareConcurrency }, (_, i) => String(i + 1));
    // `load` refuses any other value with a helpful message.
    if (chosen !== "auto" && !counts.includes(chosen)) counts.push(chosen);
    this.threads.append(...counts.map((count) => new Option(count, count)));
    this.threads.value = chosen;
  }

  /** @returns {Choice} */
  embedded() {
    const weights = this.weightsValue();
    const packed = isEmbeddedPacked(weights);
    return { source: embeddedFolder(weights), packed, name: "rustdoc-5m", weights, ...this.machine() };
  }

  useEmbedded() {
    this.kind.value = "embedded";
    this.showFields();
    this.choose(this.embedded());
  }

  showFields() {
    byId("source-url").hidden = this.kind.value !== "url";
    byId("source-files").hidden = this.kind.value !== "files";
  }

  /** @param {Choice} choice @param {boolean} [refresh] */
  choose(choice, refresh = false) {
    this.chosen = choice;
    this.onChoice(choice, refresh);
  }

  /** Loads a stored model. @param {KeptModel} model @param {boolean} [refresh]  with the newer files of its source */
  openKept({ source, weights }, refresh = false) {
    this.weights.value = weights;
    const is_embedded = source === new URL(embeddedFolder(weights), document.baseURI).href;
    this.kind.value = is_embedded ? "embedded" : "url";
    this.address.value = is_embedded ? "" : source;
    this.showFields();
    const { name } = parseAddress(source, document.baseURI);
    this.choose(is_embedded ? this.embedded() : { source, name, weights, ...this.machine() }, refresh);
  }

  chooseAddress() {
    const text = this.address.value.trim();
    if (text === "")
      return this.onFault(new PageError("bad_option", "model.address.empty", "model.address.empty.next"));
    let address;
    try {
      address = parseAddress(text, document.baseURI, { names: true });
    } catch (thrown) {
      return this.onFault(thrown);
    }
    const { folder, name } = address;
    // The page's content security policy blocks other origins, as a network error without a reason.
    if (![location.origin, HUB_ORIGIN].includes(new URL(folder).origin)) {
      const origin = { origin: location.origin };
      return this.onFault(new PageError("bad_option", "model.address.foreign", "model.address.foreign.next", origin));
    }
    this.choose({ source: folder, name, weights: this.weightsValue(), ...this.machine() });
  }

  /** @param {File[]} files */
  chooseFiles(files, folder = files[0].webkitRelativePath.split("/")[0]) {
    this.kind.value = "files";
    this.showFields();
    this.choose({ source: files, name: folder || "Zamba2", weights: this.weightsValue(), ...this.machine() });
  }
}
