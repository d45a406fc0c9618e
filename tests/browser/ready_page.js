// @ts-check
// One page with a ready model for several tests. A load takes longer than most of them, so between tests the page is
// reset and not reloaded, unless a test has changed something that only a load restores.

import { DESKTOP, onePage, openReadyPage, switchLanguage } from "./harness.js";

/** @import { Page } from "playwright-core" */

/** The controls that are reset. Those of the model are not: each of them starts a load. */
const CONTROLS = ["#view-playground", "#profile-form", "#help-sheet"]
  .flatMap((part) => ["input:not([type=file])", "select", "textarea"].map((kind) => `${part} ${kind}`))
  .join();

const MODEL = "#source, #weights, #backend, #threads, #context";

/** Elements whose text or visibility tells that something has run. */
const TRACES = ["status", "status-detail", "output", "prompt-message", "prompt-status", "metrics", "metrics-none"];

/**
 * Notes what `reset` restores.
 * @param {Page} page
 */
const remember = (page) =>
  page.evaluate(
    ({ controls, model, traces }) => {
      const states = (/** @type {string} */ selector) =>
        [.../** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll(selector))].map((control) => ({
          control,
          value: control.value,
          checked: control.checked,
        }));
      /** @type {any} */ (globalThis).at_first = {
        controls: states(controls),
        model: states(model),
        details: [...document.querySelectorAll("details")].map((details) => ({ details, open: details.open })),
        traces: traces.map((id) => {
          const element = /** @type {HTMLElement} */ (document.getElementById(id));
          return { element, html: element.innerHTML, key: element.dataset.t, hidden: element.hidden };
        }),
      };
    },
    { controls: CONTROLS, model: MODEL, traces: TRACES },
  );

/**
 * Resets the page as far as that is possible without a load, and returns whether it is as it was when `remember` was
 * called.
 * @param {Page} page @returns {Promise<boolean>}
 */
async function reset(page) {
  if (!(await page.evaluate(() => "at_first" in globalThis))) return false;
  if ((await page.getAttribute("html", "lang")) !== "en") await switchLanguage(page);
  return page.evaluate(() => {
    const { controls, model, details, traces } = /** @type {any} */ (globalThis).at_first;
    const part = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (document.querySelector(selector));
    const is_same = (/** @type {any} */ { control, value, checked }) =>
      control.value === value && control.checked === checked;
    for (const { control, value, checked } of controls) {
      if (is_same({ control, value, checked })) continue;
      const is_unchosen_radio = control.type === "radio" && !checked;
      control.value = value;
      control.checked = checked;
      // The prompt's own count of tokens follows below, at once and not after a delay.
      if (is_unchosen_radio || control.id === "prompt") continue;
      for (const type of ["input", "change"]) control.dispatchEvent(new Event(type, { bubbles: true }));
    }
    for (const selector of [
      "#errors .row button:last-child",
      "#block-panel [data-act=close]",
      "#history [data-act=clear]",
      "#model:not([hidden]) #close-model",
      "#help-sheet:not([hidden]) #close-help",
    ])
      part(selector)?.click();
    part("#new-conversation").click();
    part("#tab-playground").click();
    for (const { details: element, open } of details) element.open = open;
    for (const { element, html, key, hidden } of traces) {
      element.innerHTML = html;
      element.hidden = hidden;
      if (key === undefined) element.removeAttribute("data-t");
      else element.dataset.t = key;
    }
    history.replaceState(null, "", "/");
    localStorage.clear();
    sessionStorage.clear();
    /** @type {HTMLElement} */ (document.activeElement)?.blur();
    const has_no_run = part("#profile-result").hidden && document.querySelectorAll("#compare-a option").length <= 2;
    const has_no_error = document.querySelectorAll("#errors .error-card").length === 0;
    return [...controls, ...model].every(is_same) && has_no_run && has_no_error;
  });
}

/**
 * A page for all tests of a file, as `prepare` leaves it; stored user state is deleted before each test. Tests about
 * what a first visit loads, stores or shows use `withPage`, which opens a context of its own.
 * @param {(page: Page) => Promise<void>} [prepare]
 */
export function readyPage(prepare = openReadyPage) {
  const load = async (/** @type {Page} */ page) => {
    await prepare(page);
    await remember(page);
  };
  return onePage(load, async (page) => {
    await page.unrouteAll({ behavior: "ignoreErrors" });
    if (page.viewportSize()?.width !== DESKTOP.width) await page.setViewportSize(DESKTOP);
    if (await reset(page)) return;
    await page.evaluate(async () => {
      localStorage.clear();
      sessionStorage.clear();
      const deleting = indexedDB.deleteDatabase("zamba2-runs");
      await new Promise((resolve) => (deleting.onsuccess = deleting.onerror = resolve));
    });
    await load(page);
  });
}

/** A page with the embedded model. */
export const withReadyPage = readyPage();
