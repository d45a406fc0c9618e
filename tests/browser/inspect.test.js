// @ts-check
// `inspect` and `ablate` of the JS module in Chromium. Their numbers are compared with the reference in
// tests/inside.rs; here, what crosses to the page and what becomes of the sequence.

import assert from "node:assert/strict";
import { expected, test, withSharedModule } from "./harness.js";

/** f32 sums in a different order from the reference's, as in module.test.js; probabilities move by less than logits. */
const TOLERANCE = 1e-3;

test("an inspection of the last run has the reference's distribution, and the run continues after it", () =>
  withSharedModule(async (page) => {
    const reference = expected("one_block_adapters_rope");
    const seen = await page.evaluate(async (ids) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const model = await zamba2.load({ source: "/tests/fixtures/one_block_adapters_rope/", weights: "f32" });
      const options = { max_tokens: 4, temperature: 0, ignore_eos: true };
      const tokens = [];
      for await (const piece of model.generate(ids, options)) tokens.push(piece.token);
      const of_run = await model.inspect({ what: ["memory"] });
      const inspection = await model.inspect({ ids, positions: [0, ids.length - 1], top_k: 3, query: 4 });
      const ablation = await model.ablate({ ids, block: 1, part: "shared", max_tokens: 4 });
      const refused = await model.ablate({ ids, block: 0, part: "shared" }).catch((/** @type {any} */ e) => e.code);
      for await (const piece of model.continue({ ...options, max_tokens: 8 })) tokens.push(piece.token);
      model.dispose();
      return {
        tokens,
        run_ids: [...of_run.ids],
        run_parts: [of_run.lens.length, of_run.attention.length, of_run.positions.length, of_run.query],
        lens: inspection.lens,
        half_lives: inspection.half_lives.map((/** @type {Float32Array} */ heads) => [...heads]),
        visits: inspection.attention.map((/** @type {any} */ visit) => ({ ...visit, weights: [...visit.weights] })),
        ablation,
        refused,
      };
    }, reference.input_ids);

    const greedy = reference.greedy_ids;
    assert.deepEqual(seen.tokens, greedy.slice(0, 8));
    assert.deepEqual(seen.run_ids, [...reference.input_ids, ...greedy.slice(0, 4)]);
    assert.deepEqual(seen.run_parts, [0, 0, 0, null]);

    assert.deepEqual([seen.lens.length, seen.lens[0].length, seen.lens[0][0].length], [4, 2, 3]);
    const row = reference.prefill_logits.values.slice(-reference.prefill_logits.shape[1]);
    const sum = row.reduce((total, logit) => total + Math.exp(logit), 0);
    for (const { token, probability } of seen.lens[3][1]) {
      assert.ok(Math.abs(probability - Math.exp(row[token]) / sum) <= TOLERANCE);
    }
    assert.equal(seen.lens[3][1][0].token, greedy[0]);

    assert.deepEqual(
      seen.half_lives.map((/** @type {number[]} */ heads) => heads.length),
      [4, 4, 4, 4],
    );
    assert.ok(seen.half_lives.flat().every((/** @type {number} */ tokens) => tokens > 0));
    assert.deepEqual(
      seen.visits.map((/** @type {any} */ { block, shared, weights }) => [block, shared, weights.length]),
      [
        [1, 0, 4 * 5],
        [3, 0, 4 * 5],
      ],
    );
    assert.ok(seen.ablation.kl_nats > 0);
    assert.equal(seen.ablation.whole.top[0].token, greedy[0]);
    assert.deepEqual(seen.ablation.whole.ids, greedy.slice(0, 4));
    assert.equal(seen.ablation.ablated.top.length, 5);
    assert.equal(seen.refused, "bad_option");
  }));
