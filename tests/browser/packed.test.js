// @ts-check
// Packed checkpoints (`zamba2 pack`) in Chromium: the same bits as the checkpoint quantised in the page, storage on the
// device, and detection of damage. tests/loader checks that the committed folder is what the program writes.

import assert from "node:assert/strict";
import { fixtureFiles, importModule, loadFrom, openPage, packedFiles, test } from "./harness.js";
import { API, MockHub, sha256 } from "./mock_hub.js";

/** @import { Page } from "playwright-core" */

const FIXTURE = "two_blocks_groups2_rope";
const PACKED = `${FIXTURE}_q8`;
/** All parts of a small model. */
const WEIGHTS = "weights-1.bin";

/** @typedef {{ name: string, start: number, bytes: number, sha256: string }} PackedUnit */

/** The units of the manifest. @param {Record<string, Buffer>} packed @returns {PackedUnit[]} */
const unitsOf = (packed) => JSON.parse(packed["zamba2-pack.json"].toString()).units;

/** Where a unit begins in the file. @param {string} name */
const startOf = (name) => unitsOf(packedFiles(PACKED)).find((unit) => unit.name === name)?.start ?? NaN;

/** @param {Record<string, Buffer>} files @param {(hub: MockHub, page: Page) => Promise<void>} body */
async function withHub(files, body) {
  const hub = await MockHub.start(files);
  const { context, page } = await openPage();
  await importModule(page);
  try {
    await body(hub, page);
  } finally {
    await context.close();
    await hub.stop();
  }
}

/** @param {Page} page @param {string} source @param {object} [options] for `load` */
const loadAndRun = (page, source, options) => loadFrom(page, FIXTURE, source, { weights: "q8", ...options });

/** The stored files of the model, by unit. @param {Page} page */
const keptUnits = (page) =>
  page.evaluate(async () => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("zamba2");
    /** @type {Record<string, number[]>} */
    const units = {};
    for await (const folder of /** @type {any} */ (root).values()) {
      for await (const [name, handle] of folder.entries()) {
        const unit = /^unit\.(.+)\.bin$/.exec(name)?.[1];
        if (unit) units[unit] = [...new Uint8Array(await (await handle.getFile()).arrayBuffer())];
      }
    }
    return units;
  });

test("units quantised and stored by a page are byte-identical to those written by `zamba2 pack`", () =>
  withHub(fixtureFiles(FIXTURE), async (hub, page) => {
    assert.equal((await loadAndRun(page, hub.folder)).error, null);
    const units = await keptUnits(page);
    const packed = packedFiles(PACKED);
    assert.equal(unitsOf(packed).length, Object.keys(units).length);
    for (const { name, start, bytes } of unitsOf(packed)) {
      assert.ok(Buffer.from(units[name]).equals(packed[WEIGHTS].subarray(start, start + bytes)), name);
    }
  }));

test("a packed folder gives the bits of its checkpoint, is downloaded in one request, and is stored", async () => {
  /** @type {number[][]} */
  let logits = [];
  await withHub(fixtureFiles(FIXTURE), async (hub, page) => {
    ({ logits } = await loadAndRun(page, hub.folder));
  });
  const packed = packedFiles(PACKED);
  await withHub(packed, async (hub, page) => {
    const first = await loadAndRun(page, hub.folder);
    assert.equal(first.error, null);
    assert.deepEqual(first.logits, logits);
    const units_bytes = unitsOf(packed).reduce((sum, { bytes }) => sum + bytes, 0);
    assert.equal(first.progress.received_bytes, units_bytes);
    assert.equal(first.progress.total_bytes, units_bytes, "progress counts downloaded bytes");
    assert.equal(first.progress.loaded_bytes, units_bytes);
    // The header, from which the plan is made, and then all units at once.
    assert.equal(hub.contactsOf("cdn", WEIGHTS).length, 2);
    const contacts = hub.contacts.length;
    const second = await loadAndRun(page, hub.folder);
    assert.deepEqual(second.logits, logits);
    assert.equal(hub.contacts.length, contacts, "a second visit sends no request");
    assert.equal(second.progress.received_bytes, 0);
    assert.equal(second.progress.origin, "device");
  });
});

test("`packed` asks for the manifest and for what it lists only, and also loads what is not packed", async () => {
  const packed = packedFiles(PACKED);
  await withHub(packed, async (hub, page) => {
    const { error } = await loadAndRun(page, hub.folder, { packed: true });
    assert.equal(error, null);
    const asked = hub.contacts.map(({ file }) => file).filter((file) => file !== API);
    assert.equal(asked[0], "zamba2-pack.json");
    assert.deepEqual([...new Set(asked)].sort(), Object.keys(packed).sort());
  });
  await withHub(fixtureFiles(FIXTURE), async (hub, page) => {
    assert.equal((await loadAndRun(page, hub.folder, { packed: true })).error, null);
  });
});

/**
 * A load whose connection drops where a unit begins, once the units before it are stored; the file is missing then.
 * @param {MockHub} hub @param {Page} page @param {string} unit
 */
async function brokenOffAt(hub, page, unit) {
  hub.faults.push({ file: WEIGHTS, stall_at: startOf(unit) });
  const loading = loadAndRun(page, hub.folder);
  const before = unitsOf(packedFiles(PACKED)).findIndex(({ name }) => name === unit);
  while (Object.keys(await keptUnits(page).catch(() => ({}))).length < before)
    await new Promise((resolve) => setTimeout(resolve, 20));
  hub.faults.push({ file: WEIGHTS, status: 404 });
  hub.dropStalled();
  return loading;
}

test("an interrupted load of a packed folder downloads only what is missing", () =>
  withHub(packedFiles(PACKED), async (hub, page) => {
    const broken = await brokenOffAt(hub, page, "blocks.3");
    assert.equal(broken.error?.code, "missing_file");
    assert.equal(broken.error?.file, WEIGHTS);
    const resumed = await loadAndRun(page, hub.folder);
    assert.equal(resumed.error, null);
    assert.ok(resumed.progress.device_bytes > 0);
    const last = hub.contactsOf("cdn", WEIGHTS).at(-1);
    assert.match(String(last?.range), new RegExp(`^bytes=${startOf("blocks.3")}-`));
  }));

test("a damaged part of a packed folder is downloaded again, and refused with its file if still damaged", () =>
  withHub(packedFiles(PACKED), async (hub, page) => {
    const at = startOf("blocks.1") + 100;
    const spoiled = { file: WEIGHTS, patch: { at, bytes: new Uint8Array([1, 2, 3]) } };
    hub.faults.push({ ...spoiled, times: 1 });
    assert.equal((await loadAndRun(page, hub.folder, { keep: false })).error, null);
    const [, , again] = hub.contactsOf("cdn", WEIGHTS);
    assert.match(String(again.range), new RegExp(`^bytes=${startOf("blocks.1")}-`));
    hub.faults.push({ ...spoiled, times: Infinity });
    const { error } = await loadAndRun(page, hub.folder, { keep: false });
    assert.equal(error?.code, "damaged");
    assert.equal(error?.file, WEIGHTS);
    assert.match(error?.message ?? "", /SHA-256/);
  }));

test("a packed folder in another weight format than requested is refused with its format", () =>
  withHub(packedFiles(PACKED), async (hub, page) => {
    const { error } = await loadAndRun(page, hub.folder, { weights: "q4", keep: false });
    assert.equal(error?.code, "bad_option");
    assert.match(error?.message ?? "", /q8/);
  }));

test("a folder packed again since the last visit is reported as changed, and the next load starts over", () =>
  withHub(packedFiles(PACKED), async (hub, page) => {
    assert.equal((await brokenOffAt(hub, page, "blocks.3")).error?.code, "missing_file");
    // A different packing: the unit differs, and so does the manifest.
    const files = packedFiles(PACKED);
    const unit = unitsOf(files).find(({ name }) => name === "blocks.4");
    assert.ok(unit);
    const end = unit.start + unit.bytes;
    const other = Buffer.from(files[WEIGHTS]);
    other[end - 1] ^= 1;
    hub.replace(WEIGHTS, other);
    const manifest = files["zamba2-pack.json"].toString();
    hub.replace(
      "zamba2-pack.json",
      Buffer.from(manifest.replace(unit.sha256, sha256(other.subarray(unit.start, end)))),
    );
    assert.equal((await loadAndRun(page, hub.folder)).error?.code, "changed");
    const fresh = await loadAndRun(page, hub.folder);
    assert.equal(fresh.error, null);
    assert.equal(fresh.progress.device_bytes, 0);
  }));
