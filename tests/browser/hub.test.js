// @ts-check
// Reading from the Hub in Chromium, against a mock on two other origins: changed files, servers without range support,
// aborts, and whole models. Most tests use UrlSource alone and compare its bytes with the fixture's. Retries are in
// hub_retries.test.js.

import assert from "node:assert/strict";
import { expected, fixtureFiles, test } from "./harness.js";
import {
  asked,
  assertBytes,
  assertRefused,
  CONFIG,
  END,
  FIXTURE,
  IMPATIENT,
  openSource,
  QUICK,
  read,
  START,
  waitFor,
  weights,
  WEIGHTS,
  withHub,
} from "./hub.js";

/** @import { Page } from "playwright-core" */
/** @import { Wait, RetryPolicy } from "../../www/engine/retry_policy.js" */
/** @import { MockHub, Fault } from "./mock_hub.js" */

/** As in module.test.js. */
const MAX_LOGIT_DIFFERENCE = 1e-3;

test("a range and a whole file are read through the redirect, byte for byte, without a wait", () =>
  withHub(async (page, hub) => {
    await openSource(page, hub);
    const range = await read(page, WEIGHTS, [START, END]);
    assertBytes(range, asked());
    assert.equal(range.file_bytes, weights().length);
    const config = await read(page, CONFIG, null);
    assertBytes(config, fixtureFiles(FIXTURE)[CONFIG]);
    assert.deepEqual([...range.waits, ...config.waits], []);
    assert.deepEqual(
      hub.contactsOf("cdn", WEIGHTS).map(({ range, status }) => [range, status]),
      [[`bytes=${START}-${END - 1}`, 206]],
    );
  }));

test("a file replaced by one of the same size is detected by its ETag, and no byte of it is returned", () =>
  withHub(async (page, hub) => {
    await openSource(page, hub);
    assertBytes(await read(page, WEIGHTS, [0, START]), weights().subarray(0, START));
    const other = Buffer.from(weights());
    other[60_000] ^= 1;
    hub.replace(WEIGHTS, other);
    const reading = await read(page, WEIGHTS, [START, END]);
    assertRefused(reading, "changed", WEIGHTS, asked());
    assert.match(reading.error?.message ?? "", /changed on the server/);
    assert.equal(reading.bytes, 0);
  }));

test("a file replaced by a longer one is detected by its size, even if the ETag is not exposed", () =>
  withHub(async (page, hub) => {
    hub.exposed = "Content-Range";
    await openSource(page, hub);
    assertBytes(await read(page, WEIGHTS, [0, START]), weights().subarray(0, START));
    hub.replace(WEIGHTS, Buffer.concat([weights(), Buffer.alloc(16)]));
    const reading = await read(page, WEIGHTS, [START, END]);
    assertRefused(reading, "changed", WEIGHTS, asked());
    assert.match(reading.error?.message ?? "", /changed on the server/);
    assert.equal(reading.bytes, 0);
  }));

test("a file that shrank below the range is reported as changed, not as truncated", () =>
  withHub(async (page, hub) => {
    await openSource(page, hub);
    assertBytes(await read(page, WEIGHTS, [0, START]), weights().subarray(0, START));
    hub.replace(WEIGHTS, weights().subarray(0, START));
    const reading = await read(page, WEIGHTS, [START, END]);
    assertRefused(reading, "changed", WEIGHTS, asked());
    assert.match(reading.error?.message ?? "", /changed on the server/);
  }));

test("a server that does not expose Content-Range works, and its size is requested once", () =>
  withHub(async (page, hub) => {
    hub.exposed = "ETag";
    hub.faults.push({ file: WEIGHTS, drop_at: 40_000 });
    await openSource(page, hub);
    const first = await read(page, WEIGHTS, [START, END]);
    assertBytes(first, asked());
    assert.equal(first.file_bytes, weights().length);
    const second = await read(page, WEIGHTS, [0, START]);
    assertBytes(second, weights().subarray(0, START));
    assert.equal(second.file_bytes, weights().length);
    assert.equal(hub.contactsOf("cdn", WEIGHTS).filter(({ range }) => range === "bytes=0-").length, 1);
  }));

test("from a server that ignores Range the whole file is read, and read again only after an interruption", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, whole: true, drop_at: 40_000 }, { file: WEIGHTS, times: Infinity, whole: true });
    await openSource(page, hub);
    const first = await read(page, WEIGHTS, [START, END]);
    assertBytes(first, asked());
    assert.equal(first.file_bytes, weights().length);
    assertBytes(await read(page, WEIGHTS, [0, START]), weights().subarray(0, START));
    assert.equal(hub.contactsOf("cdn", WEIGHTS).length, 2);
  }));

test("if a server stops supporting Range midway, the whole file is read and no byte is returned twice", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, stall_at: 40_000 }, { file: WEIGHTS, whole: true });
    await openSource(page, hub, IMPATIENT);
    assertBytes(await read(page, WEIGHTS, [START, END]), asked());
  }));

test("the beginning of a file that is sent whole can be read while the rest arrives", () =>
  withHub(async (page, hub) => {
    // The connection stays open, and counts as stalled only after the end of the test.
    hub.faults.push({ file: WEIGHTS, whole: true, stall_at: 40_000 });
    await openSource(page, hub);
    const reading = await read(page, WEIGHTS, [START, 30_000]);
    assertBytes(reading, weights().subarray(START, 30_000));
    assert.equal(reading.file_bytes, weights().length);
    assert.equal(hub.contactsOf("cdn", WEIGHTS).length, 1);
  }));

test("a file that is sent whole resumes with a range once the server supports it", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, whole: true, drop_at: 40_000 });
    await openSource(page, hub);
    assertBytes(await read(page, WEIGHTS, [START, END]), asked());
    const contacts = hub.contactsOf("cdn", WEIGHTS);
    assert.deepEqual(
      contacts.map(({ status }) => status),
      [200, 206],
    );
    // A connection reset may lose the last bytes sent, so the server does not know where the next request will start.
    const goes_on_at = Number(/^bytes=(\d+)-$/.exec(contacts[1].range ?? "")?.[1]);
    assert.ok(goes_on_at <= 40_000, `resumed at ${goes_on_at}`);
    assert.equal(
      hub.sent_bytes.get(WEIGHTS),
      40_000 + weights().length - goes_on_at,
      "no received byte was sent again",
    );
  }));

test("a file that is sent whole without Content-Length is read once it is complete", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, whole: true, chunked: true });
    await openSource(page, hub);
    const reading = await read(page, WEIGHTS, [START, END]);
    assertBytes(reading, asked());
    assert.equal(reading.file_bytes, weights().length);
  }));

test("a range is returned while the consumer of an earlier one is still waiting", () =>
  withHub(async (page, hub) => {
    await openSource(page, hub);
    const order = await page.evaluate(async (file) => {
      const {
        source,
        controller: { signal },
      } = /** @type {any} */ (globalThis);
      const order = [];
      const first = await source.range(file, 0, 50_000, signal);
      order.push("first answered");
      const second = await source.range(file, 50_000, 100_000, signal);
      order.push("second answered");
      for (const { chunks } of [first, second]) {
        let bytes = 0;
        for await (const chunk of chunks) bytes += chunk.byteLength;
        order.push(`${bytes} bytes`);
      }
      return order;
    }, WEIGHTS);
    assert.deepEqual(order, ["first answered", "second answered", "50000 bytes", "50000 bytes"]);
  }));

test("a slow consumer is not mistaken for a stall", () =>
  withHub(async (page, hub) => {
    await openSource(page, hub, IMPATIENT);
    const { bytes, waits } = await page.evaluate(
      async ({ file, slow_ms }) => {
        const {
          source,
          waits,
          controller: { signal },
        } = /** @type {any} */ (globalThis);
        let bytes = 0;
        for await (const chunk of (await source.range(file, 0, 100_000, signal)).chunks) {
          if (bytes === 0) await new Promise((resolve) => setTimeout(resolve, slow_ms));
          bytes += chunk.byteLength;
        }
        return { bytes, waits };
      },
      { file: WEIGHTS, slow_ms: 3 * IMPATIENT.stall_ms },
    );
    assert.equal(bytes, 100_000);
    assert.deepEqual(waits, []);
  }));

test("while offline the source waits for a connection and uses no attempt", () =>
  withHub(async (page, hub) => {
    await openSource(page, hub, { ...QUICK, attempts: 1 });
    await page.context().setOffline(true);
    const reading = read(page, WEIGHTS, [START, END]);
    await waitFor(page, "offline");
    assert.equal(hub.contacts.length, 0);
    await page.context().setOffline(false);
    const { waits, ...rest } = await reading;
    assertBytes({ waits, ...rest }, asked());
    assert.deepEqual(waits, [
      { file: WEIGHTS, at: START, reason: "offline", status: null, attempt: 0, delay_ms: 0 },
      null,
    ]);
  }));

/** @type {[string, Omit<Fault, "file"> | null, RetryPolicy, Wait["reason"] | null][]} */
const ABORTED = [
  ["a back-off", { status: 503 }, { ...QUICK, first_delay_ms: 3_600_000 }, "status"],
  ["a stall", { stall_at: 40_000 }, { ...QUICK, stall_ms: 3_600_000 }, null],
  ["an offline wait", null, QUICK, "offline"],
];

for (const [what, fault, retry, reason] of ABORTED) {
  test(`an abort takes effect during ${what}`, () =>
    withHub(async (page, hub) => {
      if (fault) hub.faults.push({ file: WEIGHTS, ...fault });
      await openSource(page, hub, retry);
      await page.context().setOffline(reason === "offline");
      const reading = read(page, WEIGHTS, [START, END]);
      if (reason) await waitFor(page, reason);
      else while (hub.contactsOf("cdn", WEIGHTS).length === 0) await page.waitForTimeout(10);
      await page.evaluate(() => /** @type {any} */ (globalThis).controller.abort(new Error("the user left")));
      const { error, waits } = await reading;
      assert.equal(error?.message, "the user left");
      assert.equal(waits.at(-1) ?? null, null, "no wait is left open");
    }));
}

test("hubFolder gives the URL of a repository, with the revision as one path segment", () =>
  withHub(async (page) => {
    const addresses = await page.evaluate(() => {
      const { hubFolder } = /** @type {any} */ (globalThis);
      return [hubFolder("Zyphra/Zamba2-1.2B"), hubFolder("Zyphra/Zamba2-1.2B", "refs/pr/1")];
    });
    assert.deepEqual(addresses, [
      "https://huggingface.co/Zyphra/Zamba2-1.2B/resolve/main/",
      "https://huggingface.co/Zyphra/Zamba2-1.2B/resolve/refs%2Fpr%2F1/",
    ]);
  }));

test("hubFolder refuses what is not owner/name, as bad_option", () =>
  withHub(async (page) => {
    const names = [
      "",
      "Zamba2",
      "Zyphra/",
      "/Zamba2",
      "a/b/c",
      "a b/c",
      "../name",
      "owner/..",
      "https://huggingface.co/a/b",
      "a/b?c",
    ];
    const codes = await page.evaluate(
      (names) =>
        names.map((name) => {
          try {
            return /** @type {any} */ (globalThis).hubFolder(name);
          } catch (error) {
            return /** @type {any} */ (error).code;
          }
        }),
      names,
    );
    assert.deepEqual(
      codes,
      names.map(() => "bad_option"),
    );
  }));

/** @param {Page} page @param {MockHub} hub @param {number[]} ids */
const logitsOf = (page, hub, ids) =>
  page.evaluate(
    async ({ source, retry, ids }) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const model = await zamba2.load({ source, weights: "f32", retry });
      const logits = (await model.logits(ids)).flatMap((/** @type {Float32Array} */ row) => [...row]);
      model.dispose();
      return logits;
    },
    { source: hub.folder, retry: { ...QUICK, attempts: 10 }, ids },
  );

/** @param {number[]} actual @param {number[]} reference */
function assertLogits(actual, reference) {
  assert.equal(actual.length, reference.length);
  // Written so that NaN counts as a difference.
  const different = actual.filter((value, i) => !(Math.abs(value - reference[i]) <= MAX_LOGIT_DIFFERENCE));
  assert.deepEqual(different, []);
}

for (const fixture of [FIXTURE, "sharded_bf16"]) {
  test(`${fixture} loaded from the hub gives the reference's logits`, () =>
    withHub(async (page, hub) => {
      const { input_ids, prefill_logits } = expected(fixture);
      assertLogits(await logitsOf(page, hub, input_ids), prefill_logits.values);
    }, fixture));
}

test("a model from a server without range support is fetched once and gives the reference's logits", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, times: Infinity, whole: true });
    const { input_ids, prefill_logits } = expected(FIXTURE);
    assertLogits(await logitsOf(page, hub, input_ids), prefill_logits.values);
    assert.equal(hub.contactsOf("cdn", WEIGHTS).length, 1);
  }));

test("a model loaded over an unreliable network gives the reference's logits", () =>
  withHub(async (page, hub) => {
    hub.redirect_max_age_s = 3600;
    hub.faults.push(
      { file: CONFIG, status: 500 },
      { file: WEIGHTS, status: 503, from: "hub", after: 1 },
      { file: WEIGHTS, drop_at: 20_000 },
      { file: WEIGHTS, short_by: 5, chunked: true, after: 3 },
      { file: WEIGHTS, status: 403, after: 4 },
      { file: WEIGHTS, drop_at: 100_000 },
    );
    const { input_ids, prefill_logits } = expected(FIXTURE);
    assertLogits(await logitsOf(page, hub, input_ids), prefill_logits.values);
    assert.deepEqual(
      hub.faults.filter(({ times }) => times !== 0),
      [],
      "every fault was triggered",
    );
  }));

test("a header longer than the file is refused when loaded from the hub", () =>
  withHub(async (page, hub) => {
    const claim = Buffer.alloc(8);
    claim.writeBigUInt64LE(1n << 60n);
    hub.faults.push({ file: WEIGHTS, times: Infinity, patch: { at: 0, bytes: claim } });
    const refusal = await logitsOf(page, hub, [1, 2]).then(
      () => "loaded",
      (error) => error.message,
    );
    assert.match(refusal, /model\.safetensors.*header|header.*model\.safetensors/);
  }));
