// @ts-check
// What the browser tests share: one Chromium, pages that watch for faults, fixtures, and a reader for safetensors.
// The server comes from outside (`cargo xtask test` starts it), so that the suite tests what developers serve.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

/** @import { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core" */

/** @param {string} name */
function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the browser tests with \`cargo xtask test\``);
  return value;
}

export const SITE = required("ZAMBA2_URL").replace(/\/$/, "");
/** The same site without isolation headers. */
export const PLAIN_SITE = required("ZAMBA2_PLAIN_URL").replace(/\/$/, "");
const ROOT = fileURLToPath(new URL("../../", import.meta.url));
export const FIXTURES = readdirSync(`${ROOT}tests/fixtures`, { withFileTypes: true })
  .filter((entry) => entry.isDirectory()).map((entry) => entry.name);
export const EMBEDDED = "/www/models/rustdoc-5m/";

/** Gives Chromium without a graphics card its software adapter. Without the flag there is no adapter at all. */
export const SOFTWARE_ADAPTER = "--enable-unsafe-webgpu";

/** Chromium refuses its sandbox to root, and the suite often runs as root in a container. @param {string[]} flags */
export function launch(...flags) {
  return chromium.launch({ executablePath: required("ZAMBA2_CHROMIUM"), args: ["--no-sandbox", ...flags] });
}

/**
 * A fresh context and page. `faults` collects uncaught errors, console errors and requests to other origins.
 * @param {Browser} browser @param {BrowserContextOptions} [options]
 */
export async function openPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(`uncaught: ${error.message}`));
  page.on("console", (message) => {
    // The browser itself logs every 404, and a missing optional file is an expected one.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) faults.push(`console: ${message.text()}`);
  });
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (url.origin !== SITE && url.origin !== PLAIN_SITE && url.protocol !== "data:" && url.protocol !== "blob:") faults.push(`left the origin: ${url}`);
  });
  return { context, page, faults };
}

/**
 * Waits until `holds` answers true in the page. Playwright's own waitForFunction takes the promise of an async function
 * for a yes.
 * @template T @param {Page} page @param {(argument: T) => Promise<boolean>} holds @param {T} argument
 */
export async function until(page, holds, argument) {
  const give_up_ms = Date.now() + 30_000;
  while (!(await page.evaluate(/** @type {any} */ (holds), argument))) {
    if (Date.now() > give_up_ms) throw new Error(`30 s passed and it did not become true: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * A profile on disk. An ordinary context keeps storage in memory, and Chromium forgets that with the last page of the site.
 * @param {(context: BrowserContext) => Promise<void>} body
 */
export async function withProfile(body) {
  const folder = mkdtempSync(join(tmpdir(), "zamba2-profile-"));
  const context = await chromium.launchPersistentContext(folder, { executablePath: required("ZAMBA2_CHROMIUM"), args: ["--no-sandbox"] });
  try {
    await body(context);
  } finally {
    await context.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * A page of the site that holds nothing but the module, as `zamba2`, and `filesOf` to make Files from base64.
 * @param {Browser} browser
 */
export async function openModule(browser) {
  const opened = await openPage(browser);
  // The source shown as text: a document of this origin with no scripts of its own.
  await opened.page.goto(`${SITE}/pkg/zamba2.js`);
  await opened.page.evaluate(async (address) => {
    const scope = /** @type {any} */ (globalThis);
    scope.zamba2 = await import(address);
    scope.filesOf = async (/** @type {Record<string, string>} */ contents) =>
      Promise.all(Object.entries(contents).map(async ([name, base64]) => {
        const response = await fetch(`data:application/octet-stream;base64,${base64}`);
        return new File([await response.blob()], name);
      }));
  }, `${SITE}/pkg/zamba2.js`);
  return opened;
}

/** The files of a fixture that a loader reads. @param {string} name @returns {Record<string, Buffer>} */
export function fixtureFiles(name) {
  const folder = `${ROOT}tests/fixtures/${name}/`;
  const names = readdirSync(folder).filter((file) => !/^(expect|generation_config)/.test(file));
  return Object.fromEntries(names.map((file) => [file, readFileSync(folder + file)]));
}

/** All files of a packed folder, by their paths in it. @param {string} name @returns {Record<string, Buffer>} */
export function packedFiles(name) {
  const folder = `${ROOT}tests/packed/${name}/`;
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(entries.map(({ parentPath, name }) => {
    const path = `${parentPath}/${name}`;
    return [path.slice(folder.length).replace(/^\/+/, ""), readFileSync(path)];
  }));
}

/** @param {string} path from the top of the repository */
export const repositoryFile = (path) => readFileSync(ROOT + path);

/** @param {Record<string, Buffer>} files */
export const asBase64 = (files) => Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, bytes.toString("base64")]));

/** The tensors of expect.safetensors that the tests need. @param {string} fixture */
export function expected(fixture) {
  const file = repositoryFile(`tests/fixtures/${fixture}/expect.safetensors`);
  const header_bytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + header_bytes));
  /** @param {string} name @returns {{ shape: number[], values: number[] }} */
  const tensor = (name) => {
    const { dtype, shape, data_offsets: [start, end] } = header[name];
    const bytes = file.buffer.slice(file.byteOffset + 8 + header_bytes + start, file.byteOffset + 8 + header_bytes + end);
    if (dtype === "F32") return { shape, values: [...new Float32Array(bytes)] };
    if (dtype === "I64") return { shape, values: [...new BigInt64Array(bytes)].map(Number) };
    throw new Error(`${fixture}: tensor ${name} has dtype ${dtype}, which this reader does not know`);
  };
  return {
    input_ids: tensor("input_ids").values, prefill_logits: tensor("prefill_logits"), greedy_ids: tensor("greedy_ids").values,
    greedy_logits: tensor("greedy_logits"),
  };
}

/** Opens the page itself and waits until the embedded model can run. @param {Page} page */
export async function openReadyPage(page) {
  await page.goto(`${SITE}/`);
  await waitForStatus(page, "Ready");
}

/** @param {Page} page @param {string} beginning */
export async function waitForStatus(page, beginning) {
  await page.waitForFunction((text) => document.getElementById("status")?.textContent?.startsWith(text), beginning, { timeout: 60_000 });
}

/** Changes the page to its other language, whose words may have to come first. @param {Page} page */
export async function switchLanguage(page) {
  const other = await page.getAttribute("#language", "lang");
  await page.click("#language");
  await page.waitForSelector(`html[lang=${other}]`);
}

/** Text without the prompt that the output repeats. @param {Page} page */
export async function continuation(page) {
  return page.evaluate(() => document.querySelector("#output > span:last-child")?.textContent ?? "");
}

/** @param {ArrayLike<number>} actual @param {ArrayLike<number>} reference */
export function maxDifference(actual, reference) {
  if (actual.length !== reference.length) return Infinity;
  // NaN compares false with everything, so it must not slip through Math.max.
  return Array.from(actual).reduce((most, value, i) => {
    const difference = Math.abs(value - reference[i]);
    return Number.isNaN(difference) ? Infinity : Math.max(most, difference);
  }, 0);
}
