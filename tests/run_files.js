// @ts-check
// Runs files of `node:test` and prints a line per test; the last line has the totals. tests/browser/run.js is for the
// browser tests, which share one Chromium.

import { run } from "node:test";

/**
 * Runs files in parallel, the tests of a file in order, and sets the exit status.
 * @param {string[]} files
 */
export async function runFiles(files) {
  let passed = 0;
  let failed = 0;
  for await (const { type, data } of run({ files, concurrency: 2 })) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    // A file is an event of its own, which only repeats the failures of its tests.
    if (data.name.endsWith(".test.js") && type === "test:pass") continue;
    const seconds = (data.details.duration_ms / 1000).toFixed(1);
    if (data.skip) console.log(`SKIPPED: ${data.name}: ${data.skip}`);
    else if (type === "test:pass") passed += 1;
    else failed += 1;
    console.log(`${type === "test:pass" ? "ok    " : "FAILED"} ${seconds.padStart(6)} s  ${data.name}`);
    if (type === "test:fail") {
      const { cause, message } = /** @type {any} */ (data.details).error;
      const output = cause?.stdout ? `\n${cause.stdout}` : "";
      console.log(`${cause?.stack ?? cause ?? message}${output}`.replace(/^/gm, "    "));
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  if (failed > 0 || passed === 0) process.exitCode = 1;
}
