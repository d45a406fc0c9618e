// @ts-check
// Looks for accessibility faults in a page's present state with axe, as WCAG 2.2 AA counts them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** @import { Page } from "playwright-core" */

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/** @param {Page} page @param {string} state */
export async function assertAccessible(page, state) {
  await page.evaluate(AXE);
  const violations = await page.evaluate(async (tags) => {
    const { violations } = await /** @type {any} */ (globalThis).axe.run({ runOnly: { type: "tag", values: tags } });
    return violations.flatMap((/** @type {any} */ { id, nodes }) => nodes.map((/** @type {any} */ node) => `${id}: ${node.target} ${node.any[0]?.message ?? ""}`));
  }, AXE_TAGS);
  assert.deepEqual(violations, [], state);
}
