// @ts-check
// The examples, built and used as a person would, with the package's tarball.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { imported, PLACE, project, ROOT, WORK } from "./consumers.js";
import { browser, closing, models, served } from "./harness.js";
import { CORS, ISOLATION } from "./servers.js";

/** @import { Page } from "playwright-core" */

const MODEL = `${models.url}/rustdoc-5m/`;

/** @param {(page: Page) => Promise<void>} body */
async function withPage(body) {
  const context = await browser.newContext();
  const page = await context.newPage();
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  try {
    await body(page);
    const unexpected = faults.filter((fault) => !fault.startsWith("Failed to load resource"));
    assert.deepEqual(unexpected, []);
  } finally {
    await context.close();
  }
}

test("minimal.html has at most 20 lines and generates with the package from a CDN", () =>
  withPage(async (page) => {
    const html = readFileSync(join(ROOT, "examples/minimal.html"), "utf8");
    assert.ok(html.trimEnd().split("\n").length <= 20, "a longer example");
    const { url } = await served({ "/": join(ROOT, "examples") });
    // What the CDN will have once the package is published.
    const cdn = /^https:\/\/cdn\.jsdelivr\.net\/npm\/zamba2-web@[\d.]+\//;
    await page.context().route(cdn, (route) => {
      const path = join(PLACE, route.request().url().replace(cdn, ""));
      return route.fulfill({ path, headers: CORS });
    });
    await page.goto(`${url}/minimal.html?model=${MODEL}`);
    await page.click("#run:enabled");
    await page.waitForFunction(() => (document.getElementById("answer")?.textContent?.length ?? 0) > 40);
    assert.match((await page.textContent("#answer")) ?? "", /^Ownership is/);
  }));

/** Sends a message and waits for an answer. @param {Page} page */
async function chat(page) {
  await page.waitForFunction(() => document.querySelector("[role=status]")?.textContent?.startsWith("Ready"));
  await page.fill("input", "Ownership is");
  await page.click("button:has-text('Send')");
  await page.waitForFunction(() => (document.querySelector(".assistant")?.textContent?.length ?? 0) > 10);
  // Not a real click: the button moves with every line of the answer.
  await page.dispatchEvent("button:has-text('Stop')", "click");
  await page.waitForSelector("button:has-text('Stop'):disabled");
  return page.textContent("[role=status]");
}

test("vite-chat chats in development, where StrictMode starts every effect twice", () =>
  withPage(async (page) => {
    const folder = project("vite-chat-dev", join(ROOT, "examples/vite-chat"));
    const { createServer } = await imported("vite");
    // node_modules is beside the project here, not inside of it, and Vite serves nothing from there unasked.
    const own = { host: "127.0.0.1", port: 0, fs: { allow: [WORK] } };
    const server = await createServer({ root: folder, logLevel: "error", server: own });
    closing.push(() => server.close());
    await server.listen();
    await page.goto(`${server.resolvedUrls.local[0]}?model=${MODEL}`);
    // The load that goes on stores the weights, although the aborted one had begun to.
    assert.match((await chat(page)) ?? "", /storage kept$/);
  }));

test("vite-chat chats as a build", () =>
  withPage(async (page) => {
    const folder = project("vite-chat", join(ROOT, "examples/vite-chat"));
    const { build } = await imported("vite");
    await build({ root: folder, logLevel: "error" });
    const { url } = await served({ "/": join(folder, "dist") }, ISOLATION);
    await page.goto(`${url}/?model=${MODEL}`);
    assert.match((await chat(page)) ?? "", /^Ready: cpu/);
  }));

test("ai-sdk streams an answer, reports its usage and stops, as a build", () =>
  withPage(async (page) => {
    const folder = project("ai-sdk", join(ROOT, "examples/ai-sdk"));
    const { build } = await imported("vite");
    await build({ root: folder, logLevel: "error" });
    const { url } = await served({ "/": join(folder, "dist") }, ISOLATION);
    await page.goto(`${url}/?model=${models.url}/sentences/`);
    await page.click("button:has-text('Send'):enabled");
    await page.waitForFunction(() => / tokens read, \d+ written$/.test(document.querySelector("p")?.textContent ?? ""));
    assert.ok(((await page.textContent("pre")) ?? "").length > 10);
    await page.goto(`${url}/?model=${models.url}/chat/`);
    // In the page itself: on a busy machine this small model's answer ends before a click from here arrives.
    await page.evaluate(() => {
      const [answer, stop] = [document.querySelector("pre"), document.querySelector("[type=button]")];
      if (!answer || !(stop instanceof HTMLButtonElement)) throw new Error("the page has both");
      new MutationObserver((_, observer) => {
        if ((answer.textContent ?? "").length <= 10) return;
        observer.disconnect();
        stop.click();
      }).observe(answer, { childList: true });
    });
    await page.click("button:has-text('Send'):enabled");
    await page.waitForFunction(() => (document.querySelector("pre")?.textContent?.length ?? 0) > 10);
    await page.waitForSelector("button:has-text('Send'):enabled");
    assert.equal(await page.textContent("p"), "Ready");
  }));
