// @ts-check
// Makes docs/example/: the page's report of a checkpoint, measured in Chromium through the page's buttons. It is not
// part of the page or the tests.
//
//   cargo xtask build && cargo xtask serve --checkpoint random-1.2b
//   node tools/example/make.js http://127.0.0.1:8080/ /checkpoints/random-1.2b/ docs/example [WEIGHTS]

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [page_address, checkpoint, folder, weights = "q4"] = process.argv.slice(2);
if (!folder) throw new Error("usage: node tools/example/make.js PAGE_URL CHECKPOINT_PATH OUTPUT_FOLDER [WEIGHTS]");
mkdirSync(folder, { recursive: true });

/** Reading 2.43 GB and measuring five runs take minutes on two cores. */
const TIMEOUT_MS = 600_000;

const browser = await chromium.launch({
  executablePath: process.env.ZAMBA2_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
const page = await context.newPage();
page.setDefaultTimeout(TIMEOUT_MS);

/** Waits until an element's text matches. @param {string} id @param {RegExp} words */
const shows = (id, words) =>
  page.waitForFunction(({ id, words }) => new RegExp(words).test(document.getElementById(id)?.textContent ?? ""), {
    id,
    words: words.source,
  });

/** @param {string} format @param {string} file */
async function save(format, file) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(`[data-format="${format}"]`)]);
  await download.saveAs(join(folder, file));
}

/** The whole page, scrolled to the top because the strip is sticky. @param {string} file */
async function picture(file) {
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: join(folder, file), fullPage: true });
}

await page.goto(page_address);
await shows("status", /Ready/);
await page.selectOption("#source", "url");
await page.selectOption("#weights", weights);
await page.fill("#address", checkpoint);
await page.click("#load-url");
await shows("status", /Loading|Reading/);
await shows("status", /Ready/);

await page.click("#tab-profile");
await page.click("#profile-run");
await shows("profile-status", /Measured/);
await save("json", "run.json");
await save("csv", "tables.csv");
await save("markdown", "report.md");
await picture("profile.png");
await page.click("#tab-compare");
await shows("compare-banner", /reference/i);
await picture("compare.png");

await page.click("#language");
await page.click("#theme");
await page.click("#tab-profile");
await save("markdown", "report.ru.md");
await picture("profile-ru-dark.png");
await browser.close();
