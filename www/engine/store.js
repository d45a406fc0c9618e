// @ts-check
// Stores quantised weights on this device, in the origin private file system (OPFS). The worker writes them; the page
// lists and deletes them. It handles files, sizes and hashes, and does not interpret what it stores.
//
// One folder per source and weight format. A journal lists the valid data: data is written first, then the journal with
// the hashes of the data, and everything read is checked against its hash. So a tab that is closed at any byte leaves
// no invalid data behind. The journal has two files that are written in turn: a torn one does not parse, and the other
// is still valid. Nothing is flushed until the end, so a power cut may lose what the system had not written.

import { fact, Zamba2Error } from "./errors.js";
import { fileBytes, ofHandle, openFile, rootFolder, writeWhole } from "./origin_files.js";
import { sha256 } from "./sha256.js";

/** @import { SyncHandle } from "./origin_files.js" */

/**
 * @typedef {{ bytes: number, sha256: string }} StoredFile  a file, or a segment of one
 * @typedef {{ file: string, file_bytes: number, etag: string | null }} Shard  a weight file of the source,
 *   and its version
 * @typedef {{ name: string, segments: StoredFile[] }} Partial  the unit that is being written, as far as it is
 * @typedef {object} Journal
 * @property {2} version
 * @property {number} serial  the larger of two counts
 * @property {string} source
 * @property {string | null} [commit]  of a repository on the Hub, to which all files belong
 * @property {string} weights
 * @property {Record<string, StoredFile | null>} files  small files; null: the source does not have it
 * @property {Shard[]} shards
 * @property {Record<string, StoredFile[]>} units  by their segments
 * @property {Partial | null} partial
 * @property {boolean} complete
 * @property {number} saved_ms  since 1970
 *
 * @typedef {import("./zamba2.d.ts").KeptModel} KeptModelInfo
 */

const JOURNALS = ["journal.0.json", "journal.1.json"];
/**
 * Weights are written and hashed in segments: each write is a request to the browser, and a crash loses at most one
 * segment, or the small units of `RECORD_DELAY_MS`.
 */
const SEGMENT_BYTES = 8 << 20;
/** Small units and files share an update of the journal, which is written this long after the first of them. */
const RECORD_DELAY_MS = 100;
/** Limit of the bytes that wait for writing and hashing, which run concurrently with the load. */
const QUEUE_BYTES = 32 << 20;
/** A tab that closes or reloads releases its lock within this time. */
const LOCK_WAIT_MS = 2_000;

/** @param {string} source @param {string} weights */
async function keyOf(source, weights) {
  return (await sha256(new TextEncoder().encode(`${weights} ${source}`))).slice(0, 24);
}

/** @param {string} key */
const lockName = (key) => `zamba2-store-${key}`;

/** The newest valid journal. @param {FileSystemDirectoryHandle} folder @returns {Promise<Journal | null>} */
async function readJournal(folder) {
  /** @type {Journal | null} */
  let newest = null;
  for (const name of JOURNALS) {
    const bytes = await fileBytes(folder, name);
    if (!bytes) continue;
    try {
      const journal = /** @type {Journal} */ (JSON.parse(new TextDecoder().decode(bytes)));
      if (journal.version === 2 && journal.serial > (newest?.serial ?? -1)) newest = journal;
    } catch {
      // Incomplete: the tab was closed while the journal was written.
    }
  }
  return newest;
}

/** The size of a model on the device. @param {Journal} journal */
function storedBytes(journal) {
  const files = [
    ...Object.values(journal.files),
    ...Object.values(journal.units).flat(),
    ...(journal.partial?.segments ?? []),
  ];
  return files.reduce((sum, file) => sum + (file?.bytes ?? 0), 0);
}

/** The models on this device; none if the browser has no storage. @returns {Promise<KeptModelInfo[]>} */
export async function keptModels() {
  /** @type {KeptModelInfo[]} */
  const models = [];
  let root;
  try {
    root = await rootFolder(false);
  } catch {
    return models;
  }
  for await (const [key, folder] of root.entries()) {
    if (!(folder instanceof FileSystemDirectoryHandle)) continue;
    const journal = await readJournal(folder);
    models.push({
      key,
      source: journal?.source ?? "",
      commit: journal?.commit ?? null,
      weights: /** @type {KeptModelInfo["weights"]} */ (journal?.weights ?? "q4"),
      bytes: journal ? storedBytes(journal) : 0,
      complete: journal?.complete ?? false,
      saved_ms: journal?.saved_ms ?? 0,
    });
  }
  return models.sort((a, b) => b.saved_ms - a.saved_ms);
}

/** The journal of `key`; null if nothing is stored. @param {string} key */
export async function storedJournal(key) {
  try {
    const root = await rootFolder(false);
    return await readJournal(await ofHandle(root, () => root.getDirectoryHandle(key)));
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotFoundError") return null;
    throw error;
  }
}

/** Deletes a model from this device. @param {string} key */
export async function forgetModel(key) {
  const root = await rootFolder(true);
  await navigator.locks.request(lockName(key), { ifAvailable: true }, async (lock) => {
    if (!lock) {
      throw new Zamba2Error("busy", { fact: fact("other_tab") }, { next: "tab" });
    }
    await root.removeEntry(key, { recursive: true });
  });
}

/**
 * Opens the folder of a model. Reasons for having none: "insecure_page" (browsers offer storage to https and localhost
 * only), "no_storage" (the browser has none or refuses it, as in some private windows) or "other_tab" (another tab is
 * writing this model or, if this one must write, reading it).
 * @param {string} source @param {string} weights @param {boolean} must_write  even if the model is complete
 * @returns {Promise<{ stored: StoreFolder | null, reason: "insecure_page" | "no_storage" | "other_tab" | null }>}
 */
export async function openStored(source, weights, must_write) {
  if (!isSecureContext) return { stored: null, reason: "insecure_page" };
  const key = await keyOf(source, weights);
  let folder;
  let journal;
  try {
    folder = await (await rootFolder(true)).getDirectoryHandle(key, { create: true });
    journal = await readJournal(folder);
  } catch {
    return { stored: null, reason: "no_storage" };
  }
  // Any number of tabs may read a complete model; only one may write.
  const release = await holdLock(lockName(key), journal?.complete && !must_write ? "shared" : "exclusive");
  if (!release) return { stored: null, reason: "other_tab" };
  // Another tab may have completed it before this one got the lock.
  journal = await readJournal(folder);
  /** @type {Journal} */
  const empty = {
    version: 2,
    serial: 0,
    source,
    commit: null,
    weights,
    files: {},
    shards: [],
    units: {},
    partial: null,
    complete: false,
    saved_ms: Date.now(),
  };
  return { stored: new StoreFolder(folder, journal ?? empty, release), reason: null };
}

/** @param {string} name @param {LockMode} mode @returns {Promise<(() => void) | null>} null if another tab holds it */
function holdLock(name, mode) {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(LOCK_WAIT_MS);
    navigator.locks
      .request(name, { mode, signal }, () => new Promise((release) => resolve(() => release(undefined))))
      .catch((thrown) => (signal.aborted ? resolve(null) : reject(thrown)));
  });
}

/**
 * One model's folder during a load. Writes are queued, so that the load does not wait for hashing. The first failed
 * write ends all writing; reading still works.
 */
export class StoreFolder {
  /** Why writing has ended. @type {string | null} */
  refused = null;
  /** @type {SyncHandle | null} */
  #open = null;
  /** Offset of the next segment of the open unit. */
  #at = 0;
  /** Bytes of the open unit that have not been written. @type {Uint8Array[]} */
  #pending = [];
  #pending_bytes = 0;
  /** Bytes of complete units that are not in the written journal yet. */
  #unrecorded_bytes = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #record_timer = undefined;
  /** @type {Promise<void>} */
  #written = Promise.resolve();
  #queued_bytes = 0;

  /** @param {FileSystemDirectoryHandle} folder @param {Journal} journal @param {() => void} release */
  constructor(folder, journal, release) {
    this.folder = folder;
    this.journal = journal;
    this.release = release;
  }

  get complete() {
    return this.journal.complete;
  }

  /** Whether anything of the model is stored. */
  get has_begun() {
    return this.complete || Object.keys(this.journal.files).length > 0;
  }

  /** @param {string} name */
  has(name) {
    return name in this.journal.units;
  }

  /**
   * A small file: its bytes; null if the source does not have it; undefined if neither is known.
   * @param {string} name
   */
  async small(name) {
    const file = this.journal.files[name];
    if (file === undefined || file === null) return file;
    return (await this.#verified(fileName(name), file)) ?? undefined;
  }

  /** @param {string} name @param {Uint8Array | null} bytes */
  async storeSmall(name, bytes) {
    await this.#writing(async () => {
      if (bytes) {
        const own = new Uint8Array(bytes);
        await this.#write(fileName(name), own);
        this.journal.files[name] = { bytes: own.byteLength, sha256: await sha256(own) };
      } else {
        this.journal.files[name] = null;
      }
      this.#recordSoon();
    });
  }

  /** @param {Shard[]} shards */
  async storeShards(shards) {
    await this.#writing(async () => {
      this.journal.shards = shards;
      this.#recordSoon();
    });
  }

  /**
   * A whole unit; null if it is missing, damaged, or of another size, as after a change of config.json. Invalid units
   * are removed.
   * @param {string} name
   * @param {number} expected_bytes
   */
  async unit(name, expected_bytes) {
    const segments = this.journal.units[name];
    if (!segments) return null;
    const bytes = await this.#segments(name, segments);
    if (bytes.byteLength === expected_bytes) return bytes;
    delete this.journal.units[name];
    this.journal.complete = false;
    return null;
  }

  /** The valid beginning of a partly written unit. @param {string} name */
  async beginning(name) {
    const { partial } = this.journal;
    return partial?.name === name ? this.#segments(name, partial.segments) : new Uint8Array(0);
  }

  /** The segments of a unit up to the first that is damaged. @param {string} name @param {StoredFile[]} segments */
  async #segments(name, segments) {
    const bytes = (await fileBytes(this.folder, unitFile(name))) ?? new Uint8Array(0);
    let at = 0;
    for (const segment of segments) {
      const piece = bytes.subarray(at, at + segment.bytes);
      if (piece.byteLength !== segment.bytes || (await sha256(piece)) !== segment.sha256) break;
      at += segment.bytes;
    }
    return bytes.subarray(0, at);
  }

  /**
   * Starts writing a unit after its valid `beginning`.
   * @param {string} name
   * @param {Uint8Array<ArrayBuffer>} beginning
   */
  async startUnit(name, beginning) {
    await this.#writing(async () => {
      this.#open = await openFile(this.folder, unitFile(name));
      this.#open.truncate(beginning.byteLength);
      this.#at = beginning.byteLength;
      const segments = beginning.byteLength ? [{ bytes: beginning.byteLength, sha256: await sha256(beginning) }] : [];
      this.journal.partial = { name, segments };
    });
  }

  /** @param {Uint8Array<ArrayBuffer>} bytes */
  async append(bytes) {
    if (!bytes.byteLength) return;
    await this.#writing(async () => {
      this.#pending.push(bytes);
      this.#pending_bytes += bytes.byteLength;
      if (this.#pending_bytes < SEGMENT_BYTES) return;
      await this.#writeSegment();
      await this.#record();
    }, bytes.byteLength);
  }

  /** Completes the unit; it is valid from now on. */
  async endUnit() {
    await this.#writing(async () => {
      await this.#writeSegment();
      const { name, segments } = /** @type {Partial} */ (this.journal.partial);
      this.#close();
      this.journal.units[name] = segments;
      this.journal.partial = null;
      this.#unrecorded_bytes += segments.reduce((sum, { bytes }) => sum + bytes, 0);
      if (this.#unrecorded_bytes >= SEGMENT_BYTES) await this.#record();
      else this.#recordSoon();
    });
  }

  async finish() {
    await this.#writing(async () => {
      if (this.journal.complete) return;
      this.journal.complete = true;
      await this.#record();
    });
    await this.#written;
  }

  /** @param {string | null} commit  to which all files belong from now on */
  async storeCommit(commit) {
    await this.#writing(async () => {
      this.journal.commit = commit;
      await this.#record();
    });
  }

  /** Removes everything, because the source has another version. */
  async clear() {
    await this.#writing(async () => {
      this.#close();
      Object.assign(this.journal, { commit: null, files: {}, shards: [], units: {}, partial: null, complete: false });
      await this.#record();
    });
    await this.#written;
  }

  /**
   * Removes small files, so that they are fetched again.
   * @param {(name: string) => boolean} are_outdated
   */
  async forgetFiles(are_outdated) {
    await this.#writing(async () => {
      const { files } = this.journal;
      const valid = Object.entries(files).filter(([name]) => !are_outdated(name));
      Object.assign(this.journal, { files: Object.fromEntries(valid), complete: false });
      await this.#record();
    });
    await this.#written;
  }

  /** Waits for queued writes, then releases the lock. Of an incomplete unit the whole segments are kept. */
  async close() {
    await this.#writing(async () => {
      if (this.#record_timer !== undefined) await this.#record();
    });
    await this.#written;
    this.#close();
    this.release();
  }

  #close() {
    this.#open?.close();
    this.#open = null;
    this.#pending = [];
    this.#pending_bytes = 0;
  }

  async #writeSegment() {
    if (this.#pending_bytes === 0) return;
    const segment = new Uint8Array(this.#pending_bytes);
    let at = 0;
    for (const bytes of this.#pending) {
      segment.set(bytes, at);
      at += bytes.byteLength;
    }
    this.#pending = [];
    this.#pending_bytes = 0;
    writeWhole(/** @type {SyncHandle} */ (this.#open), segment, this.#at);
    this.#at += segment.byteLength;
    const partial = /** @type {Partial} */ (this.journal.partial);
    // The hash of the bytes in memory, so that a wrong write is detected.
    partial.segments.push({ bytes: segment.byteLength, sha256: await sha256(segment) });
  }

  #recordSoon() {
    this.#record_timer ??= setTimeout(() => this.#writing(() => this.#record()), RECORD_DELAY_MS);
  }

  async #record() {
    clearTimeout(this.#record_timer);
    this.#record_timer = undefined;
    this.#unrecorded_bytes = 0;
    this.journal.serial += 1;
    this.journal.saved_ms = Date.now();
    await this.#write(JOURNALS[this.journal.serial % 2], new TextEncoder().encode(JSON.stringify(this.journal)));
  }

  /** @param {string} name @param {Uint8Array<ArrayBuffer>} bytes */
  async #write(name, bytes) {
    const handle = await openFile(this.folder, name);
    try {
      handle.truncate(0);
      writeWhole(handle, bytes, 0);
    } finally {
      handle.close();
    }
  }

  /** @param {string} name @param {StoredFile} file */
  async #verified(name, file) {
    const bytes = await fileBytes(this.folder, name);
    if (!bytes || bytes.byteLength !== file.bytes || (await sha256(bytes)) !== file.sha256) return null;
    return bytes;
  }

  /** Queues a write. A failure ends all writing, but not the load. @param {() => Promise<void>} write */
  async #writing(write, bytes = 0) {
    this.#queued_bytes += bytes;
    this.#written = this.#written.then(async () => {
      try {
        if (this.refused === null) await write();
      } catch (error) {
        this.refused = error instanceof Error ? error.message : String(error);
        this.#close();
      } finally {
        this.#queued_bytes -= bytes;
      }
    });
    if (this.#queued_bytes > QUEUE_BYTES) await this.#written;
  }
}

/** @param {string} name */
const unitFile = (name) => `unit.${name}.bin`;
/** Names in OPFS have no slashes. @param {string} name */
const fileName = (name) => `file.${name.replaceAll("/", "!")}`;
