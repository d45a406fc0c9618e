// @ts-check
// What a reload of the page brings back: the draft, an answer that was not finished, and the last profiled runs.

import assert from "node:assert/strict";
import {
  EMBEDDED,
  LONG,
  openDetails,
  openReadyPage,
  setOptions,
  SITE,
  startProfile,
  test,
  waitForStatus,
  withPage,
} from "./harness.js";

/** @import { Page } from "playwright-core" */

/** @param {Page} page */
async function reload(page) {
  await page.reload();
  await waitForStatus(page, "Ready");
}

/** @param {Page} page @param {string} name */
const field = (page, name) => page.inputValue(`#sampling [name=${name}]`);

test("prompt, sampling fields and the held seed survive a reload, and another tab has its own", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    await page.fill("#prompt", "My own words");
    await setOptions(page, { temperature: "0.35", max_tokens: "9", seed: "123", stop: "\\n\\n" });
    await reload(page);
    assert.equal(await page.inputValue("#prompt"), "My own words");
    assert.deepEqual(
      [await field(page, "temperature"), await field(page, "max_tokens"), await field(page, "seed")],
      ["0.35", "9", "123"],
    );
    assert.equal(await field(page, "stop"), "\\n\\n");
    assert.equal(await page.isChecked("#new-seed"), false);
    assert.equal(await page.inputValue("#preset"), "custom");
    const other = await page.context().newPage();
    await openReadyPage(other);
    assert.equal(await other.inputValue("#prompt"), "Ownership is");
  }));

test("after a link, what was changed since survives a reload, and another link is opened", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    const links = await page.evaluate(async () => {
      const { copyLink } = await import(/** @type {any} */ ("/www/playground/share.js"));
      /** @type {string[]} */
      const links = [];
      for (const prompt of ["One", "Two"]) {
        Object.defineProperty(navigator, "clipboard", {
          configurable: true,
          value: { writeText: async (/** @type {string} */ text) => void links.push(text) },
        });
        await copyLink({ version: 1, mode: "raw", prompt, system: "", settings: { max_tokens: 7 } });
      }
      return links;
    });
    await page.goto(links[0]);
    await page.waitForFunction(() => /** @type {any} */ (document.getElementById("prompt")).value === "One");
    await waitForStatus(page, "Ready");
    await page.fill("#prompt", "Mine");
    await reload(page);
    assert.equal(await page.inputValue("#prompt"), "Mine");
    assert.equal(await field(page, "max_tokens"), "7");
    await page.goto(`${SITE}/?again${new URL(links[1]).hash}`);
    await waitForStatus(page, "Ready");
    assert.equal(await page.inputValue("#prompt"), "Two");
  }));

test("chat mode and system message survive a reload", () =>
  withPage(async (page) => {
    const chat_template = "{% for m in messages %}## {{ m.role }}\n{{ m.content }}\n{% endfor %}## assistant\n";
    await page.route(`**${EMBEDDED}tokenizer_config.json`, (route) =>
      route.fulfill({ body: JSON.stringify({ chat_template }) }),
    );
    await openReadyPage(page);
    await page.click("#system-part summary");
    await page.fill("#system", "Answer briefly.");
    await reload(page);
    assert.equal(await page.inputValue("#system"), "Answer briefly.");
    assert.ok(await page.isChecked("#mode [value=chat]"));
    await page.check("#mode [value=raw]");
    await reload(page);
    assert.ok(await page.isChecked("#mode [value=raw]"));
  }));

test("an answer that a reload or Stop interrupts is in the history, as unfinished", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    await setOptions(page, LONG);
    for (const [prompt, interrupt] of /** @type {[string, () => Promise<unknown>][]} */ ([
      ["Reloaded:", () => reload(page)],
      ["Stopped:", () => page.keyboard.press("Escape").then(() => waitForStatus(page, "Done"))],
    ])) {
      await page.fill("#prompt", prompt);
      await page.click("#run");
      await page.waitForFunction(
        () => (document.querySelector("#output > span:last-child")?.textContent ?? "").length > 20,
      );
      await interrupt();
    }
    await setOptions(page, { max_tokens: "3" });
    await page.fill("#prompt", "Finished:");
    await page.click("#run");
    await waitForStatus(page, "Done: 3 tokens");
    await openDetails(page, ".side");
    const entries = await page.locator(".history li").allTextContents();
    assert.deepEqual(
      entries.map((entry) => /^(\w+)/.exec(entry)?.[1]),
      ["Finished", "Stopped", "Reloaded"],
    );
    assert.deepEqual(
      entries.map((entry) => entry.includes("unfinished")),
      [false, true, true],
    );
    await page.locator(".history .entry").nth(2).click();
    assert.ok(((await page.textContent("#output")) ?? "").length > "Reloaded".length + 20);
  }));

test("the last profiled runs are there after a reload, and a deleted one is not", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    const stored = () => page.locator("#profile-kept li").allTextContents();
    for (let n = 1; n <= 2; n++) {
      await startProfile(page);
      await page.waitForFunction((n) => document.querySelectorAll("#profile-kept li").length === n, n);
      await page.waitForFunction(() => document.getElementById("profile-status")?.textContent?.startsWith("Measured"));
    }
    const [second, first] = await stored();
    await page.reload();
    await page.waitForSelector("#profile-result #profile-summary");
    assert.deepEqual(await stored(), [second, first], "the newest is shown at once");
    await page
      .locator("#profile-kept li")
      .nth(1)
      .getByRole("button", { name: /^Show Run 1/ })
      .click();
    await page
      .locator("#profile-kept li")
      .nth(0)
      .getByRole("button", { name: /^Delete Run 2/ })
      .click();
    assert.deepEqual(await stored(), [first]);
    assert.ok(await page.locator("#profile-result").isVisible(), "the one that is shown stays");
    await page.click("#tab-compare");
    await page.waitForFunction(() => document.querySelectorAll("#compare-a option").length === 3);
    await page.click("#tab-profile");
    await page.locator("#profile-kept button").nth(1).click();
    assert.ok(await page.locator("#profile-result").isHidden());
    await page.reload();
    await waitForStatus(page, "Ready");
    assert.deepEqual(await stored(), []);
    assert.match((await page.textContent("#profile-empty")) ?? "", /Press Profile/);
  }));

test("no more than five profiled runs are stored", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    const made = await page.evaluate(async () => {
      const { storedRuns, storeRun } = await import(/** @type {any} */ ("/www/profile/run_store.js"));
      for (let made_ms = 1; made_ms <= 7; made_ms++) await storeRun({ schema: "zamba2-run/1", made_ms });
      return (await storedRuns()).map((/** @type {any} */ { run }) => run.made_ms);
    });
    assert.deepEqual(made, [3, 4, 5, 6, 7]);
  }));
