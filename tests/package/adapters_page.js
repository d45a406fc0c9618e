// @ts-check
// A page with the adapters of the packed tarball and the clients that they are for, from npm.

import assert from "node:assert/strict";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { buildWithEsbuild, project } from "./consumers.js";
import { browser, models, served } from "./harness.js";

/**
 * Opens the page, which closes after the tests of the file.
 * @param {string} name  of its project, one for each file: files run in parallel
 */
export async function adaptersPage(name) {
  const folder = project(name, fileURLToPath(new URL("adapters", import.meta.url)));
  const { url } = await served({ "/": await buildWithEsbuild(folder) });
  const context = await browser.newContext();
  const page = await context.newPage();
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  await page.goto(`${url}/?models=${models.url}`);
  await page
    .waitForFunction(() => "clients" in globalThis)
    .catch((error) => assert.fail(`${error}\n${faults.join("\n")}`));
  after(async () => {
    await context.close();
    assert.deepEqual(faults, []);
  });
  /**
   * What `body` gives on the page, where it gets the clients.
   * @template R
   * @param {(clients: any, LanguageModel: any) => Promise<R>} body @returns {Promise<R>}
   */
  const onPage = (body) =>
    page.evaluate(`globalThis.clients.then((clients) => (${body})(clients, globalThis.LanguageModel))`);
  return { page, onPage };
}
