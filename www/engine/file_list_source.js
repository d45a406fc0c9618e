// @ts-check
// Files that the user chose or dropped, as a source of bytes.

import { badOption, fact, Zamba2Error } from "./errors.js";
import { joined, missingFile, truncated } from "./source_parts.js";

/** @import { ByteSource } from "./byte_source.js" */

/** Local files are read in pieces of this size, with aborts and progress between them. */
const BLOB_PIECE_BYTES = 4 << 20;

/** @implements {ByteSource} */
export class FileListSource {
  /** @param {Iterable<File>} files */
  constructor(files) {
    /** @type {Map<string, File>} */
    this.files = new Map();
    for (const file of files) {
      const name = nameInFolder(file);
      if (name === null) continue;
      if (this.files.has(name)) {
        throw badOption("source", fact("files_of_one_name", { value: name }), { next: "files" });
      }
      this.files.set(name, file);
    }
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
 * The path of a file in the chosen folder. Null for files of folders in it, which may be other checkpoints: trainers
 * leave `checkpoint-10/`, `checkpoint-20/` … beside the last one.
 * @param {File} file
 */
function nameInFolder(file) {
  const path = file.webkitRelativePath.replace(/^[^/]*\//, "");
  if (path === "") return file.name;
  return path.includes("/") ? null : path;
}

/**
 * Pieces of a Blob. `slice` clamps silently, so the length is checked here.
 * @param {string} file @param {Blob} blob @param {number} start @param {number} end @param {AbortSignal} signal
 */
async function* blobChunks(file, blob, start, end, signal) {
  if (end > blob.size) throw truncated(file, end, blob.size);
  for (let at = start; at < end; at += BLOB_PIECE_BYTES) {
    signal.throwIfAborted();
    try {
      yield new Uint8Array(await blob.slice(at, Math.min(at + BLOB_PIECE_BYTES, end)).arrayBuffer());
    } catch (cause) {
      throw new Zamba2Error("io", { file, fact: /** @type {Error} */ (cause).message }, { next: "file", cause });
    }
  }
}
