// @ts-check
// Texts that follow a JSON schema or a grammar, in the browser: what they contain, when their module is loaded, and
// what is refused. tests/structured_output.rs has the schemas of public suites.

import assert from "node:assert/strict";
import { EMBEDDED, test, withSharedModule } from "./harness.js";
import { withModule } from "./webgpu.js";

/** @import { Page } from "playwright-core" */

const SCHEMA = {
  type: "object",
  properties: {
    name: { type: "string", minLength: 1, maxLength: 8 },
    kind: { enum: ["struct", "trait"] },
    sizes: { type: "array", items: { type: "integer", minimum: 0, maximum: 99 }, minItems: 2, maxItems: 2 },
  },
  required: ["name", "kind", "sizes"],
  additionalProperties: false,
};

/** Addresses that the page and its workers request from now on. @param {Page} page */
function requests(page) {
  /** @type {string[]} */
  const found = [];
  page.context().on("request", (request) => found.push(new URL(request.url()).pathname));
  return found;
}

/**
 * The text and the end of each run, one after the other; the first begins with the prompt.
 * @param {Page} page @param {Record<string, unknown>[]} runs
 * @returns {Promise<{ text: string, reason: string, tokens: number }[]>}
 */
const texts = (page, runs) =>
  page.evaluate(
    async ({ source, runs }) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const model = await zamba2.load({ source, keep: false, backend: "cpu" });
      const found = [];
      for (const [index, options] of runs.entries()) {
        let text = "";
        const pieces = index === 0 ? model.generate("For example:\n\n", options) : model.continue(options);
        for await (const piece of pieces) text += piece;
        found.push({ text, reason: model.last.reason, tokens: model.last.tokens });
      }
      model.dispose();
      return found;
    },
    { source: EMBEDDED, runs },
  );

test("the module of grammars is requested by the first call that needs it, and a text follows its schema", () =>
  withSharedModule(async (page) => {
    const requested = requests(page);
    const isGrammar = (/** @type {string} */ path) => path.includes("/grammar/");
    await texts(page, [{ max_tokens: 8 }]);
    assert.ok(requested.length > 0);
    assert.deepEqual(requested.filter(isGrammar), []);
    for (const seed of [1, 2, 3]) {
      const [{ text, reason }] = await texts(page, [{ json_schema: SCHEMA, max_tokens: 200, seed }]);
      assert.equal(reason, "eos");
      const value = JSON.parse(text);
      assert.deepEqual(Object.keys(value), ["name", "kind", "sizes"]);
      assert.match(value.name, /^[^]{1,8}$/u);
      assert.ok(["struct", "trait"].includes(value.kind), text);
      assert.equal(value.sizes.length, 2);
      for (const size of value.sizes) assert.ok(Number.isInteger(size) && size >= 0 && size <= 99, text);
    }
    const files = ["/pkg/grammar/zamba2_wasm.js", "/pkg/grammar/zamba2_wasm_bg.wasm"];
    assert.deepEqual([...new Set(requested.filter(isGrammar))].sort(), files);
  }));

test("a text that is cut is continued within its grammar, and after its end only ends again", () =>
  withSharedModule(async (page) => {
    const options = { grammar: 'start: "[" N ("," N){9} "]"\nN: /[1-9][0-9]{0,2}/' };
    const runs = [{ max_tokens: 5 }, { max_tokens: 200, ignore_eos: true }, { max_tokens: 200 }];
    const found = await texts(
      page,
      runs.map((run) => ({ ...options, ...run })),
    );
    assert.deepEqual(
      found.map(({ reason }) => reason),
      ["length", "eos", "eos"],
    );
    assert.equal(JSON.parse(found[0].text + found[1].text).length, 10);
    assert.deepEqual([found[2].text, found[2].tokens], ["", 1]);
  }));

test("a prompt that comes while the model loads follows its grammar, too", () =>
  withSharedModule(async (page) => {
    const text = await page.evaluate(async (source) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const model = zamba2.open({ source, keep: false, backend: "cpu" });
      let text = "";
      for await (const piece of model.generate("It is", { grammar: 'start: " " ("large" | "small")' })) text += piece;
      model.dispose();
      return text;
    }, EMBEDDED);
    assert.match(text, /^ (large|small)$/);
  }));

test("on WebGPU, where the device chose the tokens before, a text is continued within its grammar", () =>
  withModule(async (page) => {
    const { begun, ended, reason } = await page.evaluate(async (source) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const model = await zamba2.load({ source, keep: false, backend: "webgpu" });
      let begun = "";
      for await (const piece of model.generate("It is", { max_tokens: 6 })) begun += piece;
      let ended = "";
      const grammar = `start: ${JSON.stringify(begun)} /[0-9]{9}/`;
      for await (const piece of model.continue({ grammar, max_tokens: 50 })) ended += piece;
      const { reason } = model.last;
      model.dispose();
      return { begun, ended, reason };
    }, EMBEDDED);
    assert.ok(begun.length > 0);
    assert.match(ended, /^[0-9]{9}$/);
    assert.equal(reason, "eos");
  }));
