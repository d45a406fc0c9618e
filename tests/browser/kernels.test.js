// @ts-check
// The choice of kernels by a trial, and their benchmark, on Chromium's software adapter. Speed is not tested.

import assert from "node:assert/strict";
import { expected, SITE, test, waitForStatus, withPage } from "./harness.js";
import { assertRight, DISGUISE, loadAndRun, replaceEmbedded, runInWorker, source, withModule } from "./webgpu.js";

const FIXTURE = "one_block_adapters_rope";
const OPTIONS = { source: source(FIXTURE), backend: "webgpu", context: 24 };

/** @param {import("playwright-core").Page} page @param {Record<string, unknown>} webgpu */
const load = (page, webgpu) => loadAndRun(page, { ...OPTIONS, webgpu }, expected(FIXTURE).input_ids, 0);

test("what a trial has found is used again on the same device, and not on another one", () =>
  withModule(async (page) => {
    const first = await load(page, { tune: "always" });
    assertRight(first, FIXTURE);
    const found = first.info.adapter.kernels;
    assert.equal(found.adapter, first.info.adapter.name);
    assert.equal(found.shaders, first.info.adapter.shaders);
    assert.equal(found.weights, "f32");
    assert.deepEqual(
      found.choices.map((/** @type {{ op: string }} */ { op }) => op),
      ["linear_one", "linear_few", "linear_mat"],
    );

    const choices = [
      { op: "linear_one", variant: "4 rows", of: 7 },
      { op: "linear_few", variant: "up to 8 tokens", of: 7 },
      { op: "linear_mat", variant: "64x64", of: 7 },
    ];
    const kept = await load(page, {
      tune: "always",
      kernels: [
        { ...found, shaders: "old" },
        { ...found, choices },
      ],
    });
    assertRight(kept, FIXTURE);
    assert.deepEqual(kept.info.adapter.kernels.choices, choices);
  }));

test("no trial is made on a software adapter, unless it is asked for, nor where it is switched off", () =>
  withModule(async (page) => {
    for (const webgpu of [{}, { tune: "off" }]) {
      const { info } = await load(page, webgpu);
      assert.equal(info.adapter.kernels, null);
    }
    const refused = await load(page, { tune: "sometimes" });
    assert.equal(refused.error?.code, "bad_option");
  }));

test("the page keeps what a trial has found, uses it after a reload, and makes none with ?tune=off", () =>
  withPage(
    async (page) => {
      await runInWorker(page, DISGUISE);
      await replaceEmbedded(page, FIXTURE);
      const reasons = async () => {
        await waitForStatus(page, "Ready");
        return String(await page.textContent("#capability-reasons"));
      };
      const kept = () => page.evaluate(() => JSON.parse(localStorage.getItem("kernels") ?? "[]"));

      await page.goto(`${SITE}/?tune=off`);
      assert.doesNotMatch(await reasons(), /linear_mat/);
      assert.deepEqual(await kept(), []);

      await page.goto(`${SITE}/`);
      assert.match(await reasons(), /linear_one: .*linear_mat: .*, chosen from \d/s);
      const found = await kept();
      assert.equal(found.length, 1);

      // A choice that no trial makes: it can only come from what was kept.
      const choices = found[0].choices.map((/** @type {any} */ choice) => ({ ...choice, of: 77 }));
      await page.evaluate((list) => localStorage.setItem("kernels", JSON.stringify(list)), [{ ...found[0], choices }]);
      await page.reload();
      assert.match(await reasons(), /linear_mat: .*, chosen from 77/);
    },
    {},
    "webgpu",
  ));

test("every way to unpack weights, and every tile, computes what the CPU does", () =>
  withModule(async (page) => {
    const { lines, left } = await page.evaluate(() =>
      /** @type {any} */ (globalThis).zamba2.benchGrid({
        check: true,
        seconds: 600,
        selection: { formats: ["f32", "q8", "q4"], matrices: ["adapter_0"], tokens: [1, 8, 64, 256] },
      }),
    );
    assert.equal(left, 0);
    /** @type {any[]} */
    const parsed = lines.map((/** @type {string} */ line) => JSON.parse(line));
    const cells = parsed.filter((entry) => entry.line === "cell");
    assert.deepEqual(
      cells.filter((cell) => !cell.is_right),
      [],
    );
    for (const format of ["f32", "q8", "q4"]) {
      const variants = new Set(cells.flatMap((cell) => (cell.format === format ? [cell.variant] : [])));
      for (const tile of ["64x64", "128x64", "64x64, loads ahead"]) assert.ok(variants.has(tile), `${format} ${tile}`);
      if (format === "q4") for (const way of ["8 rows, magic", "8 rows, mask"]) assert.ok(variants.has(way), way);
    }
  }));

test("scan, attention and norms at the sizes of 1.2B compute what the CPU does", () =>
  withModule(async (page) => {
    const ops = ["ssm_scan", "attention", "rms_norm", "gated_rms_norm"];
    const { lines, left } = await page.evaluate(
      (selection) => /** @type {any} */ (globalThis).zamba2.benchGrid({ check: true, seconds: 600, selection }),
      { ops, tokens: [1, 64] },
    );
    assert.equal(left, 0);
    /** @type {any[]} */
    const parsed = lines.map((/** @type {string} */ line) => JSON.parse(line));
    const cells = parsed.filter((entry) => entry.line === "cell");
    assert.deepEqual(new Set(cells.map((cell) => cell.op)), new Set(ops));
    assert.deepEqual(
      cells.filter((cell) => !cell.is_right),
      [],
    );
  }));

test("the benchmark gives the lines of the command line", () =>
  withModule(async (page) => {
    const { heard, lines, left } = await page.evaluate(async () => {
      /** @type {string[]} */
      const heard = [];
      const { zamba2 } = /** @type {any} */ (globalThis);
      const result = await zamba2.benchGrid({ seconds: 0, onLine: (/** @type {string} */ line) => heard.push(line) });
      return { heard, ...result };
    });
    assert.deepEqual(heard, lines);
    const kinds = lines.map((/** @type {string} */ line) => JSON.parse(line).line);
    assert.deepEqual(kinds, ["device", "dispatches", "ceilings"]);
    assert.ok(left > 100);
  }));
