// @ts-check
// Shared by the browser tests: `test`, browsers, pages that collect errors, fixtures, and a safetensors reader. The
// servers are started outside (`cargo xtask test`), so that the suite tests what developers serve. run.js starts the
// browser shared by all files; a file run alone starts its own.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test as nodeTest } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

import { BROWSERS, chromiumPath, required, SHARED } from "./browsers.js";

/** @import { Browser, BrowserContext, BrowserContextOptions, Download, Page, Route } from "playwright-core" */
/** @import { BrowserKind } from "./browsers.js" */

export const SITE = required("ZAMBA2_URL").replace(/\/$/, "");
/** The same site without isolation headers. */
export const PLAIN_SITE = required("ZAMBA2_PLAIN_URL").replace(/\/$/, "");
const ROOT = fileURLToPath(new URL("../../", import.meta.url));
export const FIXTURES = readdirSync(`${ROOT}tests/fixtures`, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && existsSync(`${ROOT}tests/fixtures/${entry.name}/expect.safetensors`))
  .map((entry) => entry.name);
export const EMBEDDED = "/www/models/rustdoc-5m/";
/** Before this byte of its weights are the embedding and the first three blocks. */
const FIRST_BLOCKS_END = 4_200_000;

// ---- tests ----

/** The selection made by run.js; all tests without it. @type {{ list: boolean, quick: boolean, names: string[] }} */
const CHOICE = { list: false, quick: false, names: [], ...JSON.parse(process.env.ZAMBA2_CHOICE ?? "{}") };

/** Timeout for tests that wait forever inside a page. */
const HANG_MS = 300_000;

/**
 * Declares a test. `quick` tests cover the main path and run with `run.js --quick`.
 * @param {string} name @param {() => Promise<void> | void} body @param {{ quick?: boolean }} [kind]
 */
export function test(name, body, { quick = false } = {}) {
  if (CHOICE.quick && !quick) return;
  if (CHOICE.names.length > 0 && !CHOICE.names.some((part) => name.includes(part))) return;
  nodeTest(name, { skip: CHOICE.list, timeout: HANG_MS }, body);
}

// ---- browsers ----

/** A separate browser for one test. @param {BrowserKind} kind */
export const launch = (kind) => chromium.launch({ executablePath: chromiumPath(), args: BROWSERS[kind] });

/** @type {Map<BrowserKind, Promise<Browser>>} */
const shared = new Map();

/**
 * The shared browser, in which tests open contexts. With WebGPU there is one per file: a browser compiles shaders on
 * one thread, and files run in parallel.
 * @param {BrowserKind} [kind]
 */
export function sharedBrowser(kind = "cpu") {
  const endpoint = kind === "cpu" ? process.env[SHARED] : undefined;
  const browser = shared.get(kind) ?? (endpoint ? chromium.connect(endpoint) : launch(kind));
  shared.set(kind, browser);
  return browser;
}

after(async () => {
  for (const browser of shared.values()) await (await browser).close();
});

// ---- pages ----

/** The window of a page whose test does not choose another. */
export const DESKTOP = { width: 1280, height: 900 };

/**
 * A fresh context and page. `faults` collects uncaught errors, console errors and requests to other origins.
 * @param {BrowserContextOptions} [options] @param {BrowserKind} [kind]
 */
export async function openPage(options = {}, kind) {
  const browser = await sharedBrowser(kind);
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  const page = await context.newPage();
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(`uncaught: ${error.message}`));
  page.on("console", (message) => {
    // The browser logs every 404 itself, and optional files may be missing.
    const is_fault = message.type() === "error" && !message.text().startsWith("Failed to load resource");
    if (is_fault) faults.push(`console: ${message.text()}`);
  });
  context.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    const is_ours = origin === SITE || origin === PLAIN_SITE || protocol === "data:" || protocol === "blob:";
    if (!is_ours) faults.push(`left the origin: ${request.url()}`);
  });
  return { context, page, faults };
}

/**
 * A fresh page; any error in it fails the test.
 * @param {(page: Page) => Promise<void>} body @param {BrowserContextOptions} [options] @param {BrowserKind} [kind]
 */
export async function withPage(body, options, kind) {
  const { context, page, faults } = await openPage(options, kind);
  try {
    await body(page);
    assert.deepEqual(faults, []);
  } finally {
    await context.close();
  }
}

/**
 * One page for several tests, each of which leaves it usable for the next. `prepare` sets it up for the first test and
 * after a failed one; `again` before each of the others.
 * @param {(page: Page) => Promise<void>} prepare @param {(page: Page) => Promise<void>} [again]
 * @param {BrowserContextOptions} [options] @param {BrowserKind} [kind]
 * @returns {(body: (page: Page) => Promise<void>,
 *   origins?: string[]) => Promise<void>} `origins` are those of the test's own servers
 */
export function onePage(prepare, again, options, kind) {
  /** @type {Awaited<ReturnType<typeof openPage>> | null} */
  let opened = null;
  /** @type {string[]} */
  const own = [];
  return async (body, origins = []) => {
    own.push(...origins);
    try {
      if (opened) {
        await again?.(opened.page);
      } else {
        opened = await openPage(options, kind);
        await prepare(opened.page);
      }
      // Errors that arrive late from the previous test are not this one's.
      const { page, faults } = opened;
      faults.length = 0;
      await body(page);
      assert.deepEqual(
        faults.filter((fault) => !own.some((origin) => fault.startsWith(`left the origin: ${origin}/`))),
        [],
      );
    } catch (error) {
      await opened?.context.close();
      opened = null;
      throw error;
    }
  };
}

/**
 * Opens a document of the site without scripts and imports the module as `zamba2`.
 * @param {Page} page
 */
export async function importModule(page) {
  // The module's source, displayed as text.
  await page.goto(`${SITE}/pkg/zamba2.js`);
  await page.evaluate(async (address) => {
    const scope = /** @type {any} */ (globalThis);
    scope.zamba2 = await import(address);
    scope.filesOf = async (/** @type {Record<string, string>} */ contents) =>
      Promise.all(
        Object.entries(contents).map(async ([name, base64]) => {
          const response = await fetch(`data:application/octet-stream;base64,${base64}`);
          return new File([await response.blob()], name);
        }),
      );
  }, `${SITE}/pkg/zamba2.js`);
}

/** A fresh page with only the module, as `zamba2`, and `filesOf`, which makes Files from base64. */
export async function openModule() {
  const opened = await openPage();
  await importModule(opened.page);
  return opened;
}

/** @param {(page: Page) => Promise<void>} body */
export const withModule = (body) =>
  withPage(async (page) => {
    await importModule(page);
    await body(page);
  });

/** A page with the module for all tests of a file; stored models and routes are removed between tests. */
export const withSharedModule = onePage(importModule, async (page) => {
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.evaluate(async () => {
    const { zamba2 } = /** @type {any} */ (globalThis);
    for (const { key } of await zamba2.keptModels()) await zamba2.forgetModel(key);
  });
});

/**
 * Waits until `holds` resolves to true in the page. Playwright's waitForFunction treats the promise of an async
 * function as true.
 * @template T @param {Page} page @param {(argument: T) => Promise<boolean>} holds @param {T} argument
 */
export async function until(page, holds, argument) {
  const give_up_ms = Date.now() + 30_000;
  while (!(await page.evaluate(/** @type {any} */ (holds), argument))) {
    if (Date.now() > give_up_ms) throw new Error(`not true after 30 s: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * A profile on disk. An ordinary context keeps storage in memory, and Chromium discards it when the last page of the
 * site closes.
 * @param {(context: BrowserContext) => Promise<void>} body
 */
export async function withProfile(body) {
  const folder = mkdtempSync(join(tmpdir(), "zamba2-profile-"));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: chromiumPath(),
    args: BROWSERS.cpu,
  });
  try {
    await body(context);
  } finally {
    await context.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The files of a fixture that are loaded. @param {string} name @returns {Record<string, Buffer>} */
export function fixtureFiles(name) {
  const folder = `${ROOT}tests/fixtures/${name}/`;
  const names = readdirSync(folder).filter((file) => !/^(expect|generation_config)/.test(file));
  return Object.fromEntries(names.map((file) => [file, readFileSync(folder + file)]));
}

/**
 * The files of a checkpoint with tied embeddings, with an embedding of `rows` rows in f32.
 * @param {Record<string, Buffer>} files @param {number} rows
 */
export function withVocabulary(files, rows) {
  const weights = files["model.safetensors"];
  const header_end = 8 + Number(weights.readBigUInt64LE(0));
  /** @type {Record<string, { dtype: string, shape: number[], data_offsets: [number, number] }>} */
  const header = JSON.parse(weights.subarray(8, header_end).toString());
  /** @type {Buffer[]} */
  const data = [];
  let at = 0;
  for (const [name, tensor] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    let bytes = weights.subarray(header_end + tensor.data_offsets[0], header_end + tensor.data_offsets[1]);
    if (name === "model.embed_tokens.weight") {
      const numbers = Float32Array.from(
        { length: rows * tensor.shape[1] },
        (_, i) => ((i * 7919) % 1009) / 10_090 - 0.05,
      );
      Object.assign(tensor, { dtype: "F32", shape: [rows, tensor.shape[1]] });
      bytes = Buffer.from(numbers.buffer);
    }
    tensor.data_offsets = [at, at + bytes.length];
    at += bytes.length;
    data.push(bytes);
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const config = { ...JSON.parse(files["config.json"].toString()), vocab_size: rows };
  return {
    ...files,
    "config.json": Buffer.from(JSON.stringify(config)),
    "model.safetensors": Buffer.concat([length, json, ...data]),
  };
}

/** All files of a packed folder, by relative path. @param {string} name @returns {Record<string, Buffer>} */
export function packedFiles(name) {
  const folder = `${ROOT}tests/packed/${name}/`;
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    entries.map(({ parentPath, name }) => {
      const path = `${parentPath}/${name}`;
      return [path.slice(folder.length).replace(/^\/+/, ""), readFileSync(path)];
    }),
  );
}

/** @param {string} path relative to the root of the repository */
export const repositoryFile = (path) => readFileSync(ROOT + path);

/** @param {Record<string, Buffer>} files */
export const asBase64 = (files) =>
  Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, bytes.toString("base64")]));

/** The tensors of expect.safetensors used by the tests. @param {string} fixture */
export function expected(fixture) {
  const file = repositoryFile(`tests/fixtures/${fixture}/expect.safetensors`);
  const header_bytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + header_bytes));
  /** @param {string} name @returns {{ shape: number[], values: number[] }} */
  const tensor = (name) => {
    const {
      dtype,
      shape,
      data_offsets: [start, end],
    } = header[name];
    const bytes = file.buffer.slice(
      file.byteOffset + 8 + header_bytes + start,
      file.byteOffset + 8 + header_bytes + end,
    );
    if (dtype === "F32") return { shape, values: [...new Float32Array(bytes)] };
    if (dtype === "I64") return { shape, values: [...new BigInt64Array(bytes)].map(Number) };
    throw new Error(`${fixture}: tensor ${name} has dtype ${dtype}, which is not supported`);
  };
  return {
    input_ids: tensor("input_ids").values,
    prefill_logits: tensor("prefill_logits"),
    greedy_ids: tensor("greedy_ids").values,
    greedy_logits: tensor("greedy_logits"),
  };
}

/**
 * Loads a fixture from `source` and gives its logits for the fixture's prompt, what was stored, and the last progress
 * report; or the error.
 * @param {Page} page @param {string} fixture @param {string} source @param {object} options for `load`
 */
export function loadFrom(page, fixture, source, options) {
  return page.evaluate(
    async ({ source, ids, options }) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      /** @type {any} */
      let last = null;
      try {
        const model = await zamba2.load({
          source,
          retry: { first_delay_ms: 1, attempts: 3 },
          onProgress: (/** @type {any} */ progress) => (last = progress),
          ...options,
        });
        const rows = await model.logits(ids);
        const { keeping, kinds } = model.info;
        model.dispose();
        const logits = rows.map((/** @type {Float32Array} */ row) => [...row]);
        return { logits, keeping, kinds, progress: { ...last, info: null }, error: null };
      } catch (error) {
        const { code, message, file, nextStep } = /** @type {any} */ (error);
        return {
          logits: [],
          keeping: null,
          kinds: null,
          progress: { ...last, info: null },
          error: { code, message, file, nextStep },
        };
      }
    },
    { source, ids: expected(fixture).input_ids, options },
  );
}

/** The shared browser is remote, so its files have no local path. @param {Download} file */
export const bytesOf = async (file) => Buffer.concat(await (await file.createReadStream()).toArray());

/** The file saved by a click on a button. @param {Page} page @param {string} button */
export async function download(page, button) {
  await page.locator(button).evaluate((element) => element.closest("details")?.setAttribute("open", ""));
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  return { name: file.suggestedFilename(), bytes: await bytesOf(file) };
}

/** Opens the page and waits until the embedded model is ready. @param {Page} page */
export async function openReadyPage(page) {
  await page.goto(`${SITE}/`);
  await waitForStatus(page, "Ready");
}

/** @param {Page} page @param {string} beginning */
export async function waitForStatus(page, beginning) {
  await page.waitForFunction((text) => document.getElementById("status")?.textContent?.startsWith(text), beginning, {
    timeout: 120_000,
  });
}

/**
 * Opens the page and delays the embedded model's weights after the first blocks, so that it stays in the middle of
 * loading. The server's answer ends there, and what is left is asked for in a second request.
 * @param {Page} page @param {(route: Route) => Promise<void>} [answer] to each delayed request
 * @returns {Promise<() => void>} a function that lets loading continue
 */
export async function openLoadingPage(page, answer = (route) => route.continue()) {
  let release = () => {};
  const released = new Promise((resolve) => {
    release = () => resolve(undefined);
  });
  const file = readFileSync(`${ROOT}${EMBEDDED}model.safetensors`);
  await page.route("**/model.safetensors", async (route) => {
    const range = /^bytes=(\d+)-(\d+)$/.exec(route.request().headers().range ?? "");
    const [start, end] = [Number(range?.[1]), Number(range?.[2]) + 1];
    if (end <= FIRST_BLOCKS_END) return route.continue();
    if (start < FIRST_BLOCKS_END) {
      const headers = { "Content-Range": `bytes ${start}-${FIRST_BLOCKS_END - 1}/${file.length}` };
      return route.fulfill({ status: 206, headers, body: file.subarray(start, FIRST_BLOCKS_END) });
    }
    await released;
    await answer(route);
  });
  await page.goto(`${SITE}/`);
  await waitForStatus(page, "Loading");
  return release;
}

/**
 * Sets sampling options, which are collapsed on a narrow page.
 * @param {Page} page @param {Record<string, string>} options by the names of their fields
 */
export async function setOptions(page, options) {
  await page.evaluate(() => document.getElementById("sampling")?.setAttribute("open", ""));
  for (const [name, value] of Object.entries(options)) await page.fill(`#sampling [name=${name}]`, value);
}

/** An answer that lasts until it is stopped: the embedded model's most probable text does not end. */
export const LONG = { max_tokens: "1900", temperature: "0" };

/** Opens all `details` elements. @param {Page} page @param {string} [selector] of the part of the page */
export const openDetails = (page, selector = "body") =>
  page.evaluate(
    (selector) =>
      document.querySelectorAll(`${selector} details`).forEach((details) => details.setAttribute("open", "")),
    selector,
  );

/** Resizes the window and waits for the frames in which charts are drawn. @param {Page} page @param {number} width */
export async function setWidth(page, width) {
  await page.setViewportSize({ width, height: 844 });
  await page.evaluate(async () => {
    // The observers of sizes run in the first frame and draw in the second.
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
  });
}

/** Pixels by which the page is wider than the window. @param {Page} page */
export const horizontalOverflow = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

/** Switches the page's language and waits until its words are loaded. @param {Page} page */
export async function switchLanguage(page) {
  const other = await page.getAttribute("#language", "lang");
  await page.click("#language");
  await page.waitForSelector(`html[lang=${other}]`);
}

/** The output without the prompt. @param {Page} page */
export async function continuation(page) {
  return page.evaluate(() => document.querySelector("#output > span:last-child")?.textContent ?? "");
}

/** @param {ArrayLike<number>} actual @param {ArrayLike<number>} reference */
export function maxDifference(actual, reference) {
  if (actual.length !== reference.length) return Infinity;
  // NaN compares false with everything, and Math.max would pass it on.
  return Array.from(actual).reduce((most, value, i) => {
    const difference = Math.abs(value - reference[i]);
    return Number.isNaN(difference) ? Infinity : Math.max(most, difference);
  }, 0);
}

/**
 * Drops one file onto an element.
 * @param {Page} page @param {string} name @param {string} contents @param {string} [onto]
 */
export async function drop(page, name, contents, onto = "body") {
  await page.evaluate(
    ([file_name, text, onto]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([text], file_name));
      const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
      document.querySelector(onto)?.dispatchEvent(event);
    },
    [name, contents, onto],
  );
}

/**
 * Fills in the form of the model panel and loads: fields by their ids, `address` with the source it belongs to.
 * @param {Page} page @param {Record<string, string>} fields
 */
export async function loadWith(page, fields) {
  if (await page.locator("#model").isHidden()) await page.click("#model-chip");
  if ("address" in fields) await page.selectOption("#source", "url");
  for (const [id, value] of Object.entries(fields)) {
    if (id === "address") await page.fill("#address", value);
    else await page.selectOption(`#${id}`, value);
  }
  await page.click("#load-model");
}

/** Starts a profile of few runs: tests check that figures are shown, not their precision. @param {Page} page */
export async function startProfile(page) {
  await page.click("#tab-profile");
  await page.fill("#profile-form [name=runs]", "2");
  await page.fill("#profile-form [name=decode]", "4");
  await page.click("#profile-run");
}
