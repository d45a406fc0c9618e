// @ts-check
// The page's bench (`?bench`): all figures are present, consistent, and can be copied. Speed is not tested.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { openPage, SITE, test, waitForStatus } from "./harness.js";

test("the bench measures ceilings, kernels and the loaded model, and reports untracked time", async () => {
  const { context, page, faults } = await openPage();
  await page.goto(`${SITE}/?bench`);
  await waitForStatus(page, "Ready");
  await page.click("#bench-run");
  await page.waitForFunction(() => document.getElementById("bench-status")?.textContent === "Measured.", null, {
    timeout: 240_000,
  });
  const record = JSON.parse(await page.inputValue("#bench-json"));

  const { ceilings, kernels } = record.kernels;
  assert.equal(ceilings.threads, record.info.threads);
  for (const [name, value] of Object.entries(ceilings)) assert.ok(/** @type {number} */ (value) > 0, name);
  for (const wanted of [
    "linear q4 in_proj",
    "linear q8 out_proj",
    "ssm_scan",
    "conv1d + silu",
    "gated_rms_norm",
    "gelu_mul",
  ]) {
    assert.deepEqual(
      kernels.filter((/** @type {any} */ k) => k.kernel === wanted).map((/** @type {any} */ k) => k.tokens),
      [1, 35],
      wanted,
    );
  }
  for (const kernel of kernels) assert.ok(kernel.us > 0 && kernel.percent_of_ceiling > 0, kernel.kernel);

  const { rows, step_us, untracked_us } = record.modules;
  const covered_us = rows.reduce((/** @type {number} */ sum, /** @type {any} */ row) => sum + row.us, 0);
  // Durations are f32 microseconds, so the sum is exact to a few parts in ten million.
  assert.ok(
    Math.abs(covered_us + untracked_us - step_us) < 1e-4 * step_us,
    `${covered_us} + ${untracked_us} is not ${step_us}`,
  );
  assert.ok(untracked_us >= 0, `${untracked_us}`);
  const calls = (/** @type {string} */ name) => rows.find((/** @type {any} */ row) => row.name === name)?.calls;
  assert.equal(calls("mamba.in_proj"), record.info.n_blocks);
  assert.equal(await page.locator("#bench-result table").count(), 2);
  assert.deepEqual(faults, []);
  await context.close();
});

test("measuring the adapter's kernels can be stopped, and what was measured is saved", async () => {
  const { context, page, faults } = await openPage({}, "webgpu");
  await page.goto(`${SITE}/?bench`);
  await page.click("#bench-grid");
  assert.equal(await page.textContent("#bench-grid"), "Stop and save what was measured");
  assert.ok(await page.isDisabled("#bench-run"));
  await page.waitForFunction(() =>
    /lines so far: [1-9]/.test(document.getElementById("bench-status")?.textContent ?? ""),
  );
  const download = page.waitForEvent("download");
  await page.click("#bench-grid");
  const file = await (await download).path();
  const lines = (await readFile(file, "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(lines[0].line, "device");
  assert.match(lines[0].adapter.name, /swiftshader/i);
  await page.waitForFunction(() => document.getElementById("bench-status")?.textContent === "Measured.");
  assert.equal(await page.textContent("#bench-grid"), "Measure the adapter's kernels");
  assert.deepEqual(faults, []);
  await context.close();
});

test("without ?bench in the URL the page has no bench", async () => {
  const { context, page } = await openPage();
  await page.goto(`${SITE}/`);
  await waitForStatus(page, "Ready");
  assert.equal(await page.locator("#bench").isVisible(), false);
  await context.close();
});
