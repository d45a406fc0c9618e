// @ts-check
// Runs the browser tests: `node tests/browser/run.js [--list] [--quick] [FILE or part of a test's name ...]`.
//
// Starts one Chromium for all files and runs the files in parallel, each in its own process. `cargo xtask test` sets
// the servers (ZAMBA2_URL, ZAMBA2_PLAIN_URL), the browser (ZAMBA2_CHROMIUM) and optionally a path for a JSON summary
// (ZAMBA2_SUMMARY). Files that have passed are noted in ZAMBA2_PASSED, and do not run again while they and whatever
// else their results depend on, which ZAMBA2_INPUTS identifies, are the same.

import { fork } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { BROWSERS, chromiumPath, SHARED } from "./browsers.js";

/** @import { Result } from "./reporter.js" */

const FOLDER = fileURLToPath(new URL(".", import.meta.url));

/** Files that run at once. Most tests keep one core busy, and none measures time. */
const LANES = 2;

/** The longest files come first, so that none of them is the last to finish. */
const FIRST = ["webgpu", "webgpu_numbers", "profile", "playground"];

const N_SLOWEST = 10;

const { values: flags, positionals } = parseArgs({
  options: { list: { type: "boolean", default: false }, quick: { type: "boolean", default: false } },
  allowPositionals: true,
});

/** These look at the sources of other tests, too. */
const READ_TESTS = ["floors", "security"];

/** @typedef {{ stem: string, results: Result[], seconds: number, fault: string | null }} FileRun */

const stemOf = (/** @type {string} */ path) => basename(path).replace(/(\.test)?\.js$/, "");
const stems = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".test.js"))
  .map(stemOf);
const rank = (/** @type {string} */ stem) => FIRST.indexOf(stem) + 1 || FIRST.length + 1;
stems.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));

const named = positionals.map(stemOf).filter((stem) => stems.includes(stem));
const names = positionals.filter((part) => !stems.includes(stemOf(part)));
const source = (/** @type {string} */ stem) => readFileSync(join(FOLDER, `${stem}.test.js`), "utf8");
const chosen = stems
  .filter((stem) => named.length === 0 || named.includes(stem))
  // Avoids starting processes in which no test would run.
  .filter((stem) => !flags.quick || source(stem).includes("quick: true"));

const { ZAMBA2_PASSED: record } = process.env;
/** Undefined where parts of files run. */
const inputs = names.length === 0 && !flags.quick ? process.env.ZAMBA2_INPUTS : undefined;
/** What has passed, by file: how many tests, with which key. @type {Record<string, { key: string, tests: number }>} */
const passed_before = record && existsSync(record) ? JSON.parse(readFileSync(record, "utf8")) : {};

/** Changes with everything that the results of a file depend on. @param {string} stem */
function keyOf(stem) {
  const hash = createHash("sha256").update(inputs ?? "");
  for (const one of READ_TESTS.includes(stem) ? stems.toSorted() : [stem]) hash.update(source(one));
  return hash.digest("hex");
}

const is_kept = (/** @type {string} */ stem) => inputs !== undefined && passed_before[stem]?.key === keyOf(stem);

/** @type {NodeJS.ProcessEnv} */
const environment = { ...process.env, ZAMBA2_CHOICE: JSON.stringify({ list: flags.list, quick: flags.quick, names }) };

/** Failures outside of any test. @type {string[]} */
const faults = [];

/** @returns {Promise<() => Promise<void>>} a function that closes it */
async function startBrowser() {
  const server = await chromium.launchServer({ executablePath: chromiumPath(), args: BROWSERS.cpu });
  environment[SHARED] = server.wsEndpoint();
  let is_wanted = true;
  server.on("close", () => {
    if (is_wanted) faults.push("the shared browser exited before the tests");
  });
  return () => {
    is_wanted = false;
    return server.close();
  };
}

/** @param {string} stem @returns {Promise<FileRun>} */
function runFile(stem) {
  const start_ms = performance.now();
  /** @type {Result[]} */
  const results = [];
  const child = fork(join(FOLDER, `${stem}.test.js`), {
    execArgv: [`--test-reporter=${new URL("reporter.js", import.meta.url)}`, "--test-reporter-destination=stdout"],
    env: environment,
  });
  child.on("message", (result) => results.push(/** @type {Result} */ (result)));
  return new Promise((resolve) =>
    child.on("close", (code, signal) => {
      const seconds = (performance.now() - start_ms) / 1000;
      // A failed test also gives exit status 1; without one, the file itself has failed.
      const is_unexplained = code !== 0 && !results.some(({ failure }) => failure !== null);
      const fault = is_unexplained
        ? `the process of ${stem}.test.js ended with ${signal ?? `exit status ${code}`}`
        : null;
      resolve({ stem, results, seconds, fault });
    }),
  );
}

/** @param {FileRun} run */
function print({ stem, results, seconds, fault }) {
  const failed = results.filter(({ failure }) => failure !== null);
  const skipped = results.filter((result) => result.skipped !== null);
  const counts = [`${results.length} tests`.padStart(9), `${seconds.toFixed(1)} s`.padStart(7)];
  if (skipped.length > 0) counts.push(`${skipped.length} skipped`);
  if (failed.length > 0) counts.push(`${failed.length} FAILED`);
  console.log(`${stem.padEnd(16)}${counts.join("  ")}`);
  for (const { name, skipped: why } of skipped) console.log(`  SKIPPED: ${name}: ${why}`);
  for (const { name, failure } of failed) console.log(`  FAILED: ${name}\n${String(failure).replace(/^/gm, "    ")}`);
  if (fault) console.log(`  FAILED: ${fault}`);
}

/** @returns {Promise<FileRun[]>} */
async function runAll() {
  const waiting = chosen.filter((stem) => flags.list || !is_kept(stem));
  /** @type {FileRun[]} */
  const runs = [];
  const lane = async () => {
    for (let stem = waiting.shift(); stem !== undefined && faults.length === 0; stem = waiting.shift()) {
      const run = await runFile(stem);
      if (!flags.list) print(run);
      runs.push(run);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return runs;
}

/** Notes the files of which every test has passed. @param {FileRun[]} runs */
function keep(runs) {
  if (!record || !inputs) return;
  for (const { stem, results, fault } of runs) {
    const all_passed = results.every(({ failure, skipped }) => failure === null && skipped === null);
    if (all_passed && fault === null && faults.length === 0)
      passed_before[stem] = { key: keyOf(stem), tests: results.length };
  }
  writeFileSync(record, JSON.stringify(passed_before, null, 1));
}

async function list() {
  environment.ZAMBA2_URL ??= "http://localhost";
  environment.ZAMBA2_PLAIN_URL ??= "http://localhost";
  const runs = await runAll();
  for (const stem of chosen) {
    const { results, fault } = /** @type {FileRun} */ (runs.find((run) => run.stem === stem));
    if (fault) throw new Error(fault);
    for (const { name } of results) console.log(`${stem}: ${name}`);
  }
}

/** @returns {Promise<boolean>} whether all passed */
async function runTests() {
  const start_ms = performance.now();
  const n_kept = chosen.filter(is_kept).reduce((sum, stem) => sum + passed_before[stem].tests, 0);
  const close = await startBrowser();
  const runs = await runAll();
  await close();
  keep(runs);

  faults.push(...runs.flatMap(({ fault }) => fault ?? []));
  const results = runs.flatMap((run) => run.results.map((result) => ({ ...result, file: run.stem })));
  if (results.length + n_kept === 0) faults.push("no test matches");
  const slowest = results.toSorted((a, b) => b.seconds - a.seconds).slice(0, N_SLOWEST);
  console.log("\nSlowest:");
  for (const { file, name, seconds } of slowest) console.log(`${seconds.toFixed(1).padStart(6)} s  ${file}: ${name}`);

  console.log();
  for (const fault of faults) console.log(`FAILED: ${fault}`);
  const failed = results.filter(({ failure }) => failure !== null).length + faults.length;
  const skipped = results.filter((result) => result.skipped !== null);
  const passed = n_kept + results.filter((result) => result.skipped === null && result.failure === null).length;
  if (n_kept > 0) console.log(`KEPT: ${n_kept}`);
  const seconds = (performance.now() - start_ms) / 1000;
  console.log(`${passed} passed, ${failed} failed${skipped.length > 0 ? `, ${skipped.length} skipped` : ""}`);
  if (process.env.ZAMBA2_SUMMARY) {
    const summary = { facts: passed, skipped: skipped.map(({ name, skipped: why }) => [name, why]), seconds };
    writeFileSync(process.env.ZAMBA2_SUMMARY, `${JSON.stringify(summary)}\n`);
  }
  return failed === 0;
}

if (flags.list) await list();
else if (!(await runTests())) process.exitCode = 1;
