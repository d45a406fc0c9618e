// @ts-check
// Structured output: the tokens that a JSON schema or a grammar allows next. They are computed by a wasm module of its
// own, which is loaded on first use. The engine samples among them.

import { Zamba2Error, fact } from "./errors.js";
import { dropGrammar, loadGrammar } from "./wasm_engine.js";

/** @import { GrammarBindings, GrammarConstraint, GrammarVocabulary } from "./wasm_exports.d.ts" */
/** @import { WasmEngine } from "./wasm_engine.js" */
/** @import { GenerateOptions } from "./zamba2.d.ts" */

/**
 * The tokens of an engine, prepared for the end tokens of the last call.
 * @type {WeakMap<WasmEngine, { module: GrammarBindings, end_tokens: string, vocabulary: GrammarVocabulary }>}
 */
const vocabularies = new WeakMap();

/**
 * Runs a call of the module. Its own errors are strings; anything else is a bug in it or memory exhaustion, after which
 * a fresh module is loaded. Neither affects the engine.
 * @template T @param {() => T} call @returns {T}
 */
function guarded(call) {
  try {
    return call();
  } catch (thrown) {
    if (typeof thrown !== "string") dropGrammar();
    const reason = typeof thrown === "string" ? thrown : String(/** @type {Error} */ (thrown).message);
    throw new Zamba2Error("bad_grammar", { fact: reason }, { cause: thrown });
  }
}

/**
 * @param {WasmEngine} engine @param {number[]} more_end_tokens  beside those of the checkpoint
 * @returns {Promise<GrammarVocabulary>}
 */
async function vocabularyOf(engine, more_end_tokens) {
  const module = await loadGrammar();
  const known = vocabularies.get(engine);
  const more = more_end_tokens.join();
  if (known?.module === module && known.end_tokens === more) return known.vocabulary;
  const { bytes, ends, not_first, end_tokens } = engine.token_bytes();
  const both = Uint32Array.from([...end_tokens, ...more_end_tokens]);
  const vocabulary = guarded(() => new module.Vocabulary(bytes, ends, not_first, both));
  vocabularies.set(engine, { module, end_tokens: more, vocabulary });
  return vocabulary;
}

/** The constraint on the rest of a text. */
export class Constraint {
  #inner;

  /** @param {GrammarConstraint} inner */
  constructor(inner) {
    this.#inner = inner;
  }

  /**
   * Null if the options have no schema or grammar. Fails for one that no text can follow.
   * @param {WasmEngine} engine @param {GenerateOptions & { end_tokens?: number[] }} options
   * @param {number[]} generated  tokens that the text has already
   */
  static async of(engine, options, generated) {
    const { json_schema = null, grammar = null, end_tokens = [] } = options;
    if (json_schema === null && grammar === null) return null;
    const vocabulary = await vocabularyOf(engine, end_tokens);
    const inner = guarded(() =>
      grammar === null ? vocabulary.follow_schema(JSON.stringify(json_schema)) : vocabulary.follow_grammar(grammar),
    );
    const constraint = new Constraint(inner);
    for (const token of generated) {
      if (!constraint.allows(token)) throw new Zamba2Error("bad_grammar", { fact: fact("text_does_not_fit") });
      constraint.commit(token);
    }
    return constraint;
  }

  /** The allowed next tokens, one bit per id. @returns {Uint32Array} */
  allowed() {
    return guarded(() => this.#inner.allowed());
  }

  /** @param {number} token */
  allows(token) {
    return ((this.allowed()[token >> 5] ?? 0) & (1 << (token & 31))) !== 0;
  }

  /** Advances by the token that was chosen. @param {number} token */
  commit(token) {
    guarded(() => this.#inner.commit(token));
  }
}
