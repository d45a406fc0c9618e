// @ts-check
// Sources as people have them: pasted addresses, repositories that change between and during loads, limits of requests,
// hosts that send a page for missing files, folders with other checkpoints inside.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  expected,
  fixtureFiles,
  importModule,
  loadWith,
  maxDifference,
  openPage,
  packedFiles,
  SITE,
  test,
  until,
  waitForStatus,
} from "./harness.js";
import { clearStatus } from "./page_runs.js";
import { API, MockHub } from "./mock_hub.js";

/** @import { Page, Route } from "playwright-core" */

const FIXTURE = "two_blocks_groups2_rope";
const WEIGHTS = "model.safetensors";
const SHARDED = "sharded_bf16";
/** The tolerance of the model tests in f32. */
const MAX_LOGIT_DIFFERENCE = 2e-3;
const COMMIT = "5f0ec6f0d1b2a3948576012345678abcdef01234";

/** @param {(hub: MockHub, page: Page) => Promise<void>} body @param {Record<string, Buffer>} [files] */
async function withHub(body, files = fixtureFiles(FIXTURE)) {
  const hub = await MockHub.start(files);
  const { context, page } = await openPage();
  try {
    await importModule(page);
    await body(hub, page);
  } finally {
    await context.close();
    await hub.stop();
  }
}

/**
 * @typedef {{ error: { code: string, message: string, file: string | null, nextStep: string } | null,
 *   logits: number[], info: any, progress: any, waits: any[] }} Result
 */

/**
 * Loads and gives what came of it.
 * @param {Page} page @param {string} source @param {string} [fixture] @param {object} [more] @returns {Promise<Result>}
 */
const loadAndRun = (page, source, fixture = FIXTURE, more = {}) =>
  page.evaluate(
    async ({ source, ids, more }) => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      /** @type {any} */
      let progress = null;
      /** @type {any[]} */
      const waits = [];
      const onProgress = (/** @type {any} */ now) => {
        progress = { ...now, info: null };
        if (now.waiting) waits.push(now.waiting);
      };
      try {
        const retry = { first_delay_ms: 1, attempts: 3 };
        const model = await zamba2.load({ source, weights: "f32", retry, onProgress, ...more });
        const rows = await model.logits(ids);
        const { info } = model;
        model.dispose();
        const logits = rows.flatMap((/** @type {Float32Array} */ row) => [...row]);
        return { error: null, logits, info, progress, waits };
      } catch (thrown) {
        const { code, message, file, nextStep } = /** @type {any} */ (thrown);
        return { error: { code, message, file, nextStep }, logits: [], info: null, progress, waits };
      }
    },
    { source, ids: expected(fixture).input_ids, more },
  );

/** @param {Result} result @param {string} [fixture] */
function assertRight(result, fixture = FIXTURE) {
  assert.equal(result.error, null, result.error?.message);
  const worst = maxDifference(result.logits, expected(fixture).prefill_logits.values);
  assert.ok(worst <= MAX_LOGIT_DIFFERENCE, `logits differ by ${worst}`);
}

/** @param {Page} page */
const keptModels = (page) => page.evaluate(() => /** @type {any} */ (globalThis).zamba2.keptModels());

/** What the check for newer files finds for the only model that is stored. @param {Page} page */
const newerFiles = (page) =>
  page.evaluate(async () => {
    const { zamba2 } = /** @type {any} */ (globalThis);
    const [{ key }] = await zamba2.keptModels();
    return zamba2.newerFiles(key);
  });

/** Revisions of the files that were asked for since `from` contacts. @param {MockHub} hub @param {number} from */
const revisionsSince = (hub, from) => [
  ...new Set(hub.contacts.slice(from).flatMap(({ file, revision }) => (revision && file !== API ? [revision] : []))),
];

test("all files of a load are of the commit that the revision was at when it began", () =>
  withHub(async (hub, page) => {
    const first = hub.head;
    // Config and header are read, and the first weights wait while the branch moves on.
    hub.faults.push({ file: WEIGHTS, status: 503, from: "hub", after: 3 });
    const loading = loadAndRun(page, hub.folder, FIXTURE, { retry: { first_delay_ms: 400 } });
    while (!hub.contacts.some(({ status }) => status === 503)) await page.waitForTimeout(5);
    const other = Buffer.from(fixtureFiles(FIXTURE)[WEIGHTS]);
    hub.push({ [WEIGHTS]: other.fill(0, other.length - 64), "tokenizer_config.json": Buffer.from("{}") });
    const result = await loading;
    assertRight(result);
    assert.deepEqual(revisionsSince(hub, 0), [first]);
    assert.equal(result.info.commit, first);
    assert.equal((await keptModels(page))[0].commit, first);
    assert.equal(hub.contactsOf("hub", API).length, 1);
  }));

test("a load that broke off resumes at its own commit, after the branch has moved on", () =>
  withHub(async (hub, page) => {
    const first = hub.head;
    const bytes = fixtureFiles(FIXTURE)[WEIGHTS].length;
    hub.faults.push({ file: WEIGHTS, drop_at: Math.floor(bytes * 0.6), times: 1000 });
    assert.equal((await loadAndRun(page, hub.folder)).error?.code, "network");
    hub.faults.length = 0;
    const other = Buffer.from(fixtureFiles(FIXTURE)[WEIGHTS]);
    hub.push({ [WEIGHTS]: other.fill(0, other.length - 64) });
    const from = hub.contacts.length;
    const resumed = await loadAndRun(page, hub.folder);
    assertRight(resumed);
    assert.equal(resumed.info.commit, first);
    assert.deepEqual(revisionsSince(hub, from), [first]);
    assert.ok(resumed.progress.device_bytes > 0);
  }));

test("a mended file is found on request only, and fetched without the weights", () =>
  withHub(async (hub, page) => {
    const first = hub.head;
    assertRight(await loadAndRun(page, hub.folder));
    assert.deepEqual(await newerFiles(page), { newer: false, commit: first });

    const config = JSON.parse(fixtureFiles(FIXTURE)["config.json"].toString());
    const second = hub.push({ "config.json": Buffer.from(JSON.stringify({ ...config, eos_token_id: [2, 3] })) });
    const from = hub.contacts.length;
    const stored = await loadAndRun(page, hub.folder);
    assert.equal(hub.contacts.length, from, "a stored model asks nothing by itself");
    assert.equal(stored.info.commit, first);
    assert.deepEqual(await newerFiles(page), { newer: true, commit: second });

    const refreshed = await loadAndRun(page, hub.folder, FIXTURE, { refresh: true });
    assertRight(refreshed);
    assert.deepEqual(refreshed.info.eos_token_ids, [2, 3]);
    assert.equal(refreshed.info.commit, second);
    assert.equal(refreshed.progress.received_bytes, 0, "the weights are the same");
    assert.deepEqual(await newerFiles(page), { newer: false, commit: second });
    const again = await loadAndRun(page, hub.folder);
    assert.deepEqual(again.info.eos_token_ids, [2, 3]);
  }));

test("a commit that changes nothing that is loaded brings no newer files", () =>
  withHub(async (hub, page) => {
    await loadAndRun(page, hub.folder);
    const second = hub.push({ "README.md": Buffer.from("# Other words") });
    assert.deepEqual(await newerFiles(page), { newer: false, commit: second });
  }));

test("newer weights are found and replace the stored ones", () =>
  withHub(async (hub, page) => {
    const right = fixtureFiles(FIXTURE)[WEIGHTS];
    hub.replace(WEIGHTS, Buffer.from(right).fill(0, right.length - 64));
    const before = await loadAndRun(page, hub.folder);
    const second = hub.push({ [WEIGHTS]: right });
    assert.deepEqual(await newerFiles(page), { newer: true, commit: second });
    const after = await loadAndRun(page, hub.folder, FIXTURE, { refresh: true });
    assertRight(after);
    assert.notDeepEqual(after.logits, before.logits);
    assert.ok(after.progress.received_bytes > 0);
    assert.equal((await loadAndRun(page, hub.folder)).progress.received_bytes, 0);
  }));

test("a host without commits is checked file by file, a packed folder by its manifest", async () => {
  const packed = packedFiles(`${FIXTURE}_q8`);
  await withHub(async (hub, page) => {
    hub.has_api = false;
    const load = (/** @type {object} */ more) => loadAndRun(page, hub.folder, FIXTURE, { weights: "q8", ...more });
    assert.equal((await load({})).info.commit, null);
    assert.deepEqual(await newerFiles(page), { newer: false, commit: null });
    const config = JSON.parse(packed["config.json"].toString());
    hub.replace("config.json", Buffer.from(JSON.stringify({ ...config, eos_token_id: [2, 3] })));
    assert.deepEqual(await newerFiles(page), { newer: true, commit: null });
    const refreshed = await load({ refresh: true });
    assert.equal(refreshed.error, null);
    assert.deepEqual(refreshed.info.eos_token_ids, [2, 3]);
    assert.equal(refreshed.progress.received_bytes, 0);
    assert.deepEqual(await newerFiles(page), { newer: false, commit: null });
    const manifest = JSON.parse(packed["zamba2-pack.json"].toString());
    hub.replace("zamba2-pack.json", Buffer.from(JSON.stringify(manifest, null, 1)));
    assert.deepEqual(await newerFiles(page), { newer: true, commit: null });
    assert.ok((await load({ refresh: true })).progress.received_bytes > 0);
  }, packed);
});

test("a limit of requests is waited for and reported, for the commit as for the weights", () =>
  withHub(async (hub, page) => {
    const headers = { RateLimit: '"api";r=0;t=1' };
    hub.faults.push({ file: API, status: 429, from: "hub", headers });
    hub.faults.push({ file: WEIGHTS, status: 429, from: "hub", after: 4, headers });
    const result = await loadAndRun(page, hub.folder);
    assertRight(result);
    const told = result.waits.filter(({ status, delay_ms }) => status === 429 && delay_ms === 1000);
    assert.deepEqual([...new Set(told.map(({ file }) => file))], ["main", WEIGHTS]);
    assert.equal(result.info.commit, hub.head);
  }));

/** @type {{ ranges: boolean, type: string }[]} */
const START_PAGES = [
  { ranges: false, type: "text/html; charset=utf-8" },
  { ranges: true, type: "text/html" },
  { ranges: true, type: "application/octet-stream" },
  { ranges: false, type: "application/octet-stream" },
];

for (const start_page of START_PAGES) {
  const how = `${start_page.ranges ? "in ranges" : "whole"} as ${start_page.type}`;
  test(`a start page in the place of missing files, sent ${how}, counts as missing and is not stored`, () => {
    const { "chat_template.jinja": _, "tokenizer_config.json": __, ...files } = fixtureFiles(SHARDED);
    return withHub(async (hub, page) => {
      hub.has_api = false;
      hub.start_page = start_page;
      const result = await loadAndRun(page, hub.folder, SHARDED);
      assertRight(result, SHARDED);
      assert.equal(result.info.chat, false);
      assert.equal(result.info.chat_fault, null);
      const stored = await page.evaluate(async () => {
        const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("zamba2");
        const texts = [];
        for await (const folder of /** @type {any} */ (root).values()) {
          for await (const handle of folder.values()) texts.push(await (await handle.getFile()).text());
        }
        return texts;
      });
      assert.ok(stored.length > 0);
      assert.ok(!stored.some((text) => /<!doctype/i.test(text)), "no page is stored");
    }, files);
  });
}

test("a start page in the place of config.json is a missing file, and its error says what came", () =>
  withHub(async (hub, page) => {
    hub.start_page = START_PAGES[0];
    hub.has_api = false;
    const { error } = await loadAndRun(page, `${hub.folder}nowhere/`);
    assert.equal(error?.code, "missing_file");
    assert.equal(error?.file, "config.json");
    assert.match(error?.nextStep ?? "", /web page/);
  }));

/** Writes a folder as a trainer leaves it, with earlier checkpoints inside. @param {string} place */
function writeTrainerFolder(place) {
  const files = fixtureFiles(FIXTURE);
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(place, name), bytes);
  for (const step of [10, 20]) {
    mkdirSync(join(place, `checkpoint-${step}`));
    for (const name of Object.keys(files)) writeFileSync(join(place, `checkpoint-${step}`, name), "not this one");
  }
}

test("of a chosen folder the top level counts, and not the checkpoints inside", async () => {
  const folder = mkdtempSync(join(tmpdir(), "zamba2-trainer-"));
  const { context, page } = await openPage();
  try {
    writeTrainerFolder(folder);
    await page.goto(`${SITE}/`);
    await waitForStatus(page, "Ready");
    await page.setInputFiles("#folder-input", folder);
    await page.waitForFunction(
      (name) => document.title.includes(name),
      /** @type {string} */ (folder.split("/").at(-1)),
    );
    await waitForStatus(page, "Ready");
    assert.equal(await page.locator(".error-card:visible").count(), 0);
  } finally {
    await context.close();
    rmSync(folder, { recursive: true });
  }
});

test("a dropped folder of a packed checkpoint loads", async () => {
  const { context, page } = await openPage();
  try {
    await page.goto(`${SITE}/?weights=q8`);
    await waitForStatus(page, "Ready");
    const session = await context.newCDPSession(page);
    const files = [fileURLToPath(new URL("../packed/two_blocks_groups2_rope_q8", import.meta.url))];
    for (const type of /** @type {const} */ (["dragEnter", "dragOver", "drop"])) {
      const data = { items: [], files, dragOperationsMask: 1 };
      await session.send("Input.dispatchDragEvent", { type, x: 300, y: 300, data });
    }
    await page.waitForFunction(() => document.title.includes("two_blocks_groups2_rope_q8"));
    await waitForStatus(page, "Ready");
    assert.equal(await page.locator(".error-card:visible").count(), 0);
  } finally {
    await context.close();
  }
});

test("two chosen files of one name are refused instead of one of them taken", () =>
  withHub(async (_, page) => {
    const error = await page.evaluate(async () => {
      const { zamba2 } = /** @type {any} */ (globalThis);
      const source = ["{}", "{ }"].map((text) => new File([text], "config.json"));
      return zamba2.load({ source }).then(
        () => null,
        (/** @type {any} */ { code, message, nextStep }) => ({ code, message, nextStep }),
      );
    });
    assert.equal(error?.code, "bad_option");
    assert.match(error?.message ?? "", /two of the files are called config\.json/);
  }));

// ---- on the page, against huggingface.co itself, whose requests are answered here ----

/** Answers as the Hub does. @param {Route} route @param {string[]} asked  collects the paths */
async function answerAsHub(route, asked) {
  const request = route.request();
  const { pathname } = new URL(request.url());
  asked.push(pathname);
  const headers = { "Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Content-Range, ETag" };
  if (pathname.startsWith("/api/models/")) return route.fulfill({ headers, json: { sha: COMMIT } });
  const file = /^\/owner\/net\/resolve\/[^/]+\/(.+)$/.exec(pathname)?.[1] ?? "";
  const bytes = fixtureFiles(FIXTURE)[file];
  if (!bytes) return route.fulfill({ status: 404, headers });
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers().range ?? "");
  if (!range) return route.fulfill({ headers, body: bytes });
  const [start, end] = [Number(range[1]), Math.min(Number(range[2]) + 1, bytes.length)];
  return route.fulfill({
    status: 206,
    headers: { ...headers, "Content-Range": `bytes ${start}-${end - 1}/${bytes.length}`, ETag: '"1"' },
    body: bytes.subarray(start, end),
  });
}

/** @param {Page} page @param {string} address */
async function loadAddress(page, address) {
  await clearStatus(page);
  await loadWith(page, { address });
}

test("a pasted page of the Hub loads at one commit, which the page shows and compares on request", async () => {
  const { context, page, faults } = await openPage();
  /** @type {string[]} */
  const asked = [];
  try {
    await context.route("https://huggingface.co/**", (route) => answerAsHub(route, asked));
    await page.goto(`${SITE}/`);
    await waitForStatus(page, "Ready");
    await loadAddress(page, "huggingface.co/owner/net/blob/refs%2Fpr%2F1/README.md?code=true");
    await waitForStatus(page, "Ready");
    assert.equal(asked[0], "/api/models/owner/net/revision/refs%2Fpr%2F1");
    assert.ok(asked.length > 3);
    assert.deepEqual([...new Set(asked.slice(1).map((path) => path.split("/")[4]))], [COMMIT]);
    assert.match((await page.textContent("#status-detail")) ?? "", /commit 5f0ec6f/);
    assert.match(await page.title(), /net/);

    await page.click("#model-chip");
    const item = page.locator("#kept li", { hasText: "owner/net@refs/pr/1" });
    assert.match((await item.textContent()) ?? "", /5f0ec6f/);
    await item.getByRole("button", { name: /newer files/ }).click();
    await until(page, async () => /newest files/.test(document.getElementById("kept")?.textContent ?? ""), null);

    await context.unroute("https://huggingface.co/**");
    await context.route("https://huggingface.co/api/**", (route) =>
      route.fulfill({ headers: { "Access-Control-Allow-Origin": "*" }, json: { sha: "a".repeat(40) } }),
    );
    await context.route("https://huggingface.co/owner/**", (route) =>
      route.request().url().endsWith("/config.json")
        ? route.fulfill({ headers: { "Access-Control-Allow-Origin": "*" }, body: "{}" })
        : answerAsHub(route, asked),
    );
    await item.getByRole("button", { name: /newer files/ }).click();
    await item.getByText(/newer files at the source, commit aaaaaaa/).waitFor();
    assert.equal(await item.getByRole("button", { name: "Load the newer files" }).count(), 1);
    assert.deepEqual(
      faults.filter((fault) => !fault.startsWith("left the origin: https://huggingface.co/")),
      [],
    );
  } finally {
    await context.close();
  }
});

test("an address that is no model is refused in a sentence, and nothing is requested", async () => {
  const { context, page, faults } = await openPage();
  try {
    await page.goto(`${SITE}/`);
    await waitForStatus(page, "Ready");
    for (const [address, sentence] of /** @type {[string, RegExp][]} */ ([
      ["https://huggingface.co/", /names no repository/],
      ["https://huggingface.co/Zyphra", /is an owner on the Hub/],
      ["https://huggingface.co/datasets/a/b", /is a data set on the Hub/],
      ["https://example.org/zamba2/", /may only read from/],
    ])) {
      await loadAddress(page, address);
      const card = page.locator(".error-card[data-code=bad_option]", { hasText: sentence });
      await card.waitFor();
    }
    assert.deepEqual(faults, []);
  } finally {
    await context.close();
  }
});

test("a long pause is counted down in the status line", async () => {
  const { context, page } = await openPage();
  try {
    await context.route("https://huggingface.co/**", (route) =>
      route.fulfill({
        status: 429,
        headers: {
          "Access-Control-Allow-Origin": "*",
          "Access-Control-Expose-Headers": "RateLimit",
          RateLimit: '"api";r=0;t=140',
        },
      }),
    );
    await page.goto(`${SITE}/`);
    await waitForStatus(page, "Ready");
    await loadAddress(page, "owner/net");
    await page.waitForFunction(() =>
      /answers 429 and asks for a pause: going on in 1[34]\d s/.test(
        document.getElementById("status-detail")?.textContent ?? "",
      ),
    );
  } finally {
    await context.close();
  }
});

test("a repository that the Hub does not have is refused by its name", async () => {
  const { context, page } = await openPage();
  try {
    await context.route("https://huggingface.co/**", (route) =>
      route.fulfill({ status: 401, headers: { "Access-Control-Allow-Origin": "*" } }),
    );
    await page.goto(`${SITE}/`);
    await waitForStatus(page, "Ready");
    await loadAddress(page, "owner/no-such-net@v9");
    const card = page.locator(".error-card[data-code=http_status]");
    await card.waitFor();
    assert.match((await card.textContent()) ?? "", /wner\/no-such-net@v9.*401.*no such public repository/s);
  } finally {
    await context.close();
  }
});
