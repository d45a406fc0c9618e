// @ts-check
// Reading from the Hub over a network that fails: against a stand-in on two other origins, in a real Chromium.
// Most facts are about UrlSource alone, whose bytes are compared with the fixture's own; a few load a whole model.

import assert from "node:assert/strict";
import { expected, fixtureFiles, importModule, onePage, SITE, test } from "./harness.js";
import { MockHub, sha256 } from "./mock_hub.js";

/** @import { Page } from "playwright-core" */
/** @import { Wait, RetryPolicy } from "../../www/engine/retrying.js" */
/** @import { Fault } from "./mock_hub.js" */

/** The same bound as in module.test.js, for the same reason. */
const MAX_LOGIT_DIFFERENCE = 1e-3;

const FIXTURE = "one_block_adapters_rope";
const WEIGHTS = "model.safetensors";
const CONFIG = "config.json";
/** A range somewhere in the file, so that an offset into the reply is never taken for one into the file. */
const [START, END] = [5_000, 95_000];

/** Quick, and patient enough with a busy machine to call nothing stalled that is only slow. */
const QUICK = { attempts: 4, first_delay_ms: 1, stall_ms: 20_000 };
/** For the facts about stalls. A reply that is wrongly taken for stalled is asked for again, and changes no result. */
const IMPATIENT = { attempts: 4, first_delay_ms: 1, stall_ms: 300 };

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
async function withHub(body, fixture = FIXTURE) {
  const hub = await MockHub.start(fixtureFiles(fixture));
  try {
    await withPage(async (page) => {
      await page.evaluate(() => {
        /** @type {any} */ (globalThis).waits = [];
      });
      await body(page, hub);
    }, hub.origins);
    // A preflight would be an OPTIONS request, and the true Hub has refused those.
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
const openSource = (page, hub, retry = QUICK) =>
  page.evaluate(({ folder, retry }) => /** @type {any} */ (globalThis).open(folder, retry), {
    folder: hub.folder,
    retry,
  });

/**
 * Reads through the source that was opened last.
 * @param {Page} page @param {string} file @param {[number, number] | null} range @returns {Promise<Reading>}
 */
const read = (page, file, range) =>
  page.evaluate(
    async ({ file, range }) => {
      const scope = /** @type {any} */ (globalThis);
      const reading = await scope.read(file, range);
      return { ...reading, waits: scope.waits.splice(0) };
    },
    { file, range },
  );

/** Waits until the source has told that it waits. @param {Page} page @param {string} reason */
const waitFor = (page, reason) =>
  page.waitForFunction(
    (reason) => /** @type {any} */ (globalThis).waits.some((/** @type {any} */ wait) => wait?.reason === reason),
    reason,
  );

/** @param {Reading} reading @param {Buffer} bytes */
function assertBytes(reading, bytes) {
  assert.equal(reading.error, null, reading.error?.message);
  assert.equal(reading.bytes, bytes.length);
  assert.equal(reading.sha256, sha256(bytes));
}

/**
 * Refused, and what came before it was right.
 * @param {Reading} reading @param {string} code @param {string} file @param {Buffer} bytes what was asked for
 */
function assertRefused(reading, code, file, bytes) {
  const { error } = reading;
  assert.ok(error, "the reading is refused");
  assert.equal(error.name, "Zamba2Error", error.message);
  assert.equal(error.code, code, error.message);
  assert.equal(error.file, file);
  assert.ok(error.message.includes(file), `"${error.message}" names ${file}`);
  assert.notEqual(error.nextStep, "");
  assert.equal(reading.sha256, sha256(bytes.subarray(0, reading.bytes)), "no wrong byte is handed on");
}

const weights = () => fixtureFiles(FIXTURE)[WEIGHTS];
const asked = () => weights().subarray(START, END);

/** @param {Reading} reading */
const reasons = (reading) => [...new Set(reading.waits.filter((wait) => wait !== null).map(({ reason }) => reason))];

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

/** @type {[string, Omit<Fault, "file">[], Wait["reason"], Partial<RetryPolicy>][]} */
const CURED = [
  ["a connection that breaks before any byte", [{ drop_at: START }], "dropped", QUICK],
  ["a connection that breaks in the middle", [{ drop_at: 40_000 }], "dropped", QUICK],
  [
    "a connection that breaks three times",
    [{ drop_at: 20_000 }, { drop_at: 50_001 }, { drop_at: 94_999 }],
    "dropped",
    QUICK,
  ],
  ["a reply that stalls before any byte", [{ stall_at: START }], "stalled", IMPATIENT],
  ["a reply that stalls in the middle", [{ stall_at: 40_000 }], "stalled", IMPATIENT],
  ["a body that ends early without an error", [{ short_by: 777, chunked: true }], "dropped", QUICK],
  ["a server error", [{ status: 500 }, { status: 503 }], "status", QUICK],
  ["a hub that is overloaded", [{ status: 503, from: "hub" }], "status", QUICK],
  ["a request that timed out at the server", [{ status: 408 }], "status", QUICK],
];

for (const [what, faults, reason, retry] of CURED) {
  test(`${what} is cured by asking the hub again, and no byte comes twice`, () =>
    withHub(async (page, hub) => {
      hub.faults.push(...faults.map((fault) => ({ file: WEIGHTS, ...fault })));
      await openSource(page, hub, retry);
      const reading = await read(page, WEIGHTS, [START, END]);
      assertBytes(reading, asked());
      assert.ok(reasons(reading).includes(reason), `waited because of ${reasons(reading)}`);
      assert.equal(reading.waits.at(-1), null, "the end of the wait is told");
      assert.ok(
        reading.waits.every((wait) => wait === null || (wait.file === WEIGHTS && wait.at >= START && wait.at < END)),
      );
      // Each attempt resolves the address anew.
      assert.ok(hub.contactsOf("hub", WEIGHTS).length > faults.length);
    }));
}

test("reading goes on at the byte where it stopped", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, stall_at: 40_000 });
    await openSource(page, hub, IMPATIENT);
    assertBytes(await read(page, WEIGHTS, [START, END]), asked());
    assert.equal(hub.contactsOf("cdn", WEIGHTS).at(-1)?.range, `bytes=40000-${END - 1}`);
  }));

test("each byte that arrives forgives the failures before it", () =>
  withHub(async (page, hub) => {
    hub.faults.push(...[20_000, 40_000, 60_000, 80_000].map((stall_at) => ({ file: WEIGHTS, stall_at })));
    await openSource(page, hub, { ...IMPATIENT, attempts: 3 });
    assertBytes(await read(page, WEIGHTS, [START, END]), asked());
  }));

test("a small file that breaks off is read again from its start", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: CONFIG, drop_at: 700 }, { file: CONFIG, status: 502 }, { file: CONFIG, status: 403 });
    await openSource(page, hub);
    const reading = await read(page, CONFIG, null);
    assertBytes(reading, fixtureFiles(FIXTURE)[CONFIG]);
    assert.deepEqual(reasons(reading), ["dropped", "status"]);
  }));

test("a signature that expired is replaced by asking the hub again", () =>
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

test("a redirect that the browser may keep is not used once its signature has expired", () =>
  withHub(async (page, hub) => {
    hub.redirect_max_age_s = 3600;
    await openSource(page, hub);
    assertBytes(await read(page, WEIGHTS, [0, START]), weights().subarray(0, START));
    hub.expireSignatures();
    assertBytes(await read(page, WEIGHTS, [START, END]), asked());
  }));

test("the pause that a server asks for is kept", () =>
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

test("a pause may be asked for as a date", () =>
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

test("a limit of requests in the middle of the weights is waited out, and the reading resumes at the byte", () =>
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

test("a limit of requests whose end is hidden is retried much later than a failure", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, status: 429, from: "hub" });
    await openSource(page, hub, { ...QUICK, first_delay_ms: 100 });
    const reading = await read(page, WEIGHTS, [START, END]);
    assertBytes(reading, asked());
    assert.ok((reading.waits[0]?.delay_ms ?? 0) >= 800, `${reading.waits[0]?.delay_ms} ms`);
  }));

test("a pause of hours is an error that says how long, and not a wait", () =>
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
  ["a connection that always breaks", { drop_at: START }, "network", WEIGHTS, /connection failed at byte 5000/],
  ["a server that is always broken", { status: 503 }, "http_status", WEIGHTS, /503.*at byte 5000/],
  ["a server that always asks for a pause", { status: 429 }, "http_status", WEIGHTS, /429/],
];

for (const [what, fault, code, file, message] of GIVEN_UP) {
  test(`${what} is given up after the attempts that were allowed, naming the byte`, () =>
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
      assert.equal(reading.waits.at(-1), null, "the end of the wait is told");
    }));
}

test("a reply that always stalls is given up, telling for how long nothing came", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, times: Infinity, stall_at: START });
    await openSource(page, hub, { ...IMPATIENT, attempts: 2 });
    const reading = await read(page, WEIGHTS, [START, END]);
    assertRefused(reading, "network", WEIGHTS, asked());
    assert.match(reading.error?.message ?? "", /nothing arrived for 0\.3 s at byte 5000/);
  }));

/** @type {[string, Omit<Fault, "file">, string, RegExp][]} */
const FINAL = [
  ["a file that is not there", { status: 404, from: "hub" }, "missing_file", /missing/],
  ["a file that was removed", { status: 410, from: "hub" }, "missing_file", /missing/],
  ["a repository that asks for a login", { status: 401, from: "hub" }, "http_status", /401/],
  ["an access that is refused from the start", { status: 403 }, "http_status", /403/],
  [
    "a range that the server cannot satisfy",
    { status: 416, headers: { "Content-Range": "bytes */6000" } },
    "truncated",
    /6000/,
  ],
  ["a reply from another byte", { headers: { "Content-Range": "bytes 0-89999/120504" } }, "io", /from 0 where 5000/],
  ["a reply for more than was asked", { headers: { "Content-Range": "bytes 5000-99999/120504" } }, "io", /more bytes/],
  ["a body that is longer than was asked and says so", { long_by: 3 }, "io", /more bytes/],
  ["a body that is longer than was asked and does not say so", { long_by: 3, chunked: true }, "io", /more bytes/],
  ["a body that is shorter than its own range", { short_by: 10 }, "truncated", /94990/],
  [
    "a file that ends within the range",
    { headers: { "Content-Range": "bytes 5000-94999/90000" } },
    "truncated",
    /90000/,
  ],
];

for (const [what, fault, code, message] of FINAL) {
  test(`${what} is refused at once as ${code}`, () =>
    withHub(async (page, hub) => {
      hub.faults.push({ file: WEIGHTS, ...fault });
      await openSource(page, hub);
      const reading = await read(page, WEIGHTS, [START, END]);
      assertRefused(reading, code, WEIGHTS, asked());
      assert.match(reading.error?.message ?? "", message);
      assert.deepEqual(reading.waits, []);
      assert.equal(hub.contactsOf("hub", WEIGHTS).length, 1, "it is asked for once");
    }));
}

test("a file that was replaced by one of the same size is told by its ETag, and nothing of it is handed on", () =>
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

test("a file that was replaced by a longer one is told by its size, even where the ETag is hidden", () =>
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

test("a file that shrank below the range is told as changed, not as cut short", () =>
  withHub(async (page, hub) => {
    await openSource(page, hub);
    assertBytes(await read(page, WEIGHTS, [0, START]), weights().subarray(0, START));
    hub.replace(WEIGHTS, weights().subarray(0, START));
    const reading = await read(page, WEIGHTS, [START, END]);
    assertRefused(reading, "changed", WEIGHTS, asked());
    assert.match(reading.error?.message ?? "", /changed on the server/);
  }));

test("a server that hides Content-Range is read all the same, and its size is asked for once", () =>
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

test("a server that ignores Range is read as a whole, again if it breaks off, and once if it does not", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, whole: true, drop_at: 40_000 }, { file: WEIGHTS, times: Infinity, whole: true });
    await openSource(page, hub);
    const first = await read(page, WEIGHTS, [START, END]);
    assertBytes(first, asked());
    assert.equal(first.file_bytes, weights().length);
    assertBytes(await read(page, WEIGHTS, [0, START]), weights().subarray(0, START));
    assert.equal(hub.contactsOf("cdn", WEIGHTS).length, 2);
  }));

test("a server that forgets Range in the middle is read as a whole from there, and no byte comes twice", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, stall_at: 40_000 }, { file: WEIGHTS, whole: true });
    await openSource(page, hub, IMPATIENT);
    assertBytes(await read(page, WEIGHTS, [START, END]), asked());
  }));

test("what has arrived of a file that is sent whole is read while the rest is on its way", () =>
  withHub(async (page, hub) => {
    // The connection stays open, and is not taken for stalled before the test is over.
    hub.faults.push({ file: WEIGHTS, whole: true, stall_at: 40_000 });
    await openSource(page, hub);
    const reading = await read(page, WEIGHTS, [START, 30_000]);
    assertBytes(reading, weights().subarray(START, 30_000));
    assert.equal(reading.file_bytes, weights().length);
    assert.equal(hub.contactsOf("cdn", WEIGHTS).length, 1);
  }));

test("a file that is sent whole goes on by a range where the server has learnt to send one", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, whole: true, drop_at: 40_000 });
    await openSource(page, hub);
    assertBytes(await read(page, WEIGHTS, [START, END]), asked());
    const contacts = hub.contactsOf("cdn", WEIGHTS);
    assert.deepEqual(
      contacts.map(({ status }) => status),
      [200, 206],
    );
    // A connection that is reset may lose what was sent last, so the server does not know from where it will be asked.
    const goes_on_at = Number(/^bytes=(\d+)-$/.exec(contacts[1].range ?? "")?.[1]);
    assert.ok(goes_on_at <= 40_000, `it goes on at ${goes_on_at}`);
    assert.equal(
      hub.sent_bytes.get(WEIGHTS),
      40_000 + weights().length - goes_on_at,
      "nothing that arrived was sent again",
    );
  }));

test("a file that is sent whole and does not tell its size is read once it is there", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, whole: true, chunked: true });
    await openSource(page, hub);
    const reading = await read(page, WEIGHTS, [START, END]);
    assertBytes(reading, asked());
    assert.equal(reading.file_bytes, weights().length);
  }));

test("a range is answered while an earlier one waits for its reader", () =>
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

test("a reader that takes its time with a chunk is not taken for a stall", () =>
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

test("without a connection the source waits for it, and uses up no attempt", () =>
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
  test(`an abort is heard during ${what}`, () =>
    withHub(async (page, hub) => {
      if (fault) hub.faults.push({ file: WEIGHTS, ...fault });
      await openSource(page, hub, retry);
      await page.context().setOffline(reason === "offline");
      const reading = read(page, WEIGHTS, [START, END]);
      if (reason) await waitFor(page, reason);
      else while (hub.contactsOf("cdn", WEIGHTS).length === 0) await page.waitForTimeout(10);
      await page.evaluate(() => /** @type {any} */ (globalThis).controller.abort(new Error("the reader went away")));
      const { error, waits } = await reading;
      assert.equal(error?.message, "the reader went away");
      assert.equal(waits.at(-1) ?? null, null, "no wait is left standing");
    }));
}

test("hubFolder gives the address of a repository, with the revision as one segment", () =>
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
  // Written so that a NaN counts as a difference.
  const different = actual.filter((value, i) => !(Math.abs(value - reference[i]) <= MAX_LOGIT_DIFFERENCE));
  assert.deepEqual(different, []);
}

for (const fixture of [FIXTURE, "sharded_bf16"]) {
  test(`${fixture} loads from the hub and gives the reference's logits`, () =>
    withHub(async (page, hub) => {
      const { input_ids, prefill_logits } = expected(fixture);
      assertLogits(await logitsOf(page, hub, input_ids), prefill_logits.values);
    }, fixture));
}

test("a model from a server without ranges is fetched once and gives the reference's logits", () =>
  withHub(async (page, hub) => {
    hub.faults.push({ file: WEIGHTS, times: Infinity, whole: true });
    const { input_ids, prefill_logits } = expected(FIXTURE);
    assertLogits(await logitsOf(page, hub, input_ids), prefill_logits.values);
    assert.equal(hub.contactsOf("cdn", WEIGHTS).length, 1);
  }));

test("a model that loads over a failing network gives the reference's logits", () =>
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
      "every fault was met",
    );
  }));

test("a header that claims more than the file is refused from the hub as well", () =>
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
