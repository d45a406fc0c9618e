// @ts-check
// Executes the runs of Model.profile() and Model.report(); src/report/measure.rs decides which run comes next. It sums
// nothing: all runs are kept, so that every figure can be recomputed.

import { yieldToMessages } from "./gates.js";
import { PROMPT_TOKENS } from "./limits.js";

/** @import { WasmEngine } from "./wasm_engine.js" */
/** @import { ProfileOptions, ProfileReport } from "./zamba2.d.ts" */

/**
 * `ProfileOptions` with all defaults; null where the engine chooses.
 * @typedef {Required<Pick<ProfileOptions, "decode" | "runs" | "warmup" | "level">>
 *   & { prefill: number | null, ids: Uint32Array | null, prompt: string | null }} ProfileRequest
 */

/**
 * The checked token ids to measure with.
 * @param {WasmEngine} engine @param {Pick<ProfileRequest, "ids" | "prompt" | "prefill" | "decode">} options
 */
function measuredIds(engine, { ids, prompt, prefill, decode }) {
  const given = ids ?? (prompt === null ? undefined : engine.tokenize(prompt, true));
  const measured = engine.measured_prompt(given, prefill ?? given?.length ?? PROMPT_TOKENS);
  engine.check_prompt(measured, decode);
  return measured;
}

/**
 * If the options are refused, the engine's sequence is kept; `onChecked` is called before it is replaced.
 * @param {WasmEngine} engine @param {ProfileRequest} options
 * @param {{ signal: AbortSignal, onChecked: () => void, onProgress?: (phase: "warm_up" | "runs",
 *   n_done: number) => void }} hooks
 * @returns {Promise<ProfileReport>}
 */
export async function profileRuns(engine, options, { signal, onChecked, onProgress }) {
  const ids = measuredIds(engine, options);
  onChecked();

  /** @param {"off" | "block" | "module"} level */
  const run = async (level) => {
    engine.set_profiling(level);
    const from_ms = performance.now();
    engine.start(ids, {
      max_tokens: options.decode + 1,
      temperature: 0,
      ignore_eos: true,
      cache_prompt: false,
      // Profiles explain decode steps, so there are no drafts.
      lookup: 0,
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
      // The step's own time: a step in flight has begun before the call.
      step_ms.push((await engine.step()).us / 1000);
    }
    return { prefill_ms, forward_ms, step_ms, spans: level === "off" ? null : engine.take_profile() };
  };

  try {
    const unprofiled = [];
    const runs = [];
    for (let n_done = 0; ; n_done++) {
      const next = engine.next_run(options.warmup, options.runs, n_done);
      if (next === undefined) break;
      if (next === "warm_up") onProgress?.("warm_up", 0);
      else if (n_done === options.warmup) onProgress?.("runs", 0);
      const measured = await run(next === "profiled" ? options.level : "off");
      if (next === "unprofiled") unprofiled.push(measured);
      if (next === "profiled") {
        runs.push(measured);
        onProgress?.("runs", runs.length);
      }
    }
    const { level, decode: decode_tokens, warmup } = options;
    return { level, prompt_tokens: ids.length, decode_tokens, warmup, runs, unprofiled };
  } finally {
    engine.set_profiling("off");
    engine.reset();
  }
}
