// @ts-check
// Loads a checkpoint into the wasm engine: small files, then headers, then every unit's weights in the order of the
// forward pass. Each unit comes from this device if it is stored there, otherwise from the source, and is then stored.
// The engine parses all formats and returns the byte ranges that it needs.

import { openCheckpoint } from "./checkpoint_files.js";
import { fact, Zamba2Error } from "./errors.js";
import { yieldToMessages } from "./gates.js";
import { JoinedRanges } from "./joined_ranges.js";
import { fetchPacked, JoinedReplies, merged, packedUnit, prefetched, rangeOf } from "./ranges.js";

/** @import { ByteSource, RangeReply } from "./byte_source.js" */
/** @import { OpenCheckpoint } from "./checkpoint_files.js" */
/** @import { ErrorReport } from "./errors.js" */
/** @import { StoreFolder } from "./store.js" */
/** @import { PackedPart } from "./wasm_exports.d.ts" */
/** @import { Unit, WasmEngine } from "./wasm_engine.js" */
/** @import { LoadProgress, MemoryReport, ModelInfo } from "./zamba2.d.ts" */

/** Interval of progress messages; more of them would slow down a fast load. */
const PROGRESS_INTERVAL_MS = 50;
/** Stored weights are passed to the engine in pieces, between which the worker handles messages. */
const PIECE_BYTES = 4 << 20;

/**
 * @typedef {object} LoadHooks
 * @property {AbortSignal} signal
 * @property {boolean} is_packed  the source is known to be a packed checkpoint
 * @property {() => void} onProgress  the progress has changed
 * @property {() => Promise<void>} unpaused  waits while the user has paused the load
 * @property {() => Promise<void>} onPlanned  while the first weights are on their way, before the engine takes any
 * @property {() => Promise<void>} onUnit  after each unit has become part of the model
 */

/**
 * @typedef {object} Loaded
 * @property {ModelInfo} info
 * @property {MemoryReport} memory
 * @property {boolean} tokenizer
 * @property {boolean} chat
 * @property {ErrorReport | null} chat_fault
 * @property {{ header_ms: number, weights_ms: number }} timing
 */

/**
 * @param {WasmEngine} engine @param {ByteSource} source @param {StoreFolder | null} stored @param {LoadHooks} hooks
 * @param {LoadProgress} progress  is updated; the caller may update other fields of it
 * @returns {Promise<Loaded>}
 */
export async function loadCheckpoint(engine, source, stored, hooks, progress) {
  const started_ms = performance.now();
  hooks.onProgress();
  const checkpoint = await openCheckpoint(engine, source, stored, hooks.signal, hooks.is_packed, (facts) => {
    Object.assign(progress, facts);
    hooks.onProgress();
  });
  const header_ms = performance.now() - started_ms;
  await new WeightsLoad(engine, source, stored, checkpoint, hooks, progress).run();
  const memory = await engine.finish();
  await stored?.finish();
  const info = engine.model_info();
  Object.assign(progress, { phase: "ready", unit: null, block: null, keeping: keeping(stored, progress), info });
  hooks.onProgress();
  const { tokenizer, chat, chat_fault } = checkpoint;
  const weights_ms = performance.now() - started_ms - header_ms;
  return { info, memory, tokenizer, chat, chat_fault, timing: { header_ms, weights_ms } };
}

/** Loads the weights of the units in order, each from storage, from a packed file or from the checkpoint. */
class WeightsLoad {
  /** Replies to the requests for `#prefetched_units`, in order. */
  #replies;
  /** Their bytes, for a packed checkpoint. */
  #packed;
  #prefetched_units;
  #reported_ms = performance.now();

  /**
   * @param {WasmEngine} engine @param {ByteSource} source @param {StoreFolder | null} stored
   * @param {OpenCheckpoint} checkpoint @param {LoadHooks} hooks @param {LoadProgress} progress
   */
  constructor(engine, source, stored, checkpoint, hooks, progress) {
    this.engine = engine;
    this.source = source;
    this.stored = stored;
    this.checkpoint = checkpoint;
    this.hooks = hooks;
    this.progress = progress;
    const { units } = checkpoint;
    progress.phase = "weights";
    progress.total_bytes = units.reduce((sum, unit) => sum + this.#sourceBytes(unit), 0);
    // The ranges of a partly stored unit are known only to the engine.
    const absent = units.filter((unit) => !stored?.has(unit.name) && stored?.journal.partial?.name !== unit.name);
    this.#prefetched_units = new Set(absent);
    const ranged = checkpoint.pack ? source : new JoinedRanges(source, [...this.#requests(absent)]);
    this.#replies = prefetched(this.#requests(absent), ranged, hooks.signal);
    this.#packed = new JoinedReplies(this.#replies);
  }

  /** Loads the units in order. Each comes in one of three ways; what follows is the same for all. */
  async run() {
    const { engine, stored, hooks, progress } = this;
    const { units, pack } = this.checkpoint;
    this.#report();
    // The next unit is read from this device and verified while the engine processes the current one.
    let next = this.#readStored(units[0]);
    await hooks.onPlanned();
    // The self-test may have replaced the session.
    if (stored) engine.keep_stored();
    for (const [i, unit] of units.entries()) {
      progress.unit = unit.name;
      progress.block = unit.block;
      progress.unit_bytes = this.#sourceBytes(unit);
      progress.unit_loaded_bytes = 0;
      const whole = await next;
      next = this.#readStored(units[i + 1]);
      if (whole) await this.#fromDevice(unit, whole);
      else if (pack) await this.#fromPack(unit, packedUnit(pack, unit));
      else await this.#fromCheckpoint(unit);
      progress.keeping = keeping(stored, progress);
      if (unit.block !== null) progress.blocks_ready += 1;
      this.#report();
      await hooks.onUnit();
      hooks.signal.throwIfAborted();
    }
  }

  /** @param {Unit} unit @param {Uint8Array} bytes */
  async #fromDevice(unit, bytes) {
    this.progress.origin = "device";
    await this.#pushStored(unit, bytes);
    this.progress.device_bytes += bytes.byteLength;
  }

  /** @param {Unit} unit @param {PackedPart} part */
  async #fromPack(unit, part) {
    const { source, stored, progress } = this;
    progress.origin = "source";
    const ahead = this.#prefetched_units.has(unit) ? this.#packed.take(part.bytes) : null;
    const bytes = await fetchPacked(source, part, this.hooks.signal, ahead).catch((thrown) => {
      // The manifest was stored by an earlier load; by now the folder may be packed differently.
      const is_other = this.checkpoint.is_pack_stored && thrown instanceof Zamba2Error && thrown.code === "damaged";
      throw is_other ? new Zamba2Error("changed", { file: part.file }) : thrown;
    });
    progress.received_bytes += bytes.byteLength;
    // The hash covers the whole part, so it can only be stored as a whole.
    await stored?.startUnit(unit.name, new Uint8Array(0));
    await stored?.append(bytes);
    await stored?.endUnit();
    await this.#pushStored(unit, bytes);
  }

  /** From the source, after the stored part of the unit, if any. @param {Unit} unit */
  async #fromCheckpoint(unit) {
    const { engine, stored, hooks, progress } = this;
    const before_bytes = progress.loaded_bytes;
    const beginning = (await stored?.beginning(unit.name)) ?? new Uint8Array(0);
    await this.#pushStored(unit, beginning);
    const rest = engine.rest();
    if (!rest) throw new Zamba2Error("internal", { detail: fact("unit_complete", { unit: unit.name }) });
    progress.origin = "source";
    progress.device_bytes += rest.stored_bytes;
    await stored?.startUnit(unit.name, beginning.slice(0, rest.stored_bytes));
    const missing_bytes = rest.ranges.reduce((sum, { start, end }) => sum + end - start, 0);
    progress.unit_loaded_bytes = unit.bytes - missing_bytes;
    progress.loaded_bytes = before_bytes + progress.unit_loaded_bytes;
    for (const { file, start, end } of merged(rest.ranges)) {
      const reply = (await this.#nextReply(unit)) ?? (await this.source.range(file, start, end, hooks.signal));
      for await (const chunk of reply.chunks) {
        engine.push(chunk);
        if (stored) await stored.append(engine.take_stored());
        progress.loaded_bytes += chunk.byteLength;
        progress.unit_loaded_bytes += chunk.byteLength;
        progress.received_bytes += chunk.byteLength;
        await this.#betweenChunks();
      }
    }
    await stored?.endUnit();
  }

  /** Passes weights in their stored form to the engine. @param {Unit} unit @param {Uint8Array} bytes */
  async #pushStored(unit, bytes) {
    const { progress } = this;
    const before_bytes = progress.loaded_bytes;
    for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      this.engine.push_stored(piece);
      // Progress is counted in bytes of the source.
      const share = (at + piece.byteLength) / unit.stored_bytes;
      progress.unit_loaded_bytes = Math.round(this.#sourceBytes(unit) * share);
      progress.loaded_bytes = before_bytes + progress.unit_loaded_bytes;
      await this.#betweenChunks();
    }
  }

  /**
   * The reply that was requested ahead for `unit`; null if there is none.
   * @param {Unit} unit
   * @returns {Promise<RangeReply | null>}
   */
  async #nextReply(unit) {
    return this.#prefetched_units.has(unit) ? /** @type {RangeReply} */ ((await this.#replies.next()).value) : null;
  }

  /** @param {Unit | undefined} unit @returns {Promise<Uint8Array | null>} */
  #readStored(unit) {
    const bytes = this.stored && unit ? this.stored.unit(unit.name, unit.stored_bytes) : Promise.resolve(null);
    // A failure is thrown when the unit is loaded; until then it must not count as unhandled.
    bytes.catch(() => {});
    return bytes;
  }

  /** @param {Unit[]} units */
  *#requests(units) {
    const { pack } = this.checkpoint;
    if (pack) yield* merged(units.map((unit) => rangeOf(packedUnit(pack, unit))));
    else for (const unit of units) yield* merged(unit.ranges);
  }

  /** Bytes of the unit at its source. @param {Unit} unit */
  #sourceBytes(unit) {
    return this.checkpoint.pack ? unit.stored_bytes : unit.bytes;
  }

  /** Chunks that have arrived already are processed without a pause, so messages would wait for all of them. */
  async #betweenChunks() {
    if (performance.now() - this.#reported_ms >= PROGRESS_INTERVAL_MS) {
      this.#report();
      await yieldToMessages();
    }
    await this.hooks.unpaused();
    this.hooks.signal.throwIfAborted();
  }

  #report() {
    this.#reported_ms = performance.now();
    this.hooks.onProgress();
  }
}

/** @param {StoreFolder | null} stored @param {LoadProgress} progress @returns {LoadProgress["keeping"]} */
function keeping(stored, progress) {
  if (!stored) return progress.keeping;
  return stored.refused === null ? { state: "kept", reason: null } : { state: "refused", reason: stored.refused };
}
