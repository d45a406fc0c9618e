// @ts-check
// Opens a checkpoint: config, tokenizer, chat template and the headers of its weight files, each from this device if it
// is stored there and otherwise from the source. A checkpoint is single or sharded safetensors, or the output of
// `zamba2 pack`.

import { reportFromThrown, Zamba2Error } from "./errors.js";
import { bytesOf, fetchPacked, PACK_FILE } from "./ranges.js";
import { isWebPage, isWebPageForWeights, missingFile, orNull } from "./source_parts.js";

/** @import { ByteSource } from "./byte_source.js" */
/** @import { ErrorReport } from "./errors.js" */
/** @import { Shard, StoreFolder } from "./store.js" */
/** @import { Pack } from "./wasm_exports.d.ts" */
/** @import { Unit, WasmEngine } from "./wasm_engine.js" */
/** @import { LoadProgress } from "./zamba2.d.ts" */

const WEIGHTS_FILE = "model.safetensors";
const INDEX_FILE = "model.safetensors.index.json";
/** The reference's options for generation, which may list further end tokens. */
const GENERATION_FILE = "generation_config.json";
/** The files that may hold the chat template. */
const CHAT_FILES = ["tokenizer_config.json", "chat_template.jinja"];

/**
 * @typedef {object} OpenCheckpoint
 * @property {boolean} tokenizer
 * @property {boolean} chat
 * @property {ErrorReport | null} chat_fault
 * @property {Unit[]} units  in the order of the forward pass
 * @property {Pack | null} pack  the manifest of a packed checkpoint
 * @property {boolean} is_pack_stored  the manifest comes from this device
 */

/**
 * The headers of the weight files. `shards` are those to store: null if they come from this device.
 * @typedef {{ pack: Pack | null, is_pack_stored: boolean, shards: Shard[] | null }} Headers
 */

/**
 * @param {WasmEngine} engine @param {ByteSource} source @param {StoreFolder | null} stored @param {AbortSignal} signal
 * @param {boolean} is_packed  the source is a packed checkpoint, so nothing else is looked for
 * @param {(facts: Partial<LoadProgress>) => void} onFacts @returns {Promise<OpenCheckpoint>}
 */
export async function openCheckpoint(engine, source, stored, signal, is_packed, onFacts) {
  const files = new CheckpointFiles(source, stored, signal);
  // A stored model has its own manifest, and the source may be packed differently by now.
  if (is_packed && !stored?.has_begun) await files.openManifest(engine);
  const config = await files.required("config.json").catch(async (thrown) => {
    throw await missingPart(engine, source, thrown, signal);
  });
  const info = engine.open_config(textOf(config));
  onFacts({ info, n_blocks: info.n_blocks });
  const tokenizer = await openTokenizer(engine, files);
  const chat_template = tokenizer ? await openChat(engine, files, signal) : { chat: false, fault: null };
  info.eos_token_ids = await openEndTokens(engine, files, stored);
  onFacts({ info, tokenizer, chat: chat_template.chat, phase: "header" });
  const { shards, ...headers } =
    (await openStoredHeaders(engine, source, stored)) ?? (await openHeaders(engine, source, files, signal));
  const units = engine.plan();
  onFacts({ info: engine.model_info() });
  await files.storeNew(shards);
  return { tokenizer, chat: chat_template.chat, chat_fault: chat_template.fault, units, ...headers };
}

/** The small files of a checkpoint. */
class CheckpointFiles {
  /**
   * Stored only when the engine has accepted all of them, so that a bad file is not loaded again.
   * @type {[string, Uint8Array | null][]}
   */
  #new = [];
  /** The manifest, if it was read before all other files. @type {Pack | null} */
  pack = null;

  /** @param {ByteSource} source @param {StoreFolder | null} stored @param {AbortSignal} signal */
  constructor(source, stored, signal) {
    this.source = source;
    this.stored = stored;
    this.signal = signal;
  }

  /** Reads the manifest first: it lists the other files. @param {WasmEngine} engine */
  async openManifest(engine) {
    const manifest = await orNull(this.source.whole(PACK_FILE, this.signal));
    if (!manifest) return null;
    this.pack = engine.open_manifest(textOf(manifest));
    this.add(PACK_FILE, manifest);
    return this.pack;
  }

  /** A file, or null if the checkpoint does not have it. @param {string} name */
  async small(name) {
    const here = await this.#stored(name);
    if (here !== undefined) return here;
    const is_listed = this.pack?.files.some(({ file }) => file === name) ?? true;
    const bytes = is_listed ? await orNull(this.source.whole(name, this.signal)) : null;
    this.add(name, bytes);
    return bytes;
  }

  /** A file without which there is no checkpoint. @param {string} name */
  async required(name) {
    const here = await this.#stored(name);
    if (here) return here;
    const bytes = await this.source.whole(name, this.signal);
    this.add(name, bytes);
    return bytes;
  }

  /** Undefined if it must be fetched. @param {string} name */
  async #stored(name) {
    const here = await this.stored?.small(name);
    // Earlier versions stored the start page that some hosts send for missing files.
    return here && isWebPage(here) ? undefined : here;
  }

  /** @param {string} name @param {Uint8Array | null} bytes */
  add(name, bytes) {
    this.#new.push([name, bytes]);
  }

  /** @param {Shard[] | null} shards */
  async storeNew(shards) {
    // A complete model may be open in several tabs, and none of them may write.
    if (!this.stored?.complete) for (const [name, bytes] of this.#new) await this.stored?.storeSmall(name, bytes);
    if (shards) await this.stored?.storeShards(shards);
  }
}

/**
 * A checkpoint without tokenizer.json still runs on token ids.
 * @param {WasmEngine} engine
 * @param {CheckpointFiles} files
 */
async function openTokenizer(engine, files) {
  const bytes = await files.small("tokenizer.json");
  if (bytes) engine.open_tokenizer(bytes);
  return bytes !== null;
}

/**
 * The chat template, if there is one. An error in it, or while fetching it, disables chats but not the model; a file
 * that could not be fetched is not stored.
 * @param {WasmEngine} engine @param {CheckpointFiles} files @param {AbortSignal} signal
 * @returns {Promise<{ chat: boolean, fault: ErrorReport | null }>}
 */
async function openChat(engine, files, signal) {
  try {
    const [config, jinja] = await Promise.all(CHAT_FILES.map((name) => files.small(name)));
    return engine.open_chat_template(config, jinja);
  } catch (thrown) {
    signal.throwIfAborted();
    return { chat: false, fault: reportFromThrown(thrown) };
  }
}

/**
 * The ids of all end tokens, with those of generation_config.json.
 * @param {WasmEngine} engine @param {CheckpointFiles} files @param {StoreFolder | null} stored
 * @returns {Promise<number[]>}
 */
async function openEndTokens(engine, files, stored) {
  const bytes = await files.small(GENERATION_FILE).catch((thrown) => {
    // A model that an earlier version stored lacks this file and must still load without a network.
    if (stored?.complete) return null;
    throw thrown;
  });
  return [...engine.open_generation_config(bytes ? textOf(bytes) : undefined)];
}

/**
 * The error for a source without a file that every checkpoint has: what the source contains instead, if the presence of
 * a few other files shows it, otherwise `thrown`.
 * @param {WasmEngine} engine @param {ByteSource} source @param {unknown} thrown @param {AbortSignal} signal
 */
async function missingPart(engine, source, thrown, signal) {
  if (!(thrown instanceof Zamba2Error && thrown.code === "missing_file")) return thrown;
  const names = [];
  for (const name of engine.telltale_files()) if (await exists(source, name, signal)) names.push(name);
  try {
    engine.check_names(names);
  } catch (foreign) {
    return foreign;
  }
  return thrown;
}

/**
 * The headers from this device; null unless all of them are there.
 * @param {WasmEngine} engine
 * @param {ByteSource} source
 * @param {StoreFolder | null} stored
 * @returns {Promise<Headers | null>}
 */
async function openStoredHeaders(engine, source, stored) {
  if (!stored || stored.journal.shards.length === 0) return null;
  const { shards, files } = stored.journal;
  const heads = await Promise.all(shards.map(({ file }) => stored.small(headFile(file))));
  const manifest = await stored.small(PACK_FILE);
  if (!heads.every((head) => head) || (!manifest && files[PACK_FILE])) return null;
  shards.forEach(({ file, ...identity }, i) => {
    openHead(engine, file, identity.file_bytes, /** @type {Uint8Array} */ (heads[i]));
    // The rest must come from the same version of the file.
    source.expect?.(file, identity);
  });
  const pack = manifest ? engine.open_manifest(textOf(manifest)) : null;
  return { pack, is_pack_stored: pack !== null, shards: null };
}

/**
 * The headers from the source: of safetensors or, without those, of a packed checkpoint.
 * @param {WasmEngine} engine @param {ByteSource} source @param {CheckpointFiles} files @param {AbortSignal} signal
 * @returns {Promise<Headers>}
 */
async function openHeaders(engine, source, files, signal) {
  const names = files.pack ? null : await weightFiles(engine, source, signal);
  if (!names) {
    const packed = await openPack(engine, source, files, signal);
    if (!packed) throw await missingPart(engine, source, missingFile(WEIGHTS_FILE), signal);
    return packed;
  }
  const shards = [];
  for (const file of names) {
    const { file_bytes, head } = await readHead(engine, source, file, signal);
    openHead(engine, file, file_bytes, head);
    files.add(headFile(file), head);
    shards.push({ file, file_bytes, etag: source.etag?.(file) ?? null });
  }
  return { pack: null, is_pack_stored: false, shards };
}

/**
 * @param {WasmEngine} engine @param {ByteSource} source @param {CheckpointFiles} files @param {AbortSignal} signal
 * @returns {Promise<Headers | null>}
 */
async function openPack(engine, source, files, signal) {
  const pack = files.pack ?? (await files.openManifest(engine));
  if (!pack) return null;
  const shards = [];
  for (const shard of pack.shards) {
    const head = await fetchPacked(source, shard, signal, null);
    openHead(engine, shard.shard, shard.shard_bytes, head);
    files.add(headFile(shard.shard), head);
    shards.push({ file: shard.shard, file_bytes: shard.shard_bytes, etag: null });
  }
  return { pack, is_pack_stored: false, shards };
}

/**
 * The safetensors files; null if there are none.
 * @param {WasmEngine} engine
 * @param {ByteSource} source
 * @param {AbortSignal} signal
 */
async function weightFiles(engine, source, signal) {
  if (await exists(source, WEIGHTS_FILE, signal)) return [WEIGHTS_FILE];
  const index = await orNull(source.whole(INDEX_FILE, signal));
  return index && engine.open_index(textOf(index));
}

/** @param {ByteSource} source @param {string} file @param {AbortSignal} signal */
async function exists(source, file, signal) {
  try {
    return (await orNull(readBeginning(source, file, signal))) !== null;
  } catch (thrown) {
    // The file exists but is too short; reading its header gives the better error.
    if (thrown instanceof Zamba2Error && thrown.code === "truncated") return true;
    throw thrown;
  }
}

/** The length of a file's header. @param {ByteSource} source @param {string} file @param {AbortSignal} signal */
async function readBeginning(source, file, signal) {
  const first = await readRange(source, file, 0, 8, signal);
  if (isWebPageForWeights(first.bytes)) throw missingFile(file, "web_page");
  return first;
}

/** @param {WasmEngine} engine @param {ByteSource} source @param {string} file @param {AbortSignal} signal */
async function readHead(engine, source, file, signal) {
  const first = await readBeginning(source, file, signal);
  const header_bytes = engine.header_bytes(file, first.file_bytes, first.bytes);
  const header = await readRange(source, file, 8, 8 + header_bytes, signal);
  const head = new Uint8Array(8 + header_bytes);
  head.set(first.bytes);
  head.set(header.bytes, 8);
  return { file_bytes: first.file_bytes, head };
}

/** @param {WasmEngine} engine @param {string} file @param {number} file_bytes @param {Uint8Array} head */
function openHead(engine, file, file_bytes, head) {
  const header_bytes = engine.header_bytes(file, file_bytes, head.subarray(0, 8));
  engine.open_shard(file, file_bytes, head.subarray(8, 8 + header_bytes));
}

/**
 * @param {ByteSource} source
 * @param {string} file
 * @param {number} start
 * @param {number} end
 * @param {AbortSignal} signal
 */
async function readRange(source, file, start, end, signal) {
  const reply = await source.range(file, start, end, signal);
  return { file_bytes: reply.file_bytes, bytes: await bytesOf(reply, end - start) };
}

/** The name under which a shard's first bytes, up to the end of its header, are stored. @param {string} file */
const headFile = (file) => `heads/${file}.bin`;

/** @param {Uint8Array} bytes */
const textOf = (bytes) => new TextDecoder().decode(bytes);
