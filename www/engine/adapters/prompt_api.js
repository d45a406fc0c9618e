// @ts-check
// The browser's Prompt API (https://github.com/webmachinelearning/prompt-api) with a model on this page. Types and
// documentation: prompt_api.d.ts. Sessions keep their messages; the engine has one sequence for all of them, and
// prefills again what it has not cached.

import { GENERATE_DEFAULTS } from "../generate_options.js";
import { anySignal } from "../signals.js";
import { Loading } from "./prompt_loading.js";
import { canonicalInput, unsupportedOption } from "./prompt_messages.js";
import { samplingOptions, MAX_TEMPERATURE } from "./prompt_sampling.js";
import { engineCode, explained, Refusal } from "./refusals.js";
import { run, streamOf, turn, withSignal } from "./runs.js";

/** @import { ChatMessage, GenerateOptions, Model } from "../zamba2.d.ts" */
/** @import { Input } from "./prompt_messages.js" */
/** @import * as api from "./prompt_api.d.ts" */

/** @type {typeof api.createPromptApi} */
export function createPromptApi(source) {
  const loading = new Loading(source);
  return class LanguageModel extends Session {
    /** @type {api.LanguageModelStatic["availability"]} */
    static async availability(options = {}) {
      return unsupportedOption(options) === null ? loading.availability() : "unavailable";
    }

    /** @type {api.LanguageModelStatic["params"]} */
    static async params() {
      const { info } = await loading.model();
      const { temperature, top_k } = GENERATE_DEFAULTS;
      return {
        defaultTopK: top_k,
        maxTopK: info.vocab_size,
        defaultTemperature: temperature,
        maxTemperature: MAX_TEMPERATURE,
      };
    }

    /** @type {api.LanguageModelStatic["create"]} */
    static async create(options = {}) {
      const { initialPrompts = [], signal, monitor } = options;
      signal?.throwIfAborted();
      const reason = unsupportedOption(options);
      if (reason !== null) throw new DOMException(reason, "NotSupportedError");
      const sampling = samplingOptions(options);
      const first =
        initialPrompts.length > 0 ? canonicalInput(initialPrompts, { is_first: true, takes_prefix: false }) : null;
      const model = await withSignal(loading.model(monitor), signal);
      if (!model.info.chat) {
        throw new DOMException(explained(model.info.chat_fault ?? NO_TEMPLATE), "NotSupportedError");
      }
      const initial = first?.messages ?? [];
      const usage = await withSignal(usageOf(model, initial), signal);
      const { context } = model.info;
      if (usage > context) throw quotaExceeded(usage, context);
      // The signal of `create` also ends the session.
      const ended = new AbortController();
      signal?.addEventListener("abort", () => ended.abort(signal.reason), { once: true });
      return new LanguageModel(model, { initial, exchanges: [], sampling, options, usage, ended });
    }
  };
}

const NO_TEMPLATE = {
  message: "The checkpoint has no chat template",
  nextStep: "Load an instruct checkpoint, or continue plain text with the model's own generate().",
};

/** Prompts and appended messages that an overflow removes together. @typedef {ChatMessage[]} Exchange */
/**
 * @typedef {object} SessionState
 * @property {ChatMessage[]} initial  never removed
 * @property {Exchange[]} exchanges
 * @property {GenerateOptions} sampling
 * @property {api.LanguageModelCreateCoreOptions} options
 * @property {number} usage  tokens
 * @property {AbortController} ended  aborted by the session's end
 */

/** A session, without the static methods, which use the model. */
class Session extends EventTarget {
  #model;
  #initial;
  #exchanges;
  #sampling;
  #options;
  #usage;
  #ended;
  /** @type {Record<string, ((event: Event) => void) | null>} */
  #handlers = {};

  /** @param {Model} model @param {SessionState} state */
  constructor(model, { initial, exchanges, sampling, options, usage, ended }) {
    super();
    this.#model = model;
    this.#initial = initial;
    this.#exchanges = exchanges;
    this.#sampling = sampling;
    this.#options = options;
    this.#usage = usage;
    this.#ended = ended;
  }

  get contextUsage() {
    return this.#usage;
  }
  get contextWindow() {
    return this.#model.info.context;
  }
  get inputUsage() {
    return this.#usage;
  }
  get inputQuota() {
    return this.contextWindow;
  }
  get topK() {
    return this.#sampling.top_k ?? GENERATE_DEFAULTS.top_k;
  }
  get temperature() {
    return this.#sampling.temperature ?? GENERATE_DEFAULTS.temperature;
  }
  get samplingMode() {
    return this.#options.samplingMode ?? "balanced";
  }

  get oncontextoverflow() {
    return this.#handlers.contextoverflow ?? null;
  }
  set oncontextoverflow(handler) {
    this.#setHandler("contextoverflow", handler);
  }
  get onquotaoverflow() {
    return this.#handlers.quotaoverflow ?? null;
  }
  set onquotaoverflow(handler) {
    this.#setHandler("quotaoverflow", handler);
  }

  /** @type {api.LanguageModel["prompt"]} */
  async prompt(input, options = {}) {
    let text = "";
    for await (const piece of this.#answer(input, options, this.#signal(options))) text += piece;
    return text;
  }

  /** @type {api.LanguageModel["promptStreaming"]} */
  promptStreaming(input, options = {}) {
    const left = new AbortController();
    return streamOf(this.#answer(input, options, this.#signal(options, left.signal)), left);
  }

  /** @type {api.LanguageModel["append"]} */
  async append(input, options = {}) {
    const signal = this.#signal(options);
    signal.throwIfAborted();
    const end = await turn(this, signal);
    try {
      const { messages } = this.#canonical(input, false);
      const ids = await withSignal(this.#makeRoom(messages, ""), signal);
      await readAhead(this.#model, [...this.#messages(), ...messages], ids, signal);
      this.#keep(messages);
      this.#usage = ids.length;
    } catch (error) {
      throw signal.aborted ? signal.reason : exceptionOf(error);
    } finally {
      end();
    }
  }

  /** @type {api.LanguageModel["measureContextUsage"]} */
  async measureContextUsage(input, options = {}) {
    const signal = this.#signal(options);
    signal.throwIfAborted();
    constraintOptions(options);
    const { messages, prefix } = this.#canonical(input, true);
    const before = this.#messages();
    const all = await withSignal(usageOf(this.#model, [...before, ...messages], prefix), signal);
    return all - (await withSignal(usageOf(this.#model, before), signal));
  }

  /** @type {api.LanguageModel["measureInputUsage"]} */
  measureInputUsage(input, options) {
    return this.measureContextUsage(input, options);
  }

  /** @type {api.LanguageModel["clone"]} */
  async clone(options = {}) {
    this.#signal(options).throwIfAborted();
    const Own = /** @type {typeof Session} */ (this.constructor);
    return new Own(this.#model, {
      initial: this.#initial,
      exchanges: [...this.#exchanges],
      sampling: this.#sampling,
      options: this.#options,
      usage: this.#usage,
      ended: new AbortController(),
    });
  }

  /** @type {api.LanguageModel["destroy"]} */
  destroy() {
    this.#ended.abort(new DOMException("The session was destroyed.", "AbortError"));
  }

  /**
   * Waits for the answers to the session's earlier prompts; prompt and answer are kept once the answer is complete.
   * @param {api.LanguageModelPrompt} input @param {api.LanguageModelPromptOptions} options @param {AbortSignal} signal
   * @returns {AsyncGenerator<string, void, void>}
   */
  async *#answer(input, options, signal) {
    signal.throwIfAborted();
    const constraint = constraintOptions(options);
    const end = await turn(this, signal);
    try {
      const { messages, prefix } = this.#canonical(input, true);
      const ids = await withSignal(this.#makeRoom(messages, prefix), signal);
      const max_tokens = this.contextWindow;
      const pieces = run(this.#model, ids, { max_tokens, ...this.#sampling, ...constraint }, signal);
      let text = "";
      let next = await pieces.next();
      for (; !next.done; next = await pieces.next()) {
        text += next.value.text;
        if (next.value.text !== "") yield next.value.text;
      }
      this.#keep([...messages, { role: "assistant", content: prefix + text }]);
      this.#usage = ids.length + next.value.tokens;
    } catch (error) {
      throw signal.aborted ? signal.reason : exceptionOf(error);
    } finally {
      end();
    }
  }

  /** @param {api.LanguageModelPrompt} input @param {boolean} takes_prefix @returns {Input} */
  #canonical(input, takes_prefix) {
    return canonicalInput(input, { is_first: this.#messages().length === 0, takes_prefix });
  }

  #messages() {
    return [...this.#initial, ...this.#exchanges.flat()];
  }

  /** @param {Exchange} messages */
  #keep(messages) {
    const [first, ...rest] = messages;
    // A system prompt is kept, whichever call has added it.
    if (first.role === "system") this.#initial = [first];
    const exchange = first.role === "system" ? rest : messages;
    if (exchange.length > 0) this.#exchanges.push(exchange);
  }

  /**
   * The tokens of the session with further messages. The oldest exchanges are removed until the rest fits; if it never
   * does, nothing is removed.
   * @param {ChatMessage[]} messages @param {string} prefix @returns {Promise<Uint32Array>}
   */
  async #makeRoom(messages, prefix) {
    for (let n_removed = 0; n_removed <= this.#exchanges.length; n_removed += 1) {
      const left = this.#exchanges.slice(n_removed);
      const ids = await tokensOf(this.#model, [...this.#initial, ...left.flat(), ...messages], prefix);
      const is_last = n_removed === this.#exchanges.length;
      if (ids.length > this.contextWindow) {
        if (is_last) throw quotaExceeded(ids.length, this.contextWindow);
        continue;
      }
      if (n_removed > 0) {
        this.#exchanges = left;
        for (const type of ["contextoverflow", "quotaoverflow"]) this.dispatchEvent(new Event(type));
      }
      return ids;
    }
    throw quotaExceeded(Infinity, this.contextWindow);
  }

  /** @param {{ signal?: AbortSignal }} options @param {AbortSignal[]} more @returns {AbortSignal} */
  #signal({ signal }, ...more) {
    if (this.#ended.signal.aborted) throw new DOMException("The session was destroyed.", "InvalidStateError");
    return anySignal([this.#ended.signal, ...(signal ? [signal] : []), ...more]);
  }

  /** @param {string} type @param {((event: Event) => void) | null} handler */
  #setHandler(type, handler) {
    const before = this.#handlers[type];
    if (before) this.removeEventListener(type, before);
    this.#handlers[type] = typeof handler === "function" ? handler : null;
    if (typeof handler === "function") this.addEventListener(type, handler);
  }
}

/**
 * Prefills the tokens that every continuation of a conversation begins with, so that a prompt only adds its own: all
 * tokens before what the template inserts at the beginning of an answer. The one generated token is not prefilled.
 * @param {Model} model @param {ChatMessage[]} messages @param {Uint32Array} ids  theirs, up to the answer
 * @param {AbortSignal} signal
 */
async function readAhead(model, messages, ids, signal) {
  const continued = [...messages, { role: "user", content: "." }];
  // Some templates refuse two user messages in a row; then the common tokens are unknown before the prompt.
  const longer = await withSignal(
    tokensOf(model, continued, "").catch(() => new Uint32Array()),
    signal,
  );
  const n_common = ids.findIndex((id, i) => id !== longer[i]);
  const settled = n_common < 0 ? ids : ids.subarray(0, n_common);
  if (settled.length === 0) return;
  for await (const piece of run(model, settled, { max_tokens: 1, temperature: 0 }, signal)) void piece;
}

/**
 * The tokens of a conversation up to the answer, with the answer's prefix.
 * @param {Model} model @param {ChatMessage[]} messages @param {string} prefix @returns {Promise<Uint32Array>}
 */
async function tokensOf(model, messages, prefix) {
  const ids = await model.tokenizeChat({ messages });
  if (prefix === "") return ids;
  // Tokenised together with the conversation, because a tokenizer may treat the start of a text differently.
  const text = await model.renderChat(messages);
  const before = await model.tokenize(text, { special: false });
  const all = await model.tokenize(text + prefix, { special: false });
  const continues = before.every((id, i) => id === all[i]);
  const more = continues ? all.subarray(before.length) : await model.tokenize(prefix, { special: false });
  return Uint32Array.from([...ids, ...more]);
}

/** @param {Model} model @param {ChatMessage[]} messages @param {string} [prefix] @returns {Promise<number>} tokens */
async function usageOf(model, messages, prefix = "") {
  if (messages.length === 0) return 0;
  try {
    return (await tokensOf(model, messages, prefix)).length;
  } catch (error) {
    throw exceptionOf(error);
  }
}

/** @param {api.LanguageModelPromptOptions} options @returns {GenerateOptions} */
function constraintOptions({ responseConstraint, omitResponseConstraintInput }) {
  if (responseConstraint == null) {
    if (omitResponseConstraintInput) throw new TypeError("omitResponseConstraintInput needs a responseConstraint.");
    return {};
  }
  if (typeof responseConstraint !== "object")
    throw new TypeError("responseConstraint is neither a schema nor a RegExp.");
  return responseConstraint instanceof RegExp
    ? { grammar: grammarOf(responseConstraint) }
    : { json_schema: responseConstraint };
}

/** The grammar of all texts that match as a whole, so the ends need no anchors. @param {RegExp} expression */
function grammarOf({ source, flags }) {
  const body = source.replace(/^\^/, "").replace(/(?<!\\)\$$/, "");
  return `start: /${body}/${flags.replaceAll(/[^ims]/g, "")}`;
}

/** The engine's errors by the API's names for them. @type {Record<string, string>} */
const NAMES = {
  bad_grammar: "NotSupportedError",
  bad_chat_template: "NotSupportedError",
  chat_refused: "NotSupportedError",
  disposed: "InvalidStateError",
  no_chat_template: "NotSupportedError",
};

/** An error in the form of the API. @param {unknown} error */
function exceptionOf(error) {
  if (error instanceof Refusal) return new DOMException(error.message, "NotSupportedError");
  const code = engineCode(error);
  return code === null ? error : new DOMException(explained(error), NAMES[code] ?? "UnknownError");
}

/** Newer browsers have a class for this error. @param {number} requested @param {number} quota */
function quotaExceeded(requested, quota) {
  const message = `The session would have ${requested} tokens, and the context holds ${quota}.`;
  const { QuotaExceededError } = /** @type {any} */ (globalThis);
  if (typeof QuotaExceededError === "function") return new QuotaExceededError(message, { requested, quota });
  return Object.assign(new DOMException(message, "QuotaExceededError"), { requested, quota });
}
