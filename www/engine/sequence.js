// @ts-check
// The engine's one sequence: starting it from a prompt, branching, continuing and running it, and restoring it after a
// device loss. The host owns the engine and its device; events are emitted by the call's context.

import { Constraint } from "./constraint.js";
import { Zamba2Error, fact } from "./errors.js";
import { yieldToMessages } from "./gates.js";
import { percentile } from "./numbers.js";

/** @import { Host } from "./host.js" */
/** @import { AblateRequest, InspectRequest } from "./options.js" */
/** @import { KeptPrefix, Step, WasmEngine } from "./wasm_engine.js" */
/** @import { CallContext, RunFigures, WorkerPrompt } from "./worker.js" */
/** @import { GenerateOptions, Inspection, RestoredSequence } from "./zamba2.d.ts" */

/** Tokens that the lens is applied to if none are chosen. */
const LENS_POSITIONS = 16;
/** Tokens to replay between checks for messages. */
const REPLAY_TOKENS = 4;
/** Time of an inspection between checks for messages. */
const YIELD_AFTER_MS = 50;

/**
 * What a run begins with: tokens that are generated already, tokens of the prompt, and how many of these the engine had
 * read before; null where a sequence is continued.
 * @typedef {{ tokens: number, prompt_tokens: number, cached_tokens: number | null }} RunStart
 */
/**
 * A `generate` call that waits for the model to load. `started` is set with its sequence, `done` after its last block.
 * @typedef {object} QueuedPrompt
 * @property {WorkerPrompt} prompt
 * @property {GenerateOptions} options
 * @property {CallContext} context
 * @property {RunStart | null} started
 * @property {boolean} done
 */

export class Sequence {
  #host;
  /** The call that made the engine's current sequence; null if there is none to continue. @type {number | null} */
  #id = null;
  /** The tokens, kept here because they must survive a device loss. @type {Uint32Array} */
  #prompt = new Uint32Array(0);
  /** @type {number[]} */
  #generated = [];
  /** @type {GenerateOptions} */
  #options = {};
  /** The constraint on the rest of the text, if any. @type {Constraint | null} */
  #constraint = null;
  /** @type {QueuedPrompt | null} */
  #queued_prompt = null;

  /** @param {Host} host */
  constructor(host) {
    this.#host = host;
  }

  // ---- prompts that arrive while the model is loading ----

  /**
   * From now on each block computes this prompt as soon as it is loaded. Only the first prompt is queued, or the first
   * after an aborted one.
   * @param {QueuedPrompt} queued
   */
  queuePrompt(queued) {
    if (!this.#queued_prompt || this.#queued_prompt.context.signal.aborted) this.#queued_prompt = queued;
  }

  /** Called after each unit of a load. @param {WasmEngine} engine */
  async prefillAhead(engine) {
    const queued = this.#queued_prompt;
    if (!queued) return;
    const { context, prompt, options } = queued;
    if (context.signal.aborted) {
      this.#queued_prompt = null;
      return;
    }
    try {
      queued.started ??= await this.#start(engine, prompt, options, context.id);
    } catch {
      // Ignored here: the queued call will fail the same way and report it.
      this.#queued_prompt = null;
      return;
    }
    while (!queued.done && !context.signal.aborted) {
      const { done, block, waiting } = await engine.advance(1);
      if (waiting) return;
      queued.done = done;
      emitPrefill(context, queued.started, { block, done });
    }
  }

  /** Called when the engine of a load was dropped, and the queued prompt's progress with it. */
  restartQueuedPrompt() {
    if (this.#queued_prompt) Object.assign(this.#queued_prompt, { started: null, done: false });
  }

  // ---- runs ----

  /** @param {{ prompt: WorkerPrompt, options: GenerateOptions }} args @param {CallContext} context */
  async generate({ prompt, options }, context) {
    const engine = this.#host.engine();
    const queued = this.#queued_prompt?.context.id === context.id ? this.#queued_prompt : null;
    this.#queued_prompt = null;
    const started = queued?.started ?? (await this.#start(engine, prompt, options, context.id));
    return this.#run(engine, started, null, context);
  }

  /**
   * @param {{ sequence: number, index: number, token: number, options: GenerateOptions }} args
   * @param {CallContext} context
   */
  async branch({ sequence, index, token, options }, context) {
    const engine = this.#engineWith(sequence);
    const constraint = await Constraint.of(engine, options, this.#generated.slice(0, index));
    if (constraint?.allows(token) === false) {
      throw new Zamba2Error("bad_grammar", { fact: fact("token_does_not_fit", { token }) });
    }
    const kept = engine.branch(index, token, options);
    this.#constraint = constraint;
    return this.#runOn(engine, kept, options, token, context);
  }

  /** @param {{ sequence: number, options: GenerateOptions }} args @param {CallContext} context */
  async continue({ sequence, options }, context) {
    const engine = this.#engineWith(sequence);
    const constraint = await Constraint.of(engine, options, this.#generated);
    const kept = engine.continue_sequence(options);
    this.#constraint = constraint;
    return this.#runOn(engine, kept, options, null, context);
  }

  /** @param {{ sequence: number, note: string }} args */
  async snapshot({ sequence, note }) {
    return this.#engineWith(sequence).snapshot(note);
  }

  /** @param {{ bytes: Uint8Array }} args @param {CallContext} context @returns {Promise<RestoredSequence<number[]>>} */
  async restore({ bytes }, { id }) {
    // If the bytes are refused, the current sequence is kept.
    const restored = await this.#host.engine().restore(bytes);
    const { tokens, prompt_tokens } = restored;
    this.#id = id;
    this.#prompt = Uint32Array.from(tokens.slice(0, prompt_tokens));
    this.#generated = tokens.slice(prompt_tokens);
    this.#options = {};
    return restored;
  }

  // ---- calls that need logits and leave nothing to continue ----

  /** @param {{ ids: Uint32Array }} args */
  async logits({ ids }) {
    const engine = this.#host.engine();
    engine.check_prompt(ids, 0);
    this.drop();
    return engine.logits(ids);
  }

  /** @param {{ ids: Uint32Array, n: number }} args @param {CallContext} context */
  async greedy({ ids, n }, { signal }) {
    // The last token is chosen but not computed.
    const engine = this.#host.engine();
    engine.check_prompt(ids, n - 1);
    const all = await this.logits({ ids });
    const vocab_size = all.length / ids.length;
    const logits = [all.slice(all.length - vocab_size)];
    const tokens = [engine.argmax(logits[0])];
    while (tokens.length < n) {
      await yieldToMessages();
      signal.throwIfAborted();
      const row = await engine.append(tokens[tokens.length - 1]);
      logits.push(row);
      tokens.push(engine.argmax(row));
    }
    return { tokens, logits };
  }

  /** The tokens of the caller's sequence; empty if another call has replaced it. @param {number} wanted */
  ids(wanted) {
    return Uint32Array.from(wanted === this.#id ? [...this.#prompt, ...this.#generated] : []);
  }

  // ---- calls with passes of their own, which keep the sequence ----

  /**
   * @param {InspectRequest & { sequence: number }} args @param {CallContext} context
   * @returns {Promise<Inspection>}
   */
  async inspect({ sequence, ids: given, what, positions: chosen, top_k, query: at }, context) {
    const { engine, ids } = this.#tokensOf(sequence, given);
    const last = [...ids.keys()].slice(-LENS_POSITIONS);
    const positions = what.includes("lens") ? (chosen ?? last) : [];
    const query = what.includes("attention") ? (at ?? ids.length - 1) : null;
    const half_lives = what.includes("memory");
    const options = { lens_positions: positions, top_k, half_lives, attention_position: query };
    const parts = await engine.inspect(ids, options, stepListener(context));
    if (!parts) throw context.signal.reason;
    return { ids, positions, query, ...parts };
  }

  /** @param {AblateRequest & { sequence: number }} args @param {CallContext} context */
  async ablate({ sequence, ids: given, block, part, top_k, max_tokens }, context) {
    const { engine, ids } = this.#tokensOf(sequence, given);
    const effect = await engine.ablate(ids, { block, part }, top_k, max_tokens, stepListener(context));
    if (!effect) throw context.signal.reason;
    return effect;
  }

  /** Forgets the sequence, because another call uses the engine for its own. */
  drop() {
    this.#id = null;
  }

  // ---- inside ----

  /** The given ids, or those of the caller's sequence. @param {number} wanted @param {Uint32Array | null} ids */
  #tokensOf(wanted, ids) {
    if (ids) return { engine: this.#host.engine(), ids };
    return { engine: this.#engineWith(wanted), ids: this.ids(wanted) };
  }

  /** @param {number} wanted  the sequence that the caller means */
  #engineWith(wanted) {
    if (wanted === this.#id) return this.#host.engine();
    throw new Zamba2Error("out_of_order", { fact: fact("replaced") }, { next: "prompt" });
  }

  /**
   * Starts a new sequence. If the engine refuses it, the current one is kept.
   * @param {WasmEngine} engine @param {WorkerPrompt} prompt @param {GenerateOptions} options @param {number} id
   * @returns {Promise<RunStart>}
   */
  async #start(engine, prompt, options, id) {
    const { ids, end_tokens } = promptTokens(engine, prompt);
    const engine_options = end_tokens ? { ...options, end_tokens } : options;
    const constraint = await Constraint.of(engine, engine_options, []);
    const cached_tokens = engine.start(ids, engine_options);
    this.#id = id;
    this.#prompt = ids;
    this.#generated = [];
    this.#options = engine_options;
    this.#constraint = constraint;
    return { tokens: 0, prompt_tokens: ids.length, cached_tokens };
  }

  /**
   * Runs the existing sequence from the kept tokens on.
   * @param {WasmEngine} engine @param {KeptPrefix} kept @param {GenerateOptions} options
   * @param {number | null} forced_token @param {CallContext} context
   */
  #runOn(engine, kept, options, forced_token, context) {
    this.#generated.length = kept.tokens;
    this.#options = options;
    context.emit("kept", { text: kept.text, tokens: kept.tokens });
    return this.#run(engine, { ...kept, cached_tokens: null }, forced_token, context);
  }

  /**
   * Prefill or replay, then decode steps until one ends the run.
   * @param {WasmEngine} engine @param {RunStart} start
   * @param {number | null} forced_token  what the first step gives @param {CallContext} context
   * @returns {Promise<RunFigures>}
   */
  async #run(engine, start, forced_token, context) {
    const { signal, emit, pieces } = context;
    const { prompt_tokens, cached_tokens } = start;
    const prefill_from_ms = performance.now();
    try {
      await prefillAndReplay(engine, signal, {
        onBlock: (progress) => emitPrefill(context, start, progress),
        onReplay: (progress) => emit("replay", progress),
      });
    } catch (thrown) {
      engine = await this.#recover(thrown, forced_token, context);
    }
    const prefill_ms = performance.now() - prefill_from_ms;

    const times = new DecodeTimes();
    /** @type {Step["done"]} */
    let reason = null;
    while (reason === null) {
      await pieces.opened(times.n_tokens);
      await yieldToMessages();
      if (signal.aborted) break;
      let step;
      engine.set_block_times(this.#host.block_times_every);
      const allowed = this.#constraint?.allowed();
      try {
        step = await engine.step(allowed);
      } catch (thrown) {
        engine = await this.#recover(thrown, times.n_tokens === 0 ? forced_token : null, context);
        continue;
      }
      const { done, ...piece } = step;
      this.#generated.push(piece.token);
      this.#constraint?.commit(piece.token);
      emit("piece", { ...piece, index: start.tokens + times.n_tokens }, [piece.blocks_us.buffer]);
      times.add(piece);
      reason = done;
    }
    const n_read = prompt_tokens - (cached_tokens ?? prompt_tokens);
    return {
      reason: reason ?? "aborted",
      prompt_tokens,
      cached_tokens,
      prefill_ms,
      prefill_tokens_per_s: n_read > 0 ? n_read / (prefill_ms / 1000) : null,
      ...times.figures(),
      no_drafts: this.#options.lookup ? engine.no_drafts() : null,
      memory: engine.memory(),
    };
  }

  /**
   * Restores the sequence on a new device if `thrown` is the loss of the old one, and rethrows it otherwise. Pieces are
   * not sent twice.
   * @param {unknown} thrown
   * @param {number | null} forced_token  what the next step was to give
   * @param {CallContext} context
   */
  async #recover(thrown, forced_token, context) {
    const engine = await this.#host.recover(thrown, context);
    const tokens = forced_token === null ? this.#generated : [...this.#generated, forced_token];
    engine.adopt(this.#prompt, Uint32Array.from(tokens), this.#options);
    if (forced_token !== null) engine.branch(this.#generated.length, forced_token, this.#options);
    await prefillAndReplay(engine, context.signal);
    return engine;
  }
}

/** @param {CallContext} context @param {RunStart} start @param {{ block: number, done: boolean }} progress */
function emitPrefill({ emit }, { prompt_tokens, cached_tokens }, { block, done }) {
  emit("prefill", { block, prompt_tokens, cached_tokens: cached_tokens ?? prompt_tokens, done });
}

/** @param {WasmEngine} engine @param {WorkerPrompt} prompt @returns {{ ids: Uint32Array, end_tokens?: number[] }} */
function promptTokens(engine, prompt) {
  // The tokenizer adds its start token to any text, so the engine would not notice that the text is empty.
  if (prompt === "") throw new Zamba2Error("empty_prompt");
  if (prompt instanceof Uint32Array) return { ids: prompt };
  if (typeof prompt === "string") return { ids: engine.tokenize(prompt, true) };
  const ids = engine.encode_chat(prompt.messages, prompt.content);
  return { ids, end_tokens: [...engine.chat_end_tokens()] };
}

/**
 * @param {WasmEngine} engine @param {AbortSignal} signal
 * @param {{ onBlock?: (advanced: { block: number, done: boolean }) => void,
 *   onReplay?: (progress: { replayed: number, tokens: number }) => void }} [listeners]
 */
async function prefillAndReplay(engine, signal, { onBlock, onReplay } = {}) {
  for (let done = false; !done;) {
    await yieldToMessages();
    signal.throwIfAborted();
    const advanced = await engine.advance(1);
    done = advanced.done;
    onBlock?.(advanced);
  }
  // Only a rewound sequence has tokens to replay.
  const tokens = await engine.replay(0);
  for (let left = tokens; left > 0;) {
    onReplay?.({ replayed: tokens - left, tokens });
    left = await engine.replay(REPLAY_TOKENS);
    await yieldToMessages();
    signal.throwIfAborted();
  }
}

/**
 * Reports each step to the page, and handles messages now and then, so that the page can abort the call.
 * @param {CallContext} context
 * @returns {(done: number, of: number) => Promise<boolean>}
 */
function stepListener({ signal, emit }) {
  let yielded_ms = performance.now();
  return async (done, of) => {
    if (performance.now() - yielded_ms < YIELD_AFTER_MS) return true;
    emit("inspected", { done, of });
    await yieldToMessages();
    yielded_ms = performance.now();
    return !signal.aborted;
  };
}

/** The times of a run's decode steps. */
class DecodeTimes {
  n_tokens = 0;
  #first_ms = 0;
  #last_ms = 0;
  /** @type {number[]} */
  #gaps_ms = [];
  #drafted = 0;
  #accepted_drafts = 0;

  /** @param {Pick<Step, "us" | "drafted" | "accepted_draft">} step */
  add({ us, drafted, accepted_draft }) {
    this.#last_ms = performance.now();
    if (this.n_tokens === 0) this.#first_ms = this.#last_ms;
    else this.#gaps_ms.push(us / 1000);
    this.n_tokens += 1;
    this.#drafted += drafted;
    this.#accepted_drafts += Number(accepted_draft);
  }

  figures() {
    const decode_ms = this.#last_ms - this.#first_ms;
    return {
      tokens: this.n_tokens,
      decode_ms,
      // Between n tokens there are n - 1 gaps.
      decode_tokens_per_s: this.n_tokens > 1 && decode_ms > 0 ? (this.n_tokens - 1) / (decode_ms / 1000) : null,
      gap_ms_p50: percentile(this.#gaps_ms, 0.5),
      gap_ms_p95: percentile(this.#gaps_ms, 0.95),
      drafted: this.#drafted,
      accepted_drafts: this.#accepted_drafts,
    };
  }
}
