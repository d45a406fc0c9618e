// @ts-check
// The views below the block strip, as tabs. The view is in the address (#profile), so that links and the Back
// button work. Also handles the single-letter shortcuts and the switch that turns them off. Hidden views keep their
// state.

/** @typedef {"playground" | "profile" | "inside" | "compare"} ViewName */

/** @type {ViewName[]} */
export const VIEWS = ["playground", "profile", "inside", "compare"];

/**
 * The view and the settings in a hash such as `#profile?tokens=35`; other hashes are ignored.
 * @param {string} hash
 */
export function readHash(hash) {
  const [name, settings = ""] = hash.replace(/^#/, "").split("?");
  const view = VIEWS.find((known) => known === name) ?? null;
  return { view, settings: new URLSearchParams(view ? settings : "") };
}

/** @param {Element | null} element */
const isField = (element) =>
  element?.matches("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]") ?? false;

export class Tabs {
  /**
   * @param {{ letters: HTMLInputElement, onShow: (view: ViewName) => void, keys: Record<string, () => void>,
   *   remember: (on: boolean) => void }} options
   * `letters`: the switch; `keys`: further shortcuts
   */
  constructor({ letters, onShow, keys, remember }) {
    this.onShow = onShow;
    /** @type {ViewName} */
    this.shown = "playground";
    this.tabs = VIEWS.map((name) => /** @type {HTMLElement} */ (document.getElementById(`tab-${name}`)));
    this.tabs.forEach((tab, at) => {
      tab.addEventListener("click", () => this.show(VIEWS[at], true));
      tab.addEventListener("keydown", (event) => this.onArrow(event, at));
    });
    letters.addEventListener("change", () => remember(letters.checked));
    document.addEventListener("keydown", (event) => {
      if (
        !letters.checked
        || event.defaultPrevented
        || event.ctrlKey
        || event.metaKey
        || event.altKey
        || isField(document.activeElement)
      )
        return;
      const view = VIEWS[Number(event.key) - 1];
      const act = view ? () => this.show(view, true, true) : Object.hasOwn(keys, event.key) ? keys[event.key] : null;
      if (!act) return;
      event.preventDefault();
      act();
    });
    window.addEventListener("hashchange", () => {
      const { view } = readHash(location.hash);
      if (view) this.show(view, false);
      else if (location.hash === "") this.show("playground", false);
    });
  }

  /**
   * @param {ViewName} name
   * @param {boolean} write whether to update the address
   * @param {boolean} [take] whether to move focus to the tab
   */
  show(name, write, take = false) {
    const changed = name !== this.shown;
    this.shown = name;
    VIEWS.forEach((view, at) => {
      const on = view === name;
      this.tabs[at].setAttribute("aria-selected", String(on));
      this.tabs[at].tabIndex = on ? 0 : -1;
      /** @type {HTMLElement} */ (document.getElementById(`view-${view}`)).hidden = !on;
    });
    if (write && readHash(location.hash).view !== name) history.pushState(null, "", `#${name}`);
    if (take) this.tabs[VIEWS.indexOf(name)].focus();
    if (changed) this.onShow(name);
  }

  /** @param {KeyboardEvent} event @param {number} at */
  onArrow(event, at) {
    const n = VIEWS.length;
    /** @type {Record<string, number>} */
    const target = { ArrowRight: (at + 1) % n, ArrowLeft: (at + n - 1) % n, Home: 0, End: n - 1 };
    if (!(event.key in target)) return;
    event.preventDefault();
    this.show(VIEWS[target[event.key]], true, true);
  }
}
