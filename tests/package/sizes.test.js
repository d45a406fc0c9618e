// @ts-check
// What a visitor downloads: bytes with Brotli, and requests. A bound that is exceeded is a decision to make, not a
// number to raise.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { brotliCompressSync, constants } from "node:zlib";

import { PLACE, ROOT } from "./consumers.js";
import { browser, served } from "./harness.js";
import { ISOLATION } from "./servers.js";

const SITE = join(ROOT, "target/site");

/** The package's scripts for one build: the module, its worker, the bindings. */
const MOST_PACKAGE_JS_BYTES = 60_000;
/** What an adapter adds to them. */
const MOST_ADAPTER_JS_BYTES = 6_000;
/** The site's scripts for one build: the page with its four views, the worker, the bindings. */
const MOST_SITE_JS_BYTES = 100_000;
/**
 * Of one build as the tests make it, with the compiler's quick profile; that of `cargo xtask dist` has the same size
 * within 2 %.
 */
const MOST_WASM_BYTES = 1_380_000;
/** Likewise, of the module of grammars. */
const MOST_GRAMMAR_BYTES = 540_000;
/** The page, style sheet, script, words, icon, manifest, the worker, bindings and module. */
const MOST_REQUESTS_WITHOUT_MODEL = 9;

/** @param {string} path @param {number} [quality] */
function brotliBytes(path, quality = constants.BROTLI_MAX_QUALITY) {
  const bytes = readFileSync(path);
  const params = { [constants.BROTLI_PARAM_QUALITY]: quality, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  return brotliCompressSync(bytes, { params }).length;
}

/** @param {string[]} paths @param {number} most */
function assertSmall(paths, most) {
  const sizes = paths.map((path) => [path, brotliBytes(path)]);
  const total = sizes.reduce((sum, [, bytes]) => sum + Number(bytes), 0);
  assert.ok(total <= most, `${total} bytes instead of at most ${most}: ${JSON.stringify(sizes)}`);
}

test("the package's scripts are small", () =>
  assertSmall(
    ["zamba2.js", "zamba2_worker.js", "relaxed-simd/zamba2_wasm.js"].map((name) => join(PLACE, name)),
    MOST_PACKAGE_JS_BYTES,
  ));

test("each adapter is small, and the package's entry has nothing of them", () => {
  const names = readdirSync(join(PLACE, "adapters")).filter((name) => name.endsWith(".js"));
  const shared = names.filter((name) => name.startsWith("shared-"));
  assert.deepEqual(
    names.filter((name) => !shared.includes(name)),
    ["ai_sdk.js", "openai.js", "prompt_api.js"],
  );
  for (const name of ["ai_sdk.js", "openai.js", "prompt_api.js"]) {
    const paths = [name, ...shared].map((name) => join(PLACE, "adapters", name));
    assertSmall(paths, MOST_ADAPTER_JS_BYTES);
  }
  assert.ok(!readFileSync(join(PLACE, "zamba2.js"), "utf8").includes("chat/completions"));
});

test("the site's scripts are small", () => {
  const names = readdirSync(join(SITE, "assets")).filter((name) =>
    /^(main|zamba2_worker|relaxed-simd)-.*\.js$/.test(name),
  );
  assert.equal(names.length, 3, names.join(", "));
  assertSmall(
    names.map((name) => join(SITE, "assets", name)),
    MOST_SITE_JS_BYTES,
  );
});

for (const [folder, most] of /** @type {[string, number][]} */ ([
  ["relaxed-simd", MOST_WASM_BYTES],
  ["simd128", MOST_WASM_BYTES],
  ["grammar", MOST_GRAMMAR_BYTES],
])) {
  test(`the module in ${folder} is small`, () => {
    // At its highest quality Brotli takes ten seconds for a twentieth of the size.
    const bytes = brotliBytes(join(PLACE, folder, "zamba2_wasm_bg.wasm"), 9);
    assert.ok(bytes <= most, `${bytes} bytes instead of at most ${most}`);
  });
}

test("a first visit with a comparison makes few requests, none of them twice, of one build of the engine", async () => {
  const { url, requests } = await served({ "/": SITE }, ISOLATION);
  const context = await browser.newContext({ serviceWorkers: "block" });
  const page = await context.newPage();
  await page.goto(`${url}/?threads=2`);
  await page.waitForFunction(() => document.getElementById("status")?.textContent?.startsWith("Ready"));
  // Reports are computed by the same build.
  await page.click("#tab-compare");
  await page.waitForSelector("#compare-reference tbody tr");
  await context.close();
  const others = requests.map(({ path }) => path).filter((path) => !path.startsWith("/models/"));
  assert.ok(others.length <= MOST_REQUESTS_WITHOUT_MODEL, others.join("\n"));
  assert.equal(others.filter((path) => path.endsWith(".wasm")).length, 1, others.join("\n"));
  assert.deepEqual(others, [...new Set(others)]);
});
