// @ts-check
// Limits how often a view is drawn. Every requested frame costs style, layout and paint of the page on the same cores
// that run the model, so updates are batched and no frame is requested until the interval has passed.

export class PacedFrame {
  /** @param {number} interval_ms @param {() => void} draw */
  constructor(interval_ms, draw) {
    this.interval_ms = interval_ms;
    this.draw = draw;
    this.drawn_ms = -Infinity;
    this.timer = 0;
    this.frame = 0;
  }

  /** Draws in the next frame, or in the first one after the interval. */
  request() {
    if (this.timer || this.frame) return;
    const wait_ms = this.drawn_ms + this.interval_ms - performance.now();
    if (wait_ms <= 0) this.next();
    else this.timer = window.setTimeout(() => this.next(), wait_ms);
  }

  next() {
    this.timer = 0;
    this.frame = requestAnimationFrame((now_ms) => {
      this.frame = 0;
      this.drawn_ms = now_ms;
      this.draw();
    });
  }

  cancel() {
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    this.timer = this.frame = 0;
  }
}
