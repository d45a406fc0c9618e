// @ts-check
// The list of models that are stored on this device: sizes, a check for newer files at the source, deletion. It fills
// one element of the page and loads no model.

import { forgetModel, keptModels, newerFiles, parseAddress } from "../../pkg/zamba2.js";
import { bytesText, t } from "../words.js";

/** @import { KeptModel } from "../engine/zamba2.d.ts" */
/** @import { Key } from "../words.js" */

/** As many digits of a commit as the Hub shows. */
const COMMIT_DIGITS = 7;

/** @param {string} commit */
export const shortCommit = (commit) => commit.slice(0, COMMIT_DIGITS);

export class StoragePanel {
  /**
   * @param {HTMLElement} place
   * @param {{ onFault: (title: Key, thrown: unknown) => void, onRefresh: (model: KeptModel) => void }} hooks
   */
  constructor(place, hooks) {
    this.place = place;
    this.hooks = hooks;
  }

  async show() {
    const models = await keptModels();
    const title = document.createElement("p");
    title.className = "note";
    title.textContent = models.length ? t("kept.title", { room: await roomText() }) : t("kept.none");
    const list = document.createElement("ul");
    list.className = "kept";
    list.append(...models.map((model) => this.item(model)));
    this.place.replaceChildren(title, list);
  }

  /** @param {KeptModel} model */
  item(model) {
    const name = sourceName(model.source);
    const facts = [name, model.weights, bytesText(model.bytes)];
    if (model.commit) facts.push(shortCommit(model.commit));
    if (!model.complete) facts.push(t("kept.partly"));
    const result = document.createElement("span");
    result.setAttribute("role", "status");
    const values = { name, weights: model.weights };
    const check = button(t("kept.check"), t("kept.check.name", values), () => this.check(model, check, result));
    const remove = button(t("kept.delete"), t("kept.delete.name", values), async () => {
      await this.guarded("card.page", () => forgetModel(model.key));
      await this.show();
    });
    const item = document.createElement("li");
    item.append(`${facts.join(" · ")} `, check, " ", remove, " ", result);
    return item;
  }

  /** @param {KeptModel} model @param {HTMLButtonElement} check @param {HTMLElement} result */
  async check(model, check, result) {
    if (!navigator.onLine) {
      result.textContent = t("kept.offline");
      return;
    }
    check.disabled = true;
    result.textContent = t("kept.checking");
    const found = await this.guarded("card.check", () => newerFiles(model.key));
    check.disabled = false;
    if (!found) {
      result.textContent = "";
    } else if (found.newer) {
      const commit = found.commit && shortCommit(found.commit);
      const text = commit ? t("kept.newer.commit", { commit }) : t("kept.newer");
      const refresh = button(t("kept.refresh"), null, () => this.hooks.onRefresh(model));
      result.replaceChildren(`${text} `, refresh);
    } else {
      result.textContent = t("kept.newest");
    }
  }

  /**
   * Null after a failure, which is shown under `title`.
   * @template T @param {Key} title @param {() => Promise<T>} act @returns {Promise<T | null>}
   */
  async guarded(title, act) {
    try {
      return await act();
    } catch (thrown) {
      this.hooks.onFault(title, thrown);
      return null;
    }
  }
}

/** @param {string} text @param {string | null} label @param {() => void} act */
function button(text, label, act) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  if (label) element.setAttribute("aria-label", label);
  element.addEventListener("click", act);
  return element;
}

/** The storage that this site uses of its quota. */
async function roomText() {
  const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
  return usage === undefined || quota === undefined
    ? ""
    : t("kept.room", { used: bytesText(usage), quota: bytesText(quota) });
}

/** The part of an address that people know it by. @param {string} source */
function sourceName(source) {
  const { hub, name } = parseAddress(source, document.baseURI);
  if (!hub) return name;
  return hub.revision === "main" ? hub.repo : `${hub.repo}@${hub.revision}`;
}
