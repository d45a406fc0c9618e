// @ts-check
// Which build of the engine is chosen from a package that does not contain all of them, and its module without shared
// memory. Needs no browser.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { nearestBuild } from "../../www/engine/builds.js";
import { withOwnMemory } from "../../www/engine/unshared.js";

const ALL = ["relaxed-simd", "simd128"];

test("from a package with all builds the requested one is chosen", () => {
  assert.equal(nearestBuild(ALL, true, true), "relaxed-simd");
  assert.equal(nearestBuild(ALL, false, true), "simd128");
});

test("a build that the browser cannot run is never chosen", () => {
  assert.equal(nearestBuild(ALL, true, false), "simd128");
  assert.equal(nearestBuild(["relaxed-simd"], true, false), null);
});

test("a build that is not there is replaced by the other one", () => {
  assert.equal(nearestBuild(["relaxed-simd"], false, true), "relaxed-simd");
  assert.equal(nearestBuild(["simd128"], true, true), "simd128");
  assert.equal(nearestBuild([], true, true), null);
});

/** A name, as modules store it. @param {string} text */
const name = (text) => [text.length, ...Buffer.from(text)];

test("a module with memory of its own is the same but for the flag, after imports of every kind", () => {
  const imports = [
    [...name("e"), ...name("function"), 0, 0],
    [...name("e"), ...name("table"), 1, 0x70, 1, 1, 0x80, 1],
    [...name("e"), ...name("global"), 3, 0x7f, 0],
    [...name("e"), ...name("tag"), 4, 0, 0],
    [...name("e"), ...name("memory"), 2, 3, 2, 0x80, 0x80, 4],
  ];
  const section = [imports.length, ...imports.flat()];
  const type = [1, 4, 1, 0x60, 0, 0];
  const bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, ...type, 2, section.length, ...section]);
  const expected = bytes.slice();
  expected[bytes.length - 5] = 1;
  assert.deepEqual(withOwnMemory(bytes), { initial: 2, maximum: 65536 });
  assert.deepEqual(bytes, expected);
});

test("the engine's module is valid with memory of its own, and has the same imports", () => {
  // Node has no relaxed SIMD; browsers load the other build in threads.test.js.
  const path = new URL("../../pkg/simd128/zamba2_wasm_bg.wasm", import.meta.url);
  const bytes = new Uint8Array(readFileSync(path));
  const imports = (/** @type {Uint8Array<ArrayBuffer>} */ module) =>
    WebAssembly.Module.imports(new WebAssembly.Module(module));
  const before = imports(bytes.slice());
  const { initial, maximum } = withOwnMemory(bytes) ?? assert.fail("it imports no memory");
  assert.ok(initial > 0 && maximum === 65536, `${initial} to ${maximum} pages`);
  assert.deepEqual(imports(bytes), before);
});

test("bytes that are no module with an imported memory stay as they are", () => {
  const header = [0, 97, 115, 109, 1, 0, 0, 0];
  const page = Buffer.from("<!doctype html><title>Not found</title>".repeat(9));
  for (const bytes of [
    header,
    [...header, 1, 4, 1, 0x60, 0, 0],
    // Four thousand million imports of which none is there.
    [...header, 2, 5, 255, 255, 255, 255, 15],
    [...header, 2, 9, 1, 255, 255, 255, 255, 15, 0, 0, 9],
    page,
    [],
  ]) {
    const changed = new Uint8Array(bytes);
    assert.equal(withOwnMemory(changed), null);
    assert.deepEqual([...changed], [...bytes]);
  }
});
