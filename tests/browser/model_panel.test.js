// @ts-check
// The model panel: it opens from the header by mouse and keyboard, loads what is kept and what its form says, deletes
// with a time to undo, and the next visit begins with the model of this one.

import assert from "node:assert/strict";
import { EMBEDDED, loadWith, openReadyPage, SITE, test, waitForStatus, withPage } from "./harness.js";
import { withReadyPage } from "./ready_page.js";

/** @import { Page } from "playwright-core" */

const OTHER = "/tests/fixtures/one_block_adapters_rope/";

/** @param {Page} page */
const chip = (page) => page.textContent("#model-name");

/** @param {Page} page @param {string} text */
const keptRow = (page, text) => page.locator("#kept li", { hasText: text });

/** Loads the other model in q4 and waits until it is in use. @param {Page} page */
async function loadOther(page) {
  await loadWith(page, { address: OTHER });
  await page.waitForFunction(() => /one_block/.test(document.getElementById("model-name")?.textContent ?? ""));
  await waitForStatus(page, "Ready");
}

test("the chip in the header names the model, opens its panel, and gets the focus back on Escape", () =>
  withReadyPage(async (page) => {
    assert.equal(await chip(page), "rustdoc-5m · q4");
    await page.focus("#model-chip");
    await page.keyboard.press("Enter");
    assert.ok(await page.locator("#model").isVisible());
    assert.equal(await page.getAttribute("#model-chip", "aria-expanded"), "true");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "model-title");
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#model").isHidden());
    assert.equal(await page.evaluate(() => document.activeElement?.id), "model-chip");
  }));

test("fields of the form load nothing before its button is pressed", () =>
  withReadyPage(async (page) => {
    await page.click("#model-chip");
    await page.selectOption("#weights", "q8");
    await page.selectOption("#source", "url");
    await page.fill("#address", OTHER);
    await page.waitForTimeout(300);
    assert.equal(await chip(page), "rustdoc-5m · q4");
    assert.match((await page.textContent("#status")) ?? "", /^Ready/);
  }));

test("each hybrid block of an untied checkpoint has its own shared transformer in the strip and the panel", () =>
  withReadyPage(async (page) => {
    await loadWith(page, { address: "/tests/fixtures/untied/" });
    await page.waitForFunction(() => /untied/.test(document.getElementById("model-name")?.textContent ?? ""));
    await waitForStatus(page, "Ready");
    const cells = page.locator(".cell");
    assert.deepEqual(await cells.locator(".name").allTextContents(), ["E", "S0", "S1", "0", "1", "2", "3"]);
    assert.equal(await page.locator('.cell[data-state="ready"]').count(), 7);
    for (const [cell, fact] of /** @type {const} */ ([
      [1, /Called by blocks1\D/],
      [2, /Called by blocks3\D/],
      [4, /1 of 1, shared transformer 0/],
      [6, /1 of 1, shared transformer 1/],
    ])) {
      await cells.nth(cell).click();
      assert.match((await page.textContent("#block-panel")) ?? "", fact);
    }
  }));

test("published models are listed with sizes for the chosen weights, and one that cannot fit says why", () =>
  withReadyPage(async (page) => {
    await page.click("#model-chip");
    await page.selectOption("#weights", "q4");
    const rows = page.locator("#catalogue li");
    await page.waitForFunction(() => document.querySelectorAll("#catalogue li").length === 5);
    const small = (await rows.nth(0).textContent()) ?? "";
    assert.match(small, /Zyphra\/Zamba2-1\.2B-instruct 2\.43 GB to download, 723 MB kept/);
    await page.selectOption("#weights", "q8");
    await page.waitForFunction(() => /1\.30 GB kept/.test(document.querySelector("#catalogue li")?.textContent ?? ""));
    for (const [backend, verdict] of [
      ["cpu", "does not fit: WebAssembly has 4 GB"],
      ["webgpu", "fits only with WebGPU"],
      ["auto", "fits only with WebGPU"],
    ]) {
      await page.selectOption("#backend", backend);
      await page.waitForFunction(
        (verdict) => document.querySelector("#catalogue li:last-child")?.textContent?.includes(verdict),
        verdict,
      );
      assert.match((await rows.nth(4).textContent()) ?? "", /7B-Instruct/);
    }
    await rows.nth(0).getByRole("button").click();
    assert.equal(await page.inputValue("#address"), "Zyphra/Zamba2-1.2B-instruct");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "load-model");
  }));

test("a kept model is loaded by its button, and the next visit begins with it", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    await loadOther(page);
    await page.click("#model-chip");
    await keptRow(page, "rustdoc-5m").getByRole("button", { name: /^Load/ }).click();
    await page.waitForFunction(() => /rustdoc/.test(document.getElementById("model-name")?.textContent ?? ""));
    await waitForStatus(page, "Ready");
    await loadOther(page);
    await page.reload();
    await waitForStatus(page, "Ready");
    assert.equal(await chip(page), "one_block_adapters_rope · q4");
  }));

test("a deletion can be undone, and is done otherwise", () =>
  withPage(async (page) => {
    await page.clock.install();
    await openReadyPage(page);
    await page.click("#model-chip");
    const row = keptRow(page, "rustdoc-5m");
    await row.getByRole("button", { name: /^Delete/ }).click();
    await row.getByRole("button", { name: "Undo" }).click();
    await page.clock.runFor(20_000);
    assert.match((await row.textContent()) ?? "", /rustdoc-5m · q4/);
    await row.getByRole("button", { name: /^Delete/ }).click();
    await page.clock.runFor(20_000);
    await page.waitForFunction(() => document.querySelectorAll("#kept li").length === 0);
  }));

test("the page's address can name a model and its weights", () =>
  withPage(async (page) => {
    await page.goto(`${SITE}/?model=${encodeURIComponent(EMBEDDED)}&weights=q4`);
    await waitForStatus(page, "Ready");
    assert.equal(await chip(page), "rustdoc-5m · q4");
  }));
