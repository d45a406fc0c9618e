// @ts-check
// Answers as Markdown: what becomes an element, what stays text, and that neither scripts nor images of an answer do
// anything.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import {
  EMBEDDED,
  onePage,
  openReadyPage,
  repositoryFile,
  setOptions,
  test,
  waitForStatus,
  withPage,
} from "./harness.js";
import { withReadyPage } from "./ready_page.js";

/** @import { Page } from "playwright-core" */

const VENDORED = "www/playground/vendor/marked.js";

test("the page's copy of the parser is the module of the npm package, byte for byte", () => {
  const folder = new URL(
    "lib/marked.esm.js",
    `file://${createRequire(import.meta.url).resolve("marked/package.json")}`,
  );
  assert.ok(
    readFileSync(folder).equals(repositoryFile(VENDORED)),
    `copy node_modules/marked/lib/marked.esm.js to ${VENDORED}`,
  );
});

/** The elements of a Markdown text as HTML, for comparison only. @param {Page} page @param {string} text */
const rendered = (page, text) =>
  page.evaluate(async (text) => {
    const { markdown } = await import(/** @type {any} */ ("/www/playground/markdown.js"));
    const place = document.createElement("div");
    place.append(...(await markdown(text)));
    return place.innerHTML;
  }, text);

/** @type {[string, string, string][]} */
const CASES = [
  [
    "emphasis and code",
    "A **b** *c* ~~d~~ `x<y>`",
    "<p>A <strong>b</strong> <em>c</em> <del>d</del> <code>x&lt;y&gt;</code></p>",
  ],
  ["a heading", "# One\n###### Six", "<h4>One</h4><h6>Six</h6>"],
  ["a nested list", "3. a\n   - b\n4. [x] c", '<ol start="3"><li>a<ul><li>b</li></ul></li><li>☑ c</li></ol>'],
  ["a quotation and a rule", "> q\n\n---", "<blockquote><p>q</p></blockquote><hr>"],
  ["line breaks", "a\nb", "<p>a<br>b</p>"],
  [
    "a link",
    "[Rust](https://www.rust-lang.org/)",
    '<p><a href="https://www.rust-lang.org/" target="_blank" rel="noopener noreferrer nofollow">Rust</a></p>',
  ],
  ["an entity", "a &lt; b &amp; &unknown;", "<p>a &lt; b &amp; &amp;unknown;</p>"],
];

for (const [what, text, html] of CASES) {
  test(`${what} in an answer is shown as Markdown`, () =>
    withReadyPage(async (page) => {
      const plain = (await rendered(page, text)).replaceAll(/<\/?span>/g, "");
      assert.equal(plain, html);
    }));
}

test("an image in an answer is a link and is not fetched", () =>
  withReadyPage(async (page) => {
    const html = await rendered(page, "![logo](https://example.org/a.png)");
    assert.match(html, /^<p><a href="https:\/\/example.org\/a.png" target="_blank" rel="[a-z ]+">logo<\/a><\/p>$/);
  }));

test("a code block keeps its text, and a table its cells", () =>
  withReadyPage(async (page) => {
    const html = await rendered(page, "```rust\nfn a<T>() {}\n\n  // b\n```\n\n| a | b |\n|---|---|\n| 1 | `2` |");
    assert.match(html, /<pre tabindex="0"><code>fn a&lt;T&gt;\(\) \{\}\n\n  \/\/ b<\/code><\/pre>/);
    assert.match(html, /<tr><th>a<\/th><th>b<\/th><\/tr>.*<tr><td>1<\/td><td><code>2<\/code><\/td><\/tr>/);
  }));

const HOSTILE = [
  "<script>globalThis.hit = 1</script>",
  '<img src="x" onerror="globalThis.hit = 1">',
  "text <b onclick=globalThis.hit=1>bold</b> <svg onload=globalThis.hit=1>",
  "[a](javascript:globalThis.hit=1) [b](data:text/html,<script>1</script>) [c](JaVaScRiPt:1) [d](//example.org)",
  '![x](javascript:1 "onerror=1") <javascript:alert(1)>',
  "| <img src=x> |\n|---|\n| <iframe src=//example.org> |",
];

test("HTML in an answer stays text, and only links to pages and mail are links", () =>
  withReadyPage(async (page) => {
    for (const text of HOSTILE) {
      const found = await page.evaluate(async (text) => {
        const { markdown } = await import(/** @type {any} */ ("/www/playground/markdown.js"));
        const place = document.createElement("div");
        document.body.append(place);
        place.append(...(await markdown(text)));
        const names = [...place.querySelectorAll("*")].map(({ localName }) => localName);
        const attributes = [...place.querySelectorAll("*")].flatMap((one) => one.getAttributeNames());
        const shown = place.textContent ?? "";
        place.remove();
        return { names, attributes, shown, hit: "hit" in globalThis };
      }, text);
      for (const name of ["script", "img", "b", "svg", "iframe", "a"]) assert.ok(!found.names.includes(name), text);
      assert.ok(!found.attributes.some((name) => name.startsWith("on") || name === "href"), text);
      assert.equal(found.hit, false);
      if (text.startsWith("<")) assert.equal(found.shown.trim(), text);
    }
  }));

const withChat = onePage(async (page) => {
  const template = "{% for m in messages %}{{ m.content }}\n{% endfor %}";
  await page.route(`**${EMBEDDED}tokenizer_config.json`, (route) =>
    route.fulfill({ body: JSON.stringify({ chat_template: template }) }),
  );
  await openReadyPage(page);
});

test("an answer is plain text while it is written, then Markdown, and the switch shows its text again", () =>
  withChat(async (page) => {
    await setOptions(page, { max_tokens: "60", seed: "3" });
    await page.fill("#prompt", "## Error handling\n\n```rust\nfn main() {");
    await page.click("#run");
    await waitForStatus(page, "Done");
    await page.waitForSelector(".turn-text.markdown");
    assert.equal(await page.locator(".turn[data-role=user] .markdown").count(), 0, "what the user writes is text");
    const answer = page.locator(".turn[data-role=assistant] .turn-text");
    await page.uncheck("#markdown");
    const text = (await answer.textContent()) ?? "";
    assert.equal(await answer.locator("*").count(), 0);
    await page.click("#continue");
    await page.waitForFunction((before) => {
      const now = document.querySelector(".turn[data-role=assistant] .turn-text")?.textContent ?? "";
      return now.startsWith(before) && now.length > before.length;
    }, text);
    await waitForStatus(page, "Done");
    await page.check("#markdown");
    await page.waitForSelector(".turn-text.markdown");
  }));

test("an answer is shown as text where the parser cannot be fetched", () =>
  withPage(async (page) => {
    await page.route("**/vendor/marked.js", (route) => route.abort());
    await openReadyPage(page);
    const shown = await page.evaluate(async () => {
      const { ChatTurn } = await import(/** @type {any} */ ("/www/playground/chat_turn.js"));
      const turn = new ChatTurn("assistant", "A **b**", { onEdited() {}, onAgain() {} });
      const drawn = new Promise((resolve) => new MutationObserver(resolve).observe(turn.body, { childList: true }));
      turn.show(1, { is_last: true, is_busy: false, is_written: false, as_markdown: true });
      await drawn;
      return { text: turn.body.textContent, html: turn.body.outerHTML };
    });
    assert.deepEqual(shown, { text: "A **b**", html: '<div class="turn-text">A **b**</div>' });
  }));
