// @ts-check
// The page from a user's point of view: loading, running, stopping, errors, keyboard use, both themes and several
// widths.

import assert from "node:assert/strict";
import { atEveryWidth } from "./accessibility.js";
import {
  continuation,
  horizontalOverflow,
  loadWith,
  LONG,
  openDetails,
  openLoadingPage,
  openReadyPage,
  setOptions,
  setWidth,
  SITE,
  switchLanguage,
  test,
  waitForStatus,
  withPage,
} from "./harness.js";
import { clearStatus } from "./page_runs.js";
import { withReadyPage } from "./ready_page.js";

test(
  "the page loads the embedded model by itself and generates text",
  () =>
    withPage(async (page) => {
      await openReadyPage(page);
      await setOptions(page, { max_tokens: "20" });
      await page.click("#run");
      await waitForStatus(page, "Done");
      assert.notEqual((await continuation(page)).trim(), "");
      assert.equal(await page.locator("#metrics > div").count(), 7);
      assert.equal(
        await page.locator(".cell.timed").count(),
        await page.locator(".cell[data-kind=mamba], .cell[data-kind=hybrid]").count(),
      );
    }),
  { quick: true },
);

test("every cell of the strip is ready once the model is ready", () =>
  withReadyPage(async (page) => {
    const states = await page
      .locator(".cell")
      .evaluateAll((cells) => cells.map((cell) => /** @type {HTMLElement} */ (cell).dataset.state));
    assert.equal(states.length, 40);
    assert.deepEqual([...new Set(states)], ["ready"]);
  }));

test("equal seeds give equal text and different seeds different text", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "20" });
    const texts = [];
    for (const seed of ["5", "5", "6"]) {
      await setOptions(page, { seed });
      await page.click("#run");
      await waitForStatus(page, "Done");
      texts.push(await continuation(page));
      await clearStatus(page);
    }
    assert.equal(texts[0], texts[1]);
    assert.notEqual(texts[0], texts[2]);
  }));

test(
  "Stop ends a run, keeps its text and shows the reason",
  () =>
    withReadyPage(async (page) => {
      await setOptions(page, LONG);
      await page.click("#run");
      await page.waitForFunction(
        () => (document.querySelector("#output > span:last-child")?.textContent ?? "").length > 10,
      );
      await page.click("#run");
      await waitForStatus(page, "Done");
      assert.match((await page.textContent("#status")) ?? "", /stopped/);
      assert.ok((await continuation(page)).length > 10);
      assert.equal(await page.textContent("#run"), "Run");
    }),
  { quick: true },
);

test("Run without a prompt shows an explanation instead of an error", () =>
  withReadyPage(async (page) => {
    await page.fill("#prompt", "");
    await page.click("#run");
    assert.match((await page.textContent("#prompt-message")) ?? "", /Type some text first/);
    assert.equal(await page.locator(".error-card[data-code]").count(), 0);
  }));

test("a field out of range says so beside itself until its value is corrected, and nothing runs", () =>
  withReadyPage(async (page) => {
    await page.fill("#prompt", "My own words");
    await setOptions(page, { temperature: "99" });
    await page.evaluate(() => document.getElementById("sampling")?.removeAttribute("open"));
    await page.click("#run");
    const field = page.locator("#sampling [name=temperature]");
    assert.equal(await field.getAttribute("aria-invalid"), "true");
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("name")), "temperature");
    assert.match((await page.textContent(".field-message")) ?? "", /Temperature is not a number in its range/);
    assert.equal(await page.locator(".error-card[data-code]").count(), 0);
    assert.match((await page.textContent("#status")) ?? "", /^Ready/);
    assert.equal(await page.inputValue("#prompt"), "My own words");
    await field.fill("0.5");
    assert.equal(await field.getAttribute("aria-invalid"), "false");
    assert.equal(await page.locator(".field-message").count(), 0);
  }));

test("a prompt that is too long leads to an error card, and the prompt is kept", () =>
  withReadyPage(async (page) => {
    const prompt = "word ".repeat(6000);
    await page.fill("#prompt", prompt);
    await page.click("#run");
    await page.waitForSelector(".error-card[data-code=prompt_too_long]");
    assert.equal(await page.inputValue("#prompt"), prompt);
  }));

test("weights that cannot be loaded lead to an error card whose button loads the embedded model", () =>
  withReadyPage(async (page) => {
    await page.fill("#prompt", "My own words");
    await loadWith(page, { address: "/tests/fixtures/nowhere/" });
    const card = page.locator(".error-card[data-code=missing_file]");
    await card.waitFor();
    assert.match((await card.textContent()) ?? "", /config\.json/);
    await card.getByRole("button", { name: "Use embedded model" }).click();
    await waitForStatus(page, "Ready");
    assert.equal(await page.locator(".error-card[data-code]").count(), 0);
    assert.equal(await page.inputValue("#prompt"), "My own words");
  }));

test("a URL of another origin is refused before any request", () =>
  withReadyPage(async (page) => {
    await loadWith(page, { address: "https://example.org/zamba2/" });
    assert.match((await page.locator(".error-card[data-code=bad_option]").textContent()) ?? "", /local files/);
  }));

test("files from this device load, and weights can be changed", () =>
  withReadyPage(async (page) => {
    await page.setInputFiles(
      "#files-input",
      ["config.json", "model.safetensors", "tokenizer.json"].map((name) => `www/models/rustdoc-5m/${name}`),
    );
    for (const weights of ["f32", "q4"]) {
      await clearStatus(page);
      await loadWith(page, { weights: weights });
      await waitForStatus(page, "Ready");
      assert.match((await page.textContent("#status-detail")) ?? "", new RegExp(weights));
    }
  }));

test("a run can be done by keyboard alone", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "8" });
    await page.focus("#prompt");
    await page.keyboard.press("Control+a");
    await page.keyboard.type("The borrow checker");
    await page.keyboard.press("Control+Enter");
    await waitForStatus(page, "Done");
    assert.match((await page.textContent("#output")) ?? "", /^The borrow checker./);

    await page.focus(".cell[tabindex='0']");
    for (const [key, cell] of [
      ["End", "37"],
      ["Home", "E"],
      ["ArrowRight", "S"],
      ["ArrowRight", "0"],
    ]) {
      await page.keyboard.press(key);
      assert.equal(await page.evaluate(() => document.activeElement?.textContent), cell);
    }
    await page.keyboard.press("Enter");
    assert.equal(await page.textContent("#block-title"), "Block 0");
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#block-panel").isHidden());
    assert.equal(await page.evaluate(() => document.activeElement?.textContent), "0");
  }));

test("Escape stops a run", () =>
  withReadyPage(async (page) => {
    await setOptions(page, LONG);
    await page.focus("#prompt");
    await page.keyboard.press("Control+Enter");
    await page.waitForFunction(
      () => (document.querySelector("#output > span:last-child")?.textContent ?? "").length > 0,
    );
    await page.keyboard.press("Escape");
    await waitForStatus(page, "Done");
    assert.match((await page.textContent("#status")) ?? "", /stopped/);
  }));

test("the status, the run button and the document's language are Russian after a switch", () =>
  withReadyPage(async (page) => {
    await switchLanguage(page);
    assert.equal(await page.getAttribute("html", "lang"), "ru");
    assert.equal(await page.textContent("#status"), "Готово");
    assert.equal(await page.textContent("#run"), "Запуск");
  }));

test("on the first visit the page is in the browser's language", () =>
  withPage(
    async (page) => {
      await page.goto(`${SITE}/`);
      await waitForStatus(page, "Готово");
      assert.equal(await page.getAttribute("html", "lang"), "ru");
      assert.equal(await page.textContent("#language"), "English");
    },
    { locale: "ru-RU" },
  ));

test("an open error card and the status follow the language", () =>
  withReadyPage(async (page) => {
    await page.fill("#prompt", "word ".repeat(6000));
    await page.click("#run");
    const card = page.locator("#errors .error-card");
    assert.match(await card.innerText(), /^The run failed\s+The prompt has 6\d{3} tokens/);
    await switchLanguage(page);
    assert.match(await card.innerText(), /^Не удалось выполнить запуск\s+Токенов в промпте: 6\d{3}/);
    assert.equal(await page.textContent("#status"), "Остановлено из-за ошибки");
  }));

test("the message beside a field out of range follows the language", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { temperature: "99" });
    await page.click("#run");
    assert.equal(await page.textContent(".field-message"), "Temperature is not a number in its range (0 to 5)");
    await switchLanguage(page);
    assert.equal(await page.textContent(".field-message"), "Температура: нужно число от 0 до 5");
  }));

test("an error of the engine is Russian on the Russian page, reason and next step included", () =>
  withPage(
    async (page) => {
      await page.route("**/rustdoc-5m/config.json", (route) => route.fulfill({ body: '{"model_type": "zamba2"}' }));
      await page.goto(`${SITE}/`);
      const card = page.locator("#errors .error-card");
      await card.waitFor();
      assert.equal(await card.getAttribute("data-code"), "bad_config");
      const text = await card.innerText();
      assert.match(text, /^Не удалось загрузить модель\s+config\.json: нет поля `hidden_size`\./);
      assert.match(text, /Возьмите config\.json из репозитория этого чекпойнта\./);
    },
    { locale: "ru-RU" },
  ));

test("the views and the answer's display modes are labelled", () =>
  withReadyPage(async (page) => {
    assert.equal(await page.getAttribute(".tabs", "aria-label"), "Views");
    assert.equal(await page.textContent("#view legend"), "How the answer is shown");
    assert.equal(await page.textContent("#export-markdown"), "Export Markdown");
  }));

for (const width of [320, 390, 1280]) {
  test(`nothing overflows horizontally at ${width} px, in either language`, () =>
    withReadyPage(async (page) => {
      await setOptions(page, { max_tokens: "8" });
      await page.click("#run");
      await waitForStatus(page, "Done");
      await openDetails(page);
      await setWidth(page, width);
      assert.equal(await horizontalOverflow(page), 0);
      await switchLanguage(page);
      assert.equal(await horizontalOverflow(page), 0);
    }));
}

test("on a phone every hybrid block is in the sixth column", () =>
  withReadyPage(async (page) => {
    await setWidth(page, 390);
    const left = await page
      .locator(".cell[data-kind=hybrid]")
      .evaluateAll((cells) => cells.map((cell) => cell.getBoundingClientRect().left));
    assert.equal(new Set(left).size, 1);
  }));

/** What a load or a run changes on the page. */
const LIVE = [".top", ".status-line", ".strip-section", ".prompt-card", "#this-run", "#history"];

const walked = atEveryWidth([390, 1280], (check) =>
  withPage(async (page) => {
    const release = await openLoadingPage(page);
    await check(page, "loading");
    release();
    await waitForStatus(page, "Ready");
    await check(page, "ready", [...LIVE, "#model"]);

    await setOptions(page, LONG);
    await page.click("#run");
    await waitForStatus(page, "Generating");
    await check(page, "generating", LIVE);
    assert.match((await page.textContent("#status")) ?? "", /^Generating/, "the run lasts as long as the check");
    await page.keyboard.press("Escape");
    await waitForStatus(page, "Done");
    await page.locator(".cell").nth(7).click();
    await check(page, "done, with a block open", [...LIVE, "#block-panel", "[aria-labelledby=heat-title]"]);

    await page.evaluate(() => document.getElementById("model")?.setAttribute("open", ""));
    await loadWith(page, { address: "/tests/fixtures/nowhere/" });
    await page.waitForSelector(".error-card[data-code=missing_file]");
    await check(page, "failed", [...LIVE, "#errors", "#model"]);
  }),
);
for (const width of [390, 1280]) {
  for (const scheme of /** @type {const} */ (["light", "dark"])) {
    test(`axe finds no violation while loading, ready, generating or failed at ${width} px, ${scheme}`, () =>
      walked(width, scheme));
  }
}
