// @ts-check
// Loads a checkpoint into the wasm engine: config, tokenizer, headers, then every unit's weights in the order in which
// the forward pass needs them: from this device where they were kept, from the source where not, and what came from the
// source is kept. It stands on byte_source.js and store.js and is called by worker.js. It parses no format itself: the
// engine does, and answers which bytes it wants.

import { fact, reportFromThrown, Zamba2Error } from "./errors.js";

/** @import { ByteSource, RangeReply } from "./byte_source.js" */
/** @import { ErrorReport } from "./errors.js" */
/** @import { KeptFolder } from "./store.js" */
/** @import { WasmEngine, Unit, ModelInfo, MemoryReport } from "./wasm_engine.js" */
/** @import { LoadProgress } from "./zamba2.d.ts" */

const WEIGHTS_FILE = "model.safetensors";
const INDEX_FILE = "model.safetensors.index.json";
const PACK_FILE = "zamba2-pack.json";

/** Where a checkpoint may keep its chat template. */
const CHAT_FILES = ["tokenizer_config.json", "chat_template.jinja"];

/** Two ranges in flight hide one round trip; more would only compete for the same line and fill memory. */
const RANGES_IN_FLIGHT = 2;
/** Progress is reported about this often, so that a fast load is not slowed by its own messages. */
const PROGRESS_INTERVAL_MS = 50;
/** Kept weights go to the engine in pieces, between which messages are heard. */
const PIECE_BYTES = 4 << 20;

/**
 * What loading is told and whom it tells.
 * @typedef {object} LoadHooks
 * @property {(progress: LoadProgress) => void} onProgress
 * @property {AbortSignal} signal
 * @property {() => Promise<void>} yieldToMessages
 * @property {() => Promise<void>} unpaused  waits while the reader has paused the load
 * @property {() => Promise<void>} onPlanned  while the first weights are on their way, before the engine takes any
 * @property {() => Promise<void>} onUnit  after each unit has become part of the model
 */

/**
 * @param {WasmEngine} engine @param {ByteSource} source @param {KeptFolder | null} kept @param {LoadHooks} hooks
 * @param {LoadProgress} progress  filled in and reported; the caller may add to it
 * @returns {Promise<{ info: ModelInfo, memory: MemoryReport, tokenizer: boolean, chat: boolean, chat_fault: ErrorReport | null, timing: { header_ms: number, weights_ms: number } }>}
 */
export async function loadCheckpoint(engine, source, kept, hooks, progress) {
  const { signal } = hooks;
  const started_ms = performance.now();
  let reported_ms = started_ms;
  const report = () => {
    reported_ms = performance.now();
    hooks.onProgress({ ...progress });
  };
  /** Between two chunks: chunks that are here already arrive without a pause, and a message would wait behind them all. */
  const breathe = async () => {
    if (performance.now() - reported_ms >= PROGRESS_INTERVAL_MS) {
      report();
      await hooks.yieldToMessages();
    }
    await hooks.unpaused();
    signal.throwIfAborted();
  };
  report();

  /** Kept when the engine has taken them all: a bad file must not come back at the next visit. @type {[string, Uint8Array | null][]} */
  const fresh = [];
  const config = await smallFile(source, kept, "config.json", signal, fresh);
  const info = engine.open_config(new TextDecoder().decode(config));
  progress.n_blocks = info.n_blocks;
  progress.info = info;
  report();
  const tokenizer = await openTokenizer(engine, source, kept, signal, fresh);
  const { chat, fault: chat_fault } = tokenizer ? await openChat(engine, source, kept, signal, fresh) : { chat: false, fault: null };

  progress.tokenizer = tokenizer;
  progress.chat = chat;
  progress.phase = "header";
  report();
  const { pack, pack_kept, shards } = await openHeads(engine, source, kept, signal, fresh);
  const units = engine.plan();
  // A complete model is open in any number of tabs, and none of them writes.
  if (!kept?.complete) for (const [name, bytes] of fresh) await kept?.keepSmall(name, bytes);
  if (shards) await kept?.keepShards(shards);
  const header_ms = performance.now() - started_ms;

  progress.phase = "weights";
  /** What a unit costs to fetch. @param {Unit} unit */
  const sourceBytes = (unit) => (pack ? unit.stored_bytes : unit.bytes);
  progress.total_bytes = units.reduce((sum, unit) => sum + sourceBytes(unit), 0);
  report();
  const toFetch = units.filter((unit) => !kept?.has(unit.name) && kept?.journal.partial?.name !== unit.name);
  const ahead = new Set(toFetch);
  const replies = prefetched(requests(toFetch, pack), source, signal);
  if (kept) engine.keep_stored();
  // The next unit is read and checked on this device while the present one goes to the engine.
  let next = fromDevice(kept, units[0]);
  await hooks.onPlanned();
  for (const [i, unit] of units.entries()) {
    const before_bytes = progress.loaded_bytes;
    /** Bytes of the source that `share` of the unit's stored form stands for. @param {number} share */
    const reached = (share) => {
      progress.unit_loaded_bytes = Math.round(sourceBytes(unit) * share);
      progress.loaded_bytes = before_bytes + progress.unit_loaded_bytes;
    };
    /** @param {Uint8Array} bytes @param {number} from */
    const pushStored = async (bytes, from = 0) => {
      for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) {
        const piece = bytes.subarray(at, at + PIECE_BYTES);
        engine.push_stored(piece);
        reached((from + at + piece.byteLength) / unit.stored_bytes);
        await breathe();
      }
    };
    progress.unit = unit.name;
    progress.block = unit.block;
    progress.unit_bytes = sourceBytes(unit);
    progress.unit_loaded_bytes = 0;

    const whole = await next;
    next = fromDevice(kept, units[i + 1]);
    if (whole) {
      progress.origin = "device";
      await pushStored(whole);
      progress.device_bytes += whole.byteLength;
    } else if (pack) {
      progress.origin = "source";
      const file = packedUnit(pack, unit);
      const reply = ahead.has(unit) ? /** @type {RangeReply} */ ((await replies.next()).value) : null;
      const bytes = await packedFile(source, file, signal, reply).catch((error) => {
        // The manifest is an earlier visit's: the folder may hold another packing by now.
        throw pack_kept && error instanceof Zamba2Error && error.code === "damaged" ? replaced(file.file) : error;
      });
      progress.received_bytes += bytes.byteLength;
      // Its hash is checked before any of it becomes weights, so it is kept or lost as a whole.
      await kept?.startUnit(unit.name, new Uint8Array(0));
      await kept?.append(bytes);
      await kept?.endUnit();
      await pushStored(bytes);
    } else {
      const beginning = (await kept?.beginning(unit.name)) ?? new Uint8Array(0);
      await pushStored(beginning);
      const rest = engine.rest();
      if (!rest) throw new Error(`${unit.name} was complete before it was read`);
      progress.device_bytes += rest.stored_bytes;
      progress.origin = "source";
      await kept?.startUnit(unit.name, beginning.slice(0, rest.stored_bytes));
      const missing = rest.ranges.reduce((sum, { start, end }) => sum + end - start, 0);
      progress.unit_loaded_bytes = unit.bytes - missing;
      progress.loaded_bytes = before_bytes + progress.unit_loaded_bytes;
      const own = merged(rest.ranges);
      for (const { file, start, end } of own) {
        const reply = ahead.has(unit)
          ? /** @type {RangeReply} */ ((await replies.next()).value)
          : await source.range(file, start, end, signal);
        for await (const chunk of reply.chunks) {
          engine.push(chunk);
          if (kept) await kept.append(engine.take_stored());
          progress.loaded_bytes += chunk.byteLength;
          progress.unit_loaded_bytes += chunk.byteLength;
          progress.received_bytes += chunk.byteLength;
          await breathe();
        }
      }
      await kept?.endUnit();
    }
    progress.keeping = keeping(kept, progress.keeping);
    if (unit.block !== null) progress.blocks_ready += 1;
    report();
    await hooks.onUnit();
    signal.throwIfAborted();
  }
  const memory = await engine.finish();
  await kept?.finish();
  progress.keeping = keeping(kept, progress.keeping);
  progress.phase = "ready";
  progress.unit = null;
  progress.block = null;
  report();
  return { info, memory, tokenizer, chat, chat_fault, timing: { header_ms, weights_ms: performance.now() - started_ms - header_ms } };
}

/** @param {KeptFolder | null} kept @param {Unit | undefined} unit */
function fromDevice(kept, unit) {
  const bytes = kept && unit ? kept.unit(unit.name) : Promise.resolve(null);
  // Its failure is thrown when its turn comes; until then it must not count as unhandled.
  bytes.catch(() => {});
  return bytes;
}

/** @param {KeptFolder | null} kept @param {LoadProgress["keeping"]} otherwise @returns {LoadProgress["keeping"]} */
function keeping(kept, otherwise) {
  if (!kept) return otherwise;
  return kept.refused === null ? { state: "kept", reason: null } : { state: "refused", reason: kept.refused };
}

/**
 * A small file from this device, or from the source, and then it is noted in `fresh`.
 * @param {ByteSource} source @param {KeptFolder | null} kept @param {string} name @param {AbortSignal} signal
 * @param {[string, Uint8Array | null][]} fresh
 * @returns {Promise<Uint8Array>}
 */
async function smallFile(source, kept, name, signal, fresh) {
  const here = await kept?.small(name);
  if (here) return here;
  const bytes = here === null ? null : await source.whole(name, signal).catch(async (error) => {
    if (isMissing(error)) return null;
    throw error;
  });
  if (here === undefined) fresh.push([name, bytes]);
  if (!bytes) throw missing(name);
  return bytes;
}

/** @param {string} file */
const missing = (file) => new Zamba2Error("missing_file", { file });

/** @param {unknown} error */
const isMissing = (error) => error instanceof Zamba2Error && error.code === "missing_file";

/**
 * A checkpoint without tokenizer.json still runs on token ids; a tokenizer that is there and does not fit is an error.
 * @param {WasmEngine} engine @param {ByteSource} source @param {KeptFolder | null} kept @param {AbortSignal} signal
 * @param {[string, Uint8Array | null][]} fresh
 */
async function openTokenizer(engine, source, kept, signal, fresh) {
  let bytes;
  try {
    bytes = await smallFile(source, kept, "tokenizer.json", signal, fresh);
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
  engine.open_tokenizer(bytes);
  return true;
}

/**
 * The chat template, if the checkpoint has one. What is wrong with it, or keeps it from coming, refuses the chat and not the
 * model; a file that did not come is not kept.
 * @param {WasmEngine} engine @param {ByteSource} source @param {KeptFolder | null} kept @param {AbortSignal} signal
 * @param {[string, Uint8Array | null][]} fresh
 * @returns {Promise<{ chat: boolean, fault: ErrorReport | null }>}
 */
async function openChat(engine, source, kept, signal, fresh) {
  try {
    const [config, jinja] = await Promise.all(CHAT_FILES.map(async (name) => {
      try {
        return await smallFile(source, kept, name, signal, fresh);
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    }));
    return engine.open_chat_template(config, jinja);
  } catch (error) {
    signal.throwIfAborted();
    return { chat: false, fault: reportFromThrown(error) };
  }
}

/**
 * The heads of the weight files: their headers' lengths and headers. Gives the manifest of a packed checkpoint, and the
 * shards that are to be kept.
 * @param {WasmEngine} engine @param {ByteSource} source @param {KeptFolder | null} kept @param {AbortSignal} signal
 * @param {[string, Uint8Array | null][]} fresh
 * @returns {Promise<{ pack?: Pack, pack_kept?: boolean, shards?: import("./store.js").Shard[] }>}
 */
async function openHeads(engine, source, kept, signal, fresh) {
  if (kept?.journal.shards.length) {
    const heads = await Promise.all(kept.journal.shards.map(({ file }) => kept.small(`heads/${file}.bin`)));
    const manifest = await kept.small(PACK_FILE);
    if (heads.every((head) => head) && (manifest || !kept.journal.files[PACK_FILE])) {
      kept.journal.shards.forEach(({ file, ...identity }, i) => {
        openHead(engine, file, identity.file_bytes, /** @type {Uint8Array} */ (heads[i]));
        // What is still missing must come from the same version of the file.
        source.expect?.(file, identity);
      });
      return manifest ? { pack: manifestOf(engine, manifest), pack_kept: true } : {};
    }
  }
  let files;
  try {
    files = await weightFiles(engine, source, signal);
  } catch (error) {
    if (!isMissing(error)) throw error;
    const opened = await openPack(engine, source, signal, fresh);
    if (!opened) throw error;
    return opened;
  }
  const shards = [];
  for (const file of files) {
    const { file_bytes, head } = await readHead(engine, source, file, signal);
    openHead(engine, file, file_bytes, head);
    fresh.push([`heads/${file}.bin`, head]);
    shards.push({ file, file_bytes, etag: source.etag?.(file) ?? null });
  }
  return { shards };
}

/** @param {WasmEngine} engine @param {string} file @param {number} file_bytes @param {Uint8Array} head */
function openHead(engine, file, file_bytes, head) {
  const header_bytes = engine.header_bytes(file, file_bytes, head.subarray(0, 8));
  engine.open_shard(file, file_bytes, head.subarray(8, 8 + header_bytes));
}

/** @typedef {{ file: string, bytes: number, sha256: string }} PackedFile */
/** @typedef {{ weights: string, shards: ({ shard: string, shard_bytes: number } & PackedFile)[], units: ({ name: string } & PackedFile)[] }} Pack */

/** @param {WasmEngine} engine @param {Uint8Array} manifest */
const manifestOf = (engine, manifest) => /** @type {Pack} */ (engine.open_manifest(new TextDecoder().decode(manifest)));

/**
 * What `zamba2 pack` wrote, or null where there is no manifest.
 * @param {WasmEngine} engine @param {ByteSource} source @param {AbortSignal} signal @param {[string, Uint8Array | null][]} fresh
 * @returns {Promise<{ pack: Pack, shards: import("./store.js").Shard[] } | null>}
 */
async function openPack(engine, source, signal, fresh) {
  let manifest;
  try {
    manifest = await source.whole(PACK_FILE, signal);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
  const pack = manifestOf(engine, manifest);
  fresh.push([PACK_FILE, manifest]);
  const shards = [];
  for (const shard of pack.shards) {
    const head = await packedFile(source, shard, signal, null);
    openHead(engine, shard.shard, shard.shard_bytes, head);
    fresh.push([`heads/${shard.shard}.bin`, head]);
    shards.push({ file: shard.shard, file_bytes: shard.shard_bytes, etag: null });
  }
  return { pack, shards };
}

/** @param {string} file */
const replaced = (file) => new Zamba2Error("changed", { file });

/** @param {Pack} pack @param {Unit} unit */
function packedUnit(pack, unit) {
  const stored = pack.units.find(({ name }) => name === unit.name);
  if (!stored || stored.bytes !== unit.stored_bytes) {
    throw new Zamba2Error("bad_config", { file: PACK_FILE, fact: fact("other_unit", { name: unit.name }) }, { next: "pack" });
  }
  return stored;
}

/**
 * A file whose hash is the manifest's; a damaged one is fetched once more.
 * @param {ByteSource} source @param {PackedFile} file @param {AbortSignal} signal @param {RangeReply | null} reply  asked for before
 */
async function packedFile(source, file, signal, reply) {
  for (let attempt = 0; attempt < 2; attempt++) {
    const bytes = await bytesOf(attempt === 0 && reply ? reply : await source.range(file.file, 0, file.bytes, signal), file.bytes);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const sha256 = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    if (sha256 === file.sha256) return bytes;
  }
  throw new Zamba2Error("damaged", { file: file.file });
}

/** @param {WasmEngine} engine @param {ByteSource} source @param {AbortSignal} signal */
async function weightFiles(engine, source, signal) {
  if (await exists(source, WEIGHTS_FILE, signal)) return [WEIGHTS_FILE];
  let index;
  try {
    index = await source.whole(INDEX_FILE, signal);
  } catch (error) {
    // Readers know the one file by name; that the index is missing as well would only confuse.
    if (error instanceof Zamba2Error && error.code === "missing_file") {
      throw missing(WEIGHTS_FILE);
    }
    throw error;
  }
  return engine.open_index(new TextDecoder().decode(index));
}

/** @param {ByteSource} source @param {string} file @param {AbortSignal} signal */
async function exists(source, file, signal) {
  try {
    await readRange(source, file, 0, 1, signal);
    return true;
  } catch (error) {
    if (error instanceof Zamba2Error && error.code === "missing_file") return false;
    // An empty file is there, and reading its header will say so in better words.
    if (error instanceof Zamba2Error && error.code === "truncated") return true;
    throw error;
  }
}

/** @param {WasmEngine} engine @param {ByteSource} source @param {string} file @param {AbortSignal} signal */
async function readHead(engine, source, file, signal) {
  const first = await readRange(source, file, 0, 8, signal);
  const header_bytes = engine.header_bytes(file, first.file_bytes, first.bytes);
  const header = await readRange(source, file, 8, 8 + header_bytes, signal);
  const head = new Uint8Array(8 + header_bytes);
  head.set(first.bytes);
  head.set(header.bytes, 8);
  return { file_bytes: first.file_bytes, head };
}

/** @param {ByteSource} source @param {string} file @param {number} start @param {number} end @param {AbortSignal} signal */
async function readRange(source, file, start, end, signal) {
  const reply = await source.range(file, start, end, signal);
  return { file_bytes: reply.file_bytes, bytes: await bytesOf(reply, end - start) };
}

/** @param {RangeReply} reply @param {number} length */
async function bytesOf(reply, length) {
  const bytes = new Uint8Array(length);
  let at = 0;
  for await (const chunk of reply.chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}

/**
 * Ranges that touch are asked for together, and empty ones not at all.
 * @param {{ file: string, start: number, end: number }[]} ranges
 */
function merged(ranges) {
  /** @type {{ file: string, start: number, end: number }[]} */
  const requests = [];
  for (const { file, start, end } of ranges) {
    if (start === end) continue;
    const last = requests.at(-1);
    if (last && last.file === file && last.end === start) last.end = end;
    else requests.push({ file, start, end });
  }
  return requests;
}

/** What is asked for, in order. @param {Unit[]} units @param {Pack | undefined} pack */
function* requests(units, pack) {
  for (const unit of units) {
    if (!pack) yield* merged(unit.ranges);
    else {
      const { file, bytes } = packedUnit(pack, unit);
      yield { file, start: 0, end: bytes };
    }
  }
}

/**
 * Replies in order, with the next request sent before the present one is read.
 * @param {Iterable<{ file: string, start: number, end: number }>} wanted @param {ByteSource} source @param {AbortSignal} signal
 */
function prefetched(wanted, source, signal) {
  const left = wanted[Symbol.iterator]();
  /** @type {Promise<RangeReply>[]} */
  const inFlight = [];
  const ask = () => {
    const { done, value } = left.next();
    if (done) return;
    const reply = source.range(value.file, value.start, value.end, signal);
    // Its failure is thrown when its turn comes; until then it must not count as unhandled.
    reply.catch(() => {});
    inFlight.push(reply);
  };
  // On their way before anyone waits for them: a graphics device is tested meanwhile.
  for (let i = 0; i < RANGES_IN_FLIGHT; i++) ask();
  return (async function* () {
    for (let reply = inFlight.shift(); reply; reply = inFlight.shift()) {
      yield await reply;
      ask();
    }
  })();
}
