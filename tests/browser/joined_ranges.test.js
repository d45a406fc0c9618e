// @ts-check
// Which ranges of a checkpoint are asked for in one request, and that each reader gets its own bytes. Needs no browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { JoinedRanges } from "../../www/engine/joined_ranges.js";

/** @import { ByteRange } from "../../www/engine/wasm_exports.d.ts" */

const { signal } = new AbortController();

/** Ranges of `bytes` each with `gap` bytes between them. @param {number} n @param {number} bytes @param {number} gap */
const ranges = (n, bytes, gap = 0) =>
  Array.from({ length: n }, (_, i) => {
    const start = 8 + i * (bytes + gap);
    return { file: "a", start, end: start + bytes };
  });

/** In another order than in the file, so that neighbours are not asked for together anyway. @param {ByteRange[]} all */
const shuffled = (all) => [...all.filter((_, i) => i % 2), ...all.filter((_, i) => i % 2 === 0)];

/** The byte at a place of the file. @param {number} at */
const byteAt = (at) => (at * 7 + (at >> 8)) & 255;

/** A source that notes its requests, and fails at byte `broken_at`. @param {number} [broken_at] */
function source(broken_at = Infinity) {
  /** @type {[number, number][]} */
  const requests = [];
  return {
    requests,
    whole: () => Promise.reject(new Error("not asked for")),
    async range(/** @type {string} */ file, /** @type {number} */ start, /** @type {number} */ end) {
      assert.equal(file, "a");
      requests.push([start, end]);
      async function* chunks() {
        for (let at = start; at < end; at += 1000) {
          if (at >= broken_at) throw new Error("broken");
          yield Uint8Array.from({ length: Math.min(1000, end - at) }, (_, i) => byteAt(at + i));
        }
      }
      return { file_bytes: 123456789, chunks: chunks() };
    },
  };
}

/** @param {JoinedRanges} joined @param {ByteRange} range */
async function read(joined, { file, start, end }) {
  const { file_bytes, chunks } = await joined.range(file, start, end, signal);
  assert.equal(file_bytes, 123456789);
  const bytes = [];
  for await (const chunk of chunks) bytes.push(...chunk);
  return bytes;
}

test("many small ranges of a small file are one request, and each reader gets its own bytes in any order", async () => {
  const all = shuffled(ranges(100, 1234, 5));
  const from = source();
  const joined = new JoinedRanges(from, all);
  assert.deepEqual(from.requests, []);
  for (const range of all) {
    const expected = Array.from({ length: range.end - range.start }, (_, i) => byteAt(range.start + i));
    assert.deepEqual(await read(joined, range), expected);
  }
  assert.deepEqual(from.requests, [[8, 8 + 99 * 1239 + 1234]]);
});

for (const [what, all] of /** @type {[string, ByteRange[]][]} */ ([
  ["few ranges", shuffled(ranges(20, 1000))],
  ["ranges of a large file", shuffled(ranges(40, 500_000))],
  ["ranges with much between them", shuffled(ranges(100, 1000, 500))],
])) {
  test(`${what} are asked for one by one`, async () => {
    const from = source();
    const joined = new JoinedRanges(from, all);
    for (const range of all.slice(0, 3)) await read(joined, range);
    assert.deepEqual(
      from.requests,
      all.slice(0, 3).map(({ start, end }) => [start, end]),
    );
  });
}

test("a failure reaches the readers of what has not arrived, and no others", async () => {
  const all = shuffled(ranges(100, 1000));
  const joined = new JoinedRanges(source(50_008), all);
  const early = all.filter(({ end }) => end <= 50_008);
  const late = all.filter(({ end }) => end > 50_008);
  for (const range of early) assert.equal((await read(joined, range)).length, 1000);
  for (const range of late) await assert.rejects(read(joined, range), /broken/);
});
