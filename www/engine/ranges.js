// @ts-check
// Requests for the weights of units: joined ranges, prefetching, and packed files with their hashes.

import { fact, Zamba2Error } from "./errors.js";
import { sha256 } from "./sha256.js";

/** @import { ByteSource, RangeReply } from "./byte_source.js" */
/** @import { ByteRange, Pack, PackedPart } from "./wasm_exports.d.ts" */
/** @import { Unit } from "./wasm_engine.js" */

export const PACK_FILE = "zamba2-pack.json";

/** Two requests in flight hide one round trip; more would compete for the same connection and fill memory. */
const REQUESTS_IN_FLIGHT = 2;

/** Joins adjacent ranges and drops empty ones. @param {ByteRange[]} ranges */
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
 * Replies in order; the next request is sent before the current reply is read.
 * @param {Iterable<ByteRange>} requests @param {Pick<ByteSource, "range">} source @param {AbortSignal} signal
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
  // Sent before the first reply is awaited: meanwhile the graphics device is tested.
  for (let i = 0; i < REQUESTS_IN_FLIGHT; i++) send();
  return (async function* () {
    for (let reply = in_flight.shift(); reply; reply = in_flight.shift()) {
      yield await reply;
      send();
    }
  })();
}

/** @param {Pack} pack @param {Unit} unit @returns {PackedPart} */
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

/** Where the part is in its file. @param {PackedPart} part @returns {ByteRange} */
export const rangeOf = ({ file, start, bytes }) => ({ file, start, end: start + bytes });

/**
 * A packed part, checked against its hash; a damaged one is fetched once more.
 * @param {ByteSource} source @param {PackedPart} part @param {AbortSignal} signal
 * @param {Promise<Uint8Array<ArrayBuffer>> | null} ahead  its bytes, if they were requested ahead
 */
export async function fetchPacked(source, part, signal, ahead) {
  const { file, start, end } = rangeOf(part);
  for (let attempt = 0; attempt < 2; attempt++) {
    const is_here = attempt === 0 && ahead;
    const bytes = await (is_here ? ahead : bytesOf(await source.range(file, start, end, signal), part.bytes));
    if ((await sha256(bytes)) === part.sha256) return bytes;
  }
  throw new Zamba2Error("damaged", { file });
}

/** The bytes of several replies, one after another: a reply may hold several parts. */
export class JoinedReplies {
  /** Bytes that have arrived and were not taken yet. */
  #left = new Uint8Array(0);
  #chunks;

  /** @param {AsyncIterable<RangeReply>} replies */
  constructor(replies) {
    this.#chunks = chunksOf(replies);
  }

  /** The next bytes. @param {number} length */
  async take(length) {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length;) {
      if (this.#left.byteLength === 0) this.#left = (await this.#chunks.next()).value ?? ended();
      const some = this.#left.subarray(0, length - at);
      bytes.set(some, at);
      at += some.byteLength;
      this.#left = this.#left.subarray(some.byteLength);
    }
    return bytes;
  }
}

/** @param {AsyncIterable<RangeReply>} replies @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, undefined>} */
async function* chunksOf(replies) {
  for await (const { chunks } of replies) {
    for await (const chunk of chunks) yield /** @type {Uint8Array<ArrayBuffer>} */ (chunk);
  }
}

/** @returns {never} */
function ended() {
  throw new Zamba2Error("internal", { detail: fact("read_past_end") });
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
