// @ts-check
// Runs one prompt several times with and without spans, for Model.profile() and Model.report(). It sums nothing: every run
// is kept, so that each figure can be recomputed.

import { yieldToMessages } from "./gates.js";

/** @import { WasmEngine } from "./wasm_engine.js" */
/** @import { ProfileOptions, ProfileReport } from "./zamba2.d.ts" */

/**
 * `ProfileOptions` with every default filled in; null where the engine chooses.
 * @typedef {Required<Pick<ProfileOptions, "decode" | "runs" | "warmup" | "level">>
 *   & { prefill: number | null, ids: Uint32Array | null, prompt: string | null, vocab_size: number }} ProfileRequest
 */

/**
 * @param {WasmEngine} engine @param {ProfileRequest} options
 * @param {{ signal: AbortSignal, onProgress?: (runs_done: number) => void }} hooks
 * @returns {Promise<ProfileReport>}
 */
export async function profileRuns(engine, options, { signal, onProgress }) {
  const given = options.ids ?? (options.prompt === null ? null : engine.tokenize(options.prompt, true));
  const length = options.prefill ?? (given ? given.length : 35);
  const ids = fitted(given ?? fixedIds(options.vocab_size), length);

  /** @param {"off" | "block" | "module"} level */
  const run = async (level) => {
    engine.set_profiling(level);
    const from_ms = performance.now();
    engine.start(ids, {
      max_tokens: options.decode + 1, temperature: 0, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1, seed: 0,
      stop: [], ignore_eos: true,
    });
    const prefill_from_ms = performance.now();
    while (!(await engine.advance(1)).done) {
      await yieldToMessages();
      signal.throwIfAborted();
    }
    const prefill_ms = performance.now() - prefill_from_ms;
    // The first step only samples from the prefill's logits; the passes that follow are the decode steps.
    await engine.step();
    const forward_ms = performance.now() - from_ms;
    const step_ms = [];
    for (let i = 0; i < options.decode; i++) {
      await yieldToMessages();
      signal.throwIfAborted();
      // With multi-step decoding one readback brings several tokens; the engine gives the share of each.
      step_ms.push((await engine.step()).us / 1000);
    }
    return { prefill_ms, forward_ms, step_ms, spans: level === "off" ? null : engine.take_profile() };
  };

  try {
    onProgress?.(0);
    for (let i = 0; i < options.warmup; i++) await run("off");
    const unprofiled = [];
    const runs = [];
    // Interleaved, so that a drift of clock or temperature affects both alike.
    for (let i = 0; i < options.runs; i++) {
      unprofiled.push(await run("off"));
      runs.push(await run(options.level));
      onProgress?.(i + 1);
    }
    const { level, decode: decode_tokens, warmup } = options;
    return { level, prompt_tokens: ids.length, decode_tokens, warmup, runs, unprofiled };
  } finally {
    engine.set_profiling("off");
    engine.reset();
  }
}

/** Cut or repeated to `length`. @param {Uint32Array} ids @param {number} length */
function fitted(ids, length) {
  return ids.length === 0 ? ids : Uint32Array.from({ length }, (_, i) => ids[i % ids.length]);
}

/** All ids take the same time; fixed ones keep runs comparable. @param {number} vocab_size */
function fixedIds(vocab_size) {
  return Uint32Array.from({ length: 256 }, (_, i) => 3 + ((i * 7919) % (vocab_size - 3)));
}
