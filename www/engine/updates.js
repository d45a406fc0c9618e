// @ts-check
// Checks for newer files at the source of a stored model, and which stored files remain valid. It fetches small files
// and the first bytes of others, never weights.

import { atRevision, hubPlaceOf, isCommit } from "./addresses.js";
import { UrlSource } from "./byte_source.js";
import { commitOf } from "./hub.js";
import { PACK_FILE } from "./ranges.js";
import { sha256 } from "./sha256.js";
import { orNull } from "./source_parts.js";
import { storedJournal } from "./store.js";

/** @import { ByteSource } from "./byte_source.js" */
/** @import { Journal, StoreFolder } from "./store.js" */
/** @import * as api from "./zamba2.d.ts" */

/** Headers of weight files are stored as files; they change with the weights. */
const HEADS = "heads/";
/** The length of a header. Not a single byte, because some servers answer `bytes=0-0` with the whole file. */
const FIRST_BYTES = 8;

/** @type {typeof api.newerFiles} */
export async function newerFiles(key, { signal = new AbortController().signal } = {}) {
  const journal = await storedJournal(key);
  if (!journal) return { newer: false, commit: null };
  const place = hubPlaceOf(journal.source);
  const commit = place && (await commitOf(place, signal));
  if (commit && commit === journal.commit) return { newer: false, commit };
  if (place && isCommit(place.revision)) return { newer: false, commit };
  // A new commit may change only files that are not loaded, such as the model card.
  const source = new UrlSource(commit ? atRevision(journal.source, commit) : journal.source);
  const newer = (await weightsChanged(source, journal, signal)) || (await smallFilesChanged(source, journal, signal));
  return { newer, commit };
}

/**
 * Removes stored files that have changed at the source: small files, or everything if the weights changed.
 * @param {ByteSource} source @param {StoreFolder} stored @param {AbortSignal} signal
 */
export async function forgetOutdated(source, stored, signal) {
  if (await weightsChanged(source, stored.journal, signal)) await stored.clear();
  else await stored.forgetFiles((name) => !name.startsWith(HEADS) && name !== PACK_FILE);
}

/** @param {ByteSource} source @param {Journal} journal @param {AbortSignal} signal */
async function weightsChanged(source, { shards, files }, signal) {
  const manifest = files[PACK_FILE];
  // The manifest contains the hashes of all weights of a packed checkpoint.
  if (manifest) return (await versionOf(source, PACK_FILE, signal)) !== manifest.sha256;
  for (const { file, file_bytes, etag } of shards) {
    const reply = await orNull(source.range(file, 0, FIRST_BYTES, signal));
    if (reply === null) return true;
    for await (const _ of reply.chunks) break;
    const now = source.etag?.(file) ?? null;
    if (reply.file_bytes !== file_bytes || (etag !== null && now !== null && now !== etag)) return true;
  }
  return false;
}

/** @param {ByteSource} source @param {Journal} journal @param {AbortSignal} signal */
async function smallFilesChanged(source, { files }, signal) {
  for (const [name, stored] of Object.entries(files)) {
    if (name.startsWith(HEADS)) continue;
    if ((await versionOf(source, name, signal)) !== (stored?.sha256 ?? null)) return true;
  }
  return false;
}

/**
 * The hash of a file; null if the source does not have it.
 * @param {ByteSource} source @param {string} file @param {AbortSignal} signal
 */
async function versionOf(source, file, signal) {
  const bytes = await orNull(source.whole(file, signal));
  return bytes && sha256(new Uint8Array(bytes));
}
