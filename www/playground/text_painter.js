// @ts-check
// Appends generated text to the page in batches: a text node per token would cause unnecessary layouts.

import { PacedFrame } from "../paced_frame.js";

const PAINT_INTERVAL_MS = 100;
const LIVE_INTERVAL_MS = 400;
/** Characters of a prompt of which only the beginning is repeated above its answer. */
const LONG_PROMPT = 400;

export class TextPainter {
  /** @param {HTMLElement} place @param {{ onPaint: () => void, onLive: () => void }} hooks */
  constructor(place, { onPaint, onLive }) {
    this.place = place;
    /** Keeps the end of the text in view, unless the user has scrolled up. */
    this.scroller = /** @type {HTMLElement} */ (place.parentElement?.closest(".output, .turns") ?? place);
    this.onPaint = onPaint;
    this.onLive = onLive;
    this.waiting = "";
    this.pace = new PacedFrame(PAINT_INTERVAL_MS, () => this.paint());
    this.first_ms = 0;
    /** Time of the first paint; 0 before. */
    this.painted_ms = 0;
    this.live_ms = 0;
  }

  /** @param {string} text */
  add(text) {
    if (this.first_ms === 0) this.first_ms = performance.now();
    this.waiting += text;
    this.pace.request();
  }

  paint() {
    this.flush();
    this.onPaint();
    const now_ms = performance.now();
    if (this.painted_ms === 0) this.painted_ms = now_ms;
    if (now_ms - this.live_ms < LIVE_INTERVAL_MS) return;
    this.live_ms = now_ms;
    this.onLive();
  }

  flush() {
    if (this.waiting === "") return;
    // Checked before the text grows: a batch may be longer than the visible part.
    const followed = isAtEnd(this.scroller) ? this.scroller : null;
    this.place.append(document.createTextNode(this.waiting));
    this.waiting = "";
    if (followed) followed.scrollTop = followed.scrollHeight;
  }

  /** Does not wait for a frame: there are none in a hidden tab. */
  finish() {
    this.pace.cancel();
    this.flush();
  }
}

/** Closer to the end than this, the user has not scrolled up on purpose. */
const AT_END_PX = 60;

/** @param {HTMLElement} place */
const isAtEnd = ({ scrollHeight, clientHeight, scrollTop }) => scrollHeight - clientHeight - scrollTop < AT_END_PX;

/**
 * Shows the prompt and returns the element after it for the generated text.
 * @param {HTMLElement} output
 * @param {string} prompt
 * @returns {HTMLElement}
 */
export function beginOutput(output, prompt) {
  const given = document.createElement("span");
  given.className = "given";
  given.textContent = prompt;
  // A long prompt would push the answer out of view.
  if (prompt.length > LONG_PROMPT) given.classList.add("long");
  const generated = document.createElement("span");
  output.replaceChildren(given, generated);
  return generated;
}
