// @ts-check
// A graphics device that is lost, in Chromium with its software adapter: between runs and during a run.

import assert from "node:assert/strict";
import { expected, fixtureFiles, launch, test } from "./harness.js";
import { MockHub } from "./mock_hub.js";
import { DISGUISE, prepareModule, source } from "./webgpu.js";

/** @import { Browser } from "playwright-core" */

const FIXTURE = "one_block_adapters_rope";

/** Kills the browser's GPU process, and with it every device. @param {Browser} browser */
async function loseEveryDevice(browser) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const graphics = processInfo.find(({ type }) => type === "GPU");
  assert.ok(graphics, "there is a GPU process");
  process.kill(graphics.id, "SIGKILL");
}

test("after a device loss during a run the model is reloaded from storage, and the run continues", async () => {
  const hub = await MockHub.start(fixtureFiles(FIXTURE));
  try {
    const own = await launch("webgpu");
    try {
      const page = await own.newPage();
      await prepareModule(page);
      const prompt = expected(FIXTURE).input_ids;
      const options = { temperature: 0, max_tokens: 24, ignore_eos: true };
      await page.evaluate(
        async ({ source, prompt, options }) => {
          const scope = /** @type {any} */ (globalThis);
          scope.devices = [];
          scope.ids = [];
          scope.model = await scope.zamba2.load({
            source,
            backend: "webgpu",
            weights: "f32",
            onDevice: (/** @type {any} */ event) =>
              scope.devices.push(event.state === "lost" ? `lost: ${event.fault.code}` : `ready: ${event.info.backend}`),
          });
          scope.running = (async () => {
            for await (const piece of scope.model.generate(prompt, options)) {
              scope.ids.push(piece.token);
              // The test kills the GPU process at this point; the engine is at most one token ahead.
              if (scope.ids.length === 5) await new Promise((resolve) => (scope.goOn = resolve));
            }
          })();
        },
        { source: hub.folder, prompt, options },
      );
      await page.waitForFunction(() => /** @type {any} */ (globalThis).goOn !== undefined, null, { timeout: 120_000 });
      const contacts = hub.contacts.length;
      await loseEveryDevice(own);
      const result = await page.evaluate(async () => {
        const scope = /** @type {any} */ (globalThis);
        scope.goOn();
        await scope.running;
        return { ids: scope.ids, devices: scope.devices };
      });
      assert.deepEqual(result.ids, expected(FIXTURE).greedy_ids);
      assert.deepEqual(result.devices, ["lost: device_lost", "ready: webgpu"]);
      assert.equal(hub.contacts.length, contacts, "no network request was sent");
    } finally {
      await own.close();
    }
  } finally {
    await hub.stop();
  }
});

/**
 * A message on the channel `lose` loses the latest device, and is answered on the same channel. Killing the GPU process
 * does so only twice: after that Chromium has no adapter.
 */
const LOSING = `
const losses = new WeakMap();
let latest = null;
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (...args) {
  const device = await requestDevice.apply(this, args);
  losses.set(device, Promise.withResolvers());
  latest = device;
  return device;
};
Object.defineProperty(GPUDevice.prototype, "lost", { get() { return losses.get(this).promise; } });
const channel = new BroadcastChannel("lose");
channel.onmessage = () => {
  losses.get(latest).resolve({ reason: "unknown", message: "taken away by a test" });
  channel.postMessage("lost");
};`;

test("a run whose device is lost for the third time continues on the CPU", async () => {
  const own = await launch("webgpu");
  try {
    const page = await own.newPage();
    await prepareModule(page, `${DISGUISE}\n${LOSING}`);
    const { input_ids, greedy_ids } = expected(FIXTURE);
    const result = await page.evaluate(
      async ({ source, prompt }) => {
        const { zamba2 } = /** @type {any} */ (globalThis);
        /** @type {string[]} */
        const devices = [];
        const model = await zamba2.load({
          source,
          weights: "f32",
          keep: false,
          webgpu: { tune: "off" },
          onDevice: (/** @type {any} */ event) =>
            devices.push(event.state === "lost" ? `lost: ${event.fault.code}` : `ready: ${event.info.backend}`),
        });
        const first = model.info.backend;
        const channel = new BroadcastChannel("lose");
        const lose = () =>
          new Promise((resolve) => {
            channel.onmessage = resolve;
            channel.postMessage("now");
          });
        const ids = [];
        let n_lost = 0;
        for await (const { token } of model.generate(prompt, { temperature: 0, max_tokens: 64, ignore_eos: true })) {
          ids.push(token);
          // Up to eight tokens that were on their way still arrive after a loss. The next one waits for its reload.
          const n_reloaded = devices.filter((event) => event.startsWith("ready")).length;
          if (ids.length >= 4 && n_lost < 3 && n_lost === n_reloaded) {
            n_lost += 1;
            await lose();
          }
        }
        return { first, ids, devices, reason: model.info.backend_reason };
      },
      { source: source(FIXTURE), prompt: input_ids },
    );
    assert.equal(result.first, "webgpu");
    assert.equal(result.ids.length, 64);
    assert.deepEqual(result.ids.slice(0, greedy_ids.length), greedy_ids);
    assert.deepEqual(result.devices.slice(0, 5), [
      "lost: device_lost",
      "ready: webgpu",
      "lost: device_lost",
      "ready: webgpu",
      "lost: device_lost",
    ]);
    assert.match(result.devices[5], /^ready: cpu/);
    assert.equal(result.reason, "device_lost");
  } finally {
    await own.close();
  }
});

/** After a loss the browser twice has no adapter, as while its GPU process restarts. */
const RESTARTING = `
let missing = 0;
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (...args) {
  const device = await requestDevice.apply(this, args);
  device.lost.then(() => { missing = 2; });
  return device;
};
const { requestAdapter } = GPU.prototype;
GPU.prototype.requestAdapter = async function (...args) {
  if (missing === 0) return requestAdapter.apply(this, args);
  missing -= 1;
  return null;
};`;

test("a device lost between runs is replaced in the next, even if there is no adapter for a moment", async () => {
  const own = await launch("webgpu");
  try {
    const page = await own.newPage();
    await prepareModule(page, RESTARTING);
    const reference = expected(FIXTURE);
    const load = { source: source(FIXTURE), backend: "webgpu", weights: "f32", keep: false };
    await page.evaluate(async (load) => {
      const scope = /** @type {any} */ (globalThis);
      scope.model = await scope.zamba2.load(load);
    }, load);
    await loseEveryDevice(own);
    const greedy = await page.evaluate(async (ids) => {
      const { model } = /** @type {any} */ (globalThis);
      // The call during which the loss is noticed fails and reports it.
      const fault = await model.greedy(ids, 8).then(
        () => null,
        (/** @type {any} */ error) => error.code,
      );
      return { fault, tokens: (await model.greedy(ids, 8)).tokens };
    }, reference.input_ids);
    assert.equal(greedy.fault, "device_lost");
    assert.deepEqual(greedy.tokens, reference.greedy_ids.slice(0, 8));
  } finally {
    await own.close();
  }
});
