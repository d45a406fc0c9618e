// @ts-check
// The playground: branching and continuing, snapshots in files, tokens and their alternatives, history, links, exports,
// the context meter, and prompts given before the model has loaded.

import assert from "node:assert/strict";
import { atEveryWidth } from "./accessibility.js";
import {
  continuation,
  download,
  EMBEDDED,
  horizontalOverflow,
  loadWith,
  openDetails,
  openLoadingPage,
  openPage,
  openReadyPage,
  setOptions,
  setWidth,
  SITE,
  switchLanguage,
  test,
  waitForStatus,
  withPage,
  withSharedModule,
} from "./harness.js";
import { untilDone } from "./page_runs.js";
import { withReadyPage } from "./ready_page.js";

/** @import { Page } from "playwright-core" */

/** @param {Page} page */
const run = (page) => untilDone(page, () => page.click("#run"));

/** The tokens as the page shows them. @param {Page} page */
const tokens = (page) => page.locator(".token").allTextContents();

test("in the browser a branch with the original token gives bit-identical pieces", () =>
  withSharedModule(async (page) => {
    const { whole, again, kept } = await page.evaluate(async (source) => {
      const scope = /** @type {any} */ (globalThis);
      const model = (scope.model ??= await scope.zamba2.load({ source, keep: false }));
      const options = {
        max_tokens: 40,
        temperature: 1.2,
        top_k: 0,
        top_p: 1,
        seed: 3,
        ignore_eos: true,
        alternatives: 5,
      };
      /** @param {AsyncIterable<any>} pieces */
      const read = async (pieces) => {
        const all = [];
        for await (const { token, text, index, probability, token_rank } of pieces)
          all.push({ token, text, index, probability, token_rank });
        return all;
      };
      const whole = await read(model.generate("Ownership is", options));
      const again = [];
      /** @type {unknown[]} */
      const kept = [];
      for (const index of [39, 33, 5, 0]) {
        const onKept = (/** @type {any} */ what) => kept.push(what);
        again.push({ index, pieces: await read(model.branch(index, whole[index].token, { ...options, onKept })) });
      }
      return { whole, again, kept };
    }, EMBEDDED);
    assert.equal(whole.length, 40);
    for (const [i, { index, pieces }] of again.entries()) {
      assert.deepEqual(pieces.slice(1), whole.slice(index + 1), `from token ${index}`);
      assert.deepEqual([pieces[0].token, pieces[0].index], [whole[index].token, index]);
      assert.deepEqual(kept[i], {
        text: whole
          .slice(0, index)
          .map(({ text }) => text)
          .join(""),
        tokens: index,
      });
    }
  }));

test("a refused prompt leaves the sequence unchanged in every call, and other calls replace it", () =>
  withSharedModule(async (page) => {
    const { rest, codes } = await page.evaluate(async (source) => {
      const scope = /** @type {any} */ (globalThis);
      const model = (scope.model ??= await scope.zamba2.load({ source, keep: false }));
      const options = { max_tokens: 8, temperature: 0, ignore_eos: true };
      /** @param {AsyncIterable<any>} pieces */
      const read = async (pieces) => {
        const tokens = [];
        for await (const { token } of pieces) tokens.push(token);
        return tokens;
      };
      const code = (/** @type {Promise<unknown>} */ answer) =>
        answer.then(
          () => "none",
          (error) => error.code,
        );
      const whole = await read(model.generate("Ownership is", options));
      await read(model.generate("Ownership is", { ...options, max_tokens: 3 }));
      const codes = [
        await code(model.logits([1 << 30])),
        await code(model.greedy([], 2)),
        await code(read(model.generate([1 << 30]))),
        await code(read(model.generate("Ownership is", { max_tokens: 0 }))),
      ];
      const rest = await read(model.continue(options));
      await model.logits([1, 2]);
      codes.push(await code(read(model.continue(options))));
      return { rest: { given: rest, expected: whole.slice(3) }, codes };
    }, EMBEDDED);
    assert.deepEqual(codes, ["bad_token", "empty_prompt", "bad_token", "bad_option", "out_of_order"]);
    assert.deepEqual(rest.given, rest.expected);
  }));

test("a snapshot continues bit-identically in a load with other threads and is refused with other weights", () =>
  withSharedModule(async (page) => {
    const result = await page.evaluate(async (source) => {
      const scope = /** @type {any} */ (globalThis);
      const { zamba2 } = scope;
      const options = {
        max_tokens: 30,
        temperature: 1.2,
        top_k: 0,
        top_p: 1,
        seed: 3,
        ignore_eos: true,
        alternatives: 3,
      };
      /** @param {AsyncIterable<any>} pieces */
      const read = async (pieces) => {
        const all = [];
        for await (const { token, text, probability, token_rank } of pieces)
          all.push({ token, text, probability, token_rank });
        return all;
      };
      /** @param {Promise<unknown>} promise */
      const code = (promise) =>
        promise.then(
          () => null,
          (error) => error.code,
        );
      const model = (scope.model ??= await zamba2.load({ source, keep: false }));
      const whole = await read(model.generate("Ownership is", options));
      const early = await code(
        model
          .snapshot()
          .then(() => model.logits([1, 2]))
          .then(() => model.snapshot()),
      );
      await read(model.generate("Ownership is", { ...options, max_tokens: 10 }));
      const bytes = await model.snapshot({ note: "mine" });
      const spoiled = bytes.slice();
      spoiled[spoiled.length - 3] ^= 1;
      const damaged = await code(model.restore(spoiled));
      const rest_here = await read(model.continue(options));

      const other = await zamba2.load({ source, keep: false, threads: 1, relaxedSimd: false });
      const { note, prompt_tokens, tokens } = await other.restore(bytes);
      const rest_there = await read(other.continue(options));
      other.dispose();
      const q4 = await zamba2.load({ source, keep: false, weights: "q4" });
      const refused = await code(q4.restore(bytes));
      q4.dispose();
      return { whole, rest_here, rest_there, note, n: tokens.length - prompt_tokens, early, damaged, refused };
    }, EMBEDDED);
    assert.deepEqual(result.rest_here, result.whole.slice(10));
    assert.deepEqual(result.rest_there, result.whole.slice(10));
    assert.deepEqual([result.note, result.n], ["mine", 10]);
    assert.deepEqual([result.early, result.damaged, result.refused], ["out_of_order", "bad_snapshot", "other_model"]);
  }));

test("a run whose state was replaced by another call cannot be branched from", () =>
  withSharedModule(async (page) => {
    const codes = await page.evaluate(async (source) => {
      const scope = /** @type {any} */ (globalThis);
      const model = (scope.model ??= await scope.zamba2.load({ source, keep: false }));
      const codes = [];
      for (const between of [
        () => model.tokenize("a"),
        () => model.logits([1, 2]),
        () => model.greedy([1, 2], 2),
        () => model.profile({ prefill: 2, decode: 1, runs: 1 }),
      ]) {
        for await (const _ of model.generate("Ownership is", { max_tokens: 3 }));
        await between();
        try {
          for await (const _ of model.branch(0, 5, { max_tokens: 2 }));
          codes.push(null);
        } catch (error) {
          codes.push(/** @type {any} */ (error).code);
        }
      }
      return codes;
    }, EMBEDDED);
    assert.deepEqual(codes, [null, "out_of_order", "out_of_order", "out_of_order"]);
  }));

test("each token shows its probability, rank, time and alternatives, and is reachable by keyboard", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "12", seed: "7" });
    await page.check("#view [value=tokens]");
    await run(page);
    const shown = await tokens(page);
    assert.equal(shown.length, 12);
    await page.focus(".token[tabindex='0']");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    assert.match((await page.textContent("#token-panel h3")) ?? "", /^Token 3: /);
    const facts = await page.locator("#token-panel dd").allTextContents();
    assert.equal(facts.length, 5);
    const shares = (await page.locator(".alternatives button span:last-child").allTextContents()).map((text) =>
      parseFloat(text),
    );
    assert.equal(shares.length, 5);
    assert.deepEqual(
      shares,
      shares.toSorted((a, b) => b - a),
    );
    assert.ok(shares.reduce((sum, share) => sum + share) <= 100.1);
    assert.ok(Number(facts[1]) >= 1);
    await page.keyboard.press("Escape");
    assert.ok(await page.isHidden("#token-panel"));
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), shown[2]);
    await page.keyboard.press("End");
    assert.equal(
      await page.evaluate(() => document.activeElement === document.querySelector(".token:last-child")),
      true,
    );
  }));

test("accepted drafts are marked among the tokens, named in the panel and counted among the figures", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "150", temperature: "0", lookup: "10" });
    await page.check("#view [value=tokens]");
    await run(page);
    const counts = await page.locator("#metrics div", { hasText: "drafts accepted" }).locator("dd").textContent();
    const [accepted, drafted] = (counts ?? "").split(" / ").map(Number);
    assert.ok(accepted > 0 && accepted <= drafted, String(counts));
    const marked = page.locator(".token.draft");
    assert.equal(await marked.count(), accepted);
    assert.match((await marked.first().getAttribute("aria-label")) ?? "", /accepted draft$/);
    await marked.first().click();
    assert.deepEqual(await page.locator("#token-panel dl div:last-child").allTextContents(), ["Draftaccepted"]);
    await setOptions(page, { lookup: "0" });
    await run(page);
    assert.equal(await marked.count(), 0);
  }));

test("choosing an alternative replaces the token, keeps the tokens before it, and updates the text", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "24", temperature: "0", seed: "7" });
    await run(page);
    const text = await continuation(page);
    await page.check("#view [value=tokens]");
    const before = await tokens(page);
    await page.locator(".token").nth(9).click();
    const second = page.locator(".alternatives button").nth(1);
    const other = await second.locator(".alternative-text").textContent();
    assert.notEqual(other, before[9]);
    await untilDone(page, () => second.click());
    const after = await tokens(page);
    assert.deepEqual(after.slice(0, 9), before.slice(0, 9));
    assert.equal(after[9], other);
    assert.equal(after.length, 24);
    assert.notEqual(await continuation(page), text);

    // Back to the most probable token: decoding is greedy, so the first text is generated again.
    await page.locator(".token").nth(9).click();
    await untilDone(page, () => page.locator(".alternatives button").first().click());
    assert.deepEqual(await tokens(page), before);
    assert.equal(await continuation(page), text);
  }));

test("Continue gives the text of a longer run, and the context meter is updated", () =>
  withReadyPage(async (page) => {
    assert.ok(await page.isDisabled("#continue"));
    await setOptions(page, { max_tokens: "16", seed: "5" });
    await run(page);
    const long = await continuation(page);
    await setOptions(page, { max_tokens: "8" });
    await run(page);
    await untilDone(page, () => page.click("#continue"));
    assert.equal(await continuation(page), long);
    const prompt_tokens = Number(((await page.locator("#metrics dt").nth(1).textContent()) ?? "").replace(/\D/g, ""));
    assert.equal(
      await page.evaluate(() => /** @type {HTMLMeterElement} */ (document.getElementById("context-meter")).value),
      prompt_tokens + 16,
    );
    assert.match(
      (await page.textContent("#context-text")) ?? "",
      new RegExp(`^Context: ${prompt_tokens + 16} of [\\d,]+ tokens$`),
    );
  }));

test("a snapshot file restores text, tokens and settings after a reload, and can be continued", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "20", seed: "11", temperature: "0.9" });
    await run(page);
    const whole = await continuation(page);
    await setOptions(page, { max_tokens: "10" });
    await run(page);
    const half = await continuation(page);
    const { bytes, name } = await download(page, "#save-state");
    const state = { name, mimeType: "application/octet-stream", buffer: bytes };
    assert.match(name, /^zamba2-rustdoc-5m\.state$/);

    await openReadyPage(page);
    await page.setInputFiles("#state-input", state);
    await page.waitForFunction(() =>
      document.getElementById("prompt-status")?.textContent?.startsWith("State restored"),
    );
    assert.equal(await continuation(page), half);
    assert.equal(await page.inputValue("#sampling [name=seed]"), "11");
    await page.check("#view [value=tokens]");
    assert.equal((await tokens(page)).length, 10);
    await untilDone(page, () => page.click("#continue"));
    assert.equal(await continuation(page), whole);

    // The same model in another weight format.
    await loadWith(page, { weights: "q8" });
    await page.waitForFunction(() => document.getElementById("status-detail")?.textContent?.includes("q8"));
    await page.setInputFiles("#state-input", state);
    await page.waitForSelector(".error-card[data-code=other_model]");
    await page.setInputFiles("#state-input", "package.json");
    await page.waitForSelector(".error-card[data-code=bad_snapshot]");
  }));

test("a snapshot saved by another program is distinguished from the page's own", () =>
  withReadyPage(async (page) => {
    const bytes = await page.evaluate(async (source) => {
      const { load } = await import(/** @type {any} */ ("/pkg/zamba2.js"));
      const model = await load({ source, weights: "q4", keep: false });
      for await (const _ of model.generate("Ownership is", { max_tokens: 3 }));
      const bytes = await model.snapshot({ note: "not from here" });
      model.dispose();
      return new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(String(reader.result).split(",")[1]);
        reader.readAsDataURL(new Blob([bytes]));
      });
    }, EMBEDDED);
    await page.setInputFiles("#state-input", {
      name: "other.state",
      mimeType: "application/octet-stream",
      buffer: Buffer.from(/** @type {string} */ (bytes), "base64"),
    });
    assert.match((await page.locator(".error-card[data-code=bad_snapshot]").textContent()) ?? "", /another program/);
    assert.ok(await page.isDisabled("#continue"));
  }));

test("runs are in the history after a reload until deleted, and are not stored when it is off", () =>
  withReadyPage(async (page) => {
    await page.evaluate(() => {
      /** @type {HTMLDetailsElement} */ (document.getElementById("history")).open = true;
    });
    await setOptions(page, { max_tokens: "6", seed: "9" });
    await page.fill("#prompt", "A trait object");
    await run(page);
    const text = await continuation(page);

    await openReadyPage(page);
    await page.evaluate(() => {
      /** @type {HTMLDetailsElement} */ (document.getElementById("history")).open = true;
    });
    await page.click(".history .entry");
    assert.equal(await page.inputValue("#prompt"), "A trait object");
    assert.equal(await page.inputValue("#sampling [name=seed]"), "9");
    assert.equal(await continuation(page), text);
    assert.ok(await page.isDisabled("#continue"), "its state is gone");

    await page.uncheck("#history input");
    await run(page);
    assert.equal(await page.locator(".history li").count(), 1);
    await page.click(".history li button:last-child");
    assert.equal(await page.locator(".history li").count(), 0);
    assert.equal(await page.evaluate(() => localStorage.getItem("history")), null);
  }));

test("the history keeps the newest fifty", () =>
  withReadyPage(async (page) => {
    await page.evaluate(() => {
      const entry = {
        mode: "raw",
        prompt: "old",
        system: "",
        turns: [],
        settings: {},
        model: { name: "m", weights: "q8" },
        text: "er",
        summary: null,
      };
      localStorage.setItem("history", JSON.stringify(Array.from({ length: 50 }, (_, i) => ({ ...entry, made_ms: i }))));
    });
    await openReadyPage(page);
    await setOptions(page, { max_tokens: "2" });
    await run(page);
    const kept = await page.evaluate(() => JSON.parse(localStorage.getItem("history") ?? "[]"));
    assert.equal(kept.length, 50);
    assert.equal(kept[0].prompt, "Ownership is");
  }));

test("every option that is a number has a labelled field, and presets set those that can be off", () =>
  withReadyPage(async (page) => {
    const fields = () =>
      page.evaluate(async () => {
        const { NUMBER_OPTIONS } = await import(/** @type {any} */ ("/pkg/zamba2.js"));
        const { t } = await import(/** @type {any} */ ("/www/words.js"));
        const inputs = [...document.querySelectorAll("#sampling input[type=number]")];
        return inputs.map((input, i) => {
          const { name, valueAsNumber: value, labels } = /** @type {HTMLInputElement} */ (input);
          const option = NUMBER_OPTIONS[i];
          const is_labelled = labels?.[0].textContent === t(`option.${name}`);
          return { option, value, is_right: name === option.name && is_labelled };
        });
      });
    const shown = await fields();
    assert.ok(shown.length >= 7 && shown.every(({ is_right }) => is_right));
    for (const { option, value } of shown) assert.equal(value, option.default, option.name);

    await switchLanguage(page);
    await openDetails(page);
    /** @type {Record<string, Record<string, number>>} */
    const presets = {
      greedy: { temperature: 0 },
      creative: { min_p: 0.05, repetition_penalty: 1.1 },
    };
    for (const [preset, differing] of Object.entries(presets)) {
      await page.selectOption("#preset", preset);
      for (const { option, value, is_right } of await fields()) {
        assert.ok(is_right, option.name);
        assert.equal(value, differing[option.name] ?? option.off ?? option.default, `${preset}: ${option.name}`);
      }
    }
    await setOptions(page, { top_p: "0.9" });
    assert.equal(await page.inputValue("#preset"), "custom");
    await page.selectOption("#preset", "balanced");
    for (const { option, value } of await fields()) assert.equal(value, option.default, option.name);
    await switchLanguage(page);
  }));

test("a link contains prompt and settings but not the answer, and starts no run", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "9", seed: "123", temperature: "0.35", stop: "\\n\\n" });
    await page.fill("#prompt", "Привет, ownership 🦀");
    await run(page);
    const text = await continuation(page);
    await openDetails(page, "#view-playground");
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    const before = page.url();
    await page.click("#share");
    await page.waitForFunction(() => /copied/i.test(document.getElementById("prompt-status")?.textContent ?? ""));
    assert.equal(page.url(), before, "a reload brings nothing back");
    const address = await page.evaluate(() => navigator.clipboard.readText());
    const unpacked = await page.evaluate(async (hash) => {
      const bytes = Uint8Array.from(atob(hash.slice(5).replaceAll("-", "+").replaceAll("_", "/")), (c) =>
        c.charCodeAt(0),
      );
      return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).text();
    }, new URL(address).hash);
    assert.deepEqual(Object.keys(JSON.parse(unpacked)), ["version", "mode", "prompt", "system", "settings", "model"]);
    assert.ok(!unpacked.includes(JSON.stringify(text).slice(1, -1)));

    const { context, page: visitor, faults } = await openPage();
    await visitor.goto(address);
    await waitForStatus(visitor, "Ready");
    assert.equal(await visitor.inputValue("#prompt"), "Привет, ownership 🦀");
    const settings = await visitor.locator("#sampling input").evaluateAll((all) =>
      Object.fromEntries(
        all.map((input) => {
          const { name, value } = /** @type {HTMLInputElement} */ (input);
          return [name, value];
        }),
      ),
    );
    assert.deepEqual([settings.seed, settings.max_tokens, settings.temperature], ["123", "9", "0.35"]);
    assert.equal(await visitor.inputValue("#sampling [name=stop]"), "\\n\\n");
    assert.equal(await visitor.inputValue("#preset"), "custom");
    assert.equal(await visitor.locator("#metrics").isHidden(), true);
    assert.match((await visitor.textContent("#prompt-status")) ?? "", /Nothing has run yet/);
    await run(visitor);
    assert.equal(await continuation(visitor), text);
    assert.deepEqual(faults, []);
    await context.close();
  }));

test("an invalid link is explained, and the page works", () =>
  withReadyPage(async (page) => {
    for (const hash of ["#ask=", "#ask=!!!", "#ask=AAAA", "#ask=q1YqSy0qzszPU7JSMtQBAA"]) {
      await page.evaluate(() => {
        /** @type {HTMLElement} */ (document.getElementById("prompt-message")).textContent = "";
      });
      await page.goto(`${SITE}/${hash}`);
      await page.waitForFunction(
        () => document.getElementById("prompt-message")?.textContent?.startsWith("The link cannot be read"),
        null,
        { timeout: 5000 },
      );
    }
    await page.reload();
    await waitForStatus(page, "Ready");
    assert.match((await page.textContent("#prompt-message")) ?? "", /cannot be read/, "still there when the model is");
    await setOptions(page, { max_tokens: "3" });
    await run(page);
  }));

test("JSON and Markdown exports contain the whole exchange", () =>
  withReadyPage(async (page) => {
    assert.ok(await page.isDisabled("#export-json"));
    await setOptions(page, { max_tokens: "8", seed: "2" });
    await run(page);
    const text = await continuation(page);
    const json = JSON.parse((await download(page, "#export-json")).bytes.toString("utf8"));
    assert.deepEqual(
      [json.schema, json.prompt, json.text, json.settings.seed],
      ["zamba2-exchange/1", "Ownership is", text, 2],
    );
    assert.equal(json.tokens.length, 8);
    assert.equal(json.tokens[0].alternatives.length, 5);
    assert.equal(json.summary.reason, "length");
    const markdown = (await download(page, "#export-markdown")).bytes.toString("utf8");
    assert.ok(markdown.includes("## Prompt\n\n```text\nOwnership is\n```"), markdown);
    assert.ok(markdown.includes(text));
  }));

test("a prompt run while the model loads is prefilled as blocks arrive", () =>
  withPage(async (page) => {
    const release = await openLoadingPage(page);
    await setOptions(page, { max_tokens: "10", seed: "4" });
    await page.click("#run");
    await waitForStatus(page, "Prefill while blocks arrive");
    assert.ok((await page.locator(".cell[data-state=absent]").count()) > 0, "blocks are still missing");
    release();
    await waitForStatus(page, "Done");
    const early = await continuation(page);
    assert.notEqual(early, "");
    await run(page);
    assert.equal(await continuation(page), early);
  }));

test("a load that fails while a prompt is waiting shows only the load's error", () =>
  withPage(async (page) => {
    // Unlike 403 in the middle of a file, 401 is final and not retried.
    const release = await openLoadingPage(page, (route) => route.fulfill({ status: 401 }));
    await page.click("#run");
    await waitForStatus(page, "Prefill while blocks arrive");
    release();
    await page.waitForSelector(".error-card[data-code=http_status]");
    assert.equal(await page.locator("#errors .error-card").filter({ hasText: "could not be loaded" }).count(), 1);
    assert.equal(await page.textContent("#run"), "Run");
  }));

for (const width of [320, 390, 1280]) {
  test(`tokens, panel and history do not overflow at ${width} px, in either language`, () =>
    withReadyPage(async (page) => {
      await setOptions(page, { max_tokens: "12" });
      await page.check("#view [value=tokens]");
      await run(page);
      await openDetails(page);
      await setWidth(page, width);
      for (let language = 0; language < 2; language++) {
        await page.locator(".token").nth(3).click();
        assert.equal(await horizontalOverflow(page), 0);
        await switchLanguage(page);
      }
    }));
}

const walked = atEveryWidth([390, 1280], (check) =>
  withPage(async (page) => {
    const template = "{% for m in messages %}## {{ m.role }}\n{{ m.content }}\n{% endfor %}## assistant\n";
    await page.route(`**${EMBEDDED}tokenizer_config.json`, (route) =>
      route.fulfill({ body: JSON.stringify({ chat_template: template }) }),
    );
    await openReadyPage(page);
    await setOptions(page, { max_tokens: "30" });
    await openDetails(page);
    await run(page);
    await page.waitForSelector(".turn-text.markdown");
    await page.getByRole("button", { name: "Edit turn 1" }).click();
    await check(page, "chat, a turn edited");
    await page.check("#mode [value=raw]");
    await page.fill("#prompt", "Ownership is");
    await page.check("#view [value=tokens]");
    await run(page);
    await page.locator(".token").nth(4).click();
    await check(page, "tokens, one open", [".status-line", ".prompt-card", "#this-run", "#history"]);
  }),
);
for (const width of [390, 1280]) {
  for (const scheme of /** @type {const} */ (["light", "dark"])) {
    test(`axe finds no violation in tokens, an open token, history and chat at ${width} px, ${scheme}`, () =>
      walked(width, scheme));
  }
}
