// @ts-check
// WebGPU on Chromium's software adapter: choice of the backend, adapters with fewer features, and runs whose adapter
// computes wrongly, is too small or out of memory. A lost device is in device_loss.test.js, numbers are in
// webgpu_numbers.test.js; speed is not measured.

import assert from "node:assert/strict";
import {
  expected,
  loadWith,
  onePage,
  setOptions,
  sharedBrowser,
  SITE,
  test,
  waitForStatus,
  withPage,
} from "./harness.js";
import {
  assertRight,
  DISGUISE,
  loadAndRun,
  prepareModule,
  replaceEmbedded,
  runInWorker,
  runLoaded,
  source,
  withLoaded,
  withModule,
} from "./webgpu.js";

/** @import { Page } from "playwright-core" */

const FIXTURE = "one_block_adapters_rope";

/** Replaces `from` by `to` in every shader. @param {string} from @param {string} to */
const spoiled = (from, to) => `
const createShaderModule = GPUDevice.prototype.createShaderModule;
GPUDevice.prototype.createShaderModule = function (descriptor) {
  const code = descriptor.code.replaceAll(${JSON.stringify(from)}, ${JSON.stringify(to)});
  return createShaderModule.call(this, { ...descriptor, code });
};`;

/**
 * The device reports out of memory when a buffer of this size is created; the self-test creates none as large.
 */
const FULL = `
const createBuffer = GPUDevice.prototype.createBuffer;
GPUDevice.prototype.createBuffer = function (descriptor) {
  const is_storage = (descriptor.usage & GPUBufferUsage.STORAGE) !== 0;
  if (is_storage && descriptor.size >= 30_000) {
    const error = new GPUOutOfMemoryError("out of memory");
    setTimeout(() => this.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error, cancelable: true })));
  }
  return createBuffer.call(this, descriptor);
};`;

// ---- adapters with fewer features ----

// The widest matrix is split into three parts; no timestamp queries.
const withLesser = withLoaded(FIXTURE, {
  backend: "webgpu",
  context: 24,
  webgpu: { maxBindingBytes: 8192, timestamps: false },
});
const withPlain = withLoaded(FIXTURE, { backend: "webgpu", context: 24, webgpu: { subgroups: false, f16: false } });

/** @type {[string, typeof withPlain, (adapter: any) => void][]} */
const LESSER = [
  ["bindings of 8 kB at most", withLesser, (adapter) => assert.equal(adapter.max_binding_bytes, 8192)],
  ["no clock of its own", withLesser, (adapter) => assert.equal(adapter.timestamp_step_us, null)],
  [
    "neither subgroups nor 16-bit floats",
    withPlain,
    (adapter) => assert.deepEqual([adapter.subgroups, adapter.f16], [false, false]),
  ],
];

for (const [what, withAdapter, check] of LESSER) {
  test(`an adapter with ${what} gives the reference's logits`, () =>
    withAdapter(async (page) => {
      const result = await runLoaded(page, expected(FIXTURE).input_ids);
      assertRight(result, FIXTURE);
      check(result.info.adapter);
    }));
}

test("without timestamp queries a profile times every block by waiting for it, and says so", () =>
  withLesser(async (page) => {
    const { run, pieces } = await page.evaluate(async () => {
      const { model } = /** @type {any} */ (globalThis);
      const run = await model.report({ ids: [1, 2, 3], decode: 2, runs: 1, warmup: 0, ceilings: false });
      const pieces = [];
      for await (const piece of model.generate([1, 2, 3], { max_tokens: 3, ignore_eos: true }))
        pieces.push([...piece.blocks_us]);
      return { run, pieces };
    });
    assert.equal(run.timer.source, "clock_after_blocks");
    assert.equal(run.conditions.level, "block");
    const { spans, prefill_us, step_us } = run.runs[0];
    const wall_us = [prefill_us, ...step_us];
    for (const [pass, us] of wall_us.entries()) {
      const of_pass = spans.duration_us.filter(
        (/** @type {number} */ _, /** @type {number} */ i) => spans.pass[i] === pass && spans.parent[i] === -1,
      );
      const sum_us = of_pass.reduce((/** @type {number} */ sum, /** @type {number} */ each) => sum + each, 0);
      assert.ok(
        of_pass.every((/** @type {number} */ each) => each > 0),
        "every block has a time",
      );
      // Outside of blocks: the embedding, the logits and the readback.
      assert.ok(sum_us <= us && sum_us > us / 10, `pass ${pass}: blocks take ${sum_us} of ${us} µs`);
    }
    assert.deepEqual(pieces, [[], [], []], "without recording there are no block times");
  }));

// ---- a hardware adapter ----

const withDisguised = withLoaded(FIXTURE, {}, DISGUISE);

test("`auto` chooses a hardware adapter", () =>
  withDisguised(async (page) => {
    const result = await runLoaded(page, expected(FIXTURE).input_ids);
    assertRight(result, FIXTURE);
    assert.equal(result.info.backend, "webgpu");
    assert.equal(result.info.backend_reason, "auto");
  }));

test("timestamp step and features of the adapter are reported", () =>
  withDisguised(async (page) => {
    const { info } = await runLoaded(page, [1]);
    const has = await page.evaluate(async () => {
      const adapter = await /** @type {any} */ (navigator).gpu.requestAdapter();
      return {
        subgroups: adapter.features.has("subgroups"),
        f16: adapter.features.has("shader-f16"),
        timestamps: adapter.features.has("timestamp-query"),
      };
    });
    assert.equal(info.adapter.subgroups, has.subgroups);
    assert.equal(info.adapter.f16, has.f16);
    assert.equal(info.adapter.timestamp_step_us !== null, has.timestamps);
    assert.match(info.adapter.name, /swiftshader/i);
  }));

test("a profile has times of the adapter's clock for every block and module", () =>
  withDisguised(async (page) => {
    const run = await page.evaluate(() =>
      /** @type {any} */ (globalThis).model.report({ ids: [1, 2, 3], decode: 1, runs: 1, warmup: 1 }),
    );
    assert.equal(run.timer.source, "timestamp_query");
    assert.equal(run.conditions.backend, "webgpu");
    assert.ok(run.ceilings.read_gb_per_s > 0 && run.ceilings.f32_gmacs_per_s > 0);
    assert.equal(run.ceilings.int8_gmacs_per_s, run.ceilings.f32_gmacs_per_s, "every product on an adapter is in f32");
    const { spans, prefill_us, step_us } = run.runs[0];
    const blocks = spans.parent.filter((/** @type {number} */ parent) => parent === -1);
    assert.ok(blocks.length > 0);
    assert.ok(spans.duration_us.every((/** @type {number} */ us) => us >= 0));
    const modules_us = spans.duration_us
      .filter((/** @type {number} */ _, /** @type {number} */ i) => spans.parent[i] !== -1)
      .reduce((/** @type {number} */ sum, /** @type {number} */ us) => sum + us, 0);
    assert.ok(modules_us > 0, "modules have times");
    assert.ok(
      spans.duration_us
        .filter((/** @type {number} */ _, /** @type {number} */ i) => spans.parent[i] === -1)
        .reduce((/** @type {number} */ sum, /** @type {number} */ us) => sum + us, 0)
        <= prefill_us + step_us[0],
      "blocks take no longer than the passes",
    );
  }));

test("a run measures its blocks only while it is asked to, also from its middle on", () =>
  withDisguised(async (page) => {
    const n_times = await page.evaluate(async () => {
      const { model } = /** @type {any} */ (globalThis);
      const n_times = [];
      for await (const piece of model.generate([1, 2, 3], { max_tokens: 12, ignore_eos: true, top_k: 0 })) {
        n_times.push(piece.blocks_us.length);
        if (n_times.length === 4) model.timeBlocks(1);
      }
      model.timeBlocks(0);
      return { n_times, n_blocks: model.info.n_blocks };
    });
    assert.deepEqual(n_times.n_times.slice(0, 4), [0, 0, 0, 0]);
    const { timestamp_step_us } = (await runLoaded(page, [1])).info.adapter;
    assert.equal(n_times.n_times.at(-1), timestamp_step_us === null ? 0 : n_times.n_blocks);
  }));

// ---- choice of the backend ----

test("without an adapter `auto` chooses the CPU with a reason, and `webgpu` is refused with a next step", async () => {
  const context = await (await sharedBrowser("cpu")).newContext();
  try {
    const page = await context.newPage();
    await prepareModule(page);
    const ids = expected(FIXTURE).input_ids;
    const auto = await loadAndRun(page, { source: source(FIXTURE) }, ids, 0);
    assertRight(auto, FIXTURE);
    assert.match(auto.info.backend, /^cpu-/);
    assert.equal(auto.info.backend_reason, "no_adapter");
    assert.equal(auto.info.adapter, null);
    const asked = await loadAndRun(page, { source: source(FIXTURE), backend: "webgpu" }, ids, 0);
    assert.equal(asked.error?.code, "no_adapter");
    assert.match(String(asked.error?.next), /CPU/);
  } finally {
    await context.close();
  }
});

test("a browser without WebGPU computes on the CPU and reports the reason", () =>
  withModule(async (page) => {
    const result = await loadAndRun(page, { source: source(FIXTURE) }, expected(FIXTURE).input_ids, 0);
    assertRight(result, FIXTURE);
    assert.equal(result.info.backend_reason, "no_webgpu");
  }, `Object.defineProperty(WorkerNavigator.prototype, "gpu", { get: () => undefined });`));

test("a software adapter is reported as such and not chosen", () =>
  withModule(async (page) => {
    const result = await loadAndRun(page, { source: source(FIXTURE) }, expected(FIXTURE).input_ids, 0);
    assertRight(result, FIXTURE);
    assert.match(result.info.backend, /^cpu-/);
    assert.equal(result.info.backend_reason, "software_adapter");
    assert.match(result.info.backend_fault.message, /swiftshader/i);
  }));

/** Requesting an adapter throws. */
const NO_GPU = `Object.defineProperty(WorkerNavigator.prototype, "gpu", {
  get: () => { throw new Error("asked for an adapter"); },
});`;

test("`cpu` requests no adapter", () =>
  withModule(async (page) => {
    const result = await loadAndRun(page, { source: source(FIXTURE), backend: "cpu" }, expected(FIXTURE).input_ids, 0);
    assertRight(result, FIXTURE);
    assert.equal(result.info.backend_reason, "asked");
  }, NO_GPU));

/** Wrong results in one kind of kernel. @type {[string, string, string][]} */
const BROKEN = [
  ["an exponential", "exp(clamp(x, -87.0, 87.0))", "exp(clamp(x * 1.02, -87.0, 87.0))"],
  ["a norm", "1.0 / sqrt(", "1.01 / sqrt("],
];

for (const [what, from, to] of BROKEN) {
  test(`an adapter with ${what} off by a hundredth is refused: auto uses the CPU, explicit WebGPU fails`, async () => {
    const ids = expected(FIXTURE).input_ids;
    await withModule(
      async (page) => {
        const auto = await loadAndRun(page, { source: source(FIXTURE) }, ids, 0);
        assertRight(auto, FIXTURE);
        assert.equal(auto.info.backend_reason, "self_test");
        const asked = await loadAndRun(page, { source: source(FIXTURE), backend: "webgpu" }, ids, 0);
        assert.equal(asked.error?.code, "self_test");
        assert.match(String(asked.error?.message), /: got .*, expected /);
      },
      DISGUISE + spoiled(from, to),
    );
  });
}

/** Subgroups do not add up: each thread's sum is taken for its whole subgroup's. */
const WRONG_SUBGROUPS = spoiled("subgroupAdd(own[", "(own[");

/** @param {Page} page @param {RegExp} fault */
async function assertUsedWithoutSubgroups(page, fault = /computes wrong results: .*: got .*, expected /) {
  for (const backend of ["auto", "webgpu"]) {
    const result = await loadAndRun(page, { source: source(FIXTURE), backend }, expected(FIXTURE).input_ids, 0);
    assertRight(result, FIXTURE);
    assert.equal(result.info.backend, "webgpu");
    const { subgroups, dropped } = result.info.adapter;
    assert.equal(subgroups, false);
    assert.equal(dropped.length, 1);
    assert.equal(dropped[0].feature, "subgroups");
    assert.match(dropped[0].fault.message, fault);
  }
}

/** The driver does not survive the first kernel with subgroups. */
const LOST_BY_SUBGROUPS = `
const losses = new WeakMap();
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (...args) {
  const device = await requestDevice.apply(this, args);
  losses.set(device, Promise.withResolvers());
  return device;
};
Object.defineProperty(GPUDevice.prototype, "lost", { get() { return losses.get(this).promise; } });
const { createShaderModule } = GPUDevice.prototype;
GPUDevice.prototype.createShaderModule = function (descriptor) {
  if (descriptor.code.includes("enable subgroups;")) {
    losses.get(this).resolve({ reason: "unknown", message: "the driver has crashed" });
  }
  return createShaderModule.call(this, descriptor);
};`;

test("an adapter whose driver does not survive subgroups, or does not compile them, is used without them", async () => {
  for (const [script, fault] of /** @type {const} */ ([
    [LOST_BY_SUBGROUPS, /the driver has crashed/],
    [spoiled("enable subgroups;", "enable nonsense;"), /nonsense/],
  ])) {
    await withModule((page) => assertUsedWithoutSubgroups(page, fault), DISGUISE + script);
  }
});

test("an adapter that is wrong with subgroups only is used without them, and the reason is reported", () =>
  withModule(async (page) => {
    const has = await page.evaluate(async () =>
      (await /** @type {any} */ (navigator).gpu.requestAdapter()).features.has("subgroups"),
    );
    assert.ok(has, "Chromium's software adapter has subgroups");
    await assertUsedWithoutSubgroups(page);
  }, DISGUISE + WRONG_SUBGROUPS));

/**
 * Subgroups do not add up from the moment the weights are in the adapter's memory, as in `WRONG_SUBGROUPS`: kernels get
 * a spoiled twin, which takes their place once the engine's `finish` is called.
 */
const WRONG_WHEN_FULL = `
let is_full = false;
const instantiate = WebAssembly.instantiate;
const watched = ({ exports }) => {
  const finish = (...values) => ((is_full = true), exports.engine_finish(...values));
  return Object.create(WebAssembly.Instance.prototype, { exports: { value: { ...exports, engine_finish: finish } } });
};
WebAssembly.instantiate = async (...values) => {
  const made = await instantiate.apply(WebAssembly, values);
  if (!(made.exports ?? made.instance.exports).engine_finish) return made;
  return made.instance ? { module: made.module, instance: watched(made.instance) } : watched(made);
};
WebAssembly.instantiateStreaming = async (response, imports) =>
  WebAssembly.instantiate(await (await response).arrayBuffer(), imports);
const twins = new WeakMap();
const device = GPUDevice.prototype;
const { createShaderModule, createComputePipeline } = device;
device.createShaderModule = function (descriptor) {
  const module = createShaderModule.call(this, descriptor);
  const code = descriptor.code.replaceAll("subgroupAdd(own[", "(own[");
  if (code !== descriptor.code) twins.set(module, createShaderModule.call(this, { ...descriptor, code }));
  return module;
};
device.createComputePipeline = function (descriptor) {
  const pipeline = createComputePipeline.call(this, descriptor);
  const module = twins.get(descriptor.compute.module);
  if (module) {
    const compute = { ...descriptor.compute, module };
    twins.set(pipeline, createComputePipeline.call(this, { ...descriptor, compute }));
  }
  return pipeline;
};
const { setPipeline } = GPUComputePassEncoder.prototype;
GPUComputePassEncoder.prototype.setPipeline = function (pipeline) {
  setPipeline.call(this, (is_full && twins.get(pipeline)) || pipeline);
};`;

test("an adapter that is wrong with subgroups once the weights are in its memory is used without them", () =>
  withModule((page) => assertUsedWithoutSubgroups(page), DISGUISE + WRONG_WHEN_FULL));

test("a feature is requested only of an adapter that has it, also of a later one", () =>
  withModule(async (page) => {
    const asked = await page.evaluate(async (address) => {
      const { requestSubgroups } = await import(address);
      class Adapter {
        /** @param {string[]} features */
        constructor(features) {
          this.features = new Set(features);
        }
        /** @param {{ requiredFeatures?: string[] }} [descriptor] */
        requestDevice(descriptor) {
          return [...(descriptor?.requiredFeatures ?? [])];
        }
      }
      /** @type {any} */ (globalThis).GPUAdapter = Adapter;
      requestSubgroups();
      const requiredFeatures = ["timestamp-query"];
      return [["subgroups"], []].map((features) => new Adapter(features).requestDevice({ requiredFeatures }));
    }, `${SITE}/pkg/subgroups.js`);
    assert.deepEqual(asked, [["timestamp-query", "subgroups"], ["timestamp-query"]]);
  }));

/** Every timestamp is zero, as on drivers without a clock. */
const STOPPED_CLOCK = `GPUCommandEncoder.prototype.resolveQuerySet = () => {};`;

test("timestamps that never advance count as none, and the report says so", () =>
  withModule(async (page) => {
    const [info, run] = await page.evaluate(async (source) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const model = await zamba2.load({ source, backend: "webgpu", weights: "f32", keep: false });
      const run = await model.report({ ids: [1, 2, 3], decode: 1, runs: 1, warmup: 0, ceilings: false });
      const { info } = model;
      model.dispose();
      return [info, run];
    }, source(FIXTURE));
    assert.equal(info.adapter.timestamp_step_us, null);
    assert.equal(run.timer.source, "clock_after_blocks");
    assert.ok(run.runs[0].spans.duration_us.every((/** @type {number} */ us) => us > 0));
  }, STOPPED_CLOCK));

test("the summary of a run that asks for drafts says that a graphics adapter makes none", () =>
  withModule(async (page) => {
    const reasons = await page.evaluate(
      async ({ source, prompt }) => {
        const { zamba2 } = /** @type {any} */ (globalThis);
        const model = await zamba2.load({ source, backend: "webgpu", weights: "f32", keep: false });
        const reasons = [];
        for (const lookup of [10, 0]) {
          for await (const _ of model.generate(prompt, { lookup, max_tokens: 2, ignore_eos: true }));
          reasons.push(model.last.no_drafts);
        }
        model.dispose();
        return reasons;
      },
      { source: source(FIXTURE), prompt: expected(FIXTURE).input_ids },
    );
    assert.deepEqual(reasons, ["device", null]);
  }));

/** Answers on the channel `memory` with the bytes of the buffers that exist. */
const COUNTED = `
const sizes = new WeakMap();
let bytes = 0;
const { createBuffer } = GPUDevice.prototype;
GPUDevice.prototype.createBuffer = function (descriptor) {
  const buffer = createBuffer.call(this, descriptor);
  sizes.set(buffer, descriptor.size);
  bytes += descriptor.size;
  return buffer;
};
const { destroy } = GPUBuffer.prototype;
GPUBuffer.prototype.destroy = function () {
  bytes -= sizes.get(this) ?? 0;
  sizes.delete(this);
  return destroy.call(this);
};
const channel = new BroadcastChannel("memory");
channel.onmessage = () => channel.postMessage(bytes);`;

test("a sequence that was replaced by another one leaves no memory behind on the adapter", () =>
  withModule(async (page) => {
    const bytes = await page.evaluate(
      async ({ source, prompt }) => {
        const { zamba2 } = /** @type {any} */ (globalThis);
        const options = { source, backend: "webgpu", weights: "f32", keep: false, webgpu: { tune: "off" } };
        const model = await zamba2.load(options);
        const channel = new BroadcastChannel("memory");
        /** @returns {Promise<number>} */
        const taken = () =>
          new Promise((resolve) => {
            channel.onmessage = ({ data }) => resolve(data);
            channel.postMessage("how many?");
          });
        const counts = [];
        for (let sequence = 0; sequence < 12; sequence += 1) {
          const ids = [sequence + 1, ...prompt];
          // Long enough for a state checkpoint.
          for await (const _ of model.generate(ids, { temperature: 0, max_tokens: 40, ignore_eos: true }));
          counts.push(await taken());
        }
        model.dispose();
        return counts;
      },
      { source: source(FIXTURE), prompt: expected(FIXTURE).input_ids },
    );
    assert.ok(bytes[0] > 0);
    // The first sequences make what the later ones use again. A few buffers wait for the next submission, or for as
    // many steps in flight as there may be; states left behind by nine sequences would be some 280 kB.
    const growth = bytes[11] - bytes[2];
    assert.ok(growth < 40_000, `${growth} more bytes: ${bytes}`);
  }, COUNTED));

test("if the weights do not fit on the device, loading continues on the CPU", () =>
  withModule(async (page) => {
    const auto = await loadAndRun(page, { source: source(FIXTURE) }, expected(FIXTURE).input_ids, 0);
    assertRight(auto, FIXTURE);
    assert.match(auto.info.backend, /^cpu-/);
    assert.equal(auto.info.backend_reason, "device_memory");
    assert.match(auto.info.backend_fault.message, /out of memory/i);
  }, DISGUISE + FULL));

test("a KV cache beyond the adapter's binding limit runs on the CPU, and is refused with an explicit `webgpu`", () =>
  withModule(async (page) => {
    const webgpu = { maxBindingBytes: 8192 };
    const auto = await loadAndRun(page, { source: source(FIXTURE), webgpu }, expected(FIXTURE).input_ids, 0);
    assertRight(auto, FIXTURE);
    assert.equal(auto.info.backend_reason, "device_limit");
    const asked = await loadAndRun(page, { source: source(FIXTURE), backend: "webgpu", webgpu }, [1], 0);
    assert.equal(asked.error?.code, "device_limit");
    assert.match(String(asked.error?.message), /keys of \d+ positions take \d+ bytes/);
  }, DISGUISE));

const withOptions = onePage((page) => prepareModule(page), undefined, {}, "webgpu");

for (const [name, value] of [
  ["maxBindingBytes", 0],
  ["maxBindingBytes", "all"],
  ["subgroups", 1],
  ["f32", true],
]) {
  test(`option webgpu.${name}: ${value} is refused with its name`, () =>
    withOptions(async (page) => {
      const { error } = await loadAndRun(page, { source: source(FIXTURE), webgpu: { [String(name)]: value } }, [1], 0);
      assert.equal(error?.code, "bad_option");
      assert.match(String(error?.message), new RegExp(`webgpu.${name}`));
    }));
}

// ---- the page ----

test("the page says which feature of the adapter is not used, and why", () =>
  withPage(
    async (page) => {
      await runInWorker(page, WRONG_SUBGROUPS);
      await replaceEmbedded(page, FIXTURE);
      await page.goto(`${SITE}/?backend=webgpu`);
      await waitForStatus(page, "Ready");
      const reasons = String(await page.textContent("#capability-reasons"));
      assert.match(reasons, /Subgroups: not used, because .*: got .*, expected /);
      assert.match(reasons, /Subgroups: no;/);
    },
    {},
    "webgpu",
  ));

test("the figures of a run that asks for drafts say that a graphics adapter makes none", () =>
  withPage(
    async (page) => {
      await page.goto(`${SITE}/?backend=webgpu`);
      await waitForStatus(page, "Ready");
      await setOptions(page, { lookup: "10", max_tokens: "2" });
      await page.click("#run");
      await waitForStatus(page, "Done");
      const drafts = page.locator("#metrics div", { hasText: "drafts" });
      assert.equal(await drafts.textContent(), "drafts (none on a graphics adapter)–");
    },
    {},
    "webgpu",
  ));

test("the page shows the adapter in use and offers a choice of backend", () =>
  withPage(
    async (page) => {
      await replaceEmbedded(page, FIXTURE);
      await page.goto(`${SITE}/?backend=webgpu`);
      await waitForStatus(page, "Ready");
      assert.match(String(await page.textContent("#capability")), /^WebGPU · .*swiftshader/i);
      assert.match(String(await page.textContent("#capability-reasons")), /software/);
      await loadWith(page, { backend: "cpu" });
      await page.waitForFunction(() => document.getElementById("capability")?.textContent?.startsWith("CPU"));
    },
    {},
    "webgpuAsItComes",
  ));
