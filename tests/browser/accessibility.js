// @ts-check
// Checks the current state of a page for accessibility violations with axe, at WCAG 2.2 AA.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { setWidth } from "./harness.js";

/** @import { Page } from "playwright-core" */

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** @typedef {{ type: "tag" | "rule", values: string[] }} Rules */

/** @type {Rules} */
const ALL = { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] };
/** The rules about colours. @type {Rules} */
const ON_COLOURS = { type: "rule", values: ["color-contrast", "link-in-text-block"] };

/** Rows further down a table have the markup and the colours of those above; the first hybrid block is row 6. */
const REPEATED = "tbody > tr:nth-child(n + 9)";

/** @param {Page} page @param {Rules} rules @param {string[]} [parts] of the page @returns {Promise<string[]>} */
async function violationsOf(page, rules, parts = ["html"]) {
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(AXE);
  return page.evaluate(
    async ({ rules, parts, repeated }) => {
      const options = { runOnly: rules, resultTypes: ["violations"], preload: false };
      const { violations } = await /** @type {any} */ (globalThis).axe.run(
        { include: parts.map((part) => [part]), exclude: [[repeated]] },
        options,
      );
      return violations.flatMap((/** @type {any} */ { id, nodes }) =>
        nodes.map((/** @type {any} */ node) => `${id}: ${node.target} ${node.any[0]?.message ?? ""}`),
      );
    },
    { rules, parts, repeated: REPEATED },
  );
}

/** @param {Page} page @param {string} state */
export async function assertAccessible(page, state) {
  assert.deepEqual(await violationsOf(page, ALL), [], state);
}

/** @typedef {"light" | "dark"} Scheme */

/**
 * Checks every state of a page at several widths and in both colour schemes while walking through them once; gives a
 * test body for each width and scheme. The page differs only in its colours between schemes, so in the dark one only
 * the rules about colours are checked. `parts` of a state: what is not as in the state before.
 * @param {number[]} widths
 * @param {(check: (page: Page, state: string, parts?: string[]) => Promise<void>) => Promise<void>} walk
 */
export function atEveryWidth(widths, walk) {
  /** @type {Promise<{ width: number, scheme: Scheme, state: string, violations: string[] }[]> | null} */
  let walked = null;
  const found = async () => {
    /** @type {Awaited<NonNullable<typeof walked>>} */
    const found = [];
    await walk(async (page, state, parts) => {
      for (const width of widths) {
        await setWidth(page, width);
        for (const scheme of /** @type {const} */ (["dark", "light"])) {
          await page.emulateMedia({ colorScheme: scheme });
          const violations = await violationsOf(page, scheme === "light" ? ALL : ON_COLOURS, parts);
          found.push({ width, scheme, state, violations });
        }
      }
    });
    return found;
  };
  return async (/** @type {number} */ width, /** @type {Scheme} */ scheme) => {
    walked ??= found();
    const states = (await walked).filter((each) => each.width === width && each.scheme === scheme);
    assert.ok(states.length > 0);
    for (const { state, violations } of states) assert.deepEqual(violations, [], state);
  };
}
