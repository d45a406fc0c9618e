// @ts-check
// Where a checkpoint's bytes come from: a folder behind a URL, or files that the reader chose.
// It stands on errors.js and is used by loading.js. It knows byte ranges only: no tensor, no header, no retry policy.

import { Zamba2Error } from "./errors.js";

/**
 * @typedef {object} ByteSource
 * @property {(file: string, signal: AbortSignal) => Promise<Uint8Array>} whole  all bytes of a small file
 * @property {(file: string, start: number, end: number, signal: AbortSignal) => Promise<RangeReply>} range
 *   starts reading [start, end); the reply's `chunks` bring exactly end - start bytes or throw
 *
 * @typedef {object} RangeReply
 * @property {number} file_bytes  size of the whole file
 * @property {AsyncIterable<Uint8Array>} chunks
 */

/** Local files are read in pieces of this size, so that an abort is heard and progress is seen between them. */
const BLOB_PIECE_BYTES = 4 << 20;

const FOLDER_STEP = "Check the folder: it needs config.json and model.safetensors (or its shards and their index).";
const TRUNCATED_STEP = "The download was cut short: fetch the file again.";

/** @param {string} file */
const missingFile = (file) => new Zamba2Error("missing_file", `${file} is missing`, { file, nextStep: FOLDER_STEP });

/** @param {string} file @param {number} expected_bytes @param {number} actual_bytes */
const truncated = (file, expected_bytes, actual_bytes) =>
  new Zamba2Error("truncated", `${file} ends after ${actual_bytes} bytes where ${expected_bytes} are needed`, {
    file,
    nextStep: TRUNCATED_STEP,
  });

/**
 * Pieces of a Blob. A Blob's slice clamps silently, so the length is checked here.
 * @param {string} file @param {Blob} blob @param {number} start @param {number} end @param {AbortSignal} signal
 */
async function* blobChunks(file, blob, start, end, signal) {
  if (end > blob.size) throw truncated(file, end, blob.size);
  for (let at = start; at < end; at += BLOB_PIECE_BYTES) {
    signal.throwIfAborted();
    try {
      yield new Uint8Array(await blob.slice(at, Math.min(at + BLOB_PIECE_BYTES, end)).arrayBuffer());
    } catch (cause) {
      throw new Zamba2Error("io", `${file} could not be read: ${/** @type {Error} */ (cause).message}`, {
        file,
        nextStep: "The file changed or moved since it was chosen: choose the folder again.",
        cause,
      });
    }
  }
}

/**
 * Files chosen or dropped by the reader. Folders inside are ignored: a checkpoint is flat.
 * @implements {ByteSource}
 */
export class FileListSource {
  /** @param {Iterable<File>} files */
  constructor(files) {
    /** @type {Map<string, File>} */
    this.files = new Map();
    for (const file of files) this.files.set(file.name, file);
  }

  /** @param {string} file */
  find(file) {
    const found = this.files.get(file);
    if (!found) throw missingFile(file);
    return found;
  }

  /** @param {string} file @param {AbortSignal} signal */
  async whole(file, signal) {
    const blob = this.find(file);
    return joined(blobChunks(file, blob, 0, blob.size, signal));
  }

  /** @param {string} file @param {number} start @param {number} end @param {AbortSignal} signal */
  async range(file, start, end, signal) {
    const blob = this.find(file);
    if (end > blob.size) throw truncated(file, end, blob.size);
    return { file_bytes: blob.size, chunks: blobChunks(file, blob, start, end, signal) };
  }
}

/**
 * A folder behind a URL, read with plain single-range GETs. `Range: bytes=a-b` is the one form that other origins
 * accept without a preflight request, so no other header is sent.
 * @implements {ByteSource}
 */
export class UrlSource {
  /** @param {string} folder */
  constructor(folder) {
    const url = new URL(folder);
    // Relative names replace the last path segment, so a folder without a final slash would lose its name.
    if (!url.pathname.endsWith("/")) url.pathname += "/";
    this.folder = url;
    /** Files that the server insisted on sending whole. @type {Map<string, Promise<Blob>>} */
    this.blobs = new Map();
  }

  /** @param {string} file */
  address(file) {
    const url = new URL(file, this.folder);
    url.search = this.folder.search;
    return url;
  }

  /** @param {string} file @param {RequestInit} init */
  async request(file, init) {
    let response;
    try {
      response = await fetch(this.address(file), init);
    } catch (cause) {
      if (init.signal?.aborted) throw init.signal.reason;
      throw networkError(file, this.folder.origin, cause);
    }
    if (response.status === 404 || response.status === 410) throw missingFile(file);
    return response;
  }

  /** @param {string} file @param {AbortSignal} signal */
  async whole(file, signal) {
    const response = await this.request(file, { signal });
    if (!response.ok) throw statusError(file, response);
    return joined(bodyChunks(file, response, this.folder.origin, signal));
  }

  /** @param {string} file @param {number} start @param {number} end @param {AbortSignal} signal @returns {Promise<RangeReply>} */
  async range(file, start, end, signal) {
    const kept = this.blobs.get(file);
    if (kept) return blobReply(file, await kept, start, end, signal);

    const response = await this.request(file, { signal, headers: { Range: `bytes=${start}-${end - 1}` } });
    if (response.status === 200) {
      // This server does not know ranges and is sending everything. Keep it, or each range would fetch it again.
      const blob = this.blobs.get(file) ?? response.blob();
      this.blobs.set(file, blob);
      try {
        return blobReply(file, await blob, start, end, signal);
      } catch (cause) {
        this.blobs.delete(file);
        if (signal.aborted) throw signal.reason;
        if (cause instanceof Zamba2Error) throw cause;
        throw networkError(file, this.folder.origin, cause);
      }
    }
    if (response.status === 416) {
      const total = Number(/\*\/(\d+)/.exec(response.headers.get("Content-Range") ?? "")?.[1] ?? start);
      throw truncated(file, end, total);
    }
    if (response.status !== 206) throw statusError(file, response);

    const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "");
    if (range && Number(range[1]) !== start) {
      throw new Zamba2Error("io", `${file} could not be read: the server sent bytes from ${range[1]} where ${start} was asked`, {
        file,
        nextStep: "Use another server: this one answers range requests wrongly.",
      });
    }
    // Another origin may hide Content-Range; its Content-Length is always readable.
    const file_bytes = range ? Number(range[2]) : await this.sizeByHead(file, signal);
    return { file_bytes, chunks: exactly(file, end - start, start, bodyChunks(file, response, this.folder.origin, signal)) };
  }

  /** @param {string} file @param {AbortSignal} signal */
  async sizeByHead(file, signal) {
    const length = (await this.request(file, { signal, method: "HEAD" })).headers.get("Content-Length");
    if (length === null) {
      throw new Zamba2Error("io", `${file} could not be read: the server does not tell its size`, {
        file,
        nextStep: "Download the folder and open it as local files.",
      });
    }
    return Number(length);
  }
}

/** @param {string} file @param {Blob} blob @param {number} start @param {number} end @param {AbortSignal} signal */
function blobReply(file, blob, start, end, signal) {
  if (end > blob.size) throw truncated(file, end, blob.size);
  return { file_bytes: blob.size, chunks: blobChunks(file, blob, start, end, signal) };
}

/** @param {string} file @param {Response} response @param {string} origin @param {AbortSignal} signal */
async function* bodyChunks(file, response, origin, signal) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  let done = false;
  try {
    for (;;) {
      const part = await reader.read();
      done = part.done;
      if (part.done) return;
      yield part.value;
    }
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    throw networkError(file, origin, cause);
  } finally {
    // A reader that stops early must not leave the rest of the file on its way.
    if (!done) reader.cancel().catch(() => {});
  }
}

/**
 * Passes chunks through and insists on their total: a proxy that cuts a body short looks like a normal end of stream.
 * @param {string} file @param {number} expected_bytes @param {number} start @param {AsyncIterable<Uint8Array>} chunks
 */
async function* exactly(file, expected_bytes, start, chunks) {
  let actual_bytes = 0;
  for await (const chunk of chunks) {
    actual_bytes += chunk.byteLength;
    if (actual_bytes > expected_bytes) {
      throw new Zamba2Error("io", `${file} could not be read: the server sent more bytes than were asked for`, {
        file,
        nextStep: "Use another server: this one answers range requests wrongly.",
      });
    }
    yield chunk;
  }
  if (actual_bytes < expected_bytes) throw truncated(file, start + expected_bytes, start + actual_bytes);
}

/** @param {AsyncIterable<Uint8Array>} chunks */
async function joined(chunks) {
  /** @type {Uint8Array[]} */
  const parts = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    bytes += chunk.byteLength;
  }
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

/** @param {string} file @param {string} origin @param {unknown} cause */
function networkError(file, origin, cause) {
  return new Zamba2Error("network", `${file} could not be fetched from ${origin}`, {
    file,
    nextStep: "Check the connection and the address, and that the server allows this page to read from it (CORS); then try again.",
    cause,
  });
}

/** @param {string} file @param {Response} response */
function statusError(file, response) {
  const { status, statusText } = response;
  return new Zamba2Error("http_status", `${file} could not be fetched: the server answered ${status}${statusText ? ` ${statusText}` : ""}`, {
    file,
    nextStep: status === 401 || status === 403
      ? "The server refuses access: check the address, or download the folder and open it as local files."
      : status === 429
        ? "The server asks for a pause: wait a few minutes, then try again."
        : "Try again later; if it stays, download the folder and open it as local files.",
  });
}
