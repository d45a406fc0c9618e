// @ts-check
// The history across tabs and reloads: what one tab stores or deletes is so in every other one.

import assert from "node:assert/strict";
import { openDetails, openPage, openReadyPage, setOptions, test } from "./harness.js";
import { say } from "./page_runs.js";

/** @import { Page } from "playwright-core" */

/** Waits until the history of a page begins with these prompts, and has no more. @param {Page} page */
const waitForEntries = (page, /** @type {string[]} */ prompts) =>
  page.waitForFunction((prompts) => {
    const shown = [...document.querySelectorAll(".history .entry")].map((entry) => entry.textContent ?? "");
    return shown.length === prompts.length && prompts.every((prompt, i) => shown[i].startsWith(prompt));
  }, prompts);

/** Two tabs of one browser with a ready model. @param {(first: Page, second: Page) => Promise<void>} body */
async function withTwoTabs(body) {
  const { context, page: first, faults } = await openPage();
  try {
    const second = await context.newPage();
    second.on("pageerror", (error) => faults.push(error.message));
    for (const page of [first, second]) {
      await openReadyPage(page);
      await openDetails(page, ".side");
      await setOptions(page, { max_tokens: "4" });
    }
    await body(first, second);
    assert.deepEqual(faults, []);
  } finally {
    await context.close();
  }
}

test("runs of two tabs are in the history of both, and after a reload", () =>
  withTwoTabs(async (first, second) => {
    await say(first, "The first tab");
    await waitForEntries(second, ["The first tab"]);
    await say(second, "The second tab");
    await say(first, "Again the first");
    for (const page of [first, second])
      await waitForEntries(page, ["Again the first", "The second tab", "The first tab"]);
    await openReadyPage(first);
    await waitForEntries(first, ["Again the first", "The second tab", "The first tab"]);
  }));

test("a deletion can be undone in the tab that made it, beside what other tabs have added since", () =>
  withTwoTabs(async (first, second) => {
    for (const prompt of ["Older", "Newer"]) await say(first, prompt);
    await first.click("#history [data-act=clear]");
    await waitForEntries(second, []);
    await say(second, "Added");
    await first.locator("#history-removed").getByRole("button", { name: "Undo" }).click();
    for (const page of [first, second]) await waitForEntries(page, ["Added", "Newer", "Older"]);
    assert.equal(await first.textContent("#history-removed"), "");
    assert.equal(await first.evaluate(() => document.activeElement?.closest("#history") !== null), true);
  }));

test("what one tab deletes does not come back with the next run of another", () =>
  withTwoTabs(async (first, second) => {
    await say(first, "Kept");
    await say(second, "Deleted");
    await waitForEntries(first, ["Deleted", "Kept"]);
    await first.click(".history li:first-child button:last-child");
    await waitForEntries(second, ["Kept"]);
    await say(second, "After");
    for (const page of [first, second]) await waitForEntries(page, ["After", "Kept"]);
    await first.click("#history [data-act=clear]");
    await waitForEntries(second, []);
    await second.uncheck("#history input");
    await first.waitForSelector("#history input:not(:checked)");
    await say(first, "Not stored");
    await waitForEntries(first, []);
  }));
