// @ts-check
// Runs the tests of this folder: `node tests/package/run.js [FILE ...]`. Files run in parallel, the tests of a file in
// order. The last line has the totals.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { run } from "node:test";
import { fileURLToPath } from "node:url";
import { install } from "./consumers.js";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const named = process.argv.slice(2);
const files = readdirSync(HERE).filter(
  (name) => name.endsWith(".test.js") && (named.length === 0 || named.some((part) => name.startsWith(part))),
);

install();
let passed = 0;
let failed = 0;
const events = run({ files: files.map((name) => join(HERE, name)), concurrency: 2 });
for await (const { type, data } of events) {
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
