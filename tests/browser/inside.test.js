// @ts-check
// The Inside view in Chromium: what it shows of the last run, and what leaving out a block changes. The numbers come
// from the module's `inspect` and `ablate`, which tests/inside.rs compares with the reference.

import assert from "node:assert/strict";
import { atEveryWidth } from "./accessibility.js";
import {
  download,
  horizontalOverflow,
  openDetails,
  openReadyPage,
  setOptions,
  setWidth,
  switchLanguage,
  test,
  waitForStatus,
  withPage,
} from "./harness.js";
import { withReadyPage } from "./ready_page.js";

/** @import { Page } from "playwright-core" */

/** A greedy run of at most 20 tokens. @param {Page} page @param {string} [prompt] */
async function runGreedy(page, prompt = "Ownership is") {
  await setOptions(page, { temperature: "0", max_tokens: "20" });
  await page.fill("#prompt", prompt);
  await page.click("#run");
  await waitForStatus(page, "Done");
}

/** @param {Page} page */
async function look(page) {
  await page.click("#tab-inside");
  await page.waitForSelector("#chart-attention .plot");
  await page.waitForFunction(() => /** @type {HTMLElement} */ (document.getElementById("inside-progress")).hidden);
}

const readJson = async (/** @type {Page} */ page) =>
  JSON.parse((await download(page, "#inside-json")).bytes.toString("utf8"));

test("opening Inside after a greedy run shows it: after the last block each token's lens names the next token", () =>
  withReadyPage(async (page) => {
    await runGreedy(page);
    await look(page);
    const seen = await readJson(page);
    const text = (await page.textContent("#output")) ?? "";
    assert.ok(text.endsWith(seen.texts.slice(-4).join("")), "the last tokens are the answer's");
    assert.equal(seen.positions.length, 16);
    assert.equal(seen.positions.at(-1), seen.ids.length - 1);
    const last = seen.lens.at(-1);
    // The run chose the most probable token each time.
    for (const [at, position] of seen.positions.slice(0, -1).entries()) {
      assert.equal(last[at][0].token, seen.ids[position + 1], `position ${position}`);
    }
    for (const { weights } of seen.attention) {
      const keys = seen.query + 1;
      for (let head = 0; head * keys < weights.length; head++) {
        const sum = weights
          .slice(head * keys, (head + 1) * keys)
          .reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b);
        assert.ok(Math.abs(sum - 1) < 1e-4, `head ${head}`);
      }
    }
    const top = seen.lens.at(-1).at(-1)[0];
    const finding = (await page.textContent("#chart-lens-finding")) ?? "";
    assert.ok(finding.includes(`“${top.text.replaceAll(" ", "·").replaceAll("\n", "↵")}”`), finding);
    assert.equal(await page.locator("#chart-half-lives .shade").count(), seen.half_lives.flat().length);
  }));

test("of a text that the model has ended, Inside looks at the tokens before the end", () =>
  withReadyPage(async (page) => {
    await runGreedy(page, "The tracking issue for this feature is:");
    assert.match((await page.textContent("#status")) ?? "", /end of text/);
    await look(page);
    const { texts, lens } = await readJson(page);
    assert.ok(!texts.includes("</s>"), texts.join("|"));
    assert.equal(lens.at(-1).at(-1)[0].text, "</s>");
  }));

test("a block of the strip is left out in Inside, and its texts are those with and without it", () =>
  withReadyPage(async (page) => {
    await runGreedy(page);
    await look(page);
    await page.locator(".cell[data-kind=mamba]").first().click();
    await page.waitForSelector("#ablation .predictions");
    assert.ok(await page.locator("#block-panel").isHidden());
    assert.equal(await page.inputValue("#ablation-block"), "0");
    const [whole, without] = await page.locator("#ablation .predicted").allTextContents();
    assert.notEqual(whole, without);

    // What the whole model says is what the run goes on with.
    const seen = await readJson(page);
    assert.equal(seen.ablation.whole.text, whole);
    await page.locator(".cell[data-kind=hybrid]").first().click();
    await page.locator("#ablation input[value=shared]").check({ force: true });
    await page.waitForFunction(() =>
      document
        .querySelector("#ablation .finding")
        ?.textContent?.startsWith("Without the shared transformer in block 5"),
    );

    await page.click("#tab-playground");
    const before = (await page.textContent("#output")) ?? "";
    await setOptions(page, { max_tokens: "30" });
    await page.click("#continue");
    await waitForStatus(page, "Done: 30");
    const more = ((await page.textContent("#output")) ?? "").slice(before.length);
    assert.ok(whole.length > 0 && more.startsWith(whole), `${more} does not begin with ${whole}`);
  }));

test("measuring every block gives a bar for each, and a click on one shows its texts", () =>
  withReadyPage(async (page) => {
    await runGreedy(page);
    await look(page);
    await page.click("text=Measure every block");
    await page.waitForSelector("#chart-effects .bar");
    const blocks = await page.locator(".cell[data-kind=mamba], .cell[data-kind=hybrid]").count();
    assert.equal(await page.locator("#chart-effects .bar").count(), blocks);
    await page.locator("#chart-effects .bar").nth(3).click();
    await page.waitForSelector("#ablation .predictions");
    assert.equal(await page.inputValue("#ablation-block"), "3");
    const { ablation, ablations } = await readJson(page);
    assert.ok(Math.abs(ablation.kl_nats - ablations[3].kl_nats) < 1e-9);
  }));

test("a column of the lens and the list of tokens choose whose attention is shown", () =>
  withReadyPage(async (page) => {
    await runGreedy(page);
    await look(page);
    await page.selectOption("#inside-query", "2");
    await page.waitForFunction(() =>
      document.querySelector("#chart-attention-finding")?.textContent?.includes("token 2 "),
    );
    await page.selectOption("#inside-visit", "1");
    const { attention, query } = await readJson(page);
    assert.equal(query, 2);
    const finding = (await page.textContent("#chart-attention-finding")) ?? "";
    assert.ok(finding.includes(`block ${attention[1].block}`), finding);
    assert.equal(await page.locator("#chart-attention .shade").count(), attention[1].weights.length);
  }));

test("before any run Inside looks at the prompt, and a stopped look can be repeated", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    await page.fill("#prompt", "The borrow checker ".repeat(30));
    await page.click("#tab-inside");
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => {
      const progress = /** @type {HTMLElement} */ (document.getElementById("inside-progress"));
      return progress.hidden;
    });
    await page.click("#inside-run");
    await page.waitForSelector("#chart-lens .plot");
    const { texts } = await readJson(page);
    assert.equal(texts[0], "<s>");
    assert.equal(texts.slice(1).join("").trim(), "The borrow checker ".repeat(30).trim());
    assert.equal(await page.locator("#errors .error-card").count(), 0);
  }));

const walked = atEveryWidth([390, 1280], (check) =>
  withPage(async (page) => {
    await openReadyPage(page);
    await page.click("#tab-inside");
    await page.waitForSelector("#chart-attention .plot");
    await page.selectOption("#ablation-block", "5");
    await page.waitForSelector("#ablation .predictions");
    await openDetails(page, "#view-inside");
    await check(page, "looked inside", ["#view-inside"]);
    await switchLanguage(page);
    await check(page, "in Russian", ["#view-inside"]);
  }),
);
for (const width of [390, 1280]) {
  for (const scheme of /** @type {const} */ (["light", "dark"])) {
    test(`axe finds no violation in Inside at ${width} px, ${scheme}, in both languages`, () => walked(width, scheme));
  }
}

test("nothing overflows horizontally in Inside at 320, 390 and 1280 px, in either language", () =>
  withReadyPage(async (page) => {
    await look(page);
    await page.selectOption("#ablation-block", "5");
    await page.waitForSelector("#ablation .predictions");
    for (const language of ["en", "ru"]) {
      if (language === "ru") await switchLanguage(page);
      for (const width of [320, 390, 1280]) {
        await setWidth(page, width);
        assert.equal(await horizontalOverflow(page), 0, `${width} px, ${language}`);
      }
    }
  }));
