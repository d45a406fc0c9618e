// @ts-check
// Saving a file from the page. Needs no browser.

import assert from "node:assert/strict";
import { resolveObjectURL } from "node:buffer";
import { mock, test } from "node:test";
import { saveFile } from "../../www/save_file.js";

test("a saved file can be read long after the click and is released later", async () => {
  const link = { href: "", download: "", click() {} };
  /** @type {any} */ (globalThis).document = { createElement: () => link };
  mock.timers.enable({ apis: ["setTimeout"] });
  saveFile("zamba2.state", new Uint8Array([1, 2, 3]), "application/octet-stream");
  assert.equal(link.download, "zamba2.state");
  mock.timers.tick(30_000);
  const blob = resolveObjectURL(link.href);
  assert.equal(blob?.type, "application/octet-stream");
  assert.deepEqual(new Uint8Array(await /** @type {any} */ (blob).arrayBuffer()), new Uint8Array([1, 2, 3]));
  mock.timers.tick(60_000);
  assert.equal(resolveObjectURL(link.href), undefined);
});
