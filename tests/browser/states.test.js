// @ts-check
// What the page says while a run or a load is under way: how far it is, that it is being stopped, why it waits, and why
// a button is disabled.

import assert from "node:assert/strict";
import { LoadSpeed } from "../../www/loading/load_speed.js";
import {
  continuation,
  EMBEDDED,
  loadWith,
  openLoadingPage,
  openReadyPage,
  setOptions,
  SITE,
  test,
  waitForStatus,
  withPage,
  withSharedModule,
} from "./harness.js";
import { untilDone } from "./page_runs.js";
import { withReadyPage } from "./ready_page.js";

/** @import { Page } from "playwright-core" */

/** Notes every state of the status line from now on. @param {Page} page */
const watchStatus = (page) =>
  page.evaluate(() => {
    const line = /** @type {HTMLElement} */ (document.getElementById("status-line"));
    /** @type {string[]} */
    const seen = [];
    Object.assign(globalThis, { seen });
    const note = () => seen.push(line.querySelector("p")?.textContent ?? "");
    new MutationObserver(note).observe(line, { childList: true, subtree: true, characterData: true });
  });

/** @param {Page} page @returns {Promise<string[]>} */
const seen = (page) => page.evaluate(() => /** @type {any} */ (globalThis).seen);

const LONG_PROMPT = "Ownership is a set of rules that govern how a Rust program manages memory. ".repeat(70);

test("Stop at once ends a run that waits for blocks, its figures are dashes, and another run can follow", () =>
  withPage(async (page) => {
    const release = await openLoadingPage(page);
    await setOptions(page, { max_tokens: "10", seed: "4" });
    await page.click("#run");
    await waitForStatus(page, "Prefill while blocks arrive");
    await page.click("#run");
    await page.waitForFunction(() => document.getElementById("run")?.textContent === "Run");
    assert.ok((await page.locator(".cell[data-state=absent]").count()) > 0, "the load has not ended");
    const figures = await page.locator("#metrics dd").allTextContents();
    assert.deepEqual(figures.slice(0, 3), ["–", "–", "–"]);
    assert.doesNotMatch((await page.textContent("#metrics")) ?? "", /\(0 tokens\)/);

    await page.fill("#prompt", "A trait object");
    await page.click("#run");
    release();
    await waitForStatus(page, "Done: 10 tokens");
    const early = await continuation(page);
    await untilDone(page, () => page.click("#run"));
    assert.equal(await continuation(page), early);
  }));

test("a prefill says how many of the blocks it has passed, and Stop says that it is stopping", () =>
  withReadyPage(async (page) => {
    await page.fill("#prompt", LONG_PROMPT);
    await watchStatus(page);
    await page.click("#run");
    await page.waitForFunction(() => /of 38 blocks/.test(document.getElementById("status-detail")?.textContent ?? ""));
    await untilDone(page, () => page.keyboard.press("Escape"));
    const lines = await seen(page);
    assert.ok(lines.some((line) => /^Prefill [\d,]+ tokens · \d+ of 38 blocks$/.test(line)));
    assert.ok(lines.some((line) => line.startsWith("Stopping …")));
    assert.match(lines.at(-1) ?? "", /^Done: 0 tokens, stopped/);
  }));

test("branching reports the tokens that it replays, in the module and in the status line", async () => {
  await withSharedModule(async (page) => {
    const replays = await page.evaluate(async (source) => {
      const model = await /** @type {any} */ (globalThis).zamba2.load({ source, keep: false });
      const options = { max_tokens: 40, temperature: 0, ignore_eos: true };
      const tokens = [];
      for await (const { token } of model.generate("Ownership is", options)) tokens.push(token);
      /** @type {{ replayed: number, tokens: number }[]} */
      const replays = [];
      const onReplay = (/** @type {any} */ progress) => replays.push(progress);
      for await (const _ of model.branch(30, tokens[30], { ...options, onReplay }));
      model.dispose();
      return replays;
    }, EMBEDDED);
    // Without state checkpoints all tokens between the prompt and the chosen one.
    assert.ok(replays.length > 1);
    assert.deepEqual(replays[0], { replayed: 0, tokens: replays[0].tokens });
    assert.ok(replays[0].tokens >= 29 && replays[0].tokens <= 30, `${replays[0].tokens} tokens`);
    for (const [i, { replayed }] of replays.entries()) assert.ok(i === 0 || replayed > replays[i - 1].replayed);
  });
  await withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "40", temperature: "0" });
    await untilDone(page, () => page.click("#run"));
    await page.check("#view [value=tokens]");
    await watchStatus(page);
    await page.locator(".token").nth(31).click();
    await untilDone(page, () => page.locator(".alternatives button").nth(1).click());
    const lines = await seen(page);
    assert.ok(
      lines.some((line) => /^Going back \d+ of \d+ tokens$/.test(line)),
      lines.join("\n"),
    );
    assert.ok(!lines.some((line) => line.includes("blocks")), "there is no prompt to read");
  });
});

test("Continue is disabled in a full context, with the reason, and a branch makes room", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    await loadWith(page, { context: "1024" });
    await waitForStatus(page, "Ready");
    await page.fill("#prompt", LONG_PROMPT.slice(0, 3400));
    await setOptions(page, { max_tokens: "4000", temperature: "0" });
    await page.evaluate(() => document.getElementById("sampling")?.removeAttribute("open"));
    await untilDone(page, () => page.click("#run"));
    assert.match((await page.textContent("#status")) ?? "", /context full/);
    assert.ok(await page.isDisabled("#continue"));
    assert.match((await page.textContent("#prompt-status")) ?? "", /The context of 1,024 tokens is full/);
    await page.check("#view [value=tokens]");
    await setOptions(page, { max_tokens: "5" });
    await page.locator(".token").nth(2).click();
    await untilDone(page, () => page.locator(".alternatives button").nth(1).click());
    assert.ok(await page.isEnabled("#continue"));
    assert.equal(await page.textContent("#prompt-status"), "");
  }));

test("a checkpoint without a tokenizer says so while it loads, and only Run is disabled", () =>
  withPage(async (page) => {
    await openReadyPage(page);
    await loadWith(page, { address: "/tests/fixtures/gqa/" });
    await page.waitForFunction(() => document.getElementById("prompt-status")?.textContent?.includes("tokenizer.json"));
    await waitForStatus(page, "Ready");
    assert.ok(await page.isDisabled("#run"));
    await page.focus("#prompt");
    await page.keyboard.press("End");
    await page.keyboard.type(" x");
    await page.keyboard.press("Control+Enter");
    assert.match((await page.textContent("#prompt-status")) ?? "", /no tokenizer\.json.*Profile/);
    assert.equal(await page.locator(".error-card[data-code]").count(), 0);
    await loadWith(page, { source: "embedded" });
    await page.waitForSelector("#run:not([disabled])");
    await waitForStatus(page, "Ready");
    assert.equal(await page.textContent("#prompt-status"), "");
  }));

test("failed requests before the weights are shown as waits", () =>
  withPage(async (page) => {
    let n_failed = 0;
    await page.route(`**${EMBEDDED}config.json`, (route) => {
      n_failed += 1;
      return n_failed <= 2 ? route.fulfill({ status: 503 }) : route.continue();
    });
    await page.goto(`${SITE}/`);
    await page.waitForFunction(() =>
      /server answered 503: retrying/.test(document.getElementById("status-detail")?.textContent ?? ""),
    );
    assert.equal(await page.textContent("#status"), "Reading config.json");
    await waitForStatus(page, "Ready");
  }));

test("a paused load shows neither speed nor time left", () =>
  withPage(async (page) => {
    const release = await openLoadingPage(page);
    await page.click("#pause-load");
    await page.waitForFunction(() => document.getElementById("status-detail")?.textContent?.endsWith(" · paused"));
    assert.doesNotMatch((await page.textContent("#status-detail")) ?? "", /\/s|left/);
    await page.click("#pause-load");
    release();
    await waitForStatus(page, "Ready");
  }));

/** @param {Partial<Parameters<LoadSpeed["at"]>[0]>} progress */
const progress = (progress) => ({
  loaded_bytes: 0,
  origin: /** @type {const} */ ("source"),
  paused: false,
  waiting: null,
  ...progress,
});

test("the speed of a load is that of its last five seconds, and a pause or another origin starts it again", () => {
  const speed = new LoadSpeed();
  // 100 bytes per second for ten seconds, then 1000.
  let bytes = 0;
  for (let ms = 0; ms < 10_000; ms += 250) speed.at(progress({ loaded_bytes: (bytes += 25) }), ms);
  for (let ms = 10_000; ms < 16_000; ms += 250) speed.at(progress({ loaded_bytes: (bytes += 250) }), ms);
  assert.equal(speed.at(progress({ loaded_bytes: (bytes += 250) }), 16_000), 1000);
  assert.equal(speed.at(progress({ loaded_bytes: bytes, paused: true }), 20_000), null);
  assert.equal(speed.at(progress({ loaded_bytes: bytes }), 60_000), null);
  assert.equal(speed.at(progress({ loaded_bytes: bytes + 500 }), 60_500), 1000);
  assert.equal(speed.at(progress({ loaded_bytes: bytes + 1_000_000, origin: "device" }), 60_750), null);
  assert.equal(speed.at(progress({ loaded_bytes: bytes + 2_000_000, origin: "device" }), 61_750), 1_000_000);
});
