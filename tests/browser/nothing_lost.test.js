// @ts-check
// What a user has on the page stays there: a load that cannot begin and a file that is none of ours leave the model,
// its run and the answer as they are; every file that the page knows is opened wherever it is dropped.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { continuation, drop, loadWith, openReadyPage, setOptions, test, waitForStatus, withPage } from "./harness.js";
import { withReadyPage } from "./ready_page.js";

/** @import { Page } from "playwright-core" */

const RUN = readFileSync(new URL("../../docs/example/run.json", import.meta.url), "utf8");

/** Runs a prompt, then `act`, and checks that the same model still continues the run. @param {Page} page */
async function goesOnAfter(page, /** @type {() => Promise<void>} */ act) {
  await setOptions(page, { max_tokens: "8", temperature: "0" });
  await page.click("#run");
  await waitForStatus(page, "Done");
  const before = await continuation(page);
  const title = await page.title();
  await act();
  assert.equal(await page.title(), title);
  assert.equal(await continuation(page), before);
  assert.equal(await page.locator(".cell[data-state=ready]").count(), await page.locator(".cell").count());
  const shown = await page.textContent("#output");
  await page.click("#continue");
  await page.waitForFunction(
    (text) => (document.getElementById("output")?.textContent?.length ?? 0) > (text?.length ?? 0),
    shown,
  );
  await waitForStatus(page, "Done");
  assert.ok((await continuation(page)).startsWith(before));
}

/** @type {[string, string, string][]} */
const STRANGERS = [
  ["a README", "README.md", "# Zamba2"],
  ["a picture", "photo.jpg", "\xff\xd8\xff\xe0"],
  ["an empty file", "nothing", ""],
];

for (const [what, name, contents] of STRANGERS) {
  test(`${what} dropped on the prompt is refused by name, and model and answer stay`, () =>
    withReadyPage((page) =>
      goesOnAfter(page, async () => {
        await drop(page, name, contents, "#prompt");
        const card = page.locator(".error-card[data-code=bad_option]");
        await card.waitFor();
        assert.ok((await card.textContent())?.includes(name));
      }),
    ));
}

test("an address without a checkpoint is refused, and model and answer stay", () =>
  withReadyPage((page) =>
    goesOnAfter(page, async () => {
      await loadWith(page, { address: "/tests/fixtures/nowhere/" });
      await page.waitForSelector(".error-card[data-code=missing_file]");
      await waitForStatus(page, "Ready");
      assert.ok(await page.locator("#cancel-load").isHidden());
    }),
  ));

test("a checkpoint whose header is damaged is refused, and model and answer stay", () =>
  withPage(async (page) => {
    await page.route("**/tests/fixtures/gqa/model.safetensors", (route) => route.fulfill({ body: "not a header" }));
    await openReadyPage(page);
    await goesOnAfter(page, async () => {
      await loadWith(page, { address: "/tests/fixtures/gqa/" });
      await page.waitForSelector(".error-card[data-code]");
      await waitForStatus(page, "Ready");
    });
  }));

test("a run file dropped on the playground opens in Compare, and model and answer stay", () =>
  withReadyPage((page) =>
    goesOnAfter(page, async () => {
      await drop(page, "some run", RUN, "#prompt");
      await page.waitForSelector("#view-compare:not([hidden])");
      await page.waitForSelector("#compare-a option:has-text('File')", { state: "attached" });
      await page.click("#tab-playground");
    }),
  ));
