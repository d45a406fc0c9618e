// @ts-check
// Checks the current state of a page for accessibility violations with axe, at WCAG 2.2 AA.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** @import { Page } from "playwright-core" */

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** @typedef {{ type: "tag" | "rule", values: string[] }} Rules */

/** @type {Rules} */
const ALL = { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] };
/** The rules about colours. @type {Rules} */
const ON_COLOURS = { type: "rule", values: ["color-contrast", "link-in-text-block"] };

/** Rows further down a table have the markup and the colours of those above; the first hybrid block is row 6. */
const REPEATED = "tbody > tr:nth-child(n + 9)";

/** @param {Page} page @param {Rules} rules @returns {Promise<string[]>} */
async function violationsOf(page, rules) {
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(AXE);
  return page.evaluate(
    async ({ rules, repeated }) => {
      const options = { runOnly: rules, resultTypes: ["violations"], preload: false };
      const { violations } = await /** @type {any} */ (globalThis).axe.run({ exclude: [[repeated]] }, options);
      return violations.flatMap((/** @type {any} */ { id, nodes }) =>
        nodes.map((/** @type {any} */ node) => `${id}: ${node.target} ${node.any[0]?.message ?? ""}`),
      );
    },
    { rules, repeated: REPEATED },
  );
}

/** @param {Page} page @param {string} state */
export async function assertAccessible(page, state) {
  assert.deepEqual(await violationsOf(page, ALL), [], state);
}

/**
 * Checks every state of a page in both colour schemes while walking through them once; gives a test body for each
 * scheme. The page differs only in its colours, so in the dark scheme only the rules about colours are checked.
 * @param {(check: (page: Page, state: string) => Promise<void>) => Promise<void>} walk
 */
export function inBothSchemes(walk) {
  /** @type {Promise<Record<"light" | "dark", [string, string[]][]>> | null} */
  let walked = null;
  const found = async () => {
    /** @type {Record<"light" | "dark", [string, string[]][]>} */
    const found = { light: [], dark: [] };
    await walk(async (page, state) => {
      for (const colorScheme of /** @type {const} */ (["dark", "light"])) {
        await page.emulateMedia({ colorScheme });
        found[colorScheme].push([state, await violationsOf(page, colorScheme === "light" ? ALL : ON_COLOURS)]);
      }
    });
    return found;
  };
  return async (/** @type {"light" | "dark"} */ scheme) => {
    walked ??= found();
    const states = (await walked)[scheme];
    assert.ok(states.length > 0);
    for (const [state, violations] of states) assert.deepEqual(violations, [], state);
  };
}
