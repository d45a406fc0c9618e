// @ts-check
// Weights stored on the device: second visits, interrupted loads, damaged files, no space, two tabs, and another
// version on the server; and prompts that are prefilled while weights arrive. Chromium with real OPFS.

import assert from "node:assert/strict";
import {
  EMBEDDED,
  expected,
  fixtureFiles,
  importModule,
  loadFrom,
  openPage,
  SITE,
  test,
  until,
  withProfile,
  withSharedModule,
  withVocabulary,
} from "./harness.js";
import { MockHub } from "./mock_hub.js";

/** @import { BrowserContext, Page } from "playwright-core" */

const FIXTURE = "two_blocks_groups2_rope";

/**
 * A hub, and a page with the module in a context that all tests share; what is stored there is deleted before each.
 * @param {(hub: MockHub, page: Page, context: BrowserContext) => Promise<void>} body
 */
async function withHub(body) {
  const hub = await MockHub.start(fixtureFiles(FIXTURE));
  try {
    await withSharedModule(async (page) => {
      const context = page.context();
      try {
        await body(hub, page, context);
      } finally {
        for (const other of context.pages()) if (other !== page) await other.close();
      }
    }, hub.origins);
  } finally {
    await hub.stop();
  }
}

/** A new page with the module as `zamba2`. @param {BrowserContext} context */
async function modulePage(context) {
  const page = await context.newPage();
  await importModule(page);
  return page;
}

/** @param {Page} page @param {string} source @param {object} [options] for `load` */
const loadAndRun = (page, source, options) => loadFrom(page, FIXTURE, source, { weights: "f32", ...options });

/** Logits within 2e-3 of the reference's, the tolerance of the model tests in f32. @param {number[][]} logits */
function assertRight(logits) {
  const { values } = expected(FIXTURE).prefill_logits;
  const got = logits.flat();
  assert.equal(got.length, values.length);
  for (const [i, value] of got.entries())
    assert.ok(Math.abs(value - values[i]) < 2e-3, `logit ${i}: got ${value}, expected ${values[i]}`);
}

test("a second visit reads only from the device and gives the same bits", () =>
  withHub(async (hub, page, context) => {
    const first = await loadAndRun(page, hub.folder);
    assert.equal(first.error, null);
    assertRight(first.logits);
    assert.deepEqual(first.keeping, { state: "kept", reason: null });
    const contacts = hub.contacts.length;
    assert.ok(contacts > 0);

    const second = await loadAndRun(await modulePage(context), hub.folder);
    assert.equal(hub.contacts.length, contacts, "no request was sent");
    assert.deepEqual(second.logits, first.logits);
    assert.equal(second.progress.received_bytes, 0);
    assert.ok(second.progress.device_bytes > 0);
    assert.equal(second.progress.origin, "device");
  }));

test("stored models are listed and can be deleted, after which everything is downloaded again", () =>
  withHub(async (hub, page) => {
    await loadAndRun(page, hub.folder);
    const kept = await page.evaluate(() => /** @type {any} */ (globalThis).zamba2.keptModels());
    assert.equal(kept.length, 1);
    assert.equal(kept[0].source, hub.folder);
    assert.equal(kept[0].weights, "f32");
    assert.equal(kept[0].complete, true);
    assert.ok(kept[0].bytes > fixtureFiles(FIXTURE)["model.safetensors"].length);
    await page.evaluate((key) => /** @type {any} */ (globalThis).zamba2.forgetModel(key), kept[0].key);
    assert.deepEqual(await page.evaluate(() => /** @type {any} */ (globalThis).zamba2.keptModels()), []);
    const contacts = hub.contacts.length;
    assertRight((await loadAndRun(page, hub.folder)).logits);
    assert.ok(hub.contacts.length > contacts);
  }));

test("an interrupted load resumes after the last complete unit", () =>
  withHub(async (hub, page, context) => {
    const bytes = fixtureFiles(FIXTURE)["model.safetensors"].length;
    // The connection drops in the middle of the file on every attempt.
    hub.faults.push({ file: "model.safetensors", drop_at: Math.floor(bytes * 0.6), times: 1000 });
    const broken = await loadAndRun(page, hub.folder);
    assert.equal(broken.error?.code, "network");
    assert.ok(broken.progress.received_bytes > 0);
    hub.faults.length = 0;

    const resumed = await loadAndRun(await modulePage(context), hub.folder);
    assert.equal(resumed.error, null);
    assertRight(resumed.logits);
    assert.ok(resumed.progress.device_bytes > 0, "stored units were not downloaded again");
    assert.ok(resumed.progress.received_bytes < resumed.progress.total_bytes);
  }));

/**
 * Stops in the middle of a load, in a profile on disk, and calls `body` with a new page.
 * @param {Record<string, Buffer>} files
 * @param {{ stall_at: number, kept_bytes: number, stop: (page: Page) => Promise<unknown> }} stop
 * @param {(hub: MockHub, page: Page) => Promise<void>} body with a new page of the same profile
 */
async function afterStop(files, { stall_at, kept_bytes, stop }, body) {
  const hub = await MockHub.start(files);
  try {
    await withProfile(async (context) => {
      hub.faults.push({ file: "model.safetensors", stall_at, times: 1000 });
      const page = await modulePage(context);
      await page.evaluate((source) => {
        const { zamba2 } = /** @type {any} */ (globalThis);
        zamba2.open({ source, weights: "f32" }).ready.catch(() => {});
      }, hub.folder);
      await until(
        page,
        async (kept_bytes) => (await /** @type {any} */ (globalThis).zamba2.keptModels())[0]?.bytes > kept_bytes,
        kept_bytes,
      );
      await stop(page);
      hub.faults.length = 0;
      hub.sent_bytes.clear();
      await body(hub, await modulePage(context));
    });
  } finally {
    await hub.stop();
  }
}

/** @type {[string, (page: Page) => Promise<unknown>][]} */
const STOPS = [
  ["closed", (page) => page.close()],
  ["loaded anew", (page) => page.reload()],
  // A Chromium URL that kills the tab's process; the navigation never completes.
  ["killed", (page) => page.goto("chrome://crash").catch(() => {})],
];

for (const [how, stop] of STOPS) {
  test(`a page that is ${how} in the middle of a load loses no complete unit`, () => {
    const files = fixtureFiles(FIXTURE);
    const stall_at = Math.floor(files["model.safetensors"].length * 0.6);
    return afterStop(files, { stall_at, kept_bytes: 40_000, stop }, async (hub, page) => {
      const resumed = await loadAndRun(page, hub.folder);
      assert.equal(resumed.error, null);
      assertRight(resumed.logits);
      assert.ok(resumed.progress.device_bytes > 0);
      assert.ok(resumed.progress.received_bytes < resumed.progress.total_bytes);
    });
  });
}

/** The fixture with an embedding that is larger than what is flushed at a time. */
const withLargeEmbedding = () => withVocabulary(fixtureFiles(FIXTURE), 300_000);

/**
 * Loads and gives a hash of the last row of logits, because the logits of this vocabulary are slow to transfer.
 */
const hashOfRun = (/** @type {Page} */ page, /** @type {string} */ source, keep = true) =>
  page.evaluate(
    async ({ source, keep }) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      /** @type {any} */
      let last = null;
      const model = await zamba2.load({
        source,
        weights: "f32",
        keep,
        onProgress: (/** @type {any} */ p) => (last = p),
      });
      const rows = await model.logits([1, 5, 9]);
      const { keeping } = model.info;
      model.dispose();
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", rows.at(-1)));
      return { hash: digest.join(), keeping, received_bytes: last.received_bytes, device_bytes: last.device_bytes };
    },
    { source, keep },
  );

test("a load killed in the middle of a large unit resumes inside it with the same bits", () => {
  const files = withLargeEmbedding();
  const file_bytes = files["model.safetensors"].length;
  // The embedding is the first unit and most of the file. Two chunks of 8 MB of it are flushed.
  const stop = { stall_at: Math.floor(file_bytes * 0.75), kept_bytes: 16 << 20, stop: STOPS[2][1] };
  return afterStop(files, stop, async (hub, page) => {
    const resumed = await hashOfRun(page, hub.folder);
    assert.ok(resumed.device_bytes >= 16 << 20);
    assert.ok(
      (hub.sent_bytes.get("model.safetensors") ?? 0) < file_bytes - (15 << 20),
      "flushed bytes were not downloaded again",
    );
    const straight = await hashOfRun(page, hub.folder, false);
    assert.equal(resumed.hash, straight.hash);
    const second = await hashOfRun(page, hub.folder);
    assert.equal(second.received_bytes, 0);
    assert.equal(second.hash, straight.hash);
  });
});

test("only a damaged unit is downloaded again", () =>
  withHub(async (hub, page) => {
    await loadAndRun(page, hub.folder);
    await page.evaluate(async () => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("zamba2");
      for await (const folder of /** @type {any} */ (root).values()) {
        const file = await folder.getFileHandle("unit.blocks.1.bin");
        const bytes = new Uint8Array(await (await file.getFile()).arrayBuffer());
        bytes[bytes.length >> 1] ^= 1;
        const writable = await file.createWritable();
        await writable.write(bytes);
        await writable.close();
      }
    });
    const repaired = await loadAndRun(page, hub.folder);
    assertRight(repaired.logits);
    assert.ok(repaired.progress.received_bytes > 0);
    assert.ok(repaired.progress.received_bytes < repaired.progress.total_bytes / 2, "one block of several");
    const again = await loadAndRun(page, hub.folder);
    assert.equal(again.progress.received_bytes, 0, "the unit is stored again");
  }));

test("without storage quota the model runs from memory and reports it", () =>
  withHub(async (hub, _, context) => {
    const page = await modulePage(context);
    const devtools = await context.newCDPSession(page);
    await devtools.send("Storage.overrideQuotaForOrigin", { origin: new URL(SITE).origin, quotaSize: 20_000 });
    const run = await loadAndRun(page, hub.folder);
    assert.equal(run.error, null);
    assertRight(run.logits);
    assert.equal(run.keeping?.state, "refused");
    assert.ok(run.keeping?.reason, "the browser's reason is reported");
  }));

test("when the disk fills up during a load, the stored bytes are kept and the next visit resumes there", async () => {
  const hub = await MockHub.start(withLargeEmbedding());
  const { context, page: first } = await openPage();
  try {
    // The first page stays open: what it stores in memory for this context would be lost with it.
    await first.goto(`${SITE}/pkg/zamba2.js`);
    const page = await modulePage(context);
    const devtools = await context.newCDPSession(page);
    const origin = new URL(SITE).origin;
    await devtools.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 20 << 20 });
    const straight = await hashOfRun(page, hub.folder);
    assert.equal(straight.keeping.state, "refused");
    const kept = await page.evaluate(() => /** @type {any} */ (globalThis).zamba2.keptModels());
    assert.equal(kept[0].complete, false);
    assert.ok(kept[0].bytes > 16 << 20 && kept[0].bytes < 20 << 20, `${kept[0].bytes} bytes are stored`);

    await devtools.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 1 << 30 });
    const resumed = await hashOfRun(page, hub.folder);
    assert.equal(resumed.keeping.state, "kept");
    assert.ok(resumed.device_bytes >= 16 << 20);
    assert.equal(resumed.hash, straight.hash);
    assert.equal((await hashOfRun(page, hub.folder)).received_bytes, 0);
  } finally {
    await context.close();
    await hub.stop();
  }
});

test("a second tab that loads the same model runs from memory, and both give the right logits", () =>
  withHub(async (hub, one, context) => {
    hub.faults.push({ file: "model.safetensors", stall_at: 20_000, times: 1 });
    // The first tab holds its lock on the model until the second one has stopped waiting for it.
    const two = await modulePage(context);
    const slow = loadAndRun(one, hub.folder);
    await until(
      one,
      async () => (await navigator.locks.query()).held?.some(({ name }) => name?.startsWith("zamba2-store")) ?? false,
      null,
    );
    const beside = await loadAndRun(two, hub.folder);
    assert.deepEqual(beside.keeping, { state: "refused", reason: "other_tab" });
    assertRight(beside.logits);
    hub.dropStalled();
    const first = await slow;
    assert.deepEqual(first.keeping, { state: "kept", reason: null });
    assertRight(first.logits);
  }));

test("weights of two versions are never mixed: the load fails once, and the next one starts over", () =>
  withHub(async (hub, page) => {
    const whole = fixtureFiles(FIXTURE)["model.safetensors"];
    hub.faults.push({ file: "model.safetensors", drop_at: Math.floor(whole.length * 0.6), times: 1000 });
    assert.equal((await loadAndRun(page, hub.folder)).error?.code, "network");
    hub.faults.length = 0;
    // The same header and size, different weights.
    const other = Buffer.from(whole);
    other.fill(0, other.length - 64);
    hub.replace("model.safetensors", other);
    const mixed = await loadAndRun(page, hub.folder);
    assert.equal(mixed.error?.code, "changed");
    const fresh = await loadAndRun(page, hub.folder);
    assert.equal(fresh.error, null);
    assert.equal(fresh.progress.device_bytes, 0);
  }));

test("an invalid config.json is not kept: once it is corrected on the server, the model loads", () =>
  withHub(async (hub, page) => {
    hub.replace("config.json", Buffer.from("{"));
    assert.equal((await loadAndRun(page, hub.folder)).error?.code, "bad_config");
    hub.replace("config.json", fixtureFiles(FIXTURE)["config.json"]);
    assertRight((await loadAndRun(page, hub.folder)).logits);
  }));

test("with `keep: false` nothing is stored", () =>
  withHub(async (hub, page) => {
    const run = await loadAndRun(page, hub.folder, { keep: false });
    assert.deepEqual(run.keeping, { state: "off", reason: null });
    assert.deepEqual(await page.evaluate(() => /** @type {any} */ (globalThis).zamba2.keptModels()), []);
  }));

test("a prompt given while blocks arrive produces the same text as one given afterwards", () =>
  withHub(async (_, page) => {
    const result = await page.evaluate(async (source) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const options = { temperature: 0, max_tokens: 24 };
      const read = async (/** @type {any} */ model, /** @type {number[]} */ blocks) => {
        let text = "";
        for await (const piece of model.generate("The borrow checker", {
          ...options,
          onPrefill: (/** @type {any} */ p) => blocks.push(p.block),
        }))
          text += piece;
        return text;
      };
      /** @type {number[]} */
      const early_blocks = [];
      let blocks_before_ready = 0;
      const model = zamba2.open({ source, weights: "q8", keep: false });
      const early = read(model, early_blocks);
      await model.ready;
      blocks_before_ready = early_blocks.length;
      const early_text = await early;
      const late_text = await read(model, []);
      const n_blocks = model.info.n_blocks;
      model.dispose();
      return { early_text, late_text, blocks_before_ready, n_blocks };
    }, `${SITE}${EMBEDDED}`);
    assert.equal(result.early_text, result.late_text);
    assert.ok(result.early_text.length > 0);
    assert.equal(
      result.blocks_before_ready,
      result.n_blocks,
      "every block had processed the prompt when the last weights arrived",
    );
  }));

test("a paused load downloads no more bytes and resumes where it was", () =>
  withHub(async (_, page) => {
    const result = await page.evaluate(async (source) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      /** @type {any} */
      let last = null;
      const model = zamba2.open({
        source,
        weights: "q8",
        keep: false,
        onProgress: (/** @type {any} */ p) => (last = p),
      });
      model.pauseLoading();
      const wait = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));
      while (last?.phase !== "weights") await wait(50);
      // Long enough for an unpaused load to finish.
      await wait(1500);
      const while_paused = last;
      model.resumeLoading();
      await model.ready;
      model.dispose();
      return { while_paused, at_the_end: last };
    }, `${SITE}${EMBEDDED}`);
    assert.equal(
      result.while_paused.phase,
      "weights",
      "only headers, which are small, are read before the pause takes effect",
    );
    assert.ok(result.while_paused.total_bytes > 0, "the total size is known while paused");
    assert.ok(result.while_paused.loaded_bytes < result.while_paused.total_bytes);
    assert.equal(result.while_paused.total_bytes, result.at_the_end.total_bytes);
    assert.equal(result.at_the_end.loaded_bytes, result.at_the_end.total_bytes);
  }));
