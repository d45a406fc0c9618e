// @ts-check
// A conversation on the page is not lost: it survives a reload, each tab has its own, and "New conversation" can be
// undone.

import assert from "node:assert/strict";
import { assertAccessible } from "./accessibility.js";
import { EMBEDDED, horizontalOverflow, onePage, openReadyPage, setOptions, setWidth, test } from "./harness.js";
import { switchLanguage, waitForStatus } from "./harness.js";
import { say, send, untilDone } from "./page_runs.js";

/** @import { Page } from "playwright-core" */

const CONFIG = JSON.stringify({
  chat_template: "{% for m in messages %}## {{ m.role }}\n{{ m.content }}\n{% endfor %}## assistant\n",
});

/** @param {Page} page */
async function prepare(page) {
  await page.context().route(`**${EMBEDDED}tokenizer_config.json`, (route) => route.fulfill({ body: CONFIG }));
  await openReadyPage(page);
  // Greedy, so that the same messages have the same answer.
  await setOptions(page, { max_tokens: "8", temperature: "0" });
  await page.uncheck("#markdown");
}

const withChat = onePage(prepare, async (page) => {
  await page.click("#new-conversation");
  await setOptions(page, { max_tokens: "8" });
  await page.fill("#prompt", "");
});

/** Sends a message with a long answer, and waits for its beginning. @param {Page} page @param {string} text */
async function beginLong(page, text) {
  await setOptions(page, { max_tokens: "1500" });
  await send(page, text);
  await page.waitForFunction(() => document.querySelector(".turn:last-child")?.lastChild?.textContent?.trim());
}

/** @param {Page} page */
async function reload(page) {
  await page.reload();
  await waitForStatus(page, "Ready");
}

/** Who said what. @param {Page} page */
const turns = (page) =>
  page
    .locator(".turn")
    .evaluateAll((all) => all.map((turn) => [turn.firstChild?.textContent ?? "", turn.lastChild?.textContent ?? ""]));

/** The notes beside the answers. @param {Page} page */
const notes = (page) => page.locator(".turn[data-role=assistant] > .note").allTextContents();

/** @param {Page} page */
const focusedId = (page) => page.evaluate(() => document.activeElement?.id);

test("a conversation is shown again after a reload, and its next turn is answered as without the reload", () =>
  withChat(async (page) => {
    for (const text of ["What is ownership?", "And a trait?"]) await say(page, text);
    const said = await turns(page);
    const [, in_one_go] = await notes(page);
    await page.click("#new-conversation");

    await say(page, "What is ownership?");
    await reload(page);
    assert.deepEqual(await turns(page), said.slice(0, 2));
    assert.ok(await page.isEnabled("#copy"));
    assert.ok(await page.isDisabled("#continue"), "the model has read nothing yet");
    await say(page, "And a trait?");
    assert.deepEqual(await turns(page), said);
    // The same prompt, of which a new engine has read nothing.
    const [, after_reload] = await notes(page);
    const tokens = (/** @type {string} */ note) => note.match(/\d+/g)?.map(Number) ?? [];
    assert.equal(tokens(after_reload)[0], tokens(in_one_go)[0]);
    assert.ok(tokens(in_one_go)[1] > 0);
    assert.equal(tokens(after_reload)[1], 0);
  }));

test("an answer that a reload interrupts is shown as unfinished, and so is one that was stopped", () =>
  withChat(async (page) => {
    await say(page, "What is a slice?");
    await beginLong(page, "What is ownership?");
    await reload(page);
    const said = await turns(page);
    assert.deepEqual(
      said.map(([who]) => who),
      ["You", "Model", "You", "Model"],
    );
    assert.equal(said[2][1], "What is ownership?");
    assert.notEqual(said[3][1], "");
    assert.equal(await page.inputValue("#prompt"), "", "the message is a turn, and not a draft as well");
    assert.deepEqual(
      (await notes(page)).map((note) => note.startsWith("unfinished")),
      [false, true],
    );
    await assertAccessible(page, "an unfinished answer");

    await setOptions(page, { max_tokens: "8" });
    await page.locator(".turn").last().getByRole("button", { name: "Regenerate" }).click();
    await waitForStatus(page, "Done");
    assert.equal((await turns(page)).length, 4);
    assert.doesNotMatch((await notes(page))[1], /unfinished/);

    await page.click("#new-conversation");
    await say(page, "What is a slice?");
    await beginLong(page, "What is ownership?");
    assert.ok(await page.isDisabled("#new-conversation"), "the answer has a place until it ends");
    await page.keyboard.press("Escape");
    await waitForStatus(page, "Done");
    assert.match((await notes(page))[1], /^unfinished/);
    await setOptions(page, { max_tokens: "4" });
    await untilDone(page, () => page.click("#continue"));
    assert.doesNotMatch((await notes(page))[1], /unfinished/);
  }));

test("a new conversation can be undone by keyboard, and Continue continues the old one", () =>
  withChat(async (page) => {
    await say(page, "What is ownership?");
    const said = await turns(page);
    await page.focus("#new-conversation");
    await page.keyboard.press("Enter");
    assert.deepEqual(await turns(page), []);
    assert.match((await page.textContent("#conversation-cleared")) ?? "", /The conversation is removed\./);
    assert.ok(await page.isDisabled("#continue"));
    // Under the strip, which stays at the top, half a button would be too small a target.
    await page.evaluate(() => scrollTo(0, 0));
    await assertAccessible(page, "a conversation that was removed");
    await setWidth(page, 390);
    for (const words of ["Диалог удалён. Отменить", "The conversation is removed. Undo"]) {
      await switchLanguage(page);
      assert.equal(await page.textContent("#conversation-cleared"), words);
      assert.equal(await horizontalOverflow(page), 0);
    }
    await page.focus("#new-conversation");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    assert.deepEqual(await turns(page), said);
    assert.equal(await focusedId(page), "new-conversation");
    assert.equal(await page.textContent("#conversation-cleared"), "");
    await untilDone(page, () => page.click("#continue"));
    const [, [, continued]] = await turns(page);
    assert.ok(continued.startsWith(said[1][1]) && continued.length > said[1][1].length);
  }));

test("a removed conversation is not there after a reload, and a run ends the time to undo", () =>
  withChat(async (page) => {
    await say(page, "What is ownership?");
    await page.click("#new-conversation");
    await say(page, "And a trait?");
    assert.equal(await page.textContent("#conversation-cleared"), "");
    await page.click("#new-conversation");
    await reload(page);
    assert.deepEqual(await turns(page), []);
  }));

test("two tabs keep conversations of their own", () =>
  withChat(async (page) => {
    const other = await page.context().newPage();
    await openReadyPage(other);
    await setOptions(other, { max_tokens: "8", temperature: "0" });
    const tabs = /** @type {const} */ ([
      [page, "The first tab"],
      [other, "The second tab"],
    ]);
    for (const [tab, text] of tabs) await say(tab, text);
    for (const [tab, text] of tabs) {
      await reload(tab);
      assert.equal((await turns(tab))[0][1], text);
      assert.equal((await turns(tab)).length, 2);
    }
    await other.close();
  }));
