// @ts-check
// Joins many small ranges of a small file into one request: the tensors of a checkpoint have another order in the file
// than in the forward pass, and a hundred requests would take longer than the transfer itself.

import { merged } from "./ranges.js";
import { WholeFile } from "./whole_file.js";

/** @import { ByteSource, RangeReply } from "./byte_source.js" */
/** @import { ByteRange } from "./wasm_exports.d.ts" */
/** @typedef {{ start: number, end: number, reply: Promise<{ file_bytes: number, whole: WholeFile }> | null }} Span */

/** With fewer ranges, each is requested when its bytes are needed. */
const LEAST_REQUESTS = 32;
/** Limit of the memory for bytes that arrive before they are needed. */
const MOST_BYTES = 16 << 20;
/** Least share of needed bytes between the first needed one and the last. */
const LEAST_NEEDED_SHARE = 0.9;

/** A source whose ranges may arrive together. @implements {Pick<ByteSource, "range">} */
export class JoinedRanges {
  #source;
  /** By file. @type {Map<string, Span>} */
  #spans = new Map();

  /** @param {ByteSource} source @param {ByteRange[]} ranges  all that will be asked for */
  constructor(source, ranges) {
    this.#source = source;
    const all = merged(ranges);
    for (const file of new Set(all.map(({ file }) => file))) {
      const requests = all.filter((request) => request.file === file);
      const start = Math.min(...requests.map(({ start }) => start));
      const end = Math.max(...requests.map(({ end }) => end));
      const needed = requests.reduce((sum, { start, end }) => sum + end - start, 0);
      const is_small = end - start <= MOST_BYTES && needed >= LEAST_NEEDED_SHARE * (end - start);
      if (is_small && requests.length >= LEAST_REQUESTS) this.#spans.set(file, { start, end, reply: null });
    }
  }

  /**
   * @param {string} file @param {number} start @param {number} end @param {AbortSignal} signal
   * @returns {Promise<RangeReply>}
   */
  async range(file, start, end, signal) {
    const span = this.#spans.get(file);
    if (!span) return this.#source.range(file, start, end, signal);
    span.reply ??= this.#open(file, span, signal);
    const { file_bytes, whole } = await span.reply;
    return { file_bytes, chunks: whole.chunks(start - span.start, end - span.start) };
  }

  /** @param {string} file @param {Span} span @param {AbortSignal} signal */
  async #open(file, { start, end }, signal) {
    const { file_bytes, chunks } = await this.#source.range(file, start, end, signal);
    const whole = new WholeFile(end - start);
    void fill(whole, chunks);
    return { file_bytes, whole };
  }
}

/** Readers of the bytes get failures. @param {WholeFile} whole @param {AsyncIterable<Uint8Array>} chunks */
async function fill(whole, chunks) {
  try {
    for await (const chunk of chunks) whole.append(chunk);
    whole.end();
  } catch (thrown) {
    whole.fail(thrown);
  }
}
