// @ts-check
// Responses of OpenAI's HTTP API from the pieces of a run: as one object, or as server-sent events.

import { described } from "./openai_errors.js";

/** @import { Piece, RunSummary } from "../zamba2.d.ts" */
/** @import { ParsedRequest } from "./openai_requests.js" */
/** @import { Run } from "./runs.js" */

/**
 * What differs between chats and completions.
 * @typedef {object} Format
 * @property {string} prefix  of ids
 * @property {string} object
 * @property {string} chunk_object
 * @property {object | null} opening  the choice of the first chunk
 * @property {(text: string) => object} answer  a choice's text in an answer
 * @property {(text: string) => object} delta  and in a chunk
 * @property {(ranked: Ranked[], n_top: number) => object} logprobs
 */
/**
 * @typedef {object} Reply
 * @property {{ id: string, created: number, model: string }} head
 * @property {Format} format
 * @property {ParsedRequest} parsed
 * @property {Run} pieces
 * @property {Set<number>} end_tokens
 * @property {AbortSignal} signal
 */
/**
 * A token's rank, and its offset in the answer.
 * @typedef {{ offset: number, rank: NonNullable<Piece["token_rank"]> }} Ranked
 */

/** @type {Format} */
export const chatFormat = {
  prefix: "chatcmpl",
  object: "chat.completion",
  chunk_object: "chat.completion.chunk",
  opening: { delta: { role: "assistant", content: "", refusal: null } },
  answer: (text) => ({ message: { role: "assistant", content: text, refusal: null } }),
  delta: (text) => ({ delta: text === "" ? {} : { content: text } }),
  logprobs: (ranked, n_top) => ({
    content: ranked.map(({ rank }) => ({
      ...tokenLogprob(rank),
      top_logprobs: rank.alternatives.slice(0, n_top).map(tokenLogprob),
    })),
    refusal: null,
  }),
};

/** @type {Format} */
export const completionFormat = {
  prefix: "cmpl",
  object: "text_completion",
  chunk_object: "text_completion",
  opening: null,
  answer: (text) => ({ text }),
  delta: (text) => ({ text }),
  logprobs: (ranked, n_top) => ({
    tokens: ranked.map(({ rank }) => rank.text),
    token_logprobs: ranked.map(({ rank }) => logprobOf(rank)),
    top_logprobs: ranked.map(({ rank }) => {
      const top = rank.alternatives.slice(0, n_top);
      return Object.fromEntries(top.map((token) => [token.text, logprobOf(token)]));
    }),
    text_offset: ranked.map(({ offset }) => offset),
  }),
};

/** JSON has no infinity; OpenAI uses this number for tokens that are too unlikely. */
const LEAST_LOGPROB = -9999;

/** @param {{ probability: number }} token */
const logprobOf = ({ probability }) => Math.max(Math.log(probability), LEAST_LOGPROB);

/** @param {{ text: string, bytes: number[] | null, probability: number }} token */
const tokenLogprob = (token) => ({ token: token.text, logprob: logprobOf(token), bytes: token.bytes });

/** The whole answer. @param {Reply} reply @returns {Promise<object>} */
export async function whole({ head, format, parsed, pieces, end_tokens }) {
  let text = "";
  const ranks = new Ranks(end_tokens);
  /** @type {Ranked[]} */
  const ranked = [];
  let next = await pieces.next();
  for (; !next.done; next = await pieces.next()) {
    text += next.value.text;
    ranked.push(...ranks.of(next.value));
  }
  const choice = {
    index: 0,
    ...format.answer(text),
    logprobs: parsed.logprobs ? format.logprobs(ranked, parsed.n_top) : null,
    finish_reason: finishReason(next.value),
  };
  return { ...head, object: format.object, choices: [choice], usage: usage(next.value) };
}

/**
 * The answer as server-sent events. An error after the first is an event, too, because the status has been sent.
 * @param {Reply} reply @returns {AsyncGenerator<string, void, void>}
 */
export async function* events({ head, format, parsed, pieces, end_tokens, signal }) {
  const { logprobs, n_top, include_usage } = parsed;
  const ranks = new Ranks(end_tokens);
  /** @param {object[]} choices @param {object | null} [total] */
  const chunk = (choices, total = null) =>
    event({ ...head, object: format.chunk_object, choices, ...(include_usage && { usage: total }) });
  /** @param {object} content @param {Ranked[]} ranked @param {string | null} [finish_reason] */
  const choice = (content, ranked, finish_reason = null) => ({
    index: 0,
    ...content,
    logprobs: logprobs && ranked.length > 0 ? format.logprobs(ranked, n_top) : null,
    finish_reason,
  });
  try {
    if (format.opening) yield chunk([choice(format.opening, [])]);
    let next = await pieces.next();
    for (; !next.done; next = await pieces.next()) {
      const { text } = next.value;
      const ranked = ranks.of(next.value);
      // Tokens have no text while a character or a stop string is incomplete.
      if (text !== "" || (logprobs && ranked.length > 0)) yield chunk([choice(format.delta(text), ranked)]);
    }
    yield chunk([choice(format.delta(""), [], finishReason(next.value))]);
    if (include_usage) yield chunk([], usage(next.value));
    yield "data: [DONE]\n\n";
  } catch (error) {
    // An abort ends the body, as with a response from a server.
    if (signal.aborted) throw error;
    yield event({ error: described(error).body });
  }
}

/** @param {object} data */
const event = (data) => `data: ${JSON.stringify(data)}\n\n`;

/** The tokens of an answer as logprobs have them: without the one that ends it, which is no text. */
class Ranks {
  #end_tokens;
  #offset = 0;

  /** @param {Set<number>} end_tokens */
  constructor(end_tokens) {
    this.#end_tokens = end_tokens;
  }

  /** @param {Piece} piece @returns {Ranked[]} */
  of({ token, token_rank }) {
    if (!token_rank || this.#end_tokens.has(token)) return [];
    const offset = this.#offset;
    this.#offset += token_rank.text.length;
    return [{ offset, rank: token_rank }];
  }
}

/** @param {RunSummary} summary */
const finishReason = ({ reason }) => (reason === "eos" || reason === "stop" ? "stop" : "length");

/** @param {RunSummary} summary */
function usage({ prompt_tokens = 0, cached_tokens, tokens }) {
  return {
    prompt_tokens,
    completion_tokens: tokens,
    total_tokens: prompt_tokens + tokens,
    prompt_tokens_details: { cached_tokens: cached_tokens ?? 0 },
  };
}
