// @ts-check
// Shared by the WebGPU tests: a page with the module on Chromium's software adapter, and a load with its logits.

import assert from "node:assert/strict";
import { EMBEDDED, expected, importModule, maxDifference, onePage, sharedBrowser, SITE } from "./harness.js";

/** @import { BrowserContext, Page } from "playwright-core" */

/**
 * WGSL's tolerance for exponentials adds to the different order of sums; a wrong term would be a hundred times as
 * large.
 */
export const MAX_LOGIT_DIFFERENCE = 2e-3;

/** The engine worker runs `script` before itself. @param {Page} page @param {string} script */
export const runInWorker = (page, script) =>
  page.route("**/pkg/worker.js", async (route) => {
    const reply = await route.fetch();
    await route.fulfill({ response: reply, body: `${script}\n${await reply.text()}` });
  });

/**
 * Imports the module as `zamba2` in a page whose engine worker runs `script` first.
 * @param {Page} page
 * @param {string} [script]
 */
export async function prepareModule(page, script) {
  if (script) await runInWorker(page, script);
  await importModule(page);
}

/** One for all tests of a file: the browser keeps compiled shaders for it. @type {Promise<BrowserContext> | null} */
let shared_context = null;

/** @param {(page: Page) => Promise<void>} body @param {string} [script] */
export async function withModule(body, script) {
  shared_context ??= sharedBrowser("webgpu").then((browser) => browser.newContext());
  const page = await (await shared_context).newPage();
  try {
    await prepareModule(page, script);
    await body(page);
  } finally {
    await page.close();
  }
}

/**
 * Serves a small model in place of the embedded one, which the software adapter takes long to run.
 * @param {Page} page @param {string} fixture
 */
export const replaceEmbedded = (page, fixture) =>
  page.route(`**${EMBEDDED}*`, (route) => {
    const file = new URL(route.request().url()).pathname.slice(EMBEDDED.length);
    return route.continue({ url: `${source(fixture)}${file}` });
  });

/** Makes the software adapter appear to be a hardware adapter. */
export const DISGUISE = `
for (const kind of [globalThis.GPUAdapterInfo, globalThis.GPUAdapter]) {
  if (!kind || !("isFallbackAdapter" in kind.prototype)) continue;
  Object.defineProperty(kind.prototype, "isFallbackAdapter", { get: () => false });
}`;

/**
 * A page for several tests with one loaded fixture as `model`, because a load on a software adapter takes long.
 * @param {string} fixture @param {Record<string, unknown>} options for `load` @param {string} [script]
 */
export const withLoaded = (fixture, options, script) =>
  onePage(
    async (page) => {
      await prepareModule(page, script);
      await page.evaluate(
        async (options) => {
          const scope = /** @type {any} */ (globalThis);
          scope.model = await scope.zamba2.load({ weights: "f32", keep: false, ...options });
        },
        { source: source(fixture), ...options },
      );
    },
    undefined,
    {},
    "webgpu",
  );

/**
 * Logits of the model of `withLoaded`.
 * @param {Page} page
 * @param {number[]} ids
 * @returns {Promise<{ info: any, logits: number[], error: null }>}
 */
export const runLoaded = (page, ids) =>
  page.evaluate(async (ids) => {
    const { model } = /** @type {any} */ (globalThis);
    const logits = (await model.logits(ids)).flatMap((/** @type {Float32Array} */ row) => [...row]);
    return { info: model.info, logits, error: null };
  }, ids);

/**
 * Loads, and gives the model's info and logits, or the error.
 * @param {Page} page
 * @param {Record<string, unknown>} options for `load`
 * @param {number[]} ids
 * @param {number} n  greedy steps
 * @returns {Promise<{ info: any, logits: number[], tokens: number[], greedy_logits: number[], error: { code: string,
 *   message: string, next: string } | null }>}
 */
export function loadAndRun(page, options, ids, n) {
  return page.evaluate(
    async ({ options, ids, n }) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      try {
        const model = await zamba2.load({ weights: "f32", keep: false, ...options });
        const flat = (/** @type {Float32Array[]} */ rows) => rows.flatMap((row) => [...row]);
        const logits = flat(await model.logits(ids));
        const greedy = n > 0 ? await model.greedy(ids, n) : { tokens: [], logits: [] };
        const { info } = model;
        model.dispose();
        return { info, logits, tokens: greedy.tokens, greedy_logits: flat(greedy.logits), error: null };
      } catch (error) {
        const { code, message, nextStep } = /** @type {any} */ (error);
        return { info: null, logits: [], tokens: [], greedy_logits: [], error: { code, message, next: nextStep } };
      }
    },
    { options, ids, n },
  );
}

/** @param {string} fixture */
export const source = (fixture) => `${SITE}/tests/fixtures/${fixture}/`;

/** @param {{ logits: number[], error: unknown }} result @param {string} fixture */
export function assertRight(result, fixture) {
  assert.equal(result.error, null);
  const worst = maxDifference(result.logits, expected(fixture).prefill_logits.values);
  assert.ok(worst <= MAX_LOGIT_DIFFERENCE, `prefill logits differ by ${worst}`);
}
