// @ts-check
// What the browser tests share: the one set-up (test, browsers, pages that watch for faults), fixtures, and a reader
// for safetensors. The servers come from outside (`cargo xtask test` starts them), so that the suite tests what
// developers serve; run.js starts the browser that all files share, and a file that is run alone starts its own.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test as nodeTest } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

import { BROWSERS, chromiumPath, required, SHARED } from "./browsers.js";

/** @import { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core" */
/** @import { BrowserKind } from "./browsers.js" */

export const SITE = required("ZAMBA2_URL").replace(/\/$/, "");
/** The same site without isolation headers. */
export const PLAIN_SITE = required("ZAMBA2_PLAIN_URL").replace(/\/$/, "");
const ROOT = fileURLToPath(new URL("../../", import.meta.url));
export const FIXTURES = readdirSync(`${ROOT}tests/fixtures`, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);
export const EMBEDDED = "/www/models/rustdoc-5m/";

// ---- tests ----

/** Which tests run.js asks for; all of them without it. @type {{ list: boolean, quick: boolean, names: string[] }} */
const CHOICE = { list: false, quick: false, names: [], ...JSON.parse(process.env.ZAMBA2_CHOICE ?? "{}") };

/** Ends a test that would never end, as one may that waits inside a page. */
const HANG_MS = 300_000;

/**
 * States a fact. `quick` facts are the main path, which `run.js --quick` shows.
 * @param {string} name @param {() => Promise<void> | void} body @param {{ quick?: boolean }} [kind]
 */
export function test(name, body, { quick = false } = {}) {
  if (CHOICE.quick && !quick) return;
  if (CHOICE.names.length > 0 && !CHOICE.names.some((part) => name.includes(part))) return;
  nodeTest(name, { skip: CHOICE.list, timeout: HANG_MS }, body);
}

// ---- browsers ----

/** A browser of the test's own. @param {BrowserKind} kind */
export const launch = (kind) => chromium.launch({ executablePath: chromiumPath(), args: BROWSERS[kind] });

/** @type {Map<BrowserKind, Promise<Browser>>} */
const shared = new Map();

/**
 * The browser of all files, in which tests open contexts of their own. Only those with WebGPU have one for each file:
 * shaders are compiled in one thread of a browser, and the files run side by side.
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

/**
 * A fresh context and page. `faults` collects uncaught errors, console errors and requests to other origins.
 * @param {BrowserContextOptions} [options] @param {BrowserKind} [kind]
 */
export async function openPage(options = {}, kind) {
  const browser = await sharedBrowser(kind);
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(`uncaught: ${error.message}`));
  page.on("console", (message) => {
    // The browser itself logs every 404, and a missing optional file is an expected one.
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
 * A fresh page in which nothing may go wrong.
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
 * One page for several facts, each of which leaves it as the next one needs it. `prepare` makes it ready for the first,
 * and anew after a fact that failed; `again` for each of the others.
 * @param {(page: Page) => Promise<void>} prepare @param {(page: Page) => Promise<void>} [again]
 * @param {BrowserContextOptions} [options] @param {BrowserKind} [kind]
 * @returns {(body: (page: Page) => Promise<void>,
 *   origins?: string[]) => Promise<void>} `origins` are those of the fact's own servers
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
      // What comes late from the fact before is not this one's.
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
 * The page itself, loaded anew for each fact in a context that they share: with the code and the weights that are kept
 * there, a load takes a third of the first one's time. What it remembers of its user is deleted before. For facts on
 * what a first visit loads, keeps or says, `withPage` opens a context of its own.
 */
export const withReadyPage = onePage(
  (page) => openReadyPage(page),
  async (page) => {
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.evaluate(() => {
      localStorage.clear();
      sessionStorage.clear();
    });
    await openReadyPage(page);
  },
);

/**
 * Goes to a document of the site that has no scripts of its own and gives it the module as `zamba2`.
 * @param {Page} page
 */
export async function importModule(page) {
  // The source shown as text.
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

/** A fresh page that holds nothing but the module, as `zamba2`, and `filesOf` to make Files from base64. */
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

/** A page with the module for all facts of a file that end what they begin; nothing is kept or rerouted between two. */
export const withSharedModule = onePage(importModule, async (page) => {
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.evaluate(async () => {
    const { zamba2 } = /** @type {any} */ (globalThis);
    for (const { key } of await zamba2.keptModels()) await zamba2.forgetModel(key);
  });
});

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
 * A profile on disk. An ordinary context keeps storage in memory, and Chromium forgets that with the last page of the
 * site.
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
  return Object.fromEntries(
    entries.map(({ parentPath, name }) => {
      const path = `${parentPath}/${name}`;
      return [path.slice(folder.length).replace(/^\/+/, ""), readFileSync(path)];
    }),
  );
}

/** @param {string} path from the top of the repository */
export const repositoryFile = (path) => readFileSync(ROOT + path);

/** @param {Record<string, Buffer>} files */
export const asBase64 = (files) =>
  Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, bytes.toString("base64")]));

/** The tensors of expect.safetensors that the tests need. @param {string} fixture */
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
    throw new Error(`${fixture}: tensor ${name} has dtype ${dtype}, which this reader does not know`);
  };
  return {
    input_ids: tensor("input_ids").values,
    prefill_logits: tensor("prefill_logits"),
    greedy_ids: tensor("greedy_ids").values,
    greedy_logits: tensor("greedy_logits"),
  };
}

/** What a click on a button saves. @param {Page} page @param {string} button */
export async function download(page, button) {
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  // A shared browser is a remote one, whose files have no path here.
  return { name: file.suggestedFilename(), bytes: Buffer.concat(await (await file.createReadStream()).toArray()) };
}

/** Opens the page itself and waits until the embedded model can run. @param {Page} page */
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
