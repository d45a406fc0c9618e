// @ts-check
// Browsers of 2023: the page runs without the interfaces that came later, and says which browser it needs where it
// cannot run.

import assert from "node:assert/strict";
import { continuation, expected, loadWith, openPage, setOptions, SITE, test, waitForStatus } from "./harness.js";
import { assertRight, loadAndRun, source, withModule } from "./webgpu.js";

/** @import { BrowserContext } from "playwright-core" */

/**
 * What Chrome, Firefox and Safari of the middle of 2023 lack, one or all of them, as far as the page runs without.
 * Names are paths from the global object.
 */
const LATER = [
  "AbortSignal.any",
  "Array.fromAsync",
  "Array.prototype.toReversed",
  "Array.prototype.toSorted",
  "Array.prototype.toSpliced",
  "Array.prototype.with",
  "ArrayBuffer.prototype.transfer",
  "Iterator.prototype.filter",
  "Iterator.prototype.map",
  "Iterator.prototype.toArray",
  "Map.groupBy",
  "Object.groupBy",
  "Promise.try",
  "Promise.withResolvers",
  "Response.prototype.bytes",
  "Set.prototype.difference",
  "Set.prototype.intersection",
  "Set.prototype.union",
  "String.prototype.isWellFormed",
  "Uint8Array.prototype.toHex",
  "Uint8Array.fromBase64",
  "URL.canParse",
  "URL.parse",
  "RegExp.escape",
  "FinalizationRegistry",
  "scheduler",
  "CSSStyleSheet.prototype.replace",
];

/** A script that takes them away. @param {string[]} paths */
const without = (paths) => `
for (const path of ${JSON.stringify(paths)}) {
  const names = path.split(".");
  const last = names.pop();
  const owner = names.reduce((owner, name) => owner?.[name], globalThis);
  if (owner) delete owner[last];
}`;

/** Begins the page and every worker with `script`. @param {BrowserContext} context @param {string} script */
async function beginWith(context, script) {
  await context.addInitScript(script);
  await context.route(/\/pkg\/(worker|thread)\.js$/, async (route) => {
    const reply = await route.fetch();
    await route.fulfill({ response: reply, body: `${script}\n${await reply.text()}` });
  });
}

test("without what came after 2023 the page loads, generates, measures and compares", async () => {
  const { context, page, faults } = await openPage();
  try {
    await beginWith(context, without(LATER));
    await page.goto(`${SITE}/?threads=2`);
    assert.equal(await page.evaluate(() => "any" in AbortSignal || "parse" in URL), false);
    await waitForStatus(page, "Ready");
    await setOptions(page, { max_tokens: "8" });
    await page.click("#run");
    await waitForStatus(page, "Done");
    assert.notEqual(await continuation(page), "");

    await loadWith(page, { address: "/www/models/rustdoc-5m/config.json" });
    await waitForStatus(page, "Ready");

    await page.click("#tab-profile");
    await page.fill("#profile-form [name=runs]", "1");
    await page.fill("#profile-form [name=decode]", "2");
    await page.click("#profile-run");
    await page.waitForSelector("#profile-result:visible", { timeout: 120_000 });
    await page.click("#tab-compare");
    await page.waitForSelector("#compare-result > *", { timeout: 60_000 });
    assert.equal(await page.locator(".error-card:visible").count(), 0);
    assert.deepEqual(faults, []);
  } finally {
    await context.close();
  }
});

/** @type {[string, string, RegExp][]} */
const TOO_OLD = [
  [
    "module workers",
    "Worker = class extends Worker { constructor(url) { super(url, { type: 'module' }); } };",
    /module workers/,
  ],
  ["WebAssembly SIMD", "WebAssembly.validate = () => false;", /WebAssembly SIMD/],
];

for (const [what, script, reason] of TOO_OLD) {
  test(`a browser without ${what} shows which browsers work`, async () => {
    const { context, page } = await openPage();
    try {
      await beginWith(context, script);
      await page.goto(`${SITE}/`);
      const card = page.locator(".error-card[data-code=unsupported_browser]");
      await card.waitFor();
      const text = (await card.textContent()) ?? "";
      assert.match(text, reason);
      assert.match(text, /Chrome 103, Edge 103, Firefox 114, Safari 16\.4/);
    } finally {
      await context.close();
    }
  });
}

test("an early version of WebGPU leaves the CPU, and says so", () =>
  withModule(async (page) => {
    const fixture = "two_blocks_groups2_rope";
    const { input_ids } = expected(fixture);
    const result = await loadAndRun(page, { source: source(fixture) }, input_ids, 0);
    assertRight(result, fixture);
    assert.match(result.info.backend, /^cpu/);
    assert.equal(result.info.backend_reason, "no_adapter");
    const refused = await loadAndRun(page, { source: source(fixture), backend: "webgpu" }, input_ids, 0);
    assert.equal(refused.error?.code, "no_adapter");
    assert.match(refused.error?.message ?? "", /early version of WebGPU/);
  }, "delete GPUAdapter.prototype.info;"));

test("without light-dark() the page has its light colours", async () => {
  const { context, page } = await openPage({ colorScheme: "dark" });
  try {
    await context.route("**/*.css", async (route) => {
      const response = await route.fetch();
      // An unknown function, both where it is used and where it is asked for.
      await route.fulfill({ response, body: (await response.text()).replaceAll("light-dark(", "light-dark-later(") });
    });
    await page.goto(`${SITE}/`);
    await waitForStatus(page, "Ready");
    const [page_colour, text_colour] = await page.evaluate(() => {
      const { backgroundColor, color } = getComputedStyle(document.body);
      return [backgroundColor, color];
    });
    assert.equal(page_colour, "rgb(252, 252, 250)");
    assert.equal(text_colour, "rgb(26, 26, 30)");
  } finally {
    await context.close();
  }
});
