// @ts-check
// Firefox ESR over WebDriver BiDi. Firefox implements the protocol itself, so no other program takes part.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";
import { required } from "../browser/browsers.js";

/** @import { DrivenPage } from "./driven.d.ts" */

const HEIGHT = 900;
/** A first start on a busy machine. */
const START_MS = 180_000;

/** @returns {Promise<DrivenPage>} */
export async function openFirefox() {
  const downloads = mkdtempSync(join(tmpdir(), "zamba2-firefox-"));
  const browser = await puppeteer.launch({
    browser: "firefox",
    headless: true,
    executablePath: required("ZAMBA2_FIREFOX"),
    timeout: START_MS,
    protocolTimeout: START_MS,
    // 2: into the folder that is named.
    extraPrefsFirefox: { "browser.download.folderList": 2, "browser.download.dir": downloads },
  });
  const [page] = await browser.pages();
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(`uncaught: ${error}`));
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(`console: ${message.text()}`);
  });
  /** @type {string[]} */
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  return {
    version: await browser.version(),
    requests,
    faults: async () => faults,
    downloads,
    goto: async (address) => void (await page.goto(address)),
    evaluate: (body, ...values) => /** @type {any} */ (page.evaluate(/** @type {any} */ (body), ...values)),
    // A locator waits until the element stands still.
    click: (selector) => page.locator(selector).click(),
    press: async (selector, key, held) => {
      await page.focus(selector);
      if (held) await page.keyboard.down(held);
      await page.keyboard.press(key);
      if (held) await page.keyboard.up(held);
    },
    setWidth: async (width) => page.setViewport({ width, height: HEIGHT }),
    close: async () => {
      await browser.close();
      rmSync(downloads, { recursive: true, force: true });
    },
  };
}
