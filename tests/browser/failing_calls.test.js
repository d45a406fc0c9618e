// @ts-check
// Calls that fail in the browser: a wrong value is named by its option, and model and sequence stay as they were.
// Logits that overflow are an error of their own on every device, and nothing is loaded again.

import assert from "node:assert/strict";
import { asBase64, EMBEDDED, fixtureFiles, importModule, onePage, test, withSharedModule } from "./harness.js";
import { withModule } from "./webgpu.js";

/** @import { Page } from "playwright-core" */

/** A page with the embedded model, which is as it was after every failing call, so that the tests can share it. */
const withModel = onePage(async (page) => {
  await importModule(page);
  await page.evaluate(async (source) => {
    const scope = /** @type {any} */ (globalThis);
    scope.model = await scope.zamba2.load({ source, keep: false, backend: "cpu" });
  }, EMBEDDED);
});

/**
 * Makes a run, then each of the calls, and returns how they reject and whether the run can still be continued with the
 * same text.
 * @param {Page} page
 * @param {string[]} calls  expressions with `model`
 * @returns {Promise<{ code: string, name: string | null, fatal: boolean, is_kept: boolean }[]>}
 */
const refusals = (page, calls) =>
  page.evaluate(async (calls) => {
    const { model } = /** @type {any} */ (globalThis);
    const options = { temperature: 0, ignore_eos: true };
    const run = async (/** @type {AsyncIterable<{ token: number }>} */ pieces) => {
      const tokens = [];
      for await (const { token } of pieces) tokens.push(token);
      return tokens.join();
    };
    await run(model.generate("Ownership is", { ...options, max_tokens: 4 }));
    const saved = await model.snapshot();
    const whole = await run(model.continue({ ...options, max_tokens: 8 }));
    const found = [];
    for (const call of calls) {
      await model.restore(saved);
      /** @type {any} */
      let thrown = { code: "none" };
      try {
        const made = new Function("model", `return ${call}`)(model);
        await (Symbol.asyncIterator in made ? made.next() : made);
      } catch (error) {
        thrown = error;
      }
      const now = await model.snapshot();
      const is_same =
        now.length === saved.length
        && now.every((/** @type {number} */ byte, /** @type {number} */ i) => byte === saved[i]);
      const again = await run(model.continue({ ...options, max_tokens: 8 }));
      await run(model.branch(2, 300, { ...options, max_tokens: 4 }));
      const { code = String(thrown), values, fatal = true } = thrown;
      found.push({ code, name: values?.name ?? null, fatal, is_kept: is_same && again === whole });
    }
    return found;
  }, calls);

/** @param {string[]} calls @param {string} code @param {string | null} name */
const assertRefused = (calls, code, name) =>
  withModel(async (page) => {
    const found = await refusals(page, calls);
    const expected = { code, name, fatal: false, is_kept: true };
    assert.deepEqual(
      found.map((one, i) => ({ call: calls[i], ...one })),
      calls.map((call) => ({ call, ...expected })),
    );
  });

test("ids that are none of the model's leave the run to continue, branch and save", () =>
  assertRefused(
    [
      "model.logits([1, 1000000])",
      "model.greedy([1, 4096], 3)",
      "model.profile({ ids: [1, 5000], runs: 1, decode: 1 })",
      "model.report({ ids: [1, 5000], runs: 1, decode: 1, ceilings: false })",
      "model.generate([4096])",
      "model.branch(0, 4096)",
    ],
    "bad_token",
    null,
  ));

test("no ids at all leave the run", () =>
  assertRefused(
    ["model.logits([])", "model.greedy([], 3)", "model.profile({ ids: [] })", "model.report({ ids: [] })"],
    "empty_prompt",
    null,
  ));

test("more tokens than the context holds leave the run", () =>
  assertRefused(
    [
      "model.logits(new Uint32Array(5000))",
      "model.greedy([1, 2], 5000)",
      "model.profile({ prefill: 5000 })",
      "model.profile({ prefill: 2000, decode: 100 })",
      "model.report({ prefill: 2040, decode: 16 })",
    ],
    "prompt_too_long",
    null,
  ));

test("a schema or a grammar that no text can follow leaves the run", () =>
  assertRefused(
    [
      "model.generate('Rust', { json_schema: false })",
      "model.generate('Rust', { json_schema: { type: 'fish' } })",
      "model.generate('Rust', { json_schema: { not: {} } })",
      "model.generate('Rust', { json_schema: { $ref: 'https://example.org/schema' } })",
      "model.generate('Rust', { grammar: 'start: nothing' })",
      "model.continue({ json_schema: { type: 'object' } })",
      "model.branch(1, 300, { grammar: 'start: \"no such beginning\"' })",
      "model.branch(0, 300, { grammar: 'start: \"0\"' })",
    ],
    "bad_grammar",
    null,
  ));

/** Values of a wrong type or out of range, by the option that the error names. @type {Record<string, string[]>} */
const WRONG = {
  temperature: [`NaN`, `"hot"`, `-1`, `Infinity`, `1n`, `null`],
  seed: [`-1`, `1.5`, `-1n`, `2n ** 64n`, `"7"`, `Infinity`],
  stop: [`"x"`, `[5]`, `{}`, `[""]`],
  max_tokens: [`0`, `-1`, `2.5`, `1e10`, `"5"`, `5n`],
  top_k: [`-1`, `0.5`, `NaN`],
  top_p: [`0`, `2`, `NaN`],
  alternatives: [`-1`, `"all"`],
  ignore_eos: [`1`, `"no"`],
  cache_prompt: [`0`],
  checkpoints: [`"yes"`],
  json_schema: [`"{}"`, `[]`, `5`, `5n`, `() => {}`],
  grammar: [`5`, `{}`, `"start: 'a'", json_schema: {}`],
  max_token: [`5`],
};

for (const [name, values] of Object.entries(WRONG)) {
  test(`a wrong value of the option ${name} is refused by that name`, () =>
    assertRefused(
      values.flatMap((value) => [
        `model.generate("Rust", { ${name}: ${value} })`,
        `model.continue({ ${name}: ${value} })`,
      ]),
      "bad_option",
      name,
    ));
}

/** Other arguments, by their name. @type {Record<string, string[]>} */
const WRONG_ARGUMENTS = {
  ids: [`model.logits(null)`, `model.logits([1.5])`, `model.greedy([-1], 2)`, `model.detokenize([5n])`],
  n: [`model.greedy([1], 0)`, `model.greedy([1], 2n)`],
  prompt: [`model.generate(5)`, `model.generate([1n])`, `model.profile({ prompt: 5 })`],
  messages: [`model.generate({ messages: [{ role: "user", content: 5n }] })`, `model.renderChat("Hello")`],
  text: [`model.tokenize(5)`],
  note: [`model.snapshot({ note: 5 })`],
  bytes: [`model.restore(7)`],
  token: [`model.branch(0, 5n)`, `model.branch(0, -1)`],
  index: [`model.branch("first", 5)`],
  signal: [`model.generate("Rust", { signal: 5 })`],
  level: [`model.profile({ level: "off" })`],
  runs: [`model.profile({ runs: 0 })`, `model.report({ runs: NaN })`],
  decode: [`model.profile({ decode: -1 })`],
};

for (const [name, calls] of Object.entries(WRONG_ARGUMENTS)) {
  test(`a wrong ${name} is refused by that name`, () => assertRefused(calls, "bad_option", name));
}

test("a seed may be a BigInt", () =>
  withModel(async (page) => {
    const [number, big, other] = await page.evaluate(async () => {
      const { model } = /** @type {any} */ (globalThis);
      const texts = [];
      for (const seed of [10, 10n, 11n]) {
        let text = "";
        for await (const piece of model.generate("Ownership is", { seed, max_tokens: 16, temperature: 1.2 }))
          text += piece;
        texts.push(text);
      }
      return texts;
    });
    assert.equal(big, number);
    assert.notEqual(other, number);
  }));

/** The final norm's weights become as large as they can be, so that every logit overflows. */
function overflowing() {
  const files = fixtureFiles("one_block_adapters_rope");
  const bytes = Buffer.from(files["model.safetensors"]);
  const header_bytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + header_bytes));
  const { dtype, data_offsets } = header["model.final_layernorm.weight"];
  assert.equal(dtype, "BF16");
  bytes
    .subarray(8 + header_bytes + data_offsets[0], 8 + header_bytes + data_offsets[1])
    .fill(Buffer.from([0x7f, 0x7f]));
  return asBase64({ ...files, "model.safetensors": bytes });
}

/** @param {Page} page @param {"auto" | "webgpu"} backend */
const overflow = (page, backend) =>
  page.evaluate(
    async ({ contents, backend }) => {
      const { zamba2, filesOf } = /** @type {any} */ (globalThis);
      /** @type {string[]} */
      const seen = [];
      const model = await zamba2.load({
        source: await filesOf(contents),
        weights: "f32",
        backend,
        onDevice: (/** @type {{ state: string }} */ { state }) => seen.push(`device ${state}`),
      });
      const failed = (/** @type {any} */ error) => seen.push(`${error.code}${error.fatal ? ", fatal" : ""}`);
      for (const temperature of [0, 0.7]) {
        await model.generate([1, 2], { max_tokens: 5, temperature }).next().catch(failed);
        await model.continue({ max_tokens: 5, temperature }).next().catch(failed);
      }
      await model.logits([1, 2]).catch(failed);
      await model.greedy([1, 2], 3).catch(failed);
      await model.profile({ ids: [1, 2], runs: 1, decode: 1 }).catch(failed);
      await model.logits([]).catch(failed);
      const ran_on = model.info.backend;
      model.dispose();
      return { seen, ran_on };
    },
    { contents: overflowing(), backend },
  );

const OVERFLOW = [...Array(7).fill("non_finite_logits"), "empty_prompt"];

test("logits that overflow are an error of their own in every call, and the model stays", () =>
  withSharedModule(async (page) => {
    const { seen, ran_on } = await overflow(page, "auto");
    assert.match(ran_on, /^cpu/);
    assert.deepEqual(seen, OVERFLOW);
  }));

test("logits that overflow on WebGPU are no fault of the device, which is not opened again", () =>
  withModule(async (page) => {
    assert.deepEqual(await overflow(page, "webgpu"), { seen: OVERFLOW, ran_on: "webgpu" });
  }));
