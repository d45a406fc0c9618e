// @ts-check
// Where the page cannot start: in a sandboxed frame, and when a script of it does not load. A sentence says so; nothing
// is "starting" for ever.

import assert from "node:assert/strict";
import { openPage, PLAIN_SITE, SITE, test, waitForStatus } from "./harness.js";

/** @import { BrowserContext, Frame, Page } from "playwright-core" */

/** What a person sees of the page's start. @param {Page | Frame} page */
const seen = async (page) => ({
  notes: await page.locator("[id$=-note].error-card:visible").evaluateAll((notes) => notes.map(({ id }) => id)),
  status: await page.locator("#status").isVisible(),
});

/** The page in a frame of another one. @param {Page} page @param {string} site @param {string} sandbox */
async function framed(page, site, sandbox) {
  await page.goto(`${site}/pkg/zamba2.js`);
  await page.evaluate(
    ({ src, sandbox }) => {
      const frame = document.createElement("iframe");
      frame.setAttribute("sandbox", sandbox);
      frame.src = src;
      document.body.append(frame);
    },
    { src: `${site}/`, sandbox },
  );
  const element = await page.waitForSelector("iframe");
  return /** @type {Frame} */ (await element.contentFrame());
}

/**
 * GitHub Pages, for one, lets every origin read its files, so that the page's modules do load.
 * @param {BrowserContext} context
 */
const readableByAll = (context) =>
  context.route("**/*", async (route) => {
    try {
      const response = await route.fetch();
      await route.fulfill({ response, headers: { ...response.headers(), "access-control-allow-origin": "*" } });
    } catch {
      // The page is closed, and with it what it still asks for.
    }
  });

for (const [host, prepare] of /** @type {[string, (context: BrowserContext) => Promise<unknown>][]} */ ([
  ["a host", async () => {}],
  ["a host that every origin may read", readableByAll],
])) {
  for (const site of [PLAIN_SITE, SITE]) {
    const headers = site === SITE ? "with" : "without";
    test(`in a sandboxed frame from ${host} ${headers} isolation headers a sentence says why`, async () => {
      const { context, page } = await openPage();
      try {
        await prepare(context);
        const frame = await framed(page, site, "allow-scripts");
        await frame.waitForSelector("#frame-note:visible");
        // Time for the modules, if they load.
        await page.waitForTimeout(500);
        assert.deepEqual(await seen(frame), { notes: ["frame-note"], status: false });
        assert.match((await frame.textContent("#frame-note")) ?? "", /sandboxed frame.*Страница открыта во фрейме/s);
      } finally {
        await context.close();
      }
    });
  }
}

test("in a sandboxed frame with an origin of its own the page runs", async () => {
  const { context, page, faults } = await openPage({ serviceWorkers: "block" });
  try {
    const frame = await framed(page, PLAIN_SITE, "allow-scripts allow-same-origin");
    await frame.waitForFunction(() => document.getElementById("status")?.textContent?.startsWith("Ready"), null, {
      timeout: 120_000,
    });
    assert.deepEqual(await seen(frame), { notes: [], status: true });
    assert.deepEqual(faults, []);
  } finally {
    await context.close();
  }
});

for (const [what, file, fulfil] of /** @type {[string, string, object][]} */ ([
  ["is missing", "www/sentence.js", { status: 404 }],
  ["has syntax that the browser does not know", "www/dom.js", { contentType: "text/javascript", body: "let = = 1;" }],
  ["uses what the browser does not have", "www/tabs.js", { contentType: "text/javascript", body: "missingApi();" }],
])) {
  test(`a script that ${what} ends in a sentence on the browsers that are needed`, async () => {
    const { context, page } = await openPage();
    try {
      await page.route(`**/${file}`, (route) => route.fulfill(fulfil));
      await page.goto(`${SITE}/`);
      await page.waitForSelector("#start-note:visible");
      assert.deepEqual(await seen(page), { notes: ["start-note"], status: false });
      assert.match((await page.textContent("#start-note")) ?? "", /Firefox 114/);
    } finally {
      await context.close();
    }
  });
}

test("a script of somebody else that fails does not stop the page", async () => {
  const { context, page } = await openPage();
  try {
    await page.addInitScript(() =>
      setTimeout(() => dispatchEvent(new ErrorEvent("error", { message: "extension" })), 0),
    );
    await page.goto(`${SITE}/`);
    await waitForStatus(page, "Ready");
    assert.deepEqual(await seen(page), { notes: [], status: true });
  } finally {
    await context.close();
  }
});
