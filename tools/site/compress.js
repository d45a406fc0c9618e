// @ts-check
// Writes FILE.br and FILE.gz beside the files of a folder that get smaller by it, for hosts that send such files.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

/** Weights do not get smaller. */
const COMPRESSIBLE = /\.(?:css|html|js|json|svg|wasm|webmanifest)$/;
const QUICK_QUALITY = 5;
/** Smaller files take one packet anyway. */
const LEAST_BYTES = 1024;

/** @param {string} folder @param {boolean} is_quick  for tests: seconds instead of a minute */
export async function compressAll(folder, is_quick) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  await Promise.all(paths.filter((path) => COMPRESSIBLE.test(path)).map((path) => compress(path, is_quick)));
}

/** @param {string} path @param {boolean} is_quick */
async function compress(path, is_quick) {
  const bytes = readFileSync(path);
  if (bytes.length < LEAST_BYTES) return;
  const quality = is_quick ? QUICK_QUALITY : constants.BROTLI_MAX_QUALITY;
  const params = { [constants.BROTLI_PARAM_QUALITY]: quality, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  const [br, gz] = await Promise.all([
    promisify(brotliCompress)(bytes, { params }),
    promisify(gzip)(bytes, { level: is_quick ? QUICK_QUALITY : constants.Z_BEST_COMPRESSION }),
  ]);
  for (const [ending, small] of /** @type {const} */ ([
    ["br", br],
    ["gz", gz],
  ])) {
    if (small.length < bytes.length) writeFileSync(`${path}.${ending}`, small);
  }
}
