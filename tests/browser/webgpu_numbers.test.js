// @ts-check
// WebGPU on Chromium's software adapter: logits compared with the reference, and text compared with the CPU's. Speed is
// not measured: this adapter runs on the CPU.

import assert from "node:assert/strict";
import { EMBEDDED, expected, FIXTURES, maxDifference, SITE, test } from "./harness.js";
import { assertRight, loadAndRun, MAX_LOGIT_DIFFERENCE, source, withModule } from "./webgpu.js";

/** @import { Page } from "playwright-core" */

/** Variants of `linear_mat`; the one that a device begins with is in webgpu.test.js. */
const TILES = ["64x64", "128x64", "64x64, loads ahead", "128x64, loads ahead", "64x32, long step"];

/** The adapter's name and the version of its kernels. @type {Promise<{ name: string, shaders: string }> | null} */
let adapter = null;

/** Options by which a load uses `tile` as if an earlier trial had chosen it. @param {Page} page @param {string} tile */
async function forced(page, tile) {
  adapter ??= loadAndRun(page, { source: source(FIXTURES[0]), backend: "webgpu" }, [1], 0).then(
    ({ info }) => info.adapter,
  );
  const { name, shaders } = await adapter;
  const choices = [
    { op: "linear_one", variant: "4 rows", of: 2 },
    { op: "linear_few", variant: "up to 8 tokens", of: 2 },
    { op: "linear_mat", variant: tile, of: TILES.length + 1 },
  ];
  return { tune: "always", kernels: [{ adapter: name, shaders, weights: "f32", choices }] };
}

for (const [i, fixture] of FIXTURES.entries()) {
  const tile = TILES[i % TILES.length];
  test(`${fixture}: on the adapter with tiles of ${tile}, prefill and 24 greedy steps agree with the reference`, () =>
    withModule(async (page) => {
      const reference = expected(fixture);
      const options = { source: source(fixture), backend: "webgpu", webgpu: await forced(page, tile) };
      const result = await loadAndRun(page, options, reference.input_ids, 24);
      assertRight(result, fixture);
      assert.deepEqual(result.info.adapter.kernels.choices, options.webgpu.kernels[0].choices);
      assert.deepEqual(result.tokens, reference.greedy_ids);
      const greedy = maxDifference(result.greedy_logits, reference.greedy_logits.values);
      assert.ok(greedy <= MAX_LOGIT_DIFFERENCE, `greedy logits differ by ${greedy}`);
      assert.equal(result.info.backend, "webgpu");
      assert.equal(result.info.adapter.software, true);
    }));
}

/** @param {Page} page @param {"cpu" | "webgpu"} backend @param {"q8" | "q4"} weights */
const embeddedText = (page, backend, weights) =>
  page.evaluate(
    async ({ source, backend, weights }) => {
      const model = await /** @type {any} */ (globalThis).zamba2.load({ source, backend, weights, keep: false });
      let text = "";
      for await (const piece of model.generate("Ownership is", { temperature: 0, max_tokens: 6 })) text += piece;
      model.dispose();
      return text;
    },
    { source: `${SITE}${EMBEDDED}`, backend, weights },
  );

for (const weights of /** @type {const} */ (["q8", "q4"])) {
  test(`the embedded model in ${weights} generates the same greedy text on the adapter as on the CPU`, () =>
    withModule(async (page) => {
      const text = await embeddedText(page, "webgpu", weights);
      assert.ok(text.length > 0);
      assert.equal(text, await embeddedText(page, "cpu", weights));
    }));
}
