// Types of the options of `generate`, and the weight formats. Generated from src/base/quant.rs,
// src/text/sampling/options.rs and src/session/mod.rs; do not edit. To regenerate it:
// ZAMBA2_WRITE=1 cargo test --test integration sampling_options

/** How the weights are held in memory: 4, 1.06 or 0.56 bytes per parameter. */
export type Weights = "f32" | "q8" | "q4";

/** The most exact format first. */
export declare const WEIGHTS: readonly Weights[];

export interface NumberOptions {
  /** Divides the logits: the higher, the more random. 0 is greedy: argmax, without random numbers. Default 0.7. */
  temperature?: number;
  /** Samples from the fewest most probable tokens whose probabilities reach this sum; 1 turns it off. Default 0.95. */
  top_p?: number;
  /** Samples from this many most probable tokens; 0 turns it off. Default 40. */
  top_k?: number;
  /** The least probability of a token, relative to the most probable one; 0 turns it off. Default 0. */
  min_p?: number;
  /**
   * How much less probable tokens of the history are made; 1 turns it off, less than 1 makes them more probable.
   * Default 1.
   */
  repetition_penalty?: number;
  /**
   * Starts the random numbers: the same seed, prompt, options and conversation give the same tokens on every platform.
   * Default 42.
   */
  seed?: number | bigint;
  /** How many tokens to generate at most. Default 256. */
  max_tokens?: number;
  /**
   * How many tokens to draft at most from earlier occurrences of the last ones, and to compute together; 0 turns it
   * off. It changes the speed, not the text, and on a graphics adapter it has no effect. Default 0.
   */
  lookup?: number;
}

export interface GenerateOptions extends NumberOptions {
  /** The text ends before the first of these. Default []. */
  stop?: string[];
  /** Continues past an end-of-text token. Default false. */
  ignore_eos?: boolean;
  /**
   * A JSON schema that the text follows: an object, or `true` for any JSON. A complete text ends with an end token,
   * even with `ignore_eos`; `max_tokens`, `stop` and the context may end it before (docs/structured_output.md). Default
   * null.
   */
  json_schema?: object | boolean | null;
  /**
   * A grammar that the text follows, in the Lark syntax of llguidance; not together with `json_schema`. Default null.
   */
  grammar?: string | null;
  /** How many of the most probable tokens each step lists; 0 avoids the work. Default 0. */
  alternatives?: number;
  /**
   * Keeps state checkpoints every 32 tokens of the answer, too, so that `branch` has less to replay. All checkpoints
   * together take at most 192 MB. Default false.
   */
  checkpoints?: boolean;
  /**
   * Reuses the state of the longest prefix that the prompt shares with the previous prompt and answer, as far as the
   * current state or a state checkpoint covers it. With false the whole prompt is prefilled, and its logits are bit for
   * bit those of a new model. Default true.
   */
  cache_prompt?: boolean;
  /**
   * Prefills answers within a cached prompt again, so that the text equals that of a prefill of the whole prompt. With
   * false the prompt continues from the state of the decode steps, where the reference does not clamp dt; the logits of
   * a long conversation then differ slightly (docs/conversations.md). Default false.
   */
  reread_answers?: boolean;
}

/** An option that is a number: its range, and how a page offers it. */
export interface NumberOption {
  readonly name: keyof NumberOptions;
  readonly default: number;
  /** The value at which the option has no effect; null if it is not about the distribution that is sampled from. */
  readonly off: number | null;
  readonly min: number;
  /** Whether `min` itself is out of range. */
  readonly above_min: boolean;
  /** Infinity if there is no limit. */
  readonly max: number;
  readonly is_integer: boolean;
  /** The distance of neighbouring values in a field of a page. */
  readonly step: number;
  /** The largest value that a field of a page offers. */
  readonly usual_max: number;
}

/** In the order of fields on a page. */
export declare const NUMBER_OPTIONS: readonly NumberOption[];

export declare const GENERATE_DEFAULTS: Required<GenerateOptions>;
