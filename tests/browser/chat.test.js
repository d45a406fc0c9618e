// @ts-check
// Chat in the browser: every template of the fixture renders as in the reference, conversations, broken and missing
// templates, and the chat on the page.

import assert from "node:assert/strict";
import {
  asBase64,
  EMBEDDED,
  fixtureFiles,
  openDetails,
  openModule,
  openPage,
  openReadyPage,
  repositoryFile,
  setOptions,
  SITE,
  test,
  withPage,
  withSharedModule,
  withVocabulary,
} from "./harness.js";
import { say, untilDone } from "./page_runs.js";
import { MockHub } from "./mock_hub.js";
import { readyPage, withReadyPage } from "./ready_page.js";

/** @import { Page } from "playwright-core" */
/** @import { ChatMessage } from "../../www/engine/zamba2.d.ts" */

/**
 * @typedef {{ messages: ChatMessage[], add_generation_prompt: boolean, expect: { text?: string, refused?: string,
 *   fails?: true } }} Case
 * @typedef {{ name: string, tokenizer_config: string, jinja: string | null, cases: Case[] }} Checkpoint
 */

/** @type {Checkpoint[]} */
const CHECKPOINTS = JSON.parse(repositoryFile("tests/fixtures/chat.json").toString()).checkpoints;

/** A ChatML-like template whose turns end with a token of the embedded model's vocabulary. */
const TEMPLATE =
  "{{ bos_token }}{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('Say yes.') }}{% endif %}"
  + "## {{ m.role }}\n{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}## assistant\n{% endif %}";
const CONFIG = JSON.stringify({ bos_token: "<s>", eos_token: "</s>", chat_template: TEMPLATE });

/**
 * Serves files next to the embedded model; null removes one.
 * @param {Page} page
 * @param {Record<string, string | null>} files
 */
async function serveBeside(page, files) {
  for (const [name, text] of Object.entries(files)) {
    await page.route(`**${EMBEDDED}${name}`, (route) =>
      text === null ? route.fulfill({ status: 404 }) : route.fulfill({ body: text }),
    );
  }
}

/** @param {(page: Page) => Promise<void>} body @param {Record<string, string | null>} files */
const withModule = (body, files) =>
  withSharedModule(async (page) => {
    await serveBeside(page, files);
    await body(page);
  });

/** The page with a model that has the template. */
const withChat = readyPage(async (page) => {
  await serveBeside(page, { "tokenizer_config.json": CONFIG });
  await openReadyPage(page);
  await setOptions(page, { max_tokens: "12" });
  // Compared as text.
  await page.uncheck("#markdown");
});

const embeddedFile = (/** @type {string} */ name) => repositoryFile(`${EMBEDDED.slice(1)}${name}`);

/** A checkpoint with few weights and the embedded model's tokenizer, which has 4096 tokens. */
const SMALL = {
  ...withVocabulary(fixtureFiles("one_block_adapters_rope"), 4096),
  "tokenizer.json": embeddedFile("tokenizer.json"),
};

/**
 * Loads the small checkpoint with further files and renders conversations; gives the results and errors.
 * @param {Page} page
 * @param {ChatMessage[][]} conversations
 * @param {Record<string, string | null>} files  null: the checkpoint does not have it
 */
async function rendered(page, conversations, files) {
  const is_there = await page.evaluate(() => "small" in globalThis);
  return page.evaluate(
    async ({ conversations, files, small }) => {
      const scope = /** @type {any} */ (globalThis);
      scope.small ??= await scope.filesOf(small);
      const further = Object.entries(files).flatMap(([name, text]) => (text === null ? [] : [new File([text], name)]));
      const model = await scope.zamba2.load({ source: [...scope.small, ...further] });
      const results = [];
      for (const messages of conversations) {
        try {
          results.push({ text: await model.renderChat(messages) });
        } catch (error) {
          const { code, message, file } = /** @type {any} */ (error);
          results.push({ code, message, file });
        }
      }
      const { chat, chat_fault } = model.info;
      model.dispose();
      return {
        chat,
        fault: chat_fault && { code: chat_fault.code, message: chat_fault.message, file: chat_fault.file },
        results,
      };
    },
    { conversations, files, small: is_there ? {} : asBase64(SMALL) },
  );
}

for (const { name, tokenizer_config, jinja, cases } of CHECKPOINTS) {
  test(`${name}: the template renders in the browser as in the reference`, () =>
    withSharedModule(async (page) => {
      const asked = cases.filter(({ add_generation_prompt }) => add_generation_prompt);
      assert.ok(asked.length > 0);
      const { chat, fault, results } = await rendered(
        page,
        asked.map(({ messages }) => messages),
        { "tokenizer_config.json": tokenizer_config, "chat_template.jinja": jinja },
      );
      assert.deepEqual({ chat, fault }, { chat: true, fault: null });
      for (const [i, { expect }] of asked.entries()) {
        const { text, code, message } = results[i];
        if (expect.text !== undefined) assert.equal(text, expect.text, `case ${i}`);
        else if (expect.refused !== undefined) {
          assert.equal(code, "chat_refused", `case ${i}`);
          assert.ok(message.includes(expect.refused), message);
        } else assert.equal(code, "bad_chat_template", `case ${i}`);
      }
    }));
}

test("a conversation is tokenised as its rendered text with one BOS token", () =>
  withModule(
    async (page) => {
      const { rendered, chat, plain } = await page.evaluate(async (source) => {
        const model = await /** @type {any} */ (globalThis).zamba2.load({ source, keep: false });
        const messages = [
          { role: "system", content: "Be brief." },
          { role: "user", content: "What is ownership?" },
        ];
        const rendered = await model.tokenize(await model.renderChat(messages), { special: false });
        /** @param {any} prompt */
        const tokens = async (prompt) => {
          const all = [];
          for await (const { token } of model.generate(prompt, { temperature: 0, max_tokens: 12, ignore_eos: true }))
            all.push(token);
          return { tokens: all, prompt_tokens: model.last.prompt_tokens };
        };
        return { rendered: [...rendered], chat: await tokens({ messages }), plain: await tokens(rendered) };
      }, EMBEDDED);
      assert.deepEqual(
        rendered.filter((id) => id === 1),
        [1],
        "one <s>",
      );
      assert.deepEqual(chat, plain);
    },
    { "tokenizer_config.json": CONFIG },
  ));

test("an answer and plain text end at the tokenizer's end token, unless end tokens are ignored", () =>
  withModule(
    async (page) => {
      const reasons = await page.evaluate(async (source) => {
        const model = await /** @type {any} */ (globalThis).zamba2.load({ source, keep: false });
        /** @param {any} prompt */
        const reason = async (prompt, ignore_eos = false) => {
          for await (const _ of model.generate(prompt, { temperature: 0, max_tokens: 60, ignore_eos }));
          return { reason: model.last.reason, tokens: model.last.tokens };
        };
        const messages = [{ role: "user", content: "What is ownership?" }];
        const ids = await model.tokenize(await model.renderChat(messages), { special: false });
        return [await reason({ messages }), await reason(ids), await reason(ids, true)];
      }, EMBEDDED);
      assert.equal(reasons[0].reason, "eos");
      assert.deepEqual(reasons[1], reasons[0]);
      assert.ok(reasons[2].tokens > reasons[0].tokens);
      // A full stop is used as the end-of-turn token, because this model produces one soon.
    },
    { "tokenizer_config.json": JSON.stringify({ bos_token: "<s>", eos_token: ".", chat_template: TEMPLATE }) },
  ));

test("a conversation sent while the model loads gets the same answer as one sent afterwards", () =>
  withModule(
    async (page) => {
      const [early, late] = await page.evaluate(async (source) => {
        const model = /** @type {any} */ (globalThis).zamba2.open({ source, keep: false });
        const tokens = async () => {
          const all = [];
          const messages = [{ role: "user", content: "What is ownership?" }];
          for await (const { token } of model.generate(
            { messages },
            { temperature: 0, max_tokens: 12, ignore_eos: true },
          ))
            all.push(token);
          return all;
        };
        return [await tokens(), await tokens()];
      }, EMBEDDED);
      assert.equal(early.length, 12);
      assert.deepEqual(early, late);
    },
    { "tokenizer_config.json": CONFIG },
  ));

for (const [what, files, file] of /** @type {[string, Record<string, string>, string][]} */ ([
  ["a template that does not parse", { "chat_template.jinja": "{% if %}" }, "chat_template.jinja"],
  ["a tokenizer_config.json that is not JSON", { "tokenizer_config.json": "{" }, "tokenizer_config.json"],
])) {
  test(`${what} disables chat with a reason, and the model loads`, () =>
    withSharedModule(async (page) => {
      const {
        chat,
        fault,
        results: [result],
      } = await rendered(page, [[{ role: "user", content: "Hello" }]], files);
      assert.equal(chat, false);
      assert.deepEqual([fault?.code, fault?.file], ["bad_chat_template", file]);
      assert.deepEqual(result, fault);
    }));
}

test("a template that cannot be fetched disables chat with a reason, and the model loads", async () => {
  const { context, page } = await openModule();
  try {
    await page.route("**/chat_template.jinja", (route) => route.fulfill({ status: 403 }));
    const { chat, fault } = await page.evaluate(async (source) => {
      const model = await /** @type {any} */ (globalThis).zamba2.load({ source, keep: false });
      const { chat, chat_fault } = model.info;
      model.dispose();
      return { chat, fault: chat_fault?.code };
    }, EMBEDDED);
    assert.equal(chat, false);
    assert.equal(fault, "http_status");
  } finally {
    await context.close();
  }
});

test("a checkpoint without a template is reported as such", () =>
  withSharedModule(async (page) => {
    const files = { "tokenizer_config.json": embeddedFile("tokenizer_config.json").toString() };
    const {
      chat,
      fault,
      results: [result],
    } = await rendered(page, [[{ role: "user", content: "Hello" }]], files);
    assert.deepEqual({ chat, fault, code: result.code }, { chat: false, fault: null, code: "no_chat_template" });
  }));

test("invalid messages are refused as bad_option", () =>
  withSharedModule(async (page) => {
    const invalid = /** @type {any} */ ([[{ content: "Hello" }], "Hello"]);
    const { results } = await rendered(page, invalid, { "tokenizer_config.json": CONFIG });
    assert.deepEqual(
      results.map(({ code }) => code),
      ["bad_option", "bad_option"],
    );
  }));

/** The small checkpoint with the template. */
const SMALL_CHAT = { ...SMALL, "tokenizer_config.json": Buffer.from(CONFIG) };

test("chat works offline on a second visit", async () => {
  const hub = await MockHub.start(SMALL_CHAT);
  const { context, page } = await openPage();
  try {
    await page.goto(`${SITE}/pkg/zamba2.js`);
    const visit = () =>
      page.evaluate(
        async ({ address, source }) => {
          const { load } = await import(address);
          const model = await load({ source });
          const text = await model.renderChat([{ role: "user", content: "Hello" }]);
          model.dispose();
          return text;
        },
        { address: `${SITE}/pkg/zamba2.js`, source: hub.folder },
      );
    const first = await visit();
    assert.match(first, /^<s>## user\nHello/);
    const contacts = hub.contacts.length;
    assert.equal(await visit(), first);
    assert.equal(hub.contacts.length, contacts, "no request was sent");
  } finally {
    await context.close();
    await hub.stop();
  }
});

test("chat works with a model loaded from files", () =>
  withSharedModule(async (page) => {
    const text = await page.evaluate(async (files) => {
      const { zamba2, filesOf } = /** @type {any} */ (globalThis);
      const model = await zamba2.load({ source: await filesOf(files) });
      const text = await model.renderChat([{ role: "user", content: "Hello" }]);
      model.dispose();
      return text;
    }, asBase64(SMALL_CHAT));
    assert.match(text, /^<s>## user\nHello/);
  }));

/** @param {Page} page */
const turns = (page) =>
  page
    .locator(".turn")
    .evaluateAll((all) => all.map((turn) => [turn.firstChild?.textContent, turn.lastChild?.textContent]));

test(
  "a model with a template is prompted by chat, and the conversation grows",
  () =>
    withChat(async (page) => {
      assert.ok(await page.isChecked("#mode [value=chat]"));
      // The engine's default, for the same texts as below.
      await setOptions(page, { seed: "42" });
      const lengths = [];
      for (const text of ["What is ownership?", "And a trait?"]) {
        await say(page, text);
        lengths.push(Number(((await page.locator("#metrics dt").nth(1).textContent()) ?? "").replace(/\D/g, "")));
        assert.equal(await page.inputValue("#prompt"), "");
      }
      const said = await turns(page);
      assert.deepEqual(
        said.map(([who]) => who),
        ["You", "Model", "You", "Model"],
      );
      assert.deepEqual([said[0][1], said[2][1]], ["What is ownership?", "And a trait?"]);
      assert.notEqual(said[1][1], "");
      assert.ok(lengths[1] > lengths[0] + 10, "the second prompt includes the first and its answer");

      await page.click("#new-conversation");
      assert.deepEqual(await turns(page), []);
      await say(page, "What is ownership?");
      assert.deepEqual(await turns(page), said.slice(0, 2));
    }),
  { quick: true },
);

test("the system message comes before the conversation", () =>
  withChat(async (page) => {
    await page.click("#system-part summary");
    await page.fill("#system", "no");
    await page.fill("#prompt", "Hello");
    await page.click("#run");
    // This template refuses these words in any message.
    const card = page.locator(".error-card[data-code=chat_refused]");
    assert.match((await card.textContent()) ?? "", /Say yes\./);
    assert.deepEqual(await turns(page), []);
    assert.equal(await page.inputValue("#prompt"), "Hello");
    assert.equal(await page.textContent("#status"), "Stopped by an error");
    await card.getByRole("button", { name: "Dismiss" }).click();
    assert.equal(await page.textContent("#status"), "Ready");
  }));

test("a continued answer is one turn, is restored from the history, and is not part of a link", () =>
  withChat(async (page) => {
    await page.evaluate(() => {
      /** @type {HTMLDetailsElement} */ (document.getElementById("history")).open = true;
    });
    await setOptions(page, { max_tokens: "5" });
    await say(page, "What is ownership?");
    const [, [, short]] = await turns(page);
    await untilDone(page, () => page.click("#continue"));
    const said = await turns(page);
    assert.equal(said.length, 2);
    assert.ok(said[1][1]?.startsWith(short ?? "?") && said[1][1].length > (short ?? "").length);

    await openDetails(page, "#view-playground");
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.click("#share");
    await page.waitForFunction(() => /copied/i.test(document.getElementById("prompt-status")?.textContent ?? ""));
    const link = await page.evaluate(async () => {
      history.replaceState(null, "", await navigator.clipboard.readText());
      const { promptInHash } = await import(/** @type {any} */ ("/www/playground/share.js"));
      return promptInHash();
    });
    assert.deepEqual([link.mode, link.prompt], ["chat", "What is ownership?"]);
    assert.deepEqual(Object.keys(link), ["version", "mode", "prompt", "system", "settings", "model"]);

    await page.click("#new-conversation");
    assert.ok(await page.isDisabled("#continue"));
    assert.equal(await page.locator(".history li").count(), 1);
    await page.click(".history .entry");
    assert.deepEqual(await turns(page), said);
    // The restored entry is the conversation, so the next message is appended to it.
    await say(page, "And a trait?");
    assert.equal((await turns(page)).length, 4);
  }));

test("the same model continues plain text in plain mode", () =>
  withChat(async (page) => {
    await page.check("#mode [value=raw]");
    await say(page, "Ownership is");
    assert.match((await page.textContent("#output")) ?? "", /^Ownership is./);
    assert.ok(await page.isHidden("#turns"));
  }));

test("without a template there is no choice of mode, and the error of a broken one is shown", async () => {
  await withReadyPage(async (page) => {
    assert.ok(await page.isHidden("#mode"));
    assert.ok(await page.isHidden("#chat-fault"));
  });
  await withPage(async (page) => {
    await serveBeside(page, { "chat_template.jinja": "{% if %}" });
    await openReadyPage(page);
    await setOptions(page, { max_tokens: "12" });
    assert.ok(await page.isHidden("#mode"));
    assert.match((await page.textContent("#chat-fault")) ?? "", /No chat with this checkpoint: .*chat_template\.jinja/);
    await say(page, "Ownership is");
  });
});
