// @ts-check
// A file, or a long part of one, that arrives from start to end; the bytes that have arrived can be read in any order.
// It sends no request.

import { fact, Zamba2Error } from "./errors.js";

/** Bytes that have arrived become Blobs of this size, which browsers keep outside of the page's memory. */
const PIECE_BYTES = 16 << 20;
/** The largest chunk, so that there are aborts and progress between chunks. */
const CHUNK_BYTES = 4 << 20;

export class WholeFile {
  /** Bytes that have arrived. */
  bytes = 0;
  /** @type {{ start: number, blob: Blob }[]} */
  #pieces = [];
  /** Bytes that have arrived since the last piece. @type {Uint8Array<ArrayBuffer>[]} */
  #tail = [];
  #tail_start = 0;
  #ended = false;
  /** @type {unknown} */
  #failure = null;
  /** @type {(() => void)[]} */
  #waiting = [];

  /** @param {number | null} file_bytes  null if the server does not send it */
  constructor(file_bytes) {
    this.file_bytes = file_bytes;
  }

  /** @param {Uint8Array} chunk */
  append(chunk) {
    this.#tail.push(/** @type {Uint8Array<ArrayBuffer>} */ (chunk));
    this.bytes += chunk.byteLength;
    if (this.bytes - this.#tail_start >= PIECE_BYTES) {
      this.#pieces.push({ start: this.#tail_start, blob: new Blob(this.#tail) });
      this.#tail = [];
      this.#tail_start = this.bytes;
    }
    this.#wake();
  }

  end() {
    this.#ended = true;
    this.file_bytes ??= this.bytes;
    this.#wake();
  }

  /** Rejects all pending and later reads. @param {unknown} reason */
  fail(reason) {
    this.#failure = reason;
    this.#wake();
  }

  /** The size, which may be known only at the end. */
  async size() {
    while (this.file_bytes === null) await this.#more();
    return this.file_bytes;
  }

  /**
   * The bytes [start, end) as they arrive; fewer if the file ends before.
   * @param {number} start
   * @param {number} end
   */
  async *chunks(start, end) {
    for (let at = start; at < end;) {
      while (this.bytes <= at && !this.#ended) await this.#more();
      if (this.bytes <= at) return;
      const chunk = await this.#at(at, Math.min(end, this.bytes, at + CHUNK_BYTES));
      at += chunk.byteLength;
      yield chunk;
    }
  }

  /**
   * Some of the bytes that have arrived, from `start` on.
   * @param {number} start
   * @param {number} end
   * @returns {Promise<Uint8Array>}
   */
  async #at(start, end) {
    const piece = this.#pieces.findLast((piece) => piece.start <= start);
    if (piece && start < piece.start + piece.blob.size) {
      return new Uint8Array(await piece.blob.slice(start - piece.start, end - piece.start).arrayBuffer());
    }
    let chunk_start = this.#tail_start;
    for (const chunk of this.#tail) {
      if (start < chunk_start + chunk.byteLength) return chunk.subarray(start - chunk_start, end - chunk_start);
      chunk_start += chunk.byteLength;
    }
    throw new Zamba2Error("internal", { detail: fact("not_arrived", { at: start }) });
  }

  async #more() {
    if (this.#failure === null) await new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
    if (this.#failure !== null) throw this.#failure;
  }

  #wake() {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
