// @ts-check
// Shared by the tests of reading from the Hub: a page with UrlSource, and a mock hub on two other origins.

import assert from "node:assert/strict";
import { fixtureFiles, importModule, onePage, SITE } from "./harness.js";
import { MockHub, sha256 } from "./mock_hub.js";

/** @import { Page } from "playwright-core" */
/** @import { Wait, RetryPolicy } from "../../www/engine/retry_policy.js" */

export const FIXTURE = "one_block_adapters_rope";
export const WEIGHTS = "model.safetensors";
export const CONFIG = "config.json";
/** A range inside the file, so that offsets into the response and into the file are never confused. */
export const [START, END] = [5_000, 95_000];

/** Fast, with a timeout long enough that a busy machine is not mistaken for a stall. */
export const QUICK = { attempts: 4, first_delay_ms: 1, stall_ms: 20_000 };
/** For tests of stalls. A response wrongly taken for stalled is requested again, which changes no result. */
export const IMPATIENT = { attempts: 4, first_delay_ms: 1, stall_ms: 300 };

const withPage = onePage(
  async (page) => {
    await importModule(page);
    await page.evaluate(
      async (addresses) => {
        const scope = /** @type {any} */ (globalThis);
        for (const address of addresses) Object.assign(scope, await import(address));
        scope.waits = [];
        scope.open = (/** @type {string} */ folder, /** @type {object} */ retry) => {
          scope.controller = new AbortController();
          scope.source = new scope.UrlSource(folder, {
            retry,
            onWait: (/** @type {unknown} */ wait) => scope.waits.push(wait),
          });
        };
        scope.read = async (/** @type {string} */ file, /** @type {[number, number] | null} */ range) => {
          /** @type {number[]} */
          const bytes = [];
          let file_bytes = null;
          let error = null;
          const { signal } = scope.controller;
          try {
            if (range) {
              const reply = await scope.source.range(file, ...range, signal);
              file_bytes = reply.file_bytes;
              for await (const chunk of reply.chunks) for (const byte of chunk) bytes.push(byte);
            } else {
              bytes.push(...(await scope.source.whole(file, signal)));
            }
          } catch (thrown) {
            const { name, code, file, nextStep, message } = /** @type {any} */ (thrown);
            error = { name, code, file, nextStep, message };
          }
          const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(bytes)));
          const sha256 = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
          return { bytes: bytes.length, sha256, file_bytes, error };
        };
      },
      [`${SITE}/pkg/byte_source.js`, `${SITE}/pkg/addresses.js`],
    );
  },
  (page) => page.context().setOffline(false),
);

/** @param {(page: Page, hub: MockHub) => Promise<void>} body @param {string} [fixture] */
export async function withHub(body, fixture = FIXTURE) {
  const hub = await MockHub.start(fixtureFiles(fixture));
  try {
    await withPage(async (page) => {
      await page.evaluate(() => {
        /** @type {any} */ (globalThis).waits = [];
      });
      await body(page, hub);
    }, hub.origins);
    // A preflight would be an OPTIONS request, which the real Hub has rejected.
    assert.deepEqual(
      hub.contacts.filter(({ method }) => method !== "GET"),
      [],
    );
  } finally {
    await hub.stop();
  }
}

/**
 * @typedef {{ bytes: number, sha256: string, file_bytes: number | null, waits: (Wait | null)[],
 *   error: { name: string, code: string, file: string | null, nextStep: string, message: string } | null }} Reading
 */

/** @param {Page} page @param {MockHub} hub @param {Partial<RetryPolicy>} [retry] */
export const openSource = (page, hub, retry = QUICK) =>
  page.evaluate(({ folder, retry }) => /** @type {any} */ (globalThis).open(folder, retry), {
    folder: hub.folder,
    retry,
  });

/**
 * Reads through the most recently opened source.
 * @param {Page} page @param {string} file @param {[number, number] | null} range @returns {Promise<Reading>}
 */
export const read = (page, file, range) =>
  page.evaluate(
    async ({ file, range }) => {
      const scope = /** @type {any} */ (globalThis);
      const reading = await scope.read(file, range);
      return { ...reading, waits: scope.waits.splice(0) };
    },
    { file, range },
  );

/** Waits until the source reports that it is waiting. @param {Page} page @param {string} reason */
export const waitFor = (page, reason) =>
  page.waitForFunction(
    (reason) => /** @type {any} */ (globalThis).waits.some((/** @type {any} */ wait) => wait?.reason === reason),
    reason,
  );

/** @param {Reading} reading @param {Buffer} bytes */
export function assertBytes(reading, bytes) {
  assert.equal(reading.error, null, reading.error?.message);
  assert.equal(reading.bytes, bytes.length);
  assert.equal(reading.sha256, sha256(bytes));
}

/**
 * Failed with this error, and all bytes before it were right.
 * @param {Reading} reading @param {string} code @param {string} file @param {Buffer} bytes that were requested
 */
export function assertRefused(reading, code, file, bytes) {
  const { error } = reading;
  assert.ok(error, "the read fails");
  assert.equal(error.name, "Zamba2Error", error.message);
  assert.equal(error.code, code, error.message);
  assert.equal(error.file, file);
  assert.ok(error.message.includes(file), `"${error.message}" names ${file}`);
  assert.notEqual(error.nextStep, "");
  assert.equal(reading.sha256, sha256(bytes.subarray(0, reading.bytes)), "no wrong byte is returned");
}

export const weights = () => fixtureFiles(FIXTURE)[WEIGHTS];
export const asked = () => weights().subarray(START, END);

/** @param {Reading} reading */
export const reasons = (reading) => [
  ...new Set(reading.waits.filter((wait) => wait !== null).map(({ reason }) => reason)),
];
