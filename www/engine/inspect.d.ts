/** Types of inspections: what the model does inside. Part of zamba2.d.ts. Formulas and sources: docs/inside.md. */

export type InspectPart = "lens" | "memory" | "attention";

export interface InspectOptions {
  /** The tokens to read. Default: those of the last run or of a restored sequence, prompt and answer. */
  ids?: ArrayLike<number>;
  /** Default: all parts. The lens takes the most time. */
  what?: InspectPart[];
  /** Tokens that the lens is applied to, from 0. Default: the last 16. */
  positions?: ArrayLike<number>;
  /** Most probable tokens per block and position, 1 to 100. Default 5. */
  top_k?: number;
  /** The token whose attention is returned, from 0. Default: the last one. */
  query?: number;
  /** After each block: how many are done, and of how many. */
  onProgress?: (progress: InspectProgress) => void;
  signal?: AbortSignal;
}

export interface InspectProgress {
  done: number;
  of: number;
}

/** A token and its probability in the softmax of the logits, before penalty, temperature and filters. */
export interface TokenProbability {
  token: number;
  /** For display; empty without a tokenizer. */
  text: string;
  probability: number;
}

/** The attention of one token in one call of a shared transformer (softmax(q·K / sqrt(head_dim / 2)), causal). */
export interface Visit {
  /** The calling block. */
  block: number;
  /** Which of the shared transformers it calls. */
  shared: number;
  /** Row-major; the keys are tokens 0 to `query`, and the weights of a head sum to 1. `[heads, keys]` */
  weights: Float32Array;
}

export interface Inspection extends InspectedParts {
  /** The inspected tokens. `[tokens]` */
  ids: Uint32Array;
  positions: number[];
  query: number | null;
}

/** Parts that were not requested are empty. */
export interface InspectedParts {
  /** Each of the tokens for display. `[tokens]` */
  texts: string[];
  /**
   * The logit lens: the most probable next tokens if the final norm and the output matrix followed this block. After
   * the last block it is the model's own distribution. `[blocks][positions][top_k]`
   */
  lens: TokenProbability[][][];
  /**
   * The half-life of each SSM head's state in tokens, ln 2 / (mean of dt · -A); Infinity for a state that does not
   * decay. `[blocks]` of `[heads]`
   */
  half_lives: Float32Array[];
  /** One per hybrid block, in their order. */
  attention: Visit[];
}

export interface Ablation {
  block: number;
  /** "block": the residual stream passes the block unchanged. "shared": the block's mixer gets the stream alone. */
  part: "block" | "shared";
}

export interface AblateOptions {
  /** As in `InspectOptions`. */
  ids?: ArrayLike<number>;
  block: number;
  /** Default "block". */
  part?: Ablation["part"];
  /** Most probable tokens of both, 1 to 100. Default 5. */
  top_k?: number;
  /** Tokens of the texts of both, 0 to 256; the context may end them before. Default 0. */
  max_tokens?: number;
  /** After each block of a pass, of both models. */
  onProgress?: (progress: InspectProgress) => void;
  signal?: AbortSignal;
}

/** What follows the tokens, in the whole model and in the one without the part. */
export interface AblationEffect {
  /** The Kullback-Leibler divergence of the ablated model's next token from the whole one's, in nats. */
  kl_nats: number;
  whole: Prediction;
  ablated: Prediction;
}

export interface Prediction {
  /** The most probable next tokens. `[top_k]` */
  top: TokenProbability[];
  /** The most probable token, step by step; an end token is the last one. */
  ids: number[];
  /** Of `ids`; empty without a tokenizer. */
  text: string;
}
