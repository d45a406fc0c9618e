// @ts-check
// Facts on tokens in the browser: tokenizers that contradict themselves are typed errors and not the end of the engine,
// a token beyond the embedding refuses the prompt, and control tokens in a message stay text.

import assert from "node:assert/strict";
import { EMBEDDED, repositoryFile, test, withSharedModule } from "./harness.js";

/** @import { Page } from "playwright-core" */

const TOKENIZER = repositoryFile(`${EMBEDDED.slice(1)}tokenizer.json`).toString();

/** The embedded model with other files beside it. @param {Page} page @param {Record<string, string>} files */
async function serve(page, files) {
  for (const [name, body] of Object.entries(files))
    await page.route(`**${EMBEDDED}${name}`, (route) => route.fulfill({ body }));
}

/** The embedded model's tokenizer.json with a change. @param {(json: any) => void} change */
function changed(change) {
  const json = JSON.parse(TOKENIZER);
  change(json);
  return JSON.stringify(json);
}

/** The results of loading the embedded model, and then of a prompt. @param {Page} page @param {string} prompt */
const codesOf = (page, prompt) =>
  page.evaluate(
    async ({ source, prompt }) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      let model;
      try {
        model = await zamba2.load({ source, keep: false, retry: { attempts: 1 } });
      } catch (error) {
        return { load: /** @type {any} */ (error).code, run: null, message: String(error) };
      }
      try {
        for await (const _ of model.generate(prompt, { max_tokens: 2 }));
      } catch (error) {
        return { load: null, run: /** @type {any} */ (error).code, message: String(error) };
      } finally {
        model.dispose();
      }
      return { load: null, run: null, message: "" };
    },
    { source: EMBEDDED, prompt },
  );

const DAMAGED = {
  "cut in the decoder": TOKENIZER.slice(0, TOKENIZER.indexOf('"decoder"') + 25),
  "a prefix that no merge has": changed((json) => (json.model.continuing_subword_prefix = "@@")),
  "a post-processor with an unknown token": changed((json) => {
    json.post_processor = {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "[X]", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: {},
    };
  }),
  "pieces without length": changed((json) => (json.pre_tokenizer = { type: "FixedLength", length: 0 })),
};

for (const [what, body] of Object.entries(DAMAGED)) {
  test(`a tokenizer.json with ${what} is refused as bad_tokenizer`, () =>
    withSharedModule(async (page) => {
      await serve(page, { "tokenizer.json": body });
      const { load, message } = await codesOf(page, "The");
      assert.equal(load, "bad_tokenizer", message);
      assert.ok(message.includes("tokenizer.json"), message);
    }));
}

test("a token beyond the embedding refuses the prompt that has it, and no other", () =>
  withSharedModule(async (page) => {
    const body = changed((json) => {
      const token = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
      json.added_tokens.push({ id: 1 << 20, content: "<image>", ...token });
    });
    await serve(page, { "tokenizer.json": body });
    assert.deepEqual(await codesOf(page, "The"), { load: null, run: null, message: "" });
    const { load, run, message } = await codesOf(page, "The <image>");
    assert.deepEqual([load, run], [null, "bad_prompt_token"], message);
    assert.ok(message.includes("<image>"), message);
  }));

test("control tokens in a user's message stay text, unless they are asked for", () =>
  withSharedModule(async (page) => {
    const chat_template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}";
    await serve(page, {
      "tokenizer_config.json": JSON.stringify({ bos_token: "<s>", eos_token: "</s>", chat_template }),
    });
    const { plain, control, rendered, option, text } = await page.evaluate(async (source) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const model = await zamba2.load({ source, keep: false });
      const messages = [{ role: "user", content: "a</s>b" }];
      const text = await model.renderChat(messages);
      const refused = await model.tokenizeChat({ messages, content: "none" }).catch((/** @type {any} */ e) => e);
      const result = {
        plain: [...(await model.tokenizeChat({ messages }))],
        control: [...(await model.tokenizeChat({ messages, content: "control" }))],
        rendered: [...(await model.tokenize(text, { special: false }))],
        option: refused.code,
        text,
      };
      model.dispose();
      return result;
    }, EMBEDDED);
    assert.deepEqual(control, rendered);
    const end = /** @type {number} */ (control.at(-1));
    const count = (/** @type {number[]} */ ids) => ids.filter((id) => id === end).length;
    assert.deepEqual([count(plain), count(control)], [1, 2]);
    assert.equal(option, "bad_option");
    assert.equal(text, "<s>a</s>b</s>");
  }));

test("a template prints today's date", () =>
  withSharedModule(async (page) => {
    const chat_template = "{{ strftime_now('%Y-%m-%d') }}";
    await serve(page, { "tokenizer_config.json": JSON.stringify({ bos_token: "<s>", chat_template }) });
    const { before, text, after } = await page.evaluate(async (source) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const model = await zamba2.load({ source, keep: false });
      const date = () => new Date().toLocaleDateString("sv-SE");
      const before = date();
      const text = await model.renderChat([{ role: "user", content: "Hello" }]);
      model.dispose();
      return { before, text, after: date() };
    }, EMBEDDED);
    assert.ok(text === before || text === after, text);
  }));
