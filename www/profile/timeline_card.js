// @ts-check
// The timeline of a profile with its controls: the visible range, the search, and the choice of the run.

import { ChartFrame } from "../charts/chart_frame.js";
import { listenForPanAndZoom } from "../charts/pan_zoom.js";
import { findSpans, partsOf, timeSpans } from "../charts/time_spans.js";
import { pointText, spanAt, spanText, timeline, timelineFinding, timelineTable } from "../charts/timeline.js";
import { button, element } from "../dom.js";
import { PacedFrame } from "../paced_frame.js";
import { number, plural, t, timeText } from "../words.js";
import { blockOf } from "./token_times.js";

/** @import { Run, Summary } from "../engine/zamba2.d.ts" */
/** @import { Matches, Range, TimeSpans } from "../charts/time_spans.js" */
/** @import { Key } from "../words.js" */

/** About the resolution of the clock. */
const LEAST_RANGE_US = 10;
/** The timeline zooms in on a match that is narrower than this share of the range. */
const MATCH_SHARE = 0.02;
const SAY_AFTER_MS = 300;
const PAN = 0.5;
const ZOOM = 2;

/** @param {string} text @param {() => void} act */
const small = (text, act) => button(text, act, "small");

export class TimelineCard {
  #say_timer = 0;
  frame = new ChartFrame({ id: "chart-timeline", title: "timeline.title", note: "timeline.note" });
  choice = document.createElement("select");
  field = document.createElement("input");
  found = element("p", "note");
  shown = element("p", "note");
  steps = [small("↑", () => this.step(-1)), small("↓", () => this.step(1))];
  moves = [
    small("←", () => this.pan(-PAN)),
    small("→", () => this.pan(PAN)),
    small("−", () => this.zoom(1 / ZOOM, 0.5)),
    small("+", () => this.zoom(ZOOM, 0.5)),
  ];
  whole = small("", () => this.jump("whole"));

  constructor() {
    /** @type {Run | null} */
    this.run = null;
    /** @type {TimeSpans | null} */
    this.data = null;
    /** The index of the run within the profile. */
    this.n = 0;
    /** @type {Range} */
    this.range = { from_us: 0, to_us: 0 };
    /** @type {Matches} */
    this.matches = { rows: new Int32Array(), is_found: new Uint8Array() };
    /** The index of the current match. @type {number | null} */
    this.at = null;
    this.frames = new PacedFrame(0, () => this.frame.draw());
    this.layOut();
  }

  layOut() {
    const { place, controls } = this.frame;
    place.tabIndex = 0;
    place.setAttribute("role", "group");
    place.classList.add("pannable");
    this.choice.className = "small";
    this.choice.addEventListener("change", () => this.choose(Number(this.choice.value)));
    this.field.type = "search";
    this.field.className = "small";
    this.field.spellcheck = false;
    this.field.addEventListener("input", () => this.search());
    this.field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.step(event.shiftKey ? -1 : 1);
    });
    this.found.setAttribute("role", "status");
    controls.append(this.choice, this.field, ...this.steps, ...this.moves, this.whole);
    this.shown.setAttribute("role", "status");
    place.after(element("div", "timeline-state", this.shown, this.found));
    listenForPanAndZoom(place, {
      pan: (by) => this.pan(by),
      zoom: (factor, at) => this.zoom(factor, at),
      jump: (to) => this.jump(to),
      click: (point) => this.open(point),
    });
  }

  /** @param {Run} run @param {Summary} summary */
  show(run, summary) {
    this.summary = summary;
    if (this.run !== run) {
      this.run = run;
      this.n = 0;
      this.choose(0);
    }
    this.showWords();
    this.frame.show({
      finding: this.data ? timelineFinding(this.data) : "",
      draw: (width, readout) => this.draw(width, readout),
      table: () => timelineTable(this.spans, this.range),
    });
  }

  get spans() {
    return /** @type {TimeSpans} */ (this.data);
  }

  /** Shows the n-th run of the profile as a whole. @param {number} n */
  choose(n) {
    const { runs, model } = /** @type {Run} */ (this.run);
    const { spans } = runs[n];
    const { kinds } = model.config;
    this.n = n;
    this.data = timeSpans(spans, {
      parts: partsOf(/** @type {Summary} */ (this.summary).prefill.tree, spans.names),
      blockOf,
      hybrids: new Set(kinds.flatMap((kind, block) => (kind === "hybrid" ? [block] : []))),
    });
    if (this.frame.chart) this.frame.chart.finding = timelineFinding(this.data);
    this.search();
    this.jump("whole");
  }

  showWords() {
    const { runs } = /** @type {Run} */ (this.run);
    this.choice.replaceChildren(
      ...runs.map((_, n) => new Option(t("timeline.run", { n: number(n + 1), runs: number(runs.length) }), String(n))),
    );
    this.choice.value = String(this.n);
    this.choice.hidden = runs.length < 2;
    this.field.placeholder = t("timeline.search");
    this.whole.textContent = t("timeline.whole");
    /** @type {[Element, Key][]} */
    const names = [
      [this.frame.place, "timeline.label"],
      [this.choice, "timeline.runs"],
      [this.field, "timeline.search"],
      [this.steps[0], "timeline.previous"],
      [this.steps[1], "timeline.next"],
      [this.moves[0], "timeline.left"],
      [this.moves[1], "timeline.right"],
      [this.moves[2], "timeline.out"],
      [this.moves[3], "timeline.in"],
    ];
    for (const [control, key] of names) {
      control.setAttribute("aria-label", t(key));
      if (control instanceof HTMLButtonElement) control.title = t(key);
    }
    this.showMatch();
    this.sayRange();
  }

  /** @param {number} width @param {(text: string) => void} readout */
  draw(width, readout) {
    const { range, matches } = this;
    const current = this.at === null ? null : matches.rows[this.at];
    return timeline(this.spans, { width, range, matches, current, readout });
  }

  /** @param {number} from_us @param {number} length_us */
  setRange(from_us, length_us) {
    const most_us = Math.max(this.spans.length_us, LEAST_RANGE_US);
    const length = Math.min(most_us, Math.max(LEAST_RANGE_US, length_us));
    const from = Math.min(most_us - length, Math.max(0, from_us));
    this.range = { from_us: from, to_us: from + length };
    this.frames.request();
    // Intermediate ranges of a gesture are not announced.
    clearTimeout(this.#say_timer);
    this.#say_timer = window.setTimeout(() => this.sayRange(), SAY_AFTER_MS);
  }

  sayRange() {
    const { from_us, to_us } = this.range;
    const length_us = to_us - from_us;
    const values = {
      from: pointText(from_us, length_us, to_us),
      to: pointText(to_us, length_us),
      length: timeText(length_us),
      whole: timeText(this.spans.length_us),
    };
    const is_whole = length_us >= this.spans.length_us;
    this.shown.textContent = t(is_whole ? "timeline.shown.whole" : "timeline.shown", values);
    this.whole.disabled = is_whole;
    this.frame.fillTable();
  }

  /** @param {number} by a fraction of the range */
  pan(by) {
    const length_us = this.range.to_us - this.range.from_us;
    this.setRange(this.range.from_us + by * length_us, length_us);
  }

  /** @param {number} factor @param {number} at */
  zoom(factor, at) {
    const length_us = this.range.to_us - this.range.from_us;
    const most_us = Math.max(this.spans.length_us, LEAST_RANGE_US);
    const next_us = Math.min(most_us, Math.max(LEAST_RANGE_US, length_us / factor));
    this.setRange(this.range.from_us + at * (length_us - next_us), next_us);
  }

  /** @param {"start" | "end" | "whole"} to */
  jump(to) {
    const { length_us } = this.spans;
    const visible_us = this.range.to_us - this.range.from_us;
    if (to === "whole") this.setRange(0, length_us);
    else this.setRange(to === "start" ? 0 : length_us - visible_us, visible_us);
  }

  /** A click on a span zooms to it. @param {{ x: number, y: number, width: number }} point */
  open(point) {
    const row = spanAt(this.spans, this.range, point);
    if (row === null) return this.zoom(ZOOM * ZOOM, point.x / point.width);
    const { start_us, end_us } = this.spans;
    this.setRange(start_us[row], end_us[row] - start_us[row]);
  }

  search() {
    this.matches = findSpans(this.spans, this.field.value);
    this.at = null;
    this.showMatch();
    this.frames.request();
  }

  /** Goes to the next match; first to one in the visible range. @param {-1 | 1} by */
  step(by) {
    const { spans, range } = this;
    const { rows } = this.matches;
    const n = rows.length;
    if (n === 0) return;
    if (this.at === null) {
      const after = rows.findIndex((row) => spans.start_us[row] >= range.from_us);
      this.at = after < 0 ? 0 : by < 0 ? (after + n - 1) % n : after;
    } else {
      this.at = (this.at + by + n) % n;
    }
    const row = rows[this.at];
    const time_us = spans.end_us[row] - spans.start_us[row];
    const visible_us = range.to_us - range.from_us;
    const is_legible = time_us > MATCH_SHARE * visible_us && time_us < visible_us;
    const length_us = is_legible ? visible_us : Math.max(LEAST_RANGE_US, time_us / (5 * MATCH_SHARE));
    this.setRange(spans.start_us[row] + (time_us - length_us) / 2, length_us);
    this.showMatch();
  }

  showMatch() {
    const { rows } = this.matches;
    const n = rows.length;
    for (const one of this.steps) one.disabled = n === 0;
    if (this.field.value.trim() === "") this.found.textContent = "";
    else if (n === 0) this.found.textContent = t("timeline.no_match");
    else if (this.at === null) this.found.textContent = plural("timeline.matches", n);
    else {
      const length_us = this.range.to_us - this.range.from_us;
      const span = spanText(this.spans, rows[this.at], length_us);
      this.found.textContent = t("timeline.match", { n: number(this.at + 1), of: number(n), span });
    }
  }
}
