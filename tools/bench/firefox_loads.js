// @ts-check
// Loads a model repeatedly in Firefox, each time in a fresh page, and counts loads that hang. It is not part of the
// page or the tests, which load a model a few times:
//
//   cargo xtask serve &
//   node tools/bench/firefox_loads.js [--site http://127.0.0.1:8080] [--loads 40] [--threads 8]
//     [--model /www/models/rustdoc-5m/]
//
// It prints one line per load and a summary, and fails if a load hangs. The Firefox binary is ZAMBA2_FIREFOX or
// /usr/bin/firefox.

import { parseArgs } from "node:util";
import puppeteer from "puppeteer-core";

const { values } = parseArgs({
  options: {
    site: { type: "string", default: "http://127.0.0.1:8080" },
    loads: { type: "string", default: "40" },
    threads: { type: "string", default: "8" },
    model: { type: "string", default: "/www/models/rustdoc-5m/" },
  },
});
/** A load takes about a second, or several on a busy machine. */
const HANGS_AFTER_MS = 60_000;
/** Timeout for starting the browser. */
const START_MS = 180_000;

/**
 * Runs in the page.
 * @param {{ model: string, threads: "auto" | number, hangs_after_ms: number }} load
 */
async function loadInPage({ model, threads, hangs_after_ms }) {
  const { load } = await import(/** @type {any} */ ("/pkg/zamba2.js"));
  const from_ms = performance.now();
  let first_progress_ms = 0;
  const onProgress = () => {
    first_progress_ms ||= performance.now() - from_ms;
  };
  const given_up = new Promise((resolve) => setTimeout(resolve, hangs_after_ms, null));
  const loaded = await Promise.race([load({ source: model, threads, keep: false, onProgress }), given_up]);
  return { first_progress_ms, load_ms: loaded && performance.now() - from_ms, info: loaded?.info };
}

const threads = values.threads === "auto" ? /** @type {const} */ ("auto") : Number(values.threads);
const n_loads = Number(values.loads);
const browser = await puppeteer.launch({
  browser: "firefox",
  headless: true,
  executablePath: process.env.ZAMBA2_FIREFOX ?? "/usr/bin/firefox",
  timeout: START_MS,
});
console.log(`${await browser.version()}, ${n_loads} loads of ${values.model} with ${threads} threads`);
let n_hung = 0;
for (let i = 1; i <= n_loads; i++) {
  const page = await browser.newPage();
  // The module's source, displayed as text: an isolated document without scripts of its own.
  await page.goto(`${values.site}/pkg/zamba2.js`);
  const { first_progress_ms, load_ms, info } = await page.evaluate(loadInPage, {
    model: values.model,
    threads,
    hangs_after_ms: HANGS_AFTER_MS,
  });
  if (load_ms === null) n_hung += 1;
  const progress = first_progress_ms ? `first progress after ${first_progress_ms.toFixed(0)} ms` : "no progress";
  const end =
    load_ms === null
      ? "HANGS"
      : `loaded after ${load_ms.toFixed(0)} ms on ${info.threads} threads (${info.threads_reason})`;
  console.log(`${i}: ${progress}, ${end}`);
  await page.close();
}
await browser.close();
console.log(`${n_hung} of ${n_loads} loads hang`);
process.exitCode = n_hung > 0 ? 1 : 0;
