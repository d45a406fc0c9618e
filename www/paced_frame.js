// @ts-check
// Draws at most every so often. Each frame that a page asks for has all of it looked over, styled and painted, on the
// processors that compute the model; so tokens wait for one another, and nobody asks for frames until the time is over.
// It imports nothing and draws nothing itself.

export class PacedFrame {
  /** @param {number} interval_ms @param {() => void} draw */
  constructor(interval_ms, draw) {
    this.interval_ms = interval_ms;
    this.draw = draw;
    this.drawn_ms = -Infinity;
    this.timer = 0;
    this.frame = 0;
  }

  /** Draws in a frame: the next one, or the first after the interval. */
  ask() {
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
