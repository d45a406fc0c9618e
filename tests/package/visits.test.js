// @ts-check
// What the visits of the deployed site cost: requests that reach the server, and bytes with Brotli, until the embedded
// model is ready. A bound that is exceeded is a decision to make, not a number to raise.

import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT } from "./consumers.js";
import { browser, served } from "./harness.js";
import { ISOLATION } from "./servers.js";

/** @import { BrowserContext } from "playwright-core" */
/** @import { Server } from "./servers.js" */

const SITE = join(ROOT, "target/site");
const WEIGHTS = "/models/rustdoc-5m/q4/weights-1.bin";

/**
 * The page, the engine and the model, and where the page has to isolate itself: its reload, and its style sheet twice,
 * which may or may not have been asked for before the reload.
 */
const MOST_FIRST_REQUESTS = 18;
/** With what is fetched when the model is ready, to start without a network. */
const MOST_REQUESTS_WITH_OFFLINE = 25;
/**
 * Everything but the weights; nine tenths of it are the engine as the tests make it, with the compiler's quick profile
 * and Brotli's quick quality.
 */
const MOST_FIRST_BYTES = 1_700_000;
/** The page, and the browser's look for a newer service worker, which this test asks for as well. */
const MOST_SECOND_REQUESTS = 3;

/** @type {[string, Record<string, string>][]} */
const HOSTS = [
  // Without isolation, and where no cache but the service worker's helps.
  ["without any headers", { "Cache-Control": "no-cache" }],
  ["with the documented headers", ISOLATION],
];

/**
 * The requests of a page until the embedded model is ready, of which those for weights are the last, and with them
 * those of all that the page does then to start without a network.
 * @param {BrowserContext} context @param {Server} server
 */
async function visit(context, { url, requests }) {
  const from = requests.length;
  const page = await context.newPage();
  await page.goto(`${url}/`);
  await page.waitForFunction(
    () => crossOriginIsolated && document.getElementById("status")?.textContent?.startsWith("Ready"),
  );
  await page.evaluate(async () => {
    while (!(await caches.match(new URL("./", document.baseURI)))) await new Promise((go) => setTimeout(go, 50));
    await (await navigator.serviceWorker.ready).update();
  });
  await page.close();
  const all = requests.slice(from);
  return { until_ready: all.slice(0, all.findLastIndex(({ path }) => path === WEIGHTS) + 1), all };
}

/** @param {Server["requests"]} requests */
const listed = (requests) =>
  `${requests.length} requests, ${requests.reduce((sum, { bytes }) => sum + bytes, 0)} bytes:\n${requests
    .map(({ status, path, range, bytes }) => `${status} ${path} ${range ?? ""} ${bytes}`)
    .join("\n")}`;

for (const [host, headers] of HOSTS) {
  test(`on a host ${host} a first visit is light, and a second one only looks for a newer version`, async () => {
    const server = await served({ "/": SITE }, headers, { is_compressing: true });
    const context = await browser.newContext();
    try {
      const first = await visit(context, server);
      const text = listed(first.until_ready);
      assert.ok(first.until_ready.length <= MOST_FIRST_REQUESTS, text);
      assert.ok(first.all.length <= MOST_REQUESTS_WITH_OFFLINE, listed(first.all));
      assert.deepEqual(
        first.until_ready.filter(({ status }) => status >= 400),
        [],
        text,
      );
      const bytesOf = (/** @type {boolean} */ are_weights) =>
        first.until_ready.reduce((sum, { path, bytes }) => sum + ((path === WEIGHTS) === are_weights ? bytes : 0), 0);
      assert.ok(bytesOf(false) <= MOST_FIRST_BYTES, text);
      assert.equal(bytesOf(true), statSync(join(SITE, WEIGHTS)).size, text);
      const words = first.until_ready.filter(({ path }) => /\/(?:en|ru)-[0-9a-f]{10}\.json$/.test(path));
      assert.equal(words.length, 1, text);

      const second = await visit(context, server);
      assert.ok(second.all.length <= MOST_SECOND_REQUESTS, listed(second.all));
    } finally {
      await context.close();
    }
  });
}
