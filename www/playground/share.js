// @ts-check
// A link that holds what was asked and how, never what was answered: JSON, deflated, base64url, in the hash, which
// browsers send to no server. It imports nothing; what the fields mean is the playground's business.

const KEY = "ask";
/** A link of more is no link; and a small one may unpack into more than any memory holds. */
const UNPACKED_LIMIT_BYTES = 1 << 20;

/**
 * @typedef {object} Ask
 * @property {1} version
 * @property {"raw" | "chat"} mode
 * @property {string} prompt
 * @property {string} system
 * @property {import("../engine/zamba2.d.ts").GenerateOptions} settings
 */

/** The page's address with the ask in its hash. @param {Ask} ask */
export async function linkOf(ask) {
  const packed = await through(new TextEncoder().encode(JSON.stringify(ask)), new CompressionStream("deflate-raw"));
  const binary = Array.from(packed, (byte) => String.fromCharCode(byte)).join("");
  const base64url = btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  const link = new URL(location.href);
  link.hash = `${KEY}=${base64url}`;
  return link.href;
}

/**
 * The ask in the page's hash; null where there is none.
 * @returns {Promise<Ask | null>} Rejects where it can't be read.
 */
export async function askInHash() {
  const text = new URLSearchParams(location.hash.slice(1)).get(KEY);
  if (text === null) return null;
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const packed = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  const unpacked = await through(packed, new DecompressionStream("deflate-raw"));
  const ask = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(unpacked));
  const whole =
    ask?.version === 1
    && ["raw", "chat"].includes(ask.mode)
    && typeof ask.prompt === "string"
    && typeof ask.system === "string"
    && typeof ask.settings === "object"
    && ask.settings !== null;
  if (!whole) throw new TypeError("the fields of the link are not those of this page");
  return ask;
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
    if (length > UNPACKED_LIMIT_BYTES) throw new RangeError("the link holds too much");
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}
