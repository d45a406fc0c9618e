// @ts-check
// A folder behind a URL as a source of bytes, and the interface of all sources. It reads byte ranges; it interprets no
// format and stores nothing. Chosen files are in file_list_source.js.

import { fact, Zamba2Error } from "./errors.js";
import { HttpExchange } from "./http_exchange.js";
import { askedWaitMs, Interruption, Retries, RETRY_DEFAULTS, Waits } from "./retry_policy.js";
import { isWebPage, joined, missingFile, truncated } from "./source_parts.js";
import { WholeFile } from "./whole_file.js";

/** @import { RetryPolicy, WaitListener } from "./retry_policy.js" */

/**
 * @typedef {object} ByteSource
 * @property {(file: string, signal: AbortSignal) => Promise<Uint8Array>} whole  all bytes of a small file
 * @property {(file: string, start: number, end: number, signal: AbortSignal) => Promise<RangeReply>} range
 *   starts reading [start, end); the reply's `chunks` bring exactly end - start bytes or throw
 *
 * @property {(file: string) => string | null} [etag]  the version of a file that has been read, if the server sends one
 * @property {(file: string, identity: { file_bytes: number, etag: string | null }) => void} [expect]
 *   the version that replies must be of; another one fails with the code "changed"
 *
 * @typedef {object} RangeReply
 * @property {number} file_bytes  size of the whole file
 * @property {AsyncIterable<Uint8Array>} chunks
 */

/**
 * Size and version of a file from its first good reply; later replies must agree.
 * @typedef {{ file_bytes: number | null, etag: string | null }} Identity
 */

/**
 * A folder behind a URL, read with single-range GETs. `Range: bytes=a-b` is the only form that needs no preflight
 * request to another origin, so no other header is sent. Every request goes to the folder's own URL: if that redirects
 * to a signed URL, an earlier signature may have expired.
 * @implements {ByteSource}
 */
export class UrlSource {
  /** @param {string} folder @param {{ retry?: Partial<RetryPolicy>, onWait?: WaitListener }} [options] */
  constructor(folder, { retry = {}, onWait = () => {} } = {}) {
    const url = new URL(folder);
    // Without a final slash, relative names would replace the folder's own.
    if (!url.pathname.endsWith("/")) url.pathname += "/";
    this.folder = url;
    this.waits = new Waits({ ...RETRY_DEFAULTS, ...retry }, onWait);
    /** Files that have been readable. @type {Map<string, Identity>} */
    this.known = new Map();
    /** Files that the server sends only as a whole. @type {Map<string, WholeFile>} */
    this.wholes = new Map();
  }

  /** @param {string} file */
  etag(file) {
    return this.known.get(file)?.etag ?? null;
  }

  /** @param {string} file @param {Identity} identity */
  expect(file, identity) {
    this.known.set(file, identity);
  }

  /** @param {string} file */
  address(file) {
    const url = new URL(file, this.folder);
    url.search = this.folder.search;
    return url;
  }

  /** @param {string} file @param {AbortSignal} signal */
  async whole(file, signal) {
    const retries = new Retries(this.waits, file, signal);
    for (;;) {
      const exchange = new HttpExchange(file, this.address(file), 0, retries);
      try {
        const response = await exchange.reply({});
        if (!response.ok) throw this.refusal(exchange, response);
        // Size and ETag are not kept: those of a compressed reply differ from those of a range.
        if (!this.known.has(file)) this.known.set(file, { file_bytes: null, etag: null });
        // After an interruption the file is read from the start: a compressed reply cannot be continued by a range.
        retries.answered();
        const bytes = await joined(exchange.body(response));
        if (isWebPage(bytes)) throw missingFile(file, "web_page");
        return bytes;
      } catch (thrown) {
        exchange.close();
        await retries.pause(thrown, 0);
      }
    }
  }

  /**
   * @param {string} file @param {number} start @param {number} end @param {AbortSignal} signal
   * @returns {Promise<RangeReply>}
   */
  async range(file, start, end, signal) {
    const retries = new Retries(this.waits, file, signal);
    const first = await this.opened(file, start, end, retries);
    const file_bytes = first.file_bytes ?? (await this.sizeByGet(file, retries));
    return { file_bytes, chunks: this.continued(file, start, end, first.chunks, retries) };
  }

  /**
   * The bytes of a range, resumed as often as it is interrupted.
   * @param {string} file
   * @param {number} start
   * @param {number} end
   * @param {AsyncIterable<Uint8Array>} chunks
   * @param {Retries} retries
   */
  async *continued(file, start, end, chunks, retries) {
    for (let at = start; ;) {
      try {
        for await (const chunk of chunks) {
          if (chunk.byteLength > end - at) throw tooLong(file);
          at += chunk.byteLength;
          retries.progressed();
          yield chunk;
        }
        if (at < end) throw new Interruption("dropped", truncated(file, end, at));
      } catch (thrown) {
        if (at < end || !(thrown instanceof Interruption)) await retries.pause(thrown, at);
      }
      // The connection broke after the last byte.
      if (at === end) return;
      ({ chunks } = await this.opened(file, at, end, retries));
    }
  }

  /**
   * Requests [at, end) until there is a good reply.
   * @param {string} file @param {number} at @param {number} end @param {Retries} retries
   * @returns {Promise<{ file_bytes: number | null, chunks: AsyncIterable<Uint8Array> }>}
   */
  async opened(file, at, end, retries) {
    for (;;) {
      const exchange = new HttpExchange(file, this.address(file), at, retries);
      try {
        const whole = this.wholes.get(file);
        const reply = whole ? await wholeReply(file, whole, at, end) : await this.asked(exchange, at, end);
        if (whole) exchange.close();
        retries.answered();
        return reply;
      } catch (thrown) {
        exchange.close();
        await retries.pause(thrown, at);
      }
    }
  }

  /** @param {HttpExchange} exchange @param {number} at @param {number} end */
  async asked(exchange, at, end) {
    const { file } = exchange;
    const response = await exchange.reply({ headers: { Range: `bytes=${at}-${end - 1}` } });
    // Weights are never a web page: some hosts send their start page for missing files.
    if (response.ok && isHtml(response) && !this.known.has(file)) throw missingFile(file, "web_page");
    if (response.status === 200) {
      // The server ignores ranges and sends the whole file: it is kept, or each range would fetch it again.
      const known = this.wholes.get(file);
      if (known) exchange.close();
      const whole = known ?? this.arriving(exchange, response);
      return wholeReply(file, whole, at, end);
    }
    if (response.status === 416) {
      const total = /\*\/(\d+)/.exec(response.headers.get("Content-Range") ?? "")?.[1];
      const known_bytes = this.known.get(file)?.file_bytes ?? null;
      if (known_bytes !== null && at < known_bytes) throw changed(file);
      throw truncated(file, end, Number(total ?? at));
    }
    if (response.status !== 206) throw this.refusal(exchange, response);

    // Another origin may hide Content-Range, but not Content-Length.
    const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get("Content-Range") ?? "");
    if (range && Number(range[1]) !== at) {
      throw new Zamba2Error("io", { file, fact: fact("wrong_range", { found: range[1], at }) }, { next: "server" });
    }
    const file_bytes = range && range[3] !== "*" ? Number(range[3]) : null;
    this.identify(file, response, file_bytes);
    if (file_bytes !== null && end > file_bytes) throw truncated(file, end, file_bytes);
    const announced_end = range ? Number(range[2]) + 1 : end;
    const length = response.headers.get("Content-Length");
    const body_end = length === null ? announced_end : at + Number(length);
    if (announced_end > end || body_end > end) throw tooLong(file);
    // It is unknown which bytes are missing, so none of them can be used.
    if (range && body_end < announced_end) throw truncated(file, announced_end, body_end);
    return { file_bytes: this.known.get(file)?.file_bytes ?? null, chunks: exchange.body(response) };
  }

  /**
   * Receives a file that is sent as a whole, while ranges are read from it.
   * @param {HttpExchange} exchange @param {Response} response
   */
  arriving(exchange, response) {
    const { file } = exchange;
    // Content-Length counts compressed bytes.
    const length = response.headers.has("Content-Encoding") ? null : response.headers.get("Content-Length");
    const whole = new WholeFile(length === null ? null : Number(length));
    this.identify(file, response, whole.file_bytes);
    this.wholes.set(file, whole);
    this.fill(file, whole, exchange.body(response), new Retries(this.waits, file, exchange.retries.signal)).catch(
      (reason) => {
        this.wholes.delete(file);
        whole.fail(reason);
      },
    );
    return whole;
  }

  /**
   * @param {string} file
   * @param {WholeFile} whole
   * @param {AsyncIterable<Uint8Array>} chunks
   * @param {Retries} retries
   */
  async fill(file, whole, chunks, retries) {
    for (;;) {
      try {
        for await (const chunk of chunks) {
          whole.append(chunk);
          retries.progressed();
        }
        const { bytes, file_bytes } = whole;
        if (file_bytes !== null && bytes > file_bytes) throw tooLong(file);
        if (file_bytes !== null && bytes < file_bytes)
          throw new Interruption("dropped", truncated(file, file_bytes, bytes));
        return whole.end();
      } catch (thrown) {
        await retries.pause(thrown, whole.bytes);
      }
      chunks = await this.refilled(file, whole, retries);
    }
  }

  /**
   * The rest of an interrupted file: as a range if the server sends one, otherwise from the whole file without its
   * beginning.
   * @param {string} file @param {WholeFile} whole @param {Retries} retries
   */
  async refilled(file, whole, retries) {
    const from = whole.bytes;
    for (;;) {
      const exchange = new HttpExchange(file, this.address(file), from, retries);
      try {
        const response = await exchange.reply({ headers: { Range: `bytes=${from}-` } });
        if (!response.ok) throw this.refusal(exchange, response);
        if (response.status === 200) this.identify(file, response, whole.file_bytes);
        retries.answered();
        return response.status === 200 ? after(from, exchange.body(response)) : exchange.body(response);
      } catch (thrown) {
        exchange.close();
        await retries.pause(thrown, from);
      }
    }
  }

  /**
   * Bytes of two versions of a file must not be mixed. Other origins must expose ETag, or it is not readable.
   * @param {string} file @param {Response} response @param {number | null} file_bytes
   */
  identify(file, response, file_bytes) {
    const etag = response.headers.get("ETag")?.replace(/^W\//, "") ?? null;
    const known = this.known.get(file) ?? { file_bytes, etag };
    /** @param {unknown} before @param {unknown} now */
    const differ = (before, now) => before !== null && now !== null && before !== now;
    if (differ(known.file_bytes, file_bytes) || differ(known.etag, etag)) throw changed(file);
    this.known.set(file, { file_bytes: known.file_bytes ?? file_bytes, etag: known.etag ?? etag });
  }

  /** @param {HttpExchange} exchange @param {Response} response */
  refusal({ file, at }, response) {
    const { status } = response;
    if (status === 404 || status === 410) return missingFile(file);
    const error = statusError(file, response, at);
    // A file that was readable before is refused if the signature in its URL has expired.
    const passing = status >= 500 || status === 408 || status === 429 || (status === 403 && this.known.has(file));
    return passing ? new Interruption("status", error, { status, asked_ms: askedWaitMs(response.headers) }) : error;
  }

  /**
   * The size of a file whose server hides Content-Range: the Content-Length of a reply that is then cancelled. HEAD is
   * not used, because signed URLs are often valid for GET only.
   * @param {string} file @param {Retries} retries
   */
  async sizeByGet(file, retries) {
    for (;;) {
      const exchange = new HttpExchange(file, this.address(file), 0, retries);
      try {
        // Without a range the reply could be compressed, with another length.
        const response = await exchange.reply({ headers: { Range: "bytes=0-" } });
        if (!response.ok) throw this.refusal(exchange, response);
        const length = response.headers.get("Content-Length");
        if (length === null) {
          throw new Zamba2Error("io", { file, fact: fact("no_size") }, { next: "download" });
        }
        this.identify(file, response, Number(length));
        retries.answered();
        return Number(length);
      } catch (thrown) {
        await retries.pause(thrown, 0);
      } finally {
        exchange.close();
      }
    }
  }
}

/** @param {string} file @param {WholeFile} whole @param {number} start @param {number} end */
async function wholeReply(file, whole, start, end) {
  const file_bytes = await whole.size();
  if (end > file_bytes) throw truncated(file, end, file_bytes);
  return { file_bytes, chunks: whole.chunks(start, end) };
}

/** What follows the first `skipped` bytes. @param {number} skipped @param {AsyncIterable<Uint8Array>} chunks */
async function* after(skipped, chunks) {
  let left = skipped;
  for await (const chunk of chunks) {
    if (chunk.byteLength > left) yield chunk.subarray(left);
    left = Math.max(0, left - chunk.byteLength);
  }
}

/** @param {Response} response */
const isHtml = (response) => /^text\/html\b/i.test(response.headers.get("Content-Type") ?? "");

/** @param {string} file */
const tooLong = (file) => new Zamba2Error("io", { file, fact: fact("too_long") }, { next: "server" });

/** @param {string} file */
const changed = (file) => new Zamba2Error("changed", { file });

/** @param {string} file @param {Response} response @param {number} at */
function statusError(file, { status, statusText }, at) {
  const answer = statusText ? `${status} ${statusText}` : status;
  const next = status === 401 || status === 403 ? "refused" : status === 429 ? "pause" : null;
  return new Zamba2Error("http_status", { file, status: answer, at }, { next });
}
