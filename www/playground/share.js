// @ts-check
// Links that contain prompt, settings and the model's name, never the answer: deflated JSON as base64url in the hash,
// which browsers do not send to servers.

import { copyText } from "../copy_text.js";
import { t } from "../words.js";

/** @import { Key } from "../words.js" */

const KEY = "ask";
/** Limits the memory that decompressing a malicious link can take. */
const UNPACKED_LIMIT_BYTES = 1 << 20;

/**
 * @typedef {object} SharedPrompt
 * @property {1} version
 * @property {"raw" | "chat"} mode
 * @property {string} prompt
 * @property {string} system
 * @property {import("../engine/zamba2.d.ts").GenerateOptions} settings
 * @property {SharedModel} [model]  absent if it came from files
 */

/** @typedef {{ source: string, weights: string }} SharedModel */

/**
 * Copies a link, and returns the note about it. The page's address does not change: otherwise a reload would restore
 * the shared prompt instead of later input.
 * @param {SharedPrompt} shared @returns {Promise<Key>}
 */
export async function copyLink(shared) {
  const link = await linkOf(shared);
  try {
    await copyText(link);
    return "share.copied";
  } catch {
    // If the clipboard is not available, the link can be copied from the address bar.
    history.replaceState(null, "", link);
    return "share.note";
  }
}

/** The page's address with `shared` in its hash. @param {SharedPrompt} shared */
async function linkOf(shared) {
  const packed = await through(new TextEncoder().encode(JSON.stringify(shared)), new CompressionStream("deflate-raw"));
  const binary = Array.from(packed, (byte) => String.fromCharCode(byte)).join("");
  const base64url = btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  const link = new URL(location.href);
  link.hash = `${KEY}=${base64url}`;
  return link.href;
}

/** The link in the page's hash, packed; null if there is none. */
export const linkText = () => new URLSearchParams(location.hash.slice(1)).get(KEY);

/**
 * Reads prompt and settings from the page's hash; null if it has none.
 * @returns {Promise<SharedPrompt | null>} Rejects if the link is invalid.
 */
export async function promptInHash() {
  const text = linkText();
  if (text === null) return null;
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const packed = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  const unpacked = await through(packed, new DecompressionStream("deflate-raw"));
  const shared = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(unpacked));
  const whole =
    shared?.version === 1
    && ["raw", "chat"].includes(shared.mode)
    && typeof shared.prompt === "string"
    && typeof shared.system === "string"
    && typeof shared.settings === "object"
    && shared.settings !== null
    && ["undefined", "string"].includes(typeof shared.model?.source)
    && ["undefined", "string"].includes(typeof shared.model?.weights);
  if (!whole) throw new TypeError(t("share.fields"));
  return shared;
}

/** @param {Uint8Array<ArrayBuffer>} bytes @param {CompressionStream | DecompressionStream} transform */
async function through(bytes, transform) {
  /** @type {Uint8Array[]} */
  const pieces = [];
  let length = 0;
  const stream = /** @type {ReadableStream<Uint8Array>} */ (new Blob([bytes]).stream().pipeThrough(transform));
  for await (const piece of /** @type {AsyncIterable<Uint8Array>} */ (/** @type {unknown} */ (stream))) {
    pieces.push(piece);
    length += piece.byteLength;
    if (length > UNPACKED_LIMIT_BYTES) throw new RangeError(t("share.large"));
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}
