// @ts-check
// The list of the models that are stored on this device: sizes, a check for newer files at the source, and deletion,
// which can be undone for a few seconds. It fills one element of the page and loads no model.

import { forgetModel, keptModels, newerFiles, parseAddress } from "../../pkg/zamba2.js";
import { button, namedButton } from "../dom.js";
import { UNDO_MS } from "../undo_row.js";
import { bytesText, t } from "../words.js";

/** @import { KeptModel } from "../engine/zamba2.d.ts" */
/** @import { Key } from "../words.js" */

/** The Hub shows as many digits of a commit. */
const COMMIT_DIGITS = 7;

/** @param {string} commit */
export const shortCommit = (commit) => commit.slice(0, COMMIT_DIGITS);

export class StoragePanel {
  /**
   * @param {HTMLElement} place
   * @param {{ onFault: (title: Key, thrown: unknown) => void,
   *   onOpen: (model: KeptModel, refresh: boolean) => void }} hooks
   */
  constructor(place, hooks) {
    this.place = place;
    this.hooks = hooks;
    /** Models that are being deleted, by key, with their timers. @type {Map<string, number>} */
    this.deleting = new Map();
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
    if (this.deleting.has(model.key)) return this.deletedItem(model, values);
    const load = namedButton(t("kept.load"), t("kept.load.name", values), () => this.hooks.onOpen(model, false));
    const check = namedButton(t("kept.check"), t("kept.check.name", values), () => this.check(model, check, result));
    const remove = namedButton(t("kept.delete"), t("kept.delete.name", values), () => this.delete(model));
    const item = document.createElement("li");
    item.append(`${facts.join(" · ")} `, load, " ", check, " ", remove, " ", result);
    return item;
  }

  /** @param {KeptModel} model @param {{ name: string, weights: string }} values */
  deletedItem(model, values) {
    const item = document.createElement("li");
    const undo = button(t("kept.undo"), () => {
      clearTimeout(this.deleting.get(model.key));
      this.deleting.delete(model.key);
      void this.show();
    });
    item.append(`${t("kept.deleted", values)} `, undo);
    return item;
  }

  /** Deletes a model after a while. @param {KeptModel} model */
  delete(model) {
    const forget = async () => {
      await this.guarded("card.page", () => forgetModel(model.key));
      this.deleting.delete(model.key);
      await this.show();
    };
    this.deleting.set(model.key, window.setTimeout(forget, UNDO_MS));
    void this.show();
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
      const refresh = button(t("kept.refresh"), () => this.hooks.onOpen(model, true));
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

/** The storage that this site uses of its quota. */
async function roomText() {
  const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
  return usage === undefined || quota === undefined
    ? ""
    : t("kept.room", { used: bytesText(usage), quota: bytesText(quota) });
}

/** The readable part of an address. @param {string} source */
function sourceName(source) {
  const { hub, name } = parseAddress(source, document.baseURI);
  if (!hub) return name;
  return hub.revision === "main" ? hub.repo : `${hub.repo}@${hub.revision}`;
}
