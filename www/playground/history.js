// @ts-check
// The history: exchanges in localStorage, a list of limited size that can be turned off and deleted entry by entry or
// as a whole. All tabs of the site share it. Details of tokens are not stored; state files have them.

import { isEntry, isUnfinished } from "./exchange.js";
import { button, byId, namedButton } from "../dom.js";
import { UndoRow } from "../undo_row.js";
import { currentLanguage, t } from "../words.js";

/** @import { Exchange } from "./exchange.js" */

/** @typedef {Omit<Exchange, "tokens">} Entry */

const KEY = "history";
const SWITCH_KEY = "history.off";
const ENTRIES = 50;
/** The quota is about 5 MB per origin, shared with other parts of the page. */
const CHARACTERS = 1_000_000;
const TITLE_CHARACTERS = 60;

export class History {
  /** Whether `entries` are stored; otherwise they are lost when the page closes. */
  #is_stored = true;

  /** @param {HTMLElement} root @param {(entry: Entry) => void} onOpen */
  constructor(root, onOpen) {
    this.onOpen = onOpen;
    this.list = /** @type {HTMLElement} */ (root.querySelector("ul"));
    this.none = /** @type {HTMLElement} */ (root.querySelector("[data-none]"));
    this.keeping = /** @type {HTMLInputElement} */ (root.querySelector("input"));
    this.clear = /** @type {HTMLButtonElement} */ (root.querySelector("[data-act=clear]"));
    this.entries = parse(stored(KEY));
    this.keeping.checked = stored(SWITCH_KEY) === null;
    this.keeping.addEventListener("change", () => store(SWITCH_KEY, this.keeping.checked ? null : "1"));
    this.undo = new UndoRow(byId("history-removed"), this.keeping);
    this.clear.addEventListener("click", () => {
      this.remove(() => true);
      this.keeping.focus();
    });
    // Fired by changes of other tabs only; without a key everything was deleted.
    window.addEventListener("storage", ({ key }) => {
      if (key !== SWITCH_KEY && key !== KEY && key !== null) return;
      this.keeping.checked = stored(SWITCH_KEY) === null;
      this.entries = this.latest();
      this.show();
    });
    this.show();
  }

  /** The entries, including those of other tabs. */
  latest() {
    return this.#is_stored ? parse(stored(KEY)) : this.entries;
  }

  /** @param {Exchange} exchange */
  add({ tokens, ...entry }) {
    if (!this.keeping.checked) return;
    // A branch or a continuation replaces the entry of its exchange.
    const others = this.latest().filter(({ id }) => id !== entry.id);
    const entries = [entry, ...others].slice(0, ENTRIES);
    while (entries.length > 1 && JSON.stringify(entries).length > CHARACTERS) entries.pop();
    this.set(entries);
  }

  /** Removes entries; for a few seconds this can be undone. @param {(entry: Entry) => boolean} isRemoved */
  remove(isRemoved) {
    const before = this.latest();
    this.set(before.filter((entry) => !isRemoved(entry)));
    this.undo.offer("history.removed", () => {
      const now = this.latest();
      const has = (/** @type {Entry[]} */ entries, /** @type {Entry} */ { id }) => entries.some((one) => one.id === id);
      // Other tabs may have added and removed entries since.
      const others = now.filter((entry) => !has(before, entry));
      this.set([...others, ...before.filter((entry) => isRemoved(entry) || has(now, entry))]);
    });
  }

  /** @param {Entry[]} entries */
  set(entries) {
    this.entries = entries;
    this.#is_stored = store(KEY, entries.length ? JSON.stringify(entries) : null);
    this.show();
  }

  /** Also called when the language changes. */
  show() {
    this.none.hidden = this.entries.length > 0;
    this.clear.hidden = this.entries.length === 0;
    const time = new Intl.DateTimeFormat(currentLanguage(), { dateStyle: "short", timeStyle: "short" });
    this.list.replaceChildren(...this.entries.map((entry) => this.item(entry, time)));
  }

  /** @param {Entry} entry @param {Intl.DateTimeFormat} time */
  item(entry, time) {
    const text = `${entry.prompt}${entry.mode === "raw" ? entry.text : ""}`.trim().replace(/\s+/g, " ");
    const title = text.length > TITLE_CHARACTERS ? `${text.slice(0, TITLE_CHARACTERS)}…` : text;
    const open = button(title, () => this.onOpen(entry), "entry");
    const remove = namedButton(t("history.delete"), t("history.delete.name", { title }), () => {
      this.remove(({ id }) => id === entry.id);
      this.keeping.focus();
    });
    const when = document.createElement("span");
    when.className = "note";
    const facts = [time.format(entry.made_ms), `${entry.model.name} ${entry.model.weights}`];
    if (isUnfinished(entry.summary)) facts.push(t("history.unfinished"));
    when.textContent = facts.join(" · ");
    const item = document.createElement("li");
    item.append(open, when, remove);
    return item;
  }
}

/** @param {string | null} text @returns {Entry[]} */
function parse(text) {
  try {
    const entries = JSON.parse(text ?? "[]");
    if (!Array.isArray(entries)) return [];
    // Entries of earlier versions have no id.
    return entries.filter(isEntry).map((entry) => ({ ...entry, id: entry.id ?? String(entry.made_ms) }));
  } catch {
    // Not written by this page. The next entry overwrites it.
    return [];
  }
}

/** @param {string} key */
function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    // No storage, as in some private windows.
    return null;
  }
}

/** False if it is not stored: no storage, or no room. @param {string} key @param {string | null} value */
function store(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}
