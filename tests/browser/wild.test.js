// @ts-check
// Checkpoints of the kinds that turn up, in Chromium: the reference's numbers, or a refusal that names what the
// checkpoint is. tests/wild.rs has the same facts for every kind natively; here are those that the page's own loader
// takes part in.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { asBase64, importModule, maxDifference, openPage, test, withSharedModule } from "./harness.js";
import { MockHub } from "./mock_hub.js";

/** @import { Page } from "playwright-core" */

const WILD = fileURLToPath(new URL("../fixtures/wild/", import.meta.url));
/** As in tests/model.rs: f32 sums in another order than the reference's. */
const TOLERANCE = 1e-3;

/** @param {string} name @returns {Record<string, Buffer>} */
function filesOf(name) {
  const names = readdirSync(WILD + name).filter((file) => file !== "expect.json");
  return Object.fromEntries(names.map((file) => [file, readFileSync(`${WILD}${name}/${file}`)]));
}

/** @param {string} name */
const expectedOf = (name) => JSON.parse(readFileSync(`${WILD}${name}/expect.json`, "utf8"));

/**
 * The result of loading: logits of `ids`, or a generation after the prompt `S`, or the error.
 * @param {Page} page
 * @param {{ files?: Record<string, Buffer>, source?: string, ids?: number[], options?: object }} given
 */
function outcome(page, { files, source, ids, options }) {
  return page.evaluate(
    async ({ contents, source, ids, options }) => {
      const { zamba2, filesOf } = /** @type {any} */ (globalThis);
      let model;
      try {
        model = await zamba2.load({
          source: contents ? await filesOf(contents) : source,
          weights: "f32",
          retry: { first_delay_ms: 1, attempts: 2 },
        });
        const { eos_token_ids } = model.info;
        if (ids) return { logits: (await model.logits(ids)).flatMap((/** @type {Float32Array} */ row) => [...row]) };
        const tokens = [];
        for await (const { token } of model.generate("S", { temperature: 0, max_tokens: 8, ...options }))
          tokens.push(token);
        return { tokens, reason: model.last.reason, eos_token_ids };
      } catch (error) {
        const { code, file, nextStep } = /** @type {any} */ (error);
        return { code, file, has_next_step: nextStep !== "" };
      } finally {
        model?.dispose();
      }
    },
    { contents: files && asBase64(files), source, ids, options },
  );
}

/**
 * A page of its own, which may ask another origin.
 * @param {Record<string, Buffer>} files @param {(hub: MockHub, page: Page) => Promise<void>} body
 */
async function withHub(files, body) {
  const hub = await MockHub.start(files);
  const { context, page } = await openPage();
  await importModule(page);
  try {
    await body(hub, page);
  } finally {
    await context.close();
    await hub.stop();
  }
}

for (const name of [
  "head_is_minus_embedding",
  "second_call_has_its_own_block",
  "all_copies_equal",
  "block_under_second_layer",
  "head_without_embedding",
  "names_with_module",
  "config_nan_and_infinity",
  "convolutions_transposed",
  "rope_scaling_old_spelling",
]) {
  test(`${name} has the reference's numbers`, () =>
    withSharedModule(async (page) => {
      const { ids, prefill } = expectedOf(name);
      const { logits, ...failure } = await outcome(page, { files: filesOf(name), ids });
      assert.ok(logits, JSON.stringify(failure));
      assert.ok(maxDifference(logits, prefill.flat()) <= TOLERANCE);
    }));
}

for (const [name, code, file] of [
  ["activation_relu", "unsupported_config", "config.json"],
  ["quantised_awq", "already_quantised", "config.json"],
  ["lfs_pointer_among_shards", "lfs_pointer", "model-00002-of-00002.safetensors"],
  ["torch_shards_only", "torch_only", "pytorch_model.bin.index.json"],
]) {
  test(`${name} is refused with what it is`, () =>
    withSharedModule(async (page) => {
      const refusal = await outcome(page, { files: filesOf(name) });
      assert.deepEqual(refusal, { code, file, has_next_step: true });
    }));
}

test("an address of a LoRA adapter is refused with what it is, though it has no config.json", () =>
  withHub({ "adapter_config.json": Buffer.from("{}") }, async (hub, page) => {
    const refusal = await outcome(page, { source: hub.folder });
    assert.deepEqual(refusal, { code: "unmerged_adapter", file: "adapter_config.json", has_next_step: true });
  }));

test("a tokenizer with more tokens than the embedding has rows runs", () =>
  withSharedModule(async (page) => {
    const { ids } = expectedOf("two_tokens_too_many");
    const { tokens, reason } = await outcome(page, { files: filesOf("two_tokens_too_many") });
    assert.deepEqual({ tokens, reason }, { tokens: ids, reason: "eos" });
  }));

test("generation ends at the end token of generation_config.json, and again from what is stored", () => {
  const name = "end_token_in_generation_config";
  const { ids } = expectedOf(name);
  return withHub(filesOf(name), async (hub, page) => {
    for (const visit of ["first", "second"]) {
      const { tokens, reason, eos_token_ids } = await outcome(page, { source: hub.folder });
      assert.deepEqual({ tokens, reason }, { tokens: ids.slice(0, 5), reason: "eos" }, visit);
      assert.deepEqual(eos_token_ids, [2, 303], visit);
    }
    assert.equal(hub.contactsOf("hub", "generation_config.json").length, 1, "the second visit reads what is stored");
    const { tokens, reason } = await outcome(page, { source: hub.folder, options: { ignore_eos: true } });
    assert.deepEqual({ tokens, reason }, { tokens: ids, reason: "length" });
  });
});
