// @ts-check
// One run of the model: appends the pieces to an exchange and paints them. It handles no controls and stores nothing.

import { tokenOf } from "./exchange.js";
import { TextPainter } from "./text_painter.js";

/** @import { Piece, RunOptions } from "../engine/zamba2.d.ts" */
/** @import { Exchange } from "./exchange.js" */

/** Alternatives stored per token. */
const ALTERNATIVES = 5;

/**
 * Figures of a run in progress; the speed is null before the second token.
 * @typedef {{ tokens_per_s: number | null, ttft_ms: number }} LiveFigures
 */
/**
 * @typedef {object} Listeners
 * @property {(progress: { block: number, prompt_tokens: number, done: boolean }) => void} onPrefill
 * @property {(progress: { replayed: number, tokens: number }) => void} onReplay
 * @property {() => void} onKept  the exchange was cut to what `branch` or `continue` keeps
 * @property {(blocks_us: Float32Array) => void} onToken  a token was appended to the exchange
 * @property {() => void} onPaint
 * @property {(live: LiveFigures) => void} onLive
 */

/**
 * @param {Exchange} exchange @param {HTMLElement} place  of its text @param {AbortSignal} signal
 * @param {(options: RunOptions) => AsyncGenerator<Piece, void, void>} start @param {Listeners} listeners
 * @returns {Promise<{ thrown: unknown, ttft_ms: number | null }>} what ended the run, null at its regular end; and the
 *   time until the first text was painted, null without any
 */
export async function runExchange(exchange, place, signal, start, listeners) {
  const pressed_ms = performance.now();
  let n_tokens = 0;
  const painter = new TextPainter(place, {
    onPaint: listeners.onPaint,
    onLive: () => {
      const since_first_s = (performance.now() - painter.first_ms) / 1000;
      const tokens_per_s = n_tokens > 1 ? (n_tokens - 1) / since_first_s : null;
      listeners.onLive({ tokens_per_s, ttft_ms: painter.painted_ms - pressed_ms });
    },
  });
  /** @type {unknown} */
  let thrown = null;
  try {
    const pieces = start({
      ...exchange.settings,
      alternatives: ALTERNATIVES,
      checkpoints: true,
      signal,
      onPrefill: (progress) => {
        exchange.prompt_tokens = progress.prompt_tokens;
        listeners.onPrefill(progress);
      },
      onReplay: listeners.onReplay,
      onKept: ({ text, tokens }) => {
        exchange.text = text;
        place.textContent = text;
        exchange.tokens.length = tokens;
        listeners.onKept();
      },
    });
    for await (const piece of pieces) {
      n_tokens += 1;
      exchange.tokens.push(tokenOf(piece));
      exchange.text += piece;
      painter.add(piece.text);
      listeners.onToken(piece.blocks_us);
    }
  } catch (error) {
    thrown = error;
  }
  painter.finish();
  return { thrown, ttft_ms: painter.painted_ms ? painter.painted_ms - pressed_ms : null };
}
