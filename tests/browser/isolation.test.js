// @ts-check
// How the page becomes cross-origin isolated and what it shows: by the server's headers, by its own service worker on a
// server without them, and single-threaded where neither is available.

import assert from "node:assert/strict";
import {
  continuation,
  loadWith,
  openReadyPage,
  PLAIN_SITE,
  setOptions,
  SITE,
  test,
  waitForStatus,
  withPage,
} from "./harness.js";
import { clearStatus } from "./page_runs.js";

/** @import { Page } from "playwright-core" */

/** @param {Page} page */
const capability = async (page) => ({
  line: (await page.textContent("#capability")) ?? "",
  reasons: await page.locator("#capability-reasons li").allTextContents(),
});

/** @param {string[]} reasons @param {RegExp} pattern */
function assertSays(reasons, pattern) {
  assert.ok(
    reasons.some((reason) => pattern.test(reason)),
    `no reason matches ${pattern}: ${reasons.join(" / ")}`,
  );
}

test("on a server with isolation headers the page shows its number of threads and the reason", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    const { line, reasons } = await capability(page);
    assert.match(line ?? "", /^CPU · relaxed SIMD · \d+ threads? · isolated$/);
    assertSays(reasons, /^\d+ threads?: (one for each core|the fastest for this model)/);
    assertSays(reasons, /^Isolated: the host sends/);
    assert.equal(await page.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length), 0);
  }));

test("on a server without the headers, the service worker isolates the page after one reload", () =>
  withPage(async (page) => {
    let loads = 0;
    page.on("domcontentloaded", () => {
      loads += 1;
    });
    await page.goto(`${PLAIN_SITE}/?threads=2`);
    await waitForStatus(page, "Ready");
    assert.equal(loads, 2);
    const { line, reasons } = await capability(page);
    assert.equal(line, "CPU · relaxed SIMD · 2 threads · isolated");
    assertSays(reasons, /^Isolated: the page's own service worker/);
    await setOptions(page, { max_tokens: "8" });
    await page.click("#run");
    await waitForStatus(page, "Done");
    assert.notEqual(await continuation(page), "");

    await page.goto(`${PLAIN_SITE}/`);
    await waitForStatus(page, "Ready");
    assert.equal(loads, 3);
  }));

test("the service worker adds headers to documents, workers and scripts, but not to weights and other fetches", () =>
  withPage(async (page) => {
    /** @type {Map<string, boolean>} */
    const by_worker = new Map();
    page.on("response", (response) => by_worker.set(new URL(response.url()).pathname, response.fromServiceWorker()));
    await page.goto(`${PLAIN_SITE}/`);
    await waitForStatus(page, "Ready");
    const answered = (/** @type {string} */ path) => by_worker.get(path);
    for (const path of ["/", "/www/main.js", "/pkg/zamba2.js", "/pkg/worker.js"])
      assert.equal(answered(path), true, path);
    for (const file of ["config.json", "tokenizer.json", "model.safetensors"]) {
      assert.equal(answered(`/www/models/rustdoc-5m/${file}`), false, file);
    }
    const [script, fetched] = await page.evaluate(async () => {
      const policy = async (/** @type {RequestInfo} */ request) =>
        (await fetch(request)).headers.get("cross-origin-embedder-policy");
      return [crossOriginIsolated, await policy("www/models/rustdoc-5m/config.json")];
    });
    assert.equal(script, true);
    assert.equal(fetched, null);
  }));

test("without service workers the page runs on one thread and shows the reason", () =>
  withPage(
    async (page) => {
      await page.goto(`${PLAIN_SITE}/`);
      await waitForStatus(page, "Ready");
      const { line, reasons } = await capability(page);
      assert.equal(line, "CPU · relaxed SIMD · 1 thread · not isolated");
      assertSays(reasons, /^1 thread: only isolated pages/);
      assertSays(reasons, /^Not isolated: the host does not send/);
      await setOptions(page, { max_tokens: "8" });
      await page.click("#run");
      await waitForStatus(page, "Done");
      assert.notEqual(await continuation(page), "");
    },
    { serviceWorkers: "block" },
  ));

test("a service worker without effect is tried only once", () =>
  withPage(async (page) => {
    let loads = 0;
    page.on("domcontentloaded", () => {
      loads += 1;
    });
    // Handles no request, so every response is the server's own.
    await page
      .context()
      .route("**/isolation.js", (route) =>
        route.fulfill({ contentType: "text/javascript", body: "addEventListener('install', () => skipWaiting());" }),
      );
    await page.goto(`${PLAIN_SITE}/`);
    await waitForStatus(page, "Ready");
    assert.equal(loads, 2);
    assert.match((await capability(page)).line, /1 thread · not isolated/);
  }));

test("the page's URL and the Threads field choose threads and SIMD", () =>
  withPage(async (page) => {
    await page.goto(`${SITE}/?threads=1&simd=plain`);
    await waitForStatus(page, "Ready");
    let { line, reasons } = await capability(page);
    assert.equal(line, "CPU · SIMD128 · 1 thread · isolated");
    assertSays(reasons, /^1 thread: as chosen/);
    assertSays(reasons, /^SIMD128: relaxed SIMD is turned off in the page's address/);
    assert.equal(await page.inputValue("#threads"), "1");

    await clearStatus(page);
    await loadWith(page, { threads: "auto" });
    await waitForStatus(page, "Ready");
    ({ line, reasons } = await capability(page));
    assertSays(reasons, /one for each core|the fastest for this model in a short trial/);

    await page.goto(`${SITE}/?threads=many`);
    const card = page.locator(".error-card[data-code=bad_option]");
    await card.waitFor();
    assert.match((await card.textContent()) ?? "", /threads/);
  }));
