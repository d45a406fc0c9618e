// @ts-check
// The page by http and the address of a machine in a local network: browsers give such pages no storage, no service
// workers, no shared memory and no crypto.subtle. It runs on one thread, stores nothing, and says why.

import assert from "node:assert/strict";
import { LAN_HOST } from "./browsers.js";
import {
  continuation,
  expected,
  fixtureFiles,
  maxDifference,
  packedFiles,
  PLAIN_SITE,
  setOptions,
  sharedBrowser,
  SITE,
  test,
  waitForStatus,
} from "./harness.js";
import { MockHub, sha256 } from "./mock_hub.js";

/** @import { Page } from "playwright-core" */

const FIXTURE = "two_blocks_groups2_rope";

/** @param {string} site */
const byName = (site) => site.replace("127.0.0.1", LAN_HOST);

/** @param {(page: Page) => Promise<void>} body */
async function withLanPage(body) {
  const context = await (await sharedBrowser("lan")).newContext();
  try {
    const page = await context.newPage();
    /** @type {string[]} */
    const faults = [];
    page.on("pageerror", (error) => faults.push(error.message));
    await body(page);
    assert.deepEqual(faults, []);
  } finally {
    await context.close();
  }
}

for (const [site, headers] of /** @type {[string, string][]} */ ([
  [PLAIN_SITE, "without isolation headers"],
  [SITE, "with isolation headers"],
])) {
  for (const query of ["", "?threads=4"]) {
    test(`by http in a local network, ${headers} and ${query || "by default"}, one thread runs`, () =>
      withLanPage(async (page) => {
        await page.goto(`${byName(site)}/${query}`);
        assert.equal(await page.evaluate(() => isSecureContext || "subtle" in crypto), false);
        await waitForStatus(page, "Ready");
        assert.match((await page.textContent("#capability")) ?? "", /1 thread · not isolated$/);
        const reasons = (await page.locator("#capability-reasons li").allTextContents()).join("\n");
        assert.match(reasons, /^1 thread: only isolated pages may share memory/m);
        assert.match(reasons, /^Not isolated: .*need https or localhost/m);
        assert.match(
          (await page.textContent("#status-detail")) ?? "",
          /not stored: browsers give storage to pages on https/,
        );
        await setOptions(page, { max_tokens: "8" });
        await page.click("#run");
        await waitForStatus(page, "Done");
        assert.notEqual(await continuation(page), "");
        // There is no Clipboard API either.
        await page.click("#copy");
        await page.waitForFunction(() => document.getElementById("copy")?.textContent === "Copied");
        assert.equal(await page.locator(".error-card:visible").count(), 0);
      }));
  }
}

/** @param {Page} page @param {string} source */
async function logitsOf(page, source) {
  // The module's source as text: a document without scripts of its own.
  await page.goto(`${byName(PLAIN_SITE)}/pkg/zamba2.js`);
  return page.evaluate(
    async ({ address, source, ids }) => {
      const zamba2 = await import(address);
      try {
        const model = await zamba2.load({ source, weights: "q8" });
        const rows = await model.logits(ids);
        const { keeping } = model.info;
        model.dispose();
        return { logits: rows.flatMap((/** @type {Float32Array} */ row) => [...row]), keeping, code: null };
      } catch (error) {
        return { logits: [], keeping: null, code: /** @type {any} */ (error).code };
      }
    },
    { address: `${byName(PLAIN_SITE)}/pkg/zamba2.js`, source, ids: expected(FIXTURE).input_ids },
  );
}

test("by http in a local network a packed folder is checked against its hashes, and refused if it is damaged", () =>
  withLanPage(async (page) => {
    const packed = packedFiles(`${FIXTURE}_q8`);
    const hub = await MockHub.start(packed);
    const plain = await MockHub.start(fixtureFiles(FIXTURE));
    try {
      const reference = await logitsOf(page, plain.folder);
      const unpacked = await logitsOf(page, hub.folder);
      assert.equal(unpacked.code, null);
      assert.deepEqual(unpacked.keeping, { state: "refused", reason: "insecure_page" });
      assert.equal(maxDifference(unpacked.logits, reference.logits), 0);

      const file = "weights-1.bin";
      const damaged = Buffer.from(packed[file]);
      damaged[damaged.length >> 1] ^= 1;
      assert.notEqual(sha256(damaged), sha256(packed[file]));
      hub.replace(file, damaged);
      assert.equal((await logitsOf(page, hub.folder)).code, "damaged");
    } finally {
      await hub.stop();
      await plain.stop();
    }
  }));
