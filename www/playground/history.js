// @ts-check
// The history: exchanges in localStorage, a list of limited size that can be turned off and deleted entry by entry or
// as a whole. Details of tokens are not stored; state files have them.

import { isEntry } from "./exchange.js";
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
  /** @param {HTMLElement} root @param {(entry: Entry) => void} onOpen */
  constructor(root, onOpen) {
    this.onOpen = onOpen;
    this.list = /** @type {HTMLElement} */ (root.querySelector("ul"));
    this.none = /** @type {HTMLElement} */ (root.querySelector("[data-none]"));
    this.keeping = /** @type {HTMLInputElement} */ (root.querySelector("input"));
    this.clear = /** @type {HTMLButtonElement} */ (root.querySelector("[data-act=clear]"));
    this.entries = read();
    this.keeping.checked = stored(SWITCH_KEY) === null;
    this.keeping.addEventListener("change", () => store(SWITCH_KEY, this.keeping.checked ? null : "1"));
    this.clear.addEventListener("click", () => {
      this.set([]);
      this.keeping.focus();
    });
    this.show();
  }

  /** @param {Exchange} exchange */
  add({ tokens, ...entry }) {
    if (!this.keeping.checked) return;
    // A branch or a continuation replaces the entry of its exchange.
    const others = this.entries.filter(({ made_ms }) => made_ms !== entry.made_ms);
    const entries = [entry, ...others].slice(0, ENTRIES);
    while (entries.length > 1 && JSON.stringify(entries).length > CHARACTERS) entries.pop();
    this.set(entries);
  }

  /** @param {Entry[]} entries */
  set(entries) {
    this.entries = entries;
    store(KEY, entries.length ? JSON.stringify(entries) : null);
    this.show();
  }

  /** Also called when the language changes. */
  show() {
    this.none.hidden = this.entries.length > 0;
    this.clear.hidden = this.entries.length === 0;
    const time = new Intl.DateTimeFormat(currentLanguage(), { dateStyle: "short", timeStyle: "short" });
    this.list.replaceChildren(
      ...this.entries.map((entry) => {
        const item = document.createElement("li");
        const title = `${entry.prompt}${entry.mode === "raw" ? entry.text : ""}`.trim().replace(/\s+/g, " ");
        const open = button(title.length > TITLE_CHARACTERS ? `${title.slice(0, TITLE_CHARACTERS)}…` : title);
        open.className = "entry";
        open.addEventListener("click", () => this.onOpen(entry));
        const remove = button(t("history.delete"));
        remove.setAttribute("aria-label", t("history.delete.name", { title: open.textContent ?? "" }));
        remove.addEventListener("click", () => {
          this.set(this.entries.filter((other) => other !== entry));
          this.keeping.focus();
        });
        const when = document.createElement("span");
        when.className = "note";
        when.textContent = `${time.format(entry.made_ms)} · ${entry.model.name} ${entry.model.weights}`;
        item.append(open, when, remove);
        return item;
      }),
    );
  }
}

/** @param {string} text */
function button(text) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  return element;
}

/** @returns {Entry[]} */
function read() {
  try {
    const entries = JSON.parse(stored(KEY) ?? "[]");
    return Array.isArray(entries) ? entries.filter(isEntry) : [];
  } catch {
    // Not written by this page; the next entry overwrites it.
    return [];
  }
}

/** Without storage, as in some private windows, the list lasts as long as the page. @param {string} key */
function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** @param {string} key @param {string | null} value */
function store(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // Quota exceeded or not available; the list on the page stays.
  }
}
