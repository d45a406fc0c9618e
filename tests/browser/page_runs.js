// @ts-check
// Runs on the page, from their start to their end.

import { onePage, openReadyPage, startProfile, waitForStatus } from "./harness.js";

/** @import { Page } from "playwright-core" */

/** Clears the status, so that a wait for it does not end with the text of the run before. @param {Page} page */
export const clearStatus = (page) =>
  page.evaluate(() => {
    /** @type {HTMLElement} */ (document.getElementById("status")).textContent = "";
  });

/** Runs `act` and waits until the run it starts is done. @param {Page} page @param {() => Promise<unknown>} act */
export async function untilDone(page, act) {
  await clearStatus(page);
  await act();
  await waitForStatus(page, "Done");
}

/** Starts a run of a prompt, or sends a message. @param {Page} page @param {string} text */
export async function send(page, text) {
  await clearStatus(page);
  await page.fill("#prompt", text);
  await page.click("#run");
}

/** Like `send`, and waits for the whole answer. @param {Page} page @param {string} text */
export async function say(page, text) {
  await send(page, text);
  await waitForStatus(page, "Done");
}

/** Waits until the charts of a profile are drawn, in either language. @param {Page} page */
export async function measured(page) {
  await page.waitForFunction(
    () => /^(Measured|Измерено)/.test(document.getElementById("profile-status")?.textContent ?? ""),
    undefined,
    { timeout: 120_000 },
  );
  // Charts are drawn in the frame after their container has its size.
  await page.waitForSelector("#chart-memory .plot");
}

/** @param {Page} page */
export async function profile(page) {
  await startProfile(page);
  await measured(page);
}

/**
 * A page with one measured profile in the Profile view, on which no text was generated.
 * @param {(page: Page) => Promise<void>} again before each test but the first
 */
export const measuredPage = (again) =>
  onePage(async (page) => {
    await openReadyPage(page);
    await profile(page);
  }, again);
