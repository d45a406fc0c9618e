// @ts-check
// Shared by all sources of bytes: errors, detection of missing files, and joining chunks to one array.

import { Zamba2Error } from "./errors.js";

/** @param {string} file @param {string | null} [next] */
export const missingFile = (file, next = null) => new Zamba2Error("missing_file", { file }, { next });

/** @param {string} file @param {number} expected_bytes @param {number} actual_bytes */
export const truncated = (file, expected_bytes, actual_bytes) =>
  new Zamba2Error("truncated", { file, expected_bytes, actual_bytes });

/**
 * Whether a file is a web page. Some hosts respond with 200 and their start page for missing files. No file of a
 * checkpoint begins like this; chat templates may begin with `<|`.
 * @param {Uint8Array} bytes  the first bytes suffice
 */
export function isWebPage(bytes) {
  const beginning = new TextDecoder().decode(bytes.subarray(0, 256)).trimStart();
  return /^<(?:!doctype|html|head|body|meta|script|title|\?xml|!--)/i.test(beginning);
}

/**
 * Whether a weight file is a web page. Its first eight bytes are the length of a header; eight letters would be a
 * length beyond any file.
 * @param {Uint8Array} bytes  the first eight
 */
export function isWebPageForWeights(bytes) {
  return bytes[7] !== 0 && /^\s*(?:<|$)/.test(new TextDecoder().decode(bytes));
}

/** Null for a file that the source does not have. @template T @param {Promise<T>} file @returns {Promise<T | null>} */
export async function orNull(file) {
  try {
    return await file;
  } catch (thrown) {
    if (thrown instanceof Zamba2Error && thrown.code === "missing_file") return null;
    throw thrown;
  }
}

/** @param {AsyncIterable<Uint8Array>} chunks */
export async function joined(chunks) {
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
