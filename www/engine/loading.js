// @ts-check
// Loads a checkpoint into the wasm engine: config, tokenizer, headers, then every unit's bytes in the order in which
// the forward pass needs them. It stands on byte_source.js and is called by worker.js. It parses no format itself:
// the engine does, and answers which bytes it wants.

import { Zamba2Error } from "./errors.js";

/** @import { ByteSource, RangeReply } from "./byte_source.js" */
/** @import { WasmEngine, Unit, ModelInfo, MemoryReport } from "./wasm_engine.js" */
/** @import { LoadProgress } from "./zamba2.d.ts" */

const WEIGHTS_FILE = "model.safetensors";
const INDEX_FILE = "model.safetensors.index.json";

/** Two ranges in flight hide one round trip; more would only compete for the same line and fill memory. */
const RANGES_IN_FLIGHT = 2;
/** Progress is reported about this often, so that a fast load is not slowed by its own messages. */
const PROGRESS_INTERVAL_MS = 50;

/**
 * @param {WasmEngine} engine
 * @param {ByteSource} source
 * @param {{ onProgress: (progress: LoadProgress) => void, signal: AbortSignal, yieldToMessages: () => Promise<void> }} hooks
 * @returns {Promise<{ info: ModelInfo, memory: MemoryReport, tokenizer: boolean, timing: { header_ms: number, weights_ms: number } }>}
 */
export async function loadCheckpoint(engine, source, { onProgress, signal, yieldToMessages }) {
  const started_ms = performance.now();
  /** @type {LoadProgress} */
  const progress = {
    phase: "config", loaded_bytes: 0, total_bytes: 0, unit: null, block: null, unit_loaded_bytes: 0, unit_bytes: 0,
    blocks_ready: 0, n_blocks: 0, info: null,
  };
  const report = () => onProgress({ ...progress });
  report();

  const config = await source.whole("config.json", signal);
  const info = engine.open_config(new TextDecoder().decode(config));
  progress.n_blocks = info.n_blocks;
  progress.info = info;
  report();
  const tokenizer = await openTokenizer(engine, source, signal);

  progress.phase = "header";
  report();
  for (const file of await weightFiles(engine, source, signal)) await openShard(engine, source, file, signal);
  const units = engine.plan();
  const header_ms = performance.now() - started_ms;

  progress.phase = "weights";
  progress.total_bytes = units.reduce((sum, unit) => sum + unit.bytes, 0);
  let reported_ms = performance.now();
  const replies = prefetched(requests(units), source, signal);
  for (const unit of units) {
    progress.unit = unit.name;
    progress.block = unit.block;
    progress.unit_bytes = unit.bytes;
    progress.unit_loaded_bytes = 0;
    for (let left = requestsOf(unit).length; left > 0; left--) {
      const { value: reply } = await replies.next();
      for await (const chunk of /** @type {RangeReply} */ (reply).chunks) {
        engine.push(chunk);
        progress.loaded_bytes += chunk.byteLength;
        progress.unit_loaded_bytes += chunk.byteLength;
        if (performance.now() - reported_ms >= PROGRESS_INTERVAL_MS) {
          report();
          // Chunks that are already here arrive without a pause, and an abort message would wait behind them all.
          await yieldToMessages();
          signal.throwIfAborted();
          reported_ms = performance.now();
        }
      }
    }
    if (unit.block !== null) progress.blocks_ready += 1;
    report();
    signal.throwIfAborted();
  }
  const memory = engine.finish();
  progress.phase = "ready";
  progress.unit = null;
  progress.block = null;
  report();
  return { info, memory, tokenizer, timing: { header_ms, weights_ms: performance.now() - started_ms - header_ms } };
}

/**
 * A checkpoint without tokenizer.json still runs on token ids; a tokenizer that is there and does not fit is an error.
 * @param {WasmEngine} engine @param {ByteSource} source @param {AbortSignal} signal
 */
async function openTokenizer(engine, source, signal) {
  let bytes;
  try {
    bytes = await source.whole("tokenizer.json", signal);
  } catch (error) {
    if (error instanceof Zamba2Error && error.code === "missing_file") return false;
    throw error;
  }
  engine.open_tokenizer(bytes);
  return true;
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
      throw new Zamba2Error("missing_file", `${WEIGHTS_FILE} is missing`, { file: WEIGHTS_FILE, nextStep: error.nextStep });
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
async function openShard(engine, source, file, signal) {
  const first = await readRange(source, file, 0, 8, signal);
  const header_bytes = engine.header_bytes(file, first.file_bytes, first.bytes);
  const header = await readRange(source, file, 8, 8 + header_bytes, signal);
  engine.open_shard(file, first.file_bytes, header.bytes);
}

/** @param {ByteSource} source @param {string} file @param {number} start @param {number} end @param {AbortSignal} signal */
async function readRange(source, file, start, end, signal) {
  const reply = await source.range(file, start, end, signal);
  const bytes = new Uint8Array(end - start);
  let at = 0;
  for await (const chunk of reply.chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return { file_bytes: reply.file_bytes, bytes };
}

/**
 * The requests for one unit: ranges that touch are asked for together, and empty ones not at all.
 * @param {Unit} unit
 */
function requestsOf(unit) {
  /** @type {{ file: string, start: number, end: number }[]} */
  const merged = [];
  for (const { file, start, end } of unit.ranges) {
    if (start === end) continue;
    const last = merged.at(-1);
    if (last && last.file === file && last.end === start) last.end = end;
    else merged.push({ file, start, end });
  }
  return merged;
}

/** @param {Unit[]} units */
function* requests(units) {
  for (const unit of units) yield* requestsOf(unit);
}

/**
 * Replies in order, with the next request sent before the present one is read.
 * @param {Iterable<{ file: string, start: number, end: number }>} wanted @param {ByteSource} source @param {AbortSignal} signal
 */
async function* prefetched(wanted, source, signal) {
  /** @type {Promise<RangeReply>[]} */
  const inFlight = [];
  for (const { file, start, end } of wanted) {
    const reply = source.range(file, start, end, signal);
    // Its failure is thrown when its turn comes; until then it must not count as unhandled.
    reply.catch(() => {});
    inFlight.push(reply);
    if (inFlight.length === RANGES_IN_FLIGHT) yield await /** @type {Promise<RangeReply>} */ (inFlight.shift());
  }
  for (const reply of inFlight) yield await reply;
}
