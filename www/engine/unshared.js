// @ts-check
// Changes a wasm module that imports shared memory into one that imports memory of its own, so that one module serves
// pages that may not share memory, too: on memory that is not shared, atomic instructions are valid and do the same,
// except that a thread cannot wait, and the engine's only thread never does. It compiles nothing.

/** Of a module: four bytes that mark it, and four of its version. */
const HEADER_BYTES = 8;
const IMPORT_SECTION = 2;

/** Kinds of imports (WebAssembly core specification, "Import Section"). */
const FUNCTION = 0;
const TABLE = 1;
const MEMORY = 2;
const GLOBAL = 3;
const TAG = 4;

/** Flags of limits. */
const HAS_MAXIMUM = 1;
const IS_SHARED = 2;

/**
 * Changes the imported memory in `bytes`, a module, and returns its limits in pages. Bytes that are no such module are
 * unchanged, and compiling them gives the error.
 * @param {Uint8Array} bytes @returns {{ initial: number, maximum: number | undefined } | null}
 */
export function withOwnMemory(bytes) {
  const reader = new Reader(bytes, HEADER_BYTES);
  while (!reader.atEnd) {
    const section = reader.number();
    const end = reader.number() + reader.at;
    if (section !== IMPORT_SECTION) {
      reader.at = end;
      continue;
    }
    for (let n_left = reader.number(); n_left > 0 && !reader.atEnd; n_left--) {
      reader.skipName(); // of the module
      reader.skipName();
      const kind = reader.number();
      if (kind === MEMORY) {
        bytes[reader.at] &= ~IS_SHARED;
        return reader.limits();
      }
      reader.skipType(kind);
    }
  }
  return null;
}

/** Reads a module's integers. They are stored in groups of seven bits, the lowest first; after the end all are 0. */
class Reader {
  #bytes;

  /** @param {Uint8Array} bytes @param {number} at */
  constructor(bytes, at) {
    this.#bytes = bytes;
    this.at = at;
  }

  get atEnd() {
    return this.at >= this.#bytes.length;
  }

  number() {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#bytes[this.at++];
      value += (byte & 127) * factor;
      if (!(byte & 128)) return value;
    }
  }

  skipName() {
    const length = this.number();
    this.at += length;
  }

  limits() {
    const flags = this.number();
    const initial = this.number();
    return { initial, maximum: flags & HAS_MAXIMUM ? this.number() : undefined };
  }

  /** @param {number} kind */
  skipType(kind) {
    if (kind === FUNCTION) {
      this.number();
    } else if (kind === TABLE) {
      this.number();
      this.limits();
    } else if (kind === GLOBAL || kind === TAG) {
      this.number();
      this.number();
    }
  }
}
