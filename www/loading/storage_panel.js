// @ts-check
// The models that are kept on this device: what, how much, and deleting. It uses the public module and words.js,
// fills one element of the page and loads nothing.

import { forgetModel, keptModels } from "../../pkg/zamba2.js";
import { bytesText, t } from "../words.js";

export class StoragePanel {
  /** @param {HTMLElement} place @param {(thrown: unknown) => void} onFault */
  constructor(place, onFault) {
    this.place = place;
    this.onFault = onFault;
  }

  async show() {
    const models = await keptModels();
    const items = models.map((model) => {
      const item = document.createElement("li");
      const facts = [sourceName(model.source), model.weights, bytesText(model.bytes)];
      if (!model.complete) facts.push(t("kept.partly"));
      item.textContent = `${facts.join(" · ")} `;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = t("kept.delete");
      button.setAttribute(
        "aria-label",
        t("kept.delete.name", { name: sourceName(model.source), weights: model.weights }),
      );
      button.addEventListener("click", async () => {
        try {
          await forgetModel(model.key);
        } catch (thrown) {
          this.onFault(thrown);
        }
        await this.show();
      });
      item.append(button);
      return item;
    });
    const title = document.createElement("p");
    title.className = "note";
    title.textContent = models.length ? t("kept.title", { room: await roomText() }) : t("kept.none");
    const list = document.createElement("ul");
    list.className = "kept";
    list.append(...items);
    this.place.replaceChildren(title, list);
  }
}

/** What this site uses of what the browser would give it. */
async function roomText() {
  const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
  return usage === undefined || quota === undefined
    ? ""
    : t("kept.room", { used: bytesText(usage), quota: bytesText(quota) });
}

/** The part of an address that a reader knows. @param {string} source */
function sourceName(source) {
  const hub = /^https:\/\/huggingface\.co\/([^/]+\/[^/]+)\/resolve\//.exec(source);
  return hub ? hub[1] : (source.split("/").filter(Boolean).at(-1) ?? source);
}
