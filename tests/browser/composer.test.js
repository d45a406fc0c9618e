// @ts-check
// Writing and running: examples run, each run has a seed of its own unless it is held, the answer is followed, and keys
// belong to the field they are pressed in.

import assert from "node:assert/strict";
import { continuation, openReadyPage, setOptions, test, waitForStatus, withPage } from "./harness.js";
import { untilDone } from "./page_runs.js";
import { withReadyPage } from "./ready_page.js";

/** @import { Page } from "playwright-core" */

/** @param {Page} page @param {() => Promise<void>} [start] */
async function run(page, start = () => page.click("#run")) {
  await untilDone(page, start);
  return continuation(page);
}

test("a first visit says what the page is, and the sentence goes with the first answer", () =>
  withReadyPage(async (page) => {
    await page.reload();
    await waitForStatus(page, "Ready");
    assert.match((await page.textContent("#hero")) ?? "", /running inside this tab.*No server/s);
    await setOptions(page, { max_tokens: "2" });
    await run(page);
    assert.ok(await page.locator("#hero").isHidden());
  }));

test("an example runs at once", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "6" });
    await run(page, () => page.getByRole("button", { name: "The borrow checker" }).click());
    assert.match((await page.textContent("#output")) ?? "", /^The borrow checker/);
  }));

test("two runs have different seeds and texts, and with the seed held the same", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "24", temperature: "1.2" });
    const seed = () => page.inputValue("#sampling [name=seed]");
    const texts = [];
    const seeds = [];
    for (let i = 0; i < 2; i++) {
      texts.push(await run(page));
      seeds.push(await seed());
    }
    assert.notEqual(seeds[0], seeds[1]);
    assert.notEqual(texts[0], texts[1]);
    await setOptions(page, { seed: seeds[0] });
    assert.equal(await page.isChecked("#new-seed"), false);
    assert.equal(await run(page), texts[0]);
    assert.equal(await seed(), seeds[0]);
  }));

test("a preset is named again when its values are back", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { temperature: "0.8" });
    assert.equal(await page.inputValue("#preset"), "custom");
    await setOptions(page, { temperature: "0.7" });
    assert.equal(await page.inputValue("#preset"), "balanced");
  }));

test("a long answer is followed to its end in a scroller of its own, below a shortened prompt", () =>
  withReadyPage(async (page) => {
    await page.fill("#prompt", "Ownership is a set of rules. ".repeat(40));
    await setOptions(page, { max_tokens: "700" });
    await page.evaluate(() => {
      // An answer that ends early would fill nothing.
      const given = /** @type {HTMLElement} */ (document.getElementById("output"));
      given.style.maxHeight = "120px";
    });
    await run(page);
    const output = await page.evaluate(() => {
      const { scrollTop, scrollHeight, clientHeight, firstElementChild } = /** @type {HTMLElement} */ (
        document.getElementById("output")
      );
      const lines = /** @type {HTMLElement} */ (firstElementChild).getBoundingClientRect().height;
      return { left: scrollHeight - clientHeight - scrollTop, is_scrolled: scrollHeight > clientHeight, lines };
    });
    assert.ok(output.lines < 70, `the prompt's beginning takes ${output.lines} px`);
    assert.ok(!output.is_scrolled || output.left < 2, `${output.left} px are left below`);
    assert.ok(await page.locator("#run").isVisible());
  }));

test("Run is in view at 1280 × 800 on a first visit, while text arrives and after it", () =>
  withPage(async (page) => {
    await page.setViewportSize({ width: 1280, height: 800 });
    await openReadyPage(page);
    const bottom = () =>
      page.evaluate(() => document.getElementById("run")?.getBoundingClientRect().bottom ?? Infinity);
    assert.ok(await page.locator("#hero").isVisible());
    assert.ok((await bottom()) <= 800, `${await bottom()} px`);
    await setOptions(page, { max_tokens: "60" });
    await page.click("#run");
    await page.waitForFunction(() => (document.getElementById("output")?.textContent?.length ?? 0) > 40);
    assert.ok((await bottom()) <= 800, `${await bottom()} px`);
    await waitForStatus(page, "Done");
    assert.ok((await bottom()) <= 800, `${await bottom()} px`);
  }));

test("Ctrl+Enter in another field or view runs nothing", () =>
  withReadyPage(async (page) => {
    await page.click("#model-chip");
    await page.focus("#weights");
    await page.keyboard.press("Control+Enter");
    await page.click("#close-model");
    await page.click("#tab-profile");
    await page.focus("#profile-form [name=tokens]");
    await page.keyboard.press("Control+Enter");
    await page.waitForTimeout(200);
    await page.click("#tab-playground");
    assert.ok(await page.locator("#metrics").isHidden());
    assert.match((await page.textContent("#status")) ?? "", /^Ready/);
  }));

test("Continue by keyboard leaves the focus beside it", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "4" });
    await run(page);
    await page.focus("#continue");
    await run(page, () => page.keyboard.press("Enter"));
    assert.equal(await page.evaluate(() => document.activeElement?.id), "run");
  }));

test("the sheet behind ? says what the page is and what computes, and its key opens it", () =>
  withReadyPage(async (page) => {
    await page.evaluate(() => /** @type {HTMLElement} */ (document.activeElement).blur());
    await page.keyboard.press("?");
    assert.match((await page.textContent("#help-sheet")) ?? "", /state-space model/);
    assert.match((await page.textContent("#capability")) ?? "", /CPU/);
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#help-sheet").isHidden());
  }));
