// @ts-check
// Runs one prompt several times with and without spans, for Model.profile(). It stands on the wasm door and is called
// by worker.js. It sums nothing: the report keeps every run, so that a reader can recompute each figure.

/** @import { WasmEngine } from "./wasm_engine.js" */
/** @import { ProfileReport, ProfileOptions } from "./zamba2.d.ts" */

/**
 * @param {WasmEngine} engine
 * @param {Required<Pick<ProfileOptions, "decode" | "runs" | "warmup" | "level">> & { prefill: number | null, ids: Uint32Array | null, prompt: string | null, vocab_size: number }} options
 * @param {{ signal: AbortSignal, yieldToMessages: () => Promise<void>, onProgress?: (runs_done: number) => void }} hooks
 * @returns {Promise<ProfileReport>}
 */
export async function profileRuns(engine, options, { signal, yieldToMessages, onProgress }) {
  const given = options.ids ?? (options.prompt === null ? null : engine.tokenize(options.prompt, true));
  const ids = fitted(given ?? countedIds(options.vocab_size), given && options.prefill === null ? given.length : options.prefill ?? 35);

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
      // A device may have made several tokens before the first of them is given: the engine knows the share of each.
      step_ms.push((await engine.step()).us / 1000);
    }
    return { prefill_ms, forward_ms, step_ms, spans: level === "off" ? null : engine.take_profile() };
  };

  try {
    onProgress?.(0);
    for (let i = 0; i < options.warmup; i++) await run("off");
    const unprofiled = [];
    const runs = [];
    // Alternating, so that a clock or temperature drift falls on both kinds alike.
    for (let i = 0; i < options.runs; i++) {
      unprofiled.push(await run("off"));
      runs.push(await run(options.level));
      onProgress?.(i + 1);
    }
    return { level: options.level, prompt_tokens: ids.length, decode_tokens: options.decode, warmup: options.warmup, runs, unprofiled };
  } finally {
    engine.set_profiling("off");
    engine.reset();
  }
}

/** Cut or repeated to `length`. @param {Uint32Array} ids @param {number} length */
function fitted(ids, length) {
  return ids.length === 0 ? ids : Uint32Array.from({ length }, (_, i) => ids[i % ids.length]);
}

/** Any ids cost the same time; a fixed walk through the vocabulary keeps runs comparable. @param {number} vocab_size */
function countedIds(vocab_size) {
  return Uint32Array.from({ length: 256 }, (_, i) => 3 + ((i * 7919) % (vocab_size - 3)));
}
