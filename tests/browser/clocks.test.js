// @ts-check
// Clocks that are too coarse or stand still, and adapters with large limits: profiles that say so instead of wrong
// figures or errors.

import assert from "node:assert/strict";
import { openPage, SITE, test, waitForStatus } from "./harness.js";
import { assertRight, loadAndRun, source, withModule } from "./webgpu.js";
import { expected } from "./harness.js";

const FIXTURE = "two_blocks_groups2_rope";

/** `performance.now` in steps, as in Firefox with privacy.resistFingerprinting. @param {number} step_ms */
const stepping = (step_ms) => `{
  const now = performance.now.bind(performance);
  performance.now = () => Math.floor(now() / ${step_ms}) * ${step_ms};
}`;

for (const step_ms of [16.7, 100]) {
  test(`a clock with steps of ${step_ms} ms gives a profile that says it is too coarse for single blocks`, async () => {
    const { context, page, faults } = await openPage();
    try {
      await context.route(/\/pkg\/(worker|thread)\.js$/, async (route) => {
        const reply = await route.fetch();
        await route.fulfill({ response: reply, body: `${stepping(step_ms)}\n${await reply.text()}` });
      });
      await page.goto(`${SITE}/`);
      await waitForStatus(page, "Ready");
      await page.click("#tab-profile");
      await page.fill("#profile-form [name=runs]", "3");
      await page.click("#profile-run");
      await page.waitForSelector("#profile-result:visible, .error-card:visible", { timeout: 240_000 });
      assert.equal(await page.locator(".error-card:visible").count(), 0);
      assert.match((await page.textContent("#profile-result")) ?? "", /longer than a block takes/);
      // A block that a step happened to fall into is not the slowest one.
      assert.match((await page.textContent("#chart-blocks")) ?? "", /No block can be timed/);
      assert.deepEqual(faults, []);
    } finally {
      await context.close();
    }
  });
}

/** Timestamps that are never written, as with drivers that do not support them and say they do. */
const STOPPED_CLOCK = `
GPUCommandEncoder.prototype.resolveQuerySet = () => {};
`;

test("an adapter whose timestamps are all 0 counts as one without a clock", () =>
  withModule(async (page) => {
    const { input_ids } = expected(FIXTURE);
    const result = await loadAndRun(page, { source: source(FIXTURE), backend: "webgpu" }, input_ids, 0);
    assertRight(result, FIXTURE);
    assert.equal(result.info.adapter.timestamp_step_us, null);
    const run = await page.evaluate(async (source) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const model = await zamba2.load({ source, weights: "f32", keep: false, backend: "webgpu" });
      const run = await model.report({ runs: 1, warmup: 0, decode: 1, prefill: 4, ceilings: false });
      model.dispose();
      return run;
    }, source(FIXTURE));
    assert.equal(run.timer.source, "clock_after_blocks");
    assert.ok(run.timer.resolution_us > 0);
    assert.equal(run.conditions.level, "block");
    const { names, name, duration_us } = run.runs[0].spans;
    const blocks = duration_us.filter((/** @type {number} */ _, /** @type {number} */ i) =>
      /^layers\.\d+$/.test(names[name[i]]),
    );
    assert.ok(blocks.length > 0);
    assert.ok(
      blocks.every((/** @type {number} */ us) => us > 0),
      `block times: ${blocks}`,
    );
  }, STOPPED_CLOCK));

/** Counts buffers; with `limit`, the adapter claims that bindings may be as large. @param {number | null} limit */
const countingBuffers = (limit) => `
globalThis.n_buffers = 0;
const create = GPUDevice.prototype.createBuffer;
GPUDevice.prototype.createBuffer = function (descriptor) {
  globalThis.n_buffers += 1;
  return create.call(this, descriptor);
};
if (${limit}) {
  const names = ["maxStorageBufferBindingSize", "maxBufferSize"];
  const own = names.map((name) => Object.getOwnPropertyDescriptor(GPUSupportedLimits.prototype, name).get);
  for (const name of names) Object.defineProperty(GPUSupportedLimits.prototype, name, { get: () => ${limit} });
  const request = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = function (descriptor) {
    names.forEach((name, i) => (descriptor.requiredLimits[name] = own[i].call(this.limits)));
    return request.call(this, descriptor);
  };
}
const postToPage = self.postMessage.bind(self);
self.postMessage = (message, ...rest) => {
  if (message.kind === "value" && message.value?.adapter) message.value.n_buffers = globalThis.n_buffers;
  postToPage(message, ...rest);
};
`;

test("an adapter with limits of 2^32 bytes takes each matrix in one part, as any other", async () => {
  /** @type {number[]} */
  const counts = [];
  for (const limit of [null, 2 ** 32]) {
    await withModule(async (page) => {
      const { input_ids } = expected(FIXTURE);
      const result = await loadAndRun(page, { source: source(FIXTURE), backend: "webgpu" }, input_ids, 0);
      assertRight(result, FIXTURE);
      if (limit) assert.equal(result.info.adapter.max_binding_bytes, limit);
      counts.push(result.info.n_buffers);
    }, countingBuffers(limit));
  }
  assert.ok(counts[0] > 0);
  assert.equal(counts[1], counts[0]);
});
