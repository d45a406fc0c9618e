// @ts-check
// Shared by the tests of this folder: a browser, servers that end with the tests, and the application's result.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after } from "node:test";
import { chromium } from "playwright-core";

import { BROWSERS, chromiumPath } from "../browser/browsers.js";
import { ROOT, WORK } from "./consumers.js";
import { CORS, serve } from "./servers.js";

/** @typedef {{ text?: string, bound?: string, build?: string, threads?: number, code?: string, message?: string,
 *   nextStep?: string }} Result */

export const browser = await chromium.launch({ executablePath: chromiumPath(), args: BROWSERS.cpu });

/** Cleanup functions. @type {(() => Promise<unknown>)[]} */
export const closing = [];
after(async () => {
  for (const close of closing.reverse()) await close();
  await browser.close();
});

/** A server that ends with the tests. @param {Parameters<typeof serve>} args */
export async function served(...args) {
  const server = await serve(...args);
  closing.push(server.close);
  return server;
}

/** A template like ChatML, without tokens that the embedded model's vocabulary does not have. */
const CHAT_TEMPLATE =
  "{{ bos_token }}{% for m in messages %}## {{ m.role }}\n{{ m.content }}\n{% endfor %}"
  + "{% if add_generation_prompt %}## assistant\n{% endif %}";
/** The embedded model with the template, for `served`. @param {string} name @param {string} eos_token */
function chatFolder(name, eos_token) {
  const config = join(WORK, `${name}-tokenizer_config.json`);
  writeFileSync(config, JSON.stringify({ bos_token: "<s>", eos_token, chat_template: CHAT_TEMPLATE }));
  return { [`/${name}/`]: join(MODELS, "rustdoc-5m"), [`/${name}/tokenizer_config.json`]: config };
}

const MODELS = join(ROOT, "www/models");
/**
 * The models, on an origin of their own: the embedded one, which has no chat template; the same with one in chat/, and
 * in sentences/ with one whose turns end with a full stop.
 */
export const models = await served(
  { "/": MODELS, ...chatFolder("chat", "</s>"), ...chatFolder("sentences", ".") },
  CORS,
);

/** The result of the application at `url`. @param {string} url @param {string} [query] @returns {Promise<Result>} */
export async function resultAt(url, query = "") {
  const context = await browser.newContext();
  const page = await context.newPage();
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("requestfailed", (request) => faults.push(`${request.url()}: ${request.failure()?.errorText}`));
  try {
    await page.goto(`${url}?model=${models.url}/rustdoc-5m/${query}`);
    // A development server may reload the page once, when it has found the dependencies.
    await page.waitForFunction(() => "result" in globalThis, undefined, { timeout: 20_000 });
    return await page.evaluate(() => /** @type {any} */ (globalThis).result);
  } catch (error) {
    throw new Error(`${/** @type {Error} */ (error).message}\n${faults.join("\n")}`);
  } finally {
    await context.close();
  }
}
