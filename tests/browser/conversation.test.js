// @ts-check
// Conversations in the browser: a prompt that begins as the sequence before reads only the rest and is answered as by a
// model that has read nothing, in the module and on the page, on the CPU and on WebGPU.

import assert from "node:assert/strict";
import { EMBEDDED, openReadyPage, setOptions, test, until, withPage, withSharedModule } from "./harness.js";
import { say, untilDone } from "./page_runs.js";
import { withLoaded } from "./webgpu.js";

/** @import { Page } from "playwright-core" */

/** Turns that begin with a token which no text runs into. */
const TEMPLATE =
  "{{ bos_token }}{% for m in messages %}</s>{{ m.role }}: {{ m.content }}{% endfor %}"
  + "{% if add_generation_prompt %}</s>assistant:{% endif %}";
const CONFIG = JSON.stringify({ bos_token: "<s>", eos_token: "</s>", chat_template: TEMPLATE });

/** @param {Page} page */
const serveTemplate = (page) =>
  page.route(`**${EMBEDDED}tokenizer_config.json`, (route) => route.fulfill({ body: CONFIG }));

/**
 * A conversation in one model. Each turn is asked once more in a model that forgets between turns.
 * @param {Page} page @param {string[]} said @param {object} load
 */
const converse = (page, said, load) =>
  page.evaluate(
    async ({ said, load }) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const [model, fresh] = [await zamba2.load(load), await zamba2.load(load)];
      /** @type {{ role: string, content: string }[]} */
      const messages = [];
      const turns = [];
      /** @param {any} model @param {object} options */
      const answer = async (model, options) => {
        let text = "";
        /** @type {any} */
        let progress = null;
        const onPrefill = (/** @type {any} */ now) => (progress = now);
        const run = { temperature: 0, max_tokens: 16, ...options, onPrefill };
        for await (const piece of model.generate({ messages }, run)) text += piece;
        return { text, progress, ...model.last };
      };
      for (const content of said) {
        messages.push({ role: "user", content });
        const cached = await answer(model, {});
        turns.push({ cached, whole: await answer(fresh, { cache_prompt: false }) });
        messages.push({ role: "assistant", content: cached.text });
      }
      model.dispose();
      fresh.dispose();
      return turns;
    },
    { said, load },
  );

test("each turn of a conversation reads what is new, says how much was cached, and answers as if it had read all", () =>
  withSharedModule(async (page) => {
    await serveTemplate(page);
    const said = ["What is ownership?", "And a trait?", "How does a vector grow?", "What is a slice?"];
    const turns = await converse(page, said, { source: EMBEDDED, keep: false, backend: "cpu" });
    let n_before = 0;
    for (const { cached, whole } of turns) {
      assert.equal(cached.text, whole.text);
      assert.equal(whole.cached_tokens, 0);
      assert.equal(cached.prompt_tokens, whole.prompt_tokens);
      // At least the prompt before; the answer, too, where its text is tokenised as it was generated.
      assert.ok(cached.cached_tokens >= n_before, `${cached.cached_tokens} of ${n_before} tokens`);
      assert.ok(cached.cached_tokens < cached.prompt_tokens);
      assert.deepEqual(
        [cached.progress.prompt_tokens, cached.progress.cached_tokens, cached.progress.done],
        [cached.prompt_tokens, cached.cached_tokens, true],
      );
      assert.ok(cached.prefill_tokens_per_s > 0);
      n_before = cached.prompt_tokens;
    }
  }));

test("token ids that continue a run are read without the run, and the same ids again need no reading", () =>
  withSharedModule(async (page) => {
    const runs = await page.evaluate(async (source) => {
      const model = await /** @type {any} */ (globalThis).zamba2.load({ source, keep: false });
      /** @param {number[]} ids */
      const run = async (ids) => {
        const tokens = [];
        for await (const { token } of model.generate(ids, { temperature: 0, max_tokens: 8, ignore_eos: true }))
          tokens.push(token);
        const { cached_tokens, prompt_tokens, prefill_tokens_per_s } = model.last;
        return { tokens, cached_tokens, prompt_tokens, prefill_tokens_per_s };
      };
      const first = await run([1, 300, 301]);
      const second = await run([1, 300, 301, ...first.tokens, 305, 306]);
      const again = await run([1, 300, 301, ...first.tokens, 305, 306]);
      for await (const _ of model.continue({ temperature: 0, max_tokens: 10, ignore_eos: true }));
      const continued = model.last.cached_tokens;
      model.dispose();
      return { first, second, again, continued };
    }, EMBEDDED);
    assert.deepEqual([runs.first.cached_tokens, runs.first.prompt_tokens], [0, 3]);
    // The last of the eight tokens was chosen and not read.
    assert.deepEqual([runs.second.cached_tokens, runs.second.prompt_tokens], [10, 13]);
    assert.deepEqual(runs.again, { ...runs.second, cached_tokens: 13, prefill_tokens_per_s: null });
    assert.equal(runs.continued, null);
  }));

test("a run that is stopped in its prefill leaves the turn before it cached", () =>
  withSharedModule(async (page) => {
    const { stopped, after, whole } = await page.evaluate(async (source) => {
      const model = await /** @type {any} */ (globalThis).zamba2.load({ source, keep: false });
      const options = { temperature: 0, max_tokens: 8, ignore_eos: true };
      const tokens = async (/** @type {number[]} */ ids, more = {}) => {
        const tokens = [];
        for await (const { token } of model.generate(ids, { ...options, ...more })) tokens.push(token);
        return tokens;
      };
      const first = await tokens([1, 300, 301]);
      // Long enough that the abort arrives before the last block.
      const ids = [1, 300, 301, ...first, ...Array.from({ length: 300 }, (_, i) => 305 + (i % 50))];
      const controller = new AbortController();
      let stopped = "none";
      const onPrefill = () => controller.abort();
      await tokens(ids, { signal: controller.signal, onPrefill }).catch((error) => (stopped = error.name));
      const after = { tokens: await tokens(ids), cached_tokens: model.last.cached_tokens };
      const whole = await tokens(ids, { cache_prompt: false });
      model.dispose();
      return { stopped, after, whole };
    }, EMBEDDED);
    assert.equal(stopped, "AbortError");
    assert.deepEqual(after, { tokens: whole, cached_tokens: 10 });
  }));

const withNet = withLoaded("one_block_adapters_rope", { backend: "webgpu" });

test("on WebGPU a conversation reads its new tokens alone, with steps in flight", () =>
  withNet(async (page) => {
    const turns = await page.evaluate(async () => {
      const { model } = /** @type {any} */ (globalThis);
      const options = { temperature: 0, max_tokens: 12, ignore_eos: true };
      const run = async (/** @type {number[]} */ ids, more = {}) => {
        const tokens = [];
        for await (const { token } of model.generate(ids, { ...options, ...more })) tokens.push(token);
        return tokens;
      };
      /** @type {number[]} */
      let ids = [];
      const turns = [];
      for (let turn = 0; turn < 3; turn++) {
        ids = [...ids, 5 + turn, 6, 7, 8, 9];
        const tokens = await run(ids);
        turns.push({ tokens, n_new: ids.length - model.last.cached_tokens, n_whole: ids.length });
        ids = [...ids, ...tokens];
      }
      const last = ids.slice(0, turns[2].n_whole);
      return { turns, whole: await run(last, { cache_prompt: false }) };
    });
    assert.deepEqual(
      turns.turns.map(({ n_new }) => n_new),
      [5, 6, 6],
    );
    assert.deepEqual(turns.turns[2].tokens, turns.whole);
  }));

/** The page with a model that has the template. @param {(page: Page) => Promise<void>} body */
const withChat = (body) =>
  withPage(async (page) => {
    await serveTemplate(page);
    await openReadyPage(page);
    await setOptions(page, { max_tokens: "12" });
    // Compared as text.
    await page.uncheck("#markdown");
    await body(page);
  });

/** @param {Page} page */
const turns = (page) => page.locator(".turn-text").allTextContents();

test("the page's chat shows how many tokens of the prompt were cached, in the figures and beside each answer", () =>
  withChat(async (page) => {
    const row = page.locator("#metrics > div", { has: page.locator("dt", { hasText: "cached" }) });
    for (const [turn, text] of ["What is ownership?", "And a trait?"].entries()) {
      await say(page, text);
      assert.equal(await row.count(), turn);
    }
    const n = Number(await row.locator("dd").textContent());
    assert.ok(n > 5, `${n} tokens`);
    const notes = await page.locator(".turn[data-role=assistant] .note").allTextContents();
    const figures = notes.map((note) =>
      /^prompt: (\d+) tokens, (\d+) of them cached$/.exec(note)?.slice(1).map(Number),
    );
    assert.equal(figures[0]?.[1], 0);
    assert.equal(figures[1]?.[1], n);
    assert.ok((figures[1]?.[0] ?? 0) > n);
  }));

test("an edited message takes the place of its turn, drops those after it, and keeps those before it cached", () =>
  withChat(async (page) => {
    for (const text of ["What is ownership?", "And a trait?", "What is a slice?"]) await say(page, text);
    const before = await turns(page);
    const second = page.locator(".turn").nth(2);
    await second.getByRole("button", { name: "Edit turn 3" }).click();
    await page.fill(".turn-edit textarea", "dropped");
    await page.keyboard.press("Escape");
    assert.deepEqual(await turns(page), before, "Escape leaves the turn");
    await second.getByRole("button", { name: "Edit turn 3" }).click();
    await page.fill(".turn-edit textarea", "How does a vector grow?");
    await untilDone(page, () => page.keyboard.press("Control+Enter"));
    const after = await turns(page);
    assert.deepEqual(after.slice(0, 3), [...before.slice(0, 2), "How does a vector grow?"]);
    assert.equal(after.length, 4);
    const note = (await page.locator(".turn .note").nth(3).textContent()) ?? "";
    assert.ok(Number(/(\d+) of them cached/.exec(note)?.[1]) > 5, note);
    await say(page, "And a trait?");
    assert.equal((await turns(page)).length, 6);
  }));

test("Regenerate gives another answer with another seed, and its turns stay where it fails", () =>
  withChat(async (page) => {
    await setOptions(page, { temperature: "1.2", max_tokens: "24", seed: "7" });
    for (const text of ["What is ownership?", "And a trait?"]) await say(page, text);
    const before = await turns(page);
    assert.equal(await page.getByRole("button", { name: /^Regenerate/ }).count(), 1, "only the last");
    await untilDone(page, () => page.getByRole("button", { name: "Regenerate turn 4" }).click());
    const after = await turns(page);
    assert.deepEqual(after.slice(0, 3), before.slice(0, 3));
    assert.notEqual(after[3], before[3]);
    assert.notEqual(await page.inputValue("#sampling [name=seed]"), "7");
    await setOptions(page, { temperature: "99" });
    await page.getByRole("button", { name: "Regenerate turn 4" }).click();
    await page.waitForSelector(".field-message");
    assert.deepEqual(await turns(page), after);
  }));

test("a single turn is copied", () =>
  withChat(async (page) => {
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await say(page, "What is ownership?");
    for (const [i, text] of (await turns(page)).entries()) {
      await page.getByRole("button", { name: `Copy turn ${i + 1}` }).click();
      await until(page, async (text) => (await navigator.clipboard.readText()) === text, text);
    }
  }));
