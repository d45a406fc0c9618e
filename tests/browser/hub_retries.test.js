// @ts-check
// Failed requests to the Hub in Chromium: which are retried, when and how often, and which fail at once.

import assert from "node:assert/strict";
import { fixtureFiles, test } from "./harness.js";
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
  reasons,
  START,
  waitFor,
  weights,
  WEIGHTS,
  withHub,
} from "./hub.js";

/** @import { Wait, RetryPolicy } from "../../www/engine/retry_policy.js" */
/** @import { Fault } from "./mock_hub.js" */

/** @type {[string, Omit<Fault, "file">[], Wait["reason"], Partial<RetryPolicy>][]} */
const CURED = [
  ["a connection dropped before any byte", [{ drop_at: START }], "dropped", QUICK],
  ["a connection dropped in the middle", [{ drop_at: 40_000 }], "dropped", QUICK],
  [
    "a connection dropped three times",
    [{ drop_at: 20_000 }, { drop_at: 50_001 }, { drop_at: 94_999 }],
    "dropped",
    QUICK,
  ],
  ["a response that stalls before any byte", [{ stall_at: START }], "stalled", IMPATIENT],
  ["a response that stalls in the middle", [{ stall_at: 40_000 }], "stalled", IMPATIENT],
  ["a body that ends early without an error", [{ short_by: 777, chunked: true }], "dropped", QUICK],
  ["a server error", [{ status: 500 }, { status: 503 }], "status", QUICK],
  ["an overloaded hub", [{ status: 503, from: "hub" }], "status", QUICK],
  ["a request that times out at the server", [{ status: 408 }], "status", QUICK],
];

for (const [what, faults, reason, retry] of CURED) {
  test(`${what} is handled by a retry through the hub, and no byte is returned twice`, () =>
    withHub(async (page, hub) => {
      hub.faults.push(...faults.map((fault) => ({ file: WEIGHTS, ...fault })));
      await openSource(page, hub, retry);
      const reading = await read(page, WEIGHTS, [START, END]);
      assertBytes(reading, asked());
      assert.ok(reasons(reading).includes(reason), `waited because of ${reasons(reading)}`);
      assert.equal(reading.waits.at(-1), null, "the end of the wait is reported");
      assert.ok(
        reading.waits.every((wait) => wait === null || (wait.file === WEIGHTS && wait.at >= START && wait.at < END)),
      );
      // Each attempt resolves the redirect again.
      assert.ok(hub.contactsOf("hub", WEIGHTS).length > faults.length);
    }));
}

test("a read resumes at the byte where it stopped", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, stall_at: 40_000 });
    await openSource(page, hub, IMPATIENT);
    assertBytes(await read(page, WEIGHTS, [START, END]), asked());
    assert.equal(hub.contactsOf("cdn", WEIGHTS).at(-1)?.range, `bytes=40000-${END - 1}`);
  }));

test("every byte received resets the count of failed attempts", () =>
  withHub(async (page, hub) => {
    hub.faults.push(...[20_000, 40_000, 60_000, 80_000].map((stall_at) => ({ file: WEIGHTS, stall_at })));
    await openSource(page, hub, { ...IMPATIENT, attempts: 3 });
    assertBytes(await read(page, WEIGHTS, [START, END]), asked());
  }));

test("a small file that is interrupted is read again from its start", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: CONFIG, drop_at: 700 }, { file: CONFIG, status: 502 }, { file: CONFIG, status: 403 });
    await openSource(page, hub);
    const reading = await read(page, CONFIG, null);
    assertBytes(reading, fixtureFiles(FIXTURE)[CONFIG]);
    assert.deepEqual(reasons(reading), ["dropped", "status"]);
  }));

test("an expired signature is replaced by a request to the hub", () =>
  withHub(async (page, hub) => {
    await openSource(page, hub);
    assertBytes(await read(page, WEIGHTS, [0, START]), weights().subarray(0, START));
    hub.faults.push({ file: WEIGHTS, status: 403 });
    const reading = await read(page, WEIGHTS, [START, END]);
    assertBytes(reading, asked());
    assert.deepEqual(
      reading.waits.map((wait) => wait && wait.status),
      [403, null],
    );
    assert.equal(hub.contactsOf("hub", WEIGHTS).length, 3);
  }));

test("a cached redirect is not used after its signature has expired", () =>
  withHub(async (page, hub) => {
    hub.redirect_max_age_s = 3600;
    await openSource(page, hub);
    assertBytes(await read(page, WEIGHTS, [0, START]), weights().subarray(0, START));
    hub.expireSignatures();
    assertBytes(await read(page, WEIGHTS, [START, END]), asked());
  }));

test("a Retry-After delay is respected", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, status: 429, from: "hub", headers: { "Retry-After": "1" } });
    await openSource(page, hub);
    const reading = await read(page, WEIGHTS, [START, END]);
    assertBytes(reading, asked());
    assert.deepEqual(reading.waits, [
      { file: WEIGHTS, at: START, reason: "status", status: 429, attempt: 1, delay_ms: 1000 },
      null,
    ]);
  }));

test("Retry-After may be a date", () =>
  withHub(async (page, hub) => {
    hub.faults.push({
      file: WEIGHTS,
      status: 503,
      headers: { "Retry-After": new Date(Date.now() + 600_000).toUTCString() },
    });
    await openSource(page, hub);
    const reading = read(page, WEIGHTS, [START, END]);
    await waitFor(page, "status");
    await page.evaluate(() => /** @type {any} */ (globalThis).controller.abort());
    const delay_ms = (await reading).waits[0]?.delay_ms ?? 0;
    assert.ok(delay_ms > 590_000 && delay_ms <= 600_000, `${delay_ms} ms`);
  }));

test("a rate limit in the middle of the weights is waited for, and the read resumes at the byte", () =>
  withHub(async (page, hub) => {
    hub.faults.push(
      { file: WEIGHTS, drop_at: 40_000 },
      { file: WEIGHTS, status: 429, from: "hub", after: 1, headers: { RateLimit: '"api";r=0;t=1' } },
    );
    await openSource(page, hub);
    const reading = await read(page, WEIGHTS, [START, END]);
    assertBytes(reading, asked());
    const limited = reading.waits.find((wait) => wait?.status === 429);
    assert.equal(limited?.delay_ms, 1000);
    assert.equal(hub.contactsOf("cdn", WEIGHTS).at(-1)?.range, `bytes=${limited?.at}-${END - 1}`);
  }));

test("a rate limit without a readable end is retried much later than a failure", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, status: 429, from: "hub" });
    await openSource(page, hub, { ...QUICK, first_delay_ms: 100 });
    const reading = await read(page, WEIGHTS, [START, END]);
    assertBytes(reading, asked());
    assert.ok((reading.waits[0]?.delay_ms ?? 0) >= 800, `${reading.waits[0]?.delay_ms} ms`);
  }));

test("a pause of hours is an error with its length, not a wait", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, status: 429, from: "hub", headers: { "Retry-After": "7200" } });
    await openSource(page, hub);
    const reading = await read(page, WEIGHTS, [START, END]);
    assertRefused(reading, "http_status", WEIGHTS, asked());
    assert.match(reading.error?.nextStep ?? "", /120 minutes/);
    assert.deepEqual(reading.waits, []);
  }));

/** @type {[string, Omit<Fault, "file">, string, string, RegExp][]} */
const GIVEN_UP = [
  ["a connection that always drops", { drop_at: START }, "network", WEIGHTS, /connection failed at byte 5000/],
  ["a server that always fails", { status: 503 }, "http_status", WEIGHTS, /503.*at byte 5000/],
  ["a server that always answers 429", { status: 429 }, "http_status", WEIGHTS, /429/],
];

for (const [what, fault, code, file, message] of GIVEN_UP) {
  test(`${what} fails after the allowed attempts, with the byte offset named`, () =>
    withHub(async (page, hub) => {
      hub.faults.push({ file, times: Infinity, ...fault });
      await openSource(page, hub, { ...QUICK, attempts: 3 });
      const reading = await read(page, file, [START, END]);
      assertRefused(reading, code, file, asked());
      assert.match(reading.error?.message ?? "", message);
      assert.deepEqual(
        reading.waits.filter((wait) => wait !== null).map(({ attempt }) => attempt),
        [1, 2],
      );
      assert.equal(reading.waits.at(-1), null, "the end of the wait is reported");
    }));
}

test("a response that always stalls fails with the duration of the stall", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, times: Infinity, stall_at: START });
    await openSource(page, hub, { ...IMPATIENT, attempts: 2 });
    const reading = await read(page, WEIGHTS, [START, END]);
    assertRefused(reading, "network", WEIGHTS, asked());
    assert.match(reading.error?.message ?? "", /nothing arrived for 0\.3 s at byte 5000/);
  }));

/** @type {[string, Omit<Fault, "file">, string, RegExp][]} */
const FINAL = [
  ["a missing file", { status: 404, from: "hub" }, "missing_file", /missing/],
  ["a removed file", { status: 410, from: "hub" }, "missing_file", /missing/],
  ["a repository that requires a login", { status: 401, from: "hub" }, "http_status", /401/],
  ["access that is forbidden from the start", { status: 403 }, "http_status", /403/],
  [
    "a range that the server cannot satisfy",
    { status: 416, headers: { "Content-Range": "bytes */6000" } },
    "truncated",
    /6000/,
  ],
  [
    "a range from another byte",
    { headers: { "Content-Range": "bytes 0-89999/120504" } },
    "io",
    /from 0, requested were bytes from 5000/,
  ],
  ["a range longer than requested", { headers: { "Content-Range": "bytes 5000-99999/120504" } }, "io", /more bytes/],
  ["a body longer than requested, with Content-Length", { long_by: 3 }, "io", /more bytes/],
  ["a body longer than requested, without Content-Length", { long_by: 3, chunked: true }, "io", /more bytes/],
  ["a body shorter than its Content-Range", { short_by: 10 }, "truncated", /94990/],
  [
    "a file that ends within the range",
    { headers: { "Content-Range": "bytes 5000-94999/90000" } },
    "truncated",
    /90000/,
  ],
];

for (const [what, fault, code, message] of FINAL) {
  test(`${what} fails at once as ${code}`, () =>
    withHub(async (page, hub) => {
      hub.faults.push({ file: WEIGHTS, ...fault });
      await openSource(page, hub);
      const reading = await read(page, WEIGHTS, [START, END]);
      assertRefused(reading, code, WEIGHTS, asked());
      assert.match(reading.error?.message ?? "", message);
      assert.deepEqual(reading.waits, []);
      assert.equal(hub.contactsOf("hub", WEIGHTS).length, 1, "it is requested once");
    }));
}
