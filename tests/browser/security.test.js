// @ts-check
// What SECURITY.md promises of the page: text is never HTML, no code but its own runs, and no request goes to a host
// that nobody has chosen.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import {
  loadWith,
  openPage,
  openReadyPage,
  PLAIN_SITE,
  repositoryFile,
  setOptions,
  SITE,
  test,
  waitForStatus,
} from "./harness.js";
import { withReadyPage } from "./ready_page.js";

/** @import { Page } from "playwright-core" */

/** Loads nothing if it stays text; as HTML it would run code. */
const MARKUP = `<img src="/nowhere.png" onerror="globalThis.has_run = true"><script>globalThis.has_run = true</script>`;

/** Ways to make elements or code from text. */
const SINKS =
  /\b(?:innerHTML|outerHTML|insertAdjacentHTML|setHTMLUnsafe|createContextualFragment|srcdoc|DOMParser|Function\()/;
const EVALUATION = /document\.write|\beval\(|set(?:Timeout|Interval)\(\s*["'`]/;

/** Nothing of MARKUP has become an element or has run. @param {Page} page */
const assertInert = async (page) =>
  assert.deepEqual(
    await page.evaluate(() => ({
      elements: document.querySelectorAll("main img, main script[src*=nowhere], main [onerror]").length,
      has_run: "has_run" in globalThis,
    })),
    { elements: 0, has_run: false },
  );

test("every test that SECURITY.md names exists", () => {
  const text = repositoryFile("SECURITY.md").toString();
  const parts = text.split(/`(tests\/[\w./]+\.(?:rs|js))`: ?/).slice(1);
  const named = Array.from({ length: parts.length / 2 }, (_, i) => [parts[2 * i], parts[2 * i + 1]]);
  assert.ok(named.length > 25);
  for (const [file, after] of named) {
    const tests = repositoryFile(file).toString();
    // The names end with the cell of the table, or before the next file; a comma may be part of a sentence.
    let names = after
      .split(/ \||; $|\. |\n\n/)[0]
      .replaceAll("\n", " ")
      .trim();
    while (names !== "") {
      const ends = [...names.matchAll(/, |$/g)].map(({ index }) => index);
      const end = ends.find((at) =>
        tests.includes(file.endsWith(".rs") ? `fn ${names.slice(0, at)}(` : `"${names.slice(0, at)}"`),
      );
      assert.ok(end !== undefined, `${file} has no test "${names}"`);
      names = names.slice(end + 2);
    }
  }
});

test("no script of the page or the engine makes HTML or code from text", () => {
  const files = readdirSync("www", { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".js"));
  assert.ok(files.length > 80);
  for (const file of [...files.map((name) => `www/${name}`), "isolation.js"]) {
    const text = repositoryFile(file).toString();
    assert.doesNotMatch(text, SINKS, file);
    assert.doesNotMatch(text, EVALUATION, file);
  }
});

test("markup in a prompt and in generated text stays text", () =>
  withReadyPage(async (page) => {
    await setOptions(page, { max_tokens: "4" });
    await page.fill("#prompt", MARKUP);
    await page.click("#run");
    await waitForStatus(page, "Done");
    assert.ok((await page.textContent("#output"))?.startsWith(MARKUP));
    // The model cannot be made to write it, so its text is given to what shows it.
    await page.evaluate(async (text) => {
      const { beginOutput, TextPainter } = await import(/** @type {any} */ ("/www/playground/text_painter.js"));
      const output = document.getElementById("output");
      const hooks = { onPaint: () => {}, onLive: () => {} };
      const painter = new TextPainter(beginOutput(output, text), hooks);
      painter.add(text);
      painter.finish();
    }, MARKUP);
    assert.equal(await page.textContent("#output"), MARKUP + MARKUP);
    await assertInert(page);
  }));

test("markup in the names of a run file stays text", () =>
  withReadyPage(async (page) => {
    const run = JSON.parse(repositoryFile("docs/example/run.json").toString());
    run.label = MARKUP;
    run.model.name = MARKUP;
    run.conditions.host = MARKUP;
    run.conditions.backend = MARKUP;
    run.timer.source = MARKUP;
    for (const { spans } of run.runs) spans.names = spans.names.map((/** @type {string} */ name) => name + MARKUP);
    await page.click("#tab-compare");
    await page.evaluate((text) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([text], "<b>run</b>.json", { type: "application/json" }));
      const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
      document.getElementById("view-compare")?.dispatchEvent(event);
    }, JSON.stringify(run));
    await page.waitForFunction(
      (text) =>
        [...document.querySelectorAll("#compare-a option")].some((option) => option.textContent?.includes(text)),
      MARKUP,
    );
    await assertInert(page);
  }));

test("addresses of other schemes and of hosts that look like the Hub are refused before any request", () =>
  withReadyPage(async (page) => {
    for (const address of [
      "javascript:globalThis.has_run = true",
      "data:application/json,{}",
      "file:///etc/",
      "blob:https://example.org/0",
      "//example.org/zamba2/",
      "https://huggingface.co.example.org/a/b",
      "https://huggingface.co@example.org/a/b",
      "https://example.org/huggingface.co/a/b/resolve/main/",
    ]) {
      await loadWith(page, { address });
      const card = page.locator(".error-card[data-code=bad_option]");
      await card.waitFor();
      await card.getByRole("button", { name: "Dismiss" }).click();
      await assertInert(page);
    }
  }));

test("the page's policy lets no inline script, no evaluated text and no request to another host through", async () => {
  const { context, page, faults } = await openPage();
  await openReadyPage(page);
  // The other server is another origin, and would answer.
  /** @type {string[]} */
  const answers = [];
  context.on("response", (response) => {
    if (new URL(response.url()).origin === PLAIN_SITE) answers.push(response.url());
  });
  const { evaluated, inline } = await page.evaluate(async (other) => {
    const scope = /** @type {any} */ (globalThis);
    scope.blocked = new Set();
    addEventListener("securitypolicyviolation", ({ effectiveDirective }) => scope.blocked.add(effectiveDirective));
    const script = document.createElement("script");
    script.textContent = "globalThis.inline = true";
    document.body.append(script);
    const frame = document.createElement("iframe");
    frame.src = other;
    document.body.append(frame);
    const picture = document.createElement("img");
    picture.src = `${other}/www/icon.svg`;
    document.body.append(picture);
    await fetch(`${other}/?a-prompt`).catch(() => null);
    // The debugger's own code is exempt from the policy, a timer's is not.
    const evaluated = await new Promise((resolve) =>
      setTimeout(() => {
        try {
          resolve((0, eval)("'yes'"));
        } catch {
          resolve("no");
        }
      }, 50),
    );
    return { evaluated, inline: "inline" in scope };
  }, PLAIN_SITE);
  const all = ["connect-src", "frame-src", "img-src", "script-src", "script-src-elem"];
  await page.waitForFunction((n) => /** @type {any} */ (globalThis).blocked.size >= n, all.length);
  const blocked = await page.evaluate(() => [.../** @type {any} */ (globalThis).blocked].sort());
  assert.deepEqual(blocked, all);
  assert.deepEqual({ evaluated, inline }, { evaluated: "no", inline: false });
  assert.deepEqual(answers, []);
  // The browser reports each violation in its console.
  assert.deepEqual(
    faults.filter((fault) => !/^console: .*Content Security Policy/.test(fault)),
    [],
  );
  assert.equal(new URL(page.url()).origin, SITE);
  await context.close();
});
