// @ts-check
// WebGPU on Chromium's software adapter: logits compared with the reference, and text compared with the CPU's. Speed is
// not measured: this adapter runs on the CPU.

import assert from "node:assert/strict";
import { EMBEDDED, expected, FIXTURES, maxDifference, SITE, test } from "./harness.js";
import { assertRight, loadAndRun, MAX_LOGIT_DIFFERENCE, source, withModule } from "./webgpu.js";

/** @import { Page } from "playwright-core" */

for (const fixture of FIXTURES) {
  test(`${fixture}: on the adapter, prefill logits and 24 greedy steps agree with the reference`, () =>
    withModule(async (page) => {
      const reference = expected(fixture);
      const result = await loadAndRun(page, { source: source(fixture), backend: "webgpu" }, reference.input_ids, 24);
      assertRight(result, fixture);
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
