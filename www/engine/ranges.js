// @ts-check
// Requests for the weights of units: joined ranges, requests sent ahead, and packed files with their hashes.

import { fact, Zamba2Error } from "./errors.js";
import { sha256 } from "./sha256.js";

/** @import { ByteSource, RangeReply } from "./byte_source.js" */
/** @import { ByteRange, Pack, PackedFile } from "./wasm_exports.d.ts" */
/** @import { Unit } from "./wasm_engine.js" */

export const PACK_FILE = "zamba2-pack.json";

/** Two requests in flight hide one round trip; more would compete for the same connection and fill memory. */
const REQUESTS_IN_FLIGHT = 2;

/** Adjacent ranges are requested together, and empty ones not at all. @param {ByteRange[]} ranges */
export function merged(ranges) {
  /** @type {ByteRange[]} */
  const requests = [];
  for (const { file, start, end } of ranges) {
    if (start === end) continue;
    const last = requests.at(-1);
    if (last && last.file === file && last.end === start) last.end = end;
    else requests.push({ file, start, end });
  }
  return requests;
}

/**
 * Replies in order; the next request is sent before the present reply is read.
 * @param {Iterable<ByteRange>} requests @param {ByteSource} source @param {AbortSignal} signal
 */
export function prefetched(requests, source, signal) {
  const left = requests[Symbol.iterator]();
  /** @type {Promise<RangeReply>[]} */
  const in_flight = [];
  const send = () => {
    const { done, value } = left.next();
    if (done) return;
    const reply = source.range(value.file, value.start, value.end, signal);
    // A failure is thrown when its reply is read; until then it must not count as unhandled.
    reply.catch(() => {});
    in_flight.push(reply);
  };
  // Sent before anyone waits for them: a graphics device is tested meanwhile.
  for (let i = 0; i < REQUESTS_IN_FLIGHT; i++) send();
  return (async function* () {
    for (let reply = in_flight.shift(); reply; reply = in_flight.shift()) {
      yield await reply;
      send();
    }
  })();
}

/** @param {Pack} pack @param {Unit} unit @returns {PackedFile} */
export function packedUnit(pack, unit) {
  const packed = pack.units.find(({ name }) => name === unit.name);
  if (!packed || packed.bytes !== unit.stored_bytes) {
    throw new Zamba2Error(
      "bad_config",
      { file: PACK_FILE, fact: fact("other_unit", { name: unit.name }) },
      { next: "pack" },
    );
  }
  return packed;
}

/**
 * A packed file, checked against its hash; a damaged one is fetched once more.
 * @param {ByteSource} source @param {PackedFile} file @param {AbortSignal} signal
 * @param {RangeReply | null} reply  that was requested ahead
 */
export async function fetchPacked(source, file, signal, reply) {
  for (let attempt = 0; attempt < 2; attempt++) {
    const present = attempt === 0 && reply ? reply : await source.range(file.file, 0, file.bytes, signal);
    const bytes = await bytesOf(present, file.bytes);
    if ((await sha256(bytes)) === file.sha256) return bytes;
  }
  throw new Zamba2Error("damaged", { file: file.file });
}

/** @param {RangeReply} reply @param {number} length */
export async function bytesOf(reply, length) {
  const bytes = new Uint8Array(length);
  let at = 0;
  for await (const chunk of reply.chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}
