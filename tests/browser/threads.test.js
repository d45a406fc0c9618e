// @ts-check
// The builds of the engine and their threads: all give the same bits, and fewer threads than requested are
// explained. Isolation is tested in isolation.test.js.

import assert from "node:assert/strict";
import {
  EMBEDDED,
  expected,
  importModule,
  openModule,
  sharedBrowser,
  test,
  withModule,
  withSharedModule,
} from "./harness.js";

/** @import { Page } from "playwright-core" */

/** As in module.test.js. */
const MAX_LOGIT_DIFFERENCE = 1e-3;
/** Together they use every op, at sizes that are not multiples of any tile. */
const FIXTURES = ["odd_sizes", "two_blocks_groups2_rope", "one_block_adapters_rope", "biases"];

/** @typedef {{ threads?: "auto" | number, relaxedSimd?: "auto" | false, weights?: string }} Options */

/**
 * The engine's info, and the bits of the logits of a prefill and some decode steps.
 * @param {Page} page @param {string} fixture @param {number[]} ids @param {Options} options
 * @returns {Promise<{ info: any, logits: number[], bits: number[] }>}
 */
function run(page, fixture, ids, options) {
  return page.evaluate(
    async ({ fixture, ids, options }) => {
      const model = await /** @type {any} */ (globalThis).zamba2.load({
        source: `/tests/fixtures/${fixture}/`,
        ...options,
      });
      const rows = [...(await model.logits(ids)), ...(await model.greedy(ids, 8)).logits];
      const logits = Float32Array.from(rows.flatMap((row) => [...row]));
      const { info } = model;
      model.dispose();
      return { info, logits: [...logits], bits: [...new Uint32Array(logits.buffer)] };
    },
    { fixture, ids, options },
  );
}

/**
 * Changes a module of the package, and imports the package again in the page.
 * @param {Page} page @param {string} file @param {(text: string) => string} changed
 */
async function changeModule(page, file, changed) {
  await page.route(`**/pkg/${file}`, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: changed(await response.text()) });
  });
  await importModule(page);
}

for (const fixture of FIXTURES) {
  test(`${fixture}: every build gives the same bits on any number of threads`, () =>
    withSharedModule(async (page) => {
      const { input_ids, prefill_logits } = expected(fixture);
      for (const weights of ["f32", "q8", "q4"]) {
        /** @type {number[] | null} */
        let first = null;
        for (const relaxedSimd of /** @type {const} */ ([false, "auto"])) {
          for (const threads of [1, 2, 3]) {
            const { info, logits, bits } = await run(page, fixture, input_ids, { weights, relaxedSimd, threads });
            const what = `${weights}, ${info.backend}, ${info.threads} threads`;
            assert.equal(info.backend, relaxedSimd === "auto" ? "cpu-relaxed-simd" : "cpu-simd128", what);
            assert.deepEqual([info.threads, info.threads_reason], [threads, "asked"], what);
            first ??= bits;
            assert.deepEqual(bits, first, `${what}: bits differ from plain SIMD on one thread`);
            if (weights !== "f32") continue;
            const prefill = prefill_logits.values;
            const worst = prefill.reduce((most, value, i) => Math.max(most, Math.abs(logits[i] - value)), 0);
            assert.ok(worst <= MAX_LOGIT_DIFFERENCE, `${what}: logits differ from the reference by ${worst}`);
          }
        }
      }
    }));
}

test("an isolated page uses one thread per core, or fewer if a trial found them faster", () =>
  withSharedModule(async (page) => {
    const { input_ids } = expected("biases");
    const all = await page.evaluate(() => Math.min(navigator.hardwareConcurrency, 8));
    const { info } = await run(page, "biases", input_ids, {});
    assert.ok([1, Math.floor(all / 2), all].includes(info.threads), `${info.threads} threads`);
    assert.deepEqual([info.threads_reason, info.isolated], [info.threads === all ? "auto" : "measured", true]);
  }));

test("the engine computes on the threads chosen by the trial, with the same bits", () =>
  withModule(async (page) => {
    const { input_ids } = expected("biases");
    // The trial is forced to run, so that there is a choice of threads on any machine.
    await page.route("**/pkg/host.js", async (route) => {
      const response = await route.fetch();
      await route.fulfill({
        response,
        body: (await response.text()).replace('build.threads_reason !== "auto"', "false"),
      });
    });
    const whole = await run(page, "biases", input_ids, { threads: 1 });
    const { info, bits } = await run(page, "biases", input_ids, { threads: 4 });
    assert.ok([1, 2, 4].includes(info.threads), `${info.threads} threads`);
    assert.deepEqual(bits, whole.bits);
    const { threads, report } = await page.evaluate(async (source) => {
      const model = await /** @type {any} */ (globalThis).zamba2.load({ source, threads: 4 });
      const report = await model.report({ runs: 1, warmup: 0, decode: 1 });
      const { threads } = model.info;
      model.dispose();
      return { threads, report };
    }, "/tests/fixtures/biases/");
    assert.deepEqual([report.conditions.threads, report.ceilings.threads], [threads, threads]);
  }));

test("many more threads than cores start and give the same bits", () =>
  withSharedModule(async (page) => {
    const { input_ids } = expected("biases");
    const whole = await run(page, "biases", input_ids, { threads: 1 });
    const { info, bits } = await run(page, "biases", input_ids, { threads: 24 });
    assert.deepEqual([info.threads, info.threads_reason], [24, "asked"]);
    assert.deepEqual(bits, whole.bits);
  }));

test("the engine runs without a thread that never answers", () =>
  withModule(async (page) => {
    const { input_ids } = expected("biases");
    const whole = await run(page, "biases", input_ids, { threads: 1 });
    await changeModule(page, "thread.js", (text) => `${text}\nif (name.endsWith("-2")) onmessage = () => {};`);
    const { info, bits } = await run(page, "biases", input_ids, { threads: 4 });
    assert.deepEqual([info.threads, info.threads_reason], [3, "workers_failed"]);
    assert.deepEqual(bits, whole.bits);
  }));

test("if threads cannot start, the engine runs on fewer with the same bits and reports the reason", () =>
  withModule(async (page) => {
    const { input_ids } = expected("biases");
    const whole = await run(page, "biases", input_ids, { threads: 1 });
    await changeModule(page, "start_threads.js", (text) =>
      text.replace("this.#script,", 'new URL("./nowhere.js", import.meta.url).href,'),
    );
    const { info, bits } = await run(page, "biases", input_ids, { threads: 3 });
    assert.deepEqual([info.threads, info.threads_reason], [1, "workers_failed"]);
    assert.deepEqual(bits, whole.bits);
  }));

test("if shared memory cannot be allocated, the engine runs on one thread and reports the reason", () =>
  withModule(async (page) => {
    await page.route("**/pkg/wasm_engine.js", async (route) => {
      const response = await route.fetch();
      const refusal = `const Memory = WebAssembly.Memory;
        WebAssembly.Memory = function (limits) {
          if (limits.shared) throw new RangeError("could not allocate memory");
          return new Memory(limits);
        };`;
      await route.fulfill({ response, body: `${await response.text()}\n${refusal}` });
    });
    const { info } = await run(page, "biases", expected("biases").input_ids, { threads: 2 });
    assert.deepEqual([info.threads, info.threads_reason], [1, "no_shared_memory"]);
  }));

test("a trap in a thread becomes an internal error of the call instead of an endless wait", async () => {
  // The panic is also written to the console, so console errors of this page are expected and not checked.
  const { context, page } = await openModule();
  const body = `onmessage = async ({ data: { address, module, memory } }) => {
    if (!address) return;
    const engine = await import(address);
    engine.initSync({ module, memory });
    engine.note_thread_trap();
    postMessage("ready");
  };`;
  await changeModule(page, "thread.js", () => body);
  // Loading also computes on the threads, so the trap may occur there first.
  const refusal = await page.evaluate(
    (source) =>
      /** @type {any} */ (globalThis).zamba2
        .load({ source, threads: 2 })
        .then((/** @type {any} */ model) => model.logits([1, 2, 3]))
        .then(
          () => "answered",
          (/** @type {any} */ error) => `${error.code}: ${error.message}`,
        ),
    "/tests/fixtures/biases/",
  );
  assert.match(refusal, /^internal: [^]*a worker thread panicked/);
  await context.close();
});

/** @type {[string, object][]} */
const BAD_OPTIONS = [
  ["no threads", { threads: 0 }],
  ["half a thread", { threads: 1.5 }],
  ["a thousand threads", { threads: 1000 }],
  ["threads in words", { threads: "two" }],
  ["relaxed SIMD by force", { relaxedSimd: true }],
];

for (const [what, options] of BAD_OPTIONS) {
  test(`${what} is refused as bad_option, with the option named`, () =>
    withSharedModule(async (page) => {
      const { code, message } = await page.evaluate(
        ({ source, options }) =>
          /** @type {any} */ (globalThis).zamba2.load({ source, ...options }).then(
            () => ({ code: "none" }),
            (/** @type {any} */ { code, message }) => ({ code, message }),
          ),
        { source: EMBEDDED, options },
      );
      assert.equal(code, "bad_option");
      assert.match(message, new RegExp(Object.keys(options)[0]));
    }));
}

test("dispose ends a model's threads", () =>
  withModule(async (page) => {
    const session = await (await sharedBrowser()).newBrowserCDPSession();
    const own = await page.context().newCDPSession(page);
    const {
      targetInfo: { browserContextId },
    } = await own.send("Target.getTargetInfo");
    const workers = async () => {
      const { targetInfos } = await session.send("Target.getTargets", { filter: [{}] });
      return targetInfos.filter((target) => target.type === "worker" && target.browserContextId === browserContextId)
        .length;
    };
    await page.evaluate(async (source) => {
      /** @type {any} */ (globalThis).model = await /** @type {any} */ (globalThis).zamba2.load({ source, threads: 3 });
    }, "/tests/fixtures/biases/");
    assert.equal(await workers(), 3);
    await page.evaluate(() => /** @type {any} */ (globalThis).model.dispose());
    while ((await workers()) > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  }));

test("the main thread stays responsive while two threads generate", () =>
  withSharedModule(async (page) => {
    const { ticks, tokens } = await page.evaluate(async (source) => {
      const model = await /** @type {any} */ (globalThis).zamba2.load({ source, threads: 2 });
      let ticks = 0;
      let tokens = 0;
      const ticking = setInterval(() => {
        ticks += 1;
      }, 1);
      for await (const _ of model.generate("Ownership is", { max_tokens: 100, ignore_eos: true })) tokens += 1;
      clearInterval(ticking);
      model.dispose();
      return { ticks, tokens };
    }, EMBEDDED);
    assert.equal(tokens, 100);
    assert.ok(ticks > 1, `${ticks} ticks`);
  }));
