// @ts-check
// Timeline of one recorded run: passes, blocks and modules as boxes over time. It draws a range of the time; spans
// narrower than a pixel are merged, so that the picture of any run has about as many boxes as it has pixels.

import { median } from "../statistics.js";
import { number, plural, significant, t, timeText } from "../words.js";
import { dataTable } from "./data_table.js";
import { label, line, linear, svg, ticks, widthOf } from "./svg.js";
import { visibleBoxes } from "./time_spans.js";

/** @import { Matches, Range, TimeSpans } from "./time_spans.js" */

const ROW = 26;
const AXIS = 22;
const PIXELS_PER_TICK = 120;
const MOST_ROWS_IN_TABLE = 60;
/** In µs, the times from which the units are used. */
const UNITS = /** @type {const} */ ([
  [1e6, "report.unit.s"],
  [1e3, "report.unit.ms"],
  [1, "report.unit.us"],
]);

/** The unit of points in time up to `latest_us`. @param {number} latest_us */
const unitOf = (latest_us) => UNITS.find(([least_us]) => latest_us >= least_us) ?? UNITS[2];

/**
 * A point in time, as precise as a range of `length_us` needs. Points that are shown together have the same unit.
 * @param {number} us @param {number} length_us @param {number} [latest_us]
 */
export function pointText(us, length_us, latest_us = us) {
  const [unit_us, unit] = unitOf(latest_us);
  const digits = Math.ceil(Math.log10(unit_us / Math.max(length_us, 1e-3)) - 1e-9) + 2;
  return `${number(us / unit_us, Math.min(7, Math.max(0, digits)))} ${t(unit)}`;
}

/** @param {number} pass */
const passText = (pass) => (pass === 0 ? t("phase.prefill") : t("timeline.step", { n: number(pass) }));

/** The path of a module, or the name of a pass. @param {TimeSpans} data @param {number} row */
const pathOf = ({ labels, label: of, pass }, row) => labels[of[row]].path || passText(pass[row]);

/** @param {TimeSpans} data @param {number} row @param {number} length_us of the range */
export function spanText(data, row, length_us) {
  const { start_us, end_us, pass, label: of } = data;
  return t(of[row] === 0 ? "timeline.pass" : "timeline.span", {
    path: pathOf(data, row),
    pass: passText(pass[row]),
    time: timeText(end_us[row] - start_us[row]),
    at: pointText(start_us[row], length_us),
  });
}

/** @param {TimeSpans} data */
export function timelineFinding({ lanes, start_us, end_us, pass, length_us, label: of }) {
  const passes = [...(lanes[0]?.rows ?? [])];
  const n_spans = of.length - passes.length;
  if (n_spans === 0) return t("timeline.none");
  const time = (/** @type {number} */ row) => end_us[row] - start_us[row];
  const steps = passes.filter((row) => pass[row] > 0);
  return t("timeline.finding", {
    spans: plural("timeline.spans", n_spans),
    time: timeText(length_us),
    prefill: timeText(passes.filter((row) => pass[row] === 0).reduce((sum, row) => sum + time(row), 0)),
    steps: number(steps.length),
    step: timeText(median(steps.map(time)) || 0),
  });
}

/**
 * @param {TimeSpans} data
 * @param {{ width: number, range: Range, matches: Matches, current: number | null,
 *   readout: (text: string) => void }} options  `current`: the row of the match that is visited
 */
export function timeline(data, { width, range, matches, current, readout }) {
  const { lanes, labels, label: of, pass } = data;
  const height = lanes.length * ROW + AXIS;
  const view = { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" };
  const is_searching = matches.rows.length > 0;
  const root = svg("svg", { ...view, class: is_searching ? "plot timeline searching" : "plot timeline" });
  root.setAttribute("aria-label", timelineFinding(data));
  const length_us = range.to_us - range.from_us;
  const x = linear([range.from_us, range.to_us], [0, width]);
  const pixel_us = length_us / width;
  const at = (/** @type {number} */ us) => Math.min(width, Math.max(0, x(us)));
  /** Boxes by class: one element per class is much faster than one per box. @type {Map<string, string[]>} */
  const shapes = new Map();
  /** @type {Node[]} */
  const names = [];
  lanes.forEach((lane, depth) => {
    const y = depth * ROW + 1;
    const add = (/** @type {string} */ kind, /** @type {number} */ from, /** @type {number} */ to) => {
      const wide = Math.max(1, to - from - (to - from > 3 ? 1 : 0));
      const shape = `M${from.toFixed(1)} ${y}h${wide.toFixed(1)}v${ROW - 2}h${(-wide).toFixed(1)}z`;
      const others = shapes.get(kind);
      if (others) others.push(shape);
      else shapes.set(kind, [shape]);
    };
    for (const box of visibleBoxes(data, lane, range, pixel_us)) {
      const [from, to] = [at(box.from_us), at(box.to_us)];
      const { kind, name } = labels[of[box.row]];
      add(box.n > 1 ? "merged" : `part-${kind}`, from, to);
      const text = kind === "pass" ? passText(pass[box.row]) : name;
      if (box.n === 1 && widthOf(text) + 8 < to - from)
        names.push(label(from + 4, y + 17, text, { kind: "span-text" }));
    }
    if (!is_searching) return;
    for (const box of visibleBoxes(data, lane, range, pixel_us, (row) => matches.is_found[row] === 1))
      add("match", at(box.from_us), at(box.to_us));
    if (current !== null && lane.rows.includes(current)) {
      const [from, to] = [at(data.start_us[current]), at(data.end_us[current])];
      if (to > 0 && from < width) add("current", from, to);
    }
  });
  for (const [kind, parts] of shapes) root.append(svg("path", { d: parts.join(""), class: `span ${kind}` }));
  root.append(...names, ...axis(range, width, lanes.length * ROW));
  root.addEventListener("pointermove", (event) => {
    const { clientX, clientY } = /** @type {PointerEvent} */ (event);
    const area = root.getBoundingClientRect();
    const lane = lanes[Math.floor((clientY - area.top) / ROW)];
    const us = range.from_us + (clientX - area.left) * pixel_us;
    readout(lane ? textAt(data, lane, us, pixel_us, length_us) : "");
  });
  root.addEventListener("pointerleave", () => readout(""));
  return root;
}

/**
 * The span or spans at a point of a lane.
 * @param {TimeSpans} data @param {TimeSpans["lanes"][number]} lane @param {number} us @param {number} pixel_us
 * @param {number} length_us of the range
 */
function textAt(data, lane, us, pixel_us, length_us) {
  const [box] = visibleBoxes(data, lane, { from_us: us - pixel_us / 2, to_us: us + pixel_us / 2 }, pixel_us);
  if (!box) return "";
  return box.n > 1 ? plural("timeline.merged", box.n) : spanText(data, box.row, length_us);
}

/**
 * The span at a point of the picture, if it is wide enough to be seen.
 * @param {TimeSpans} data @param {Range} range @param {{ x: number, y: number, width: number }} point
 */
export function spanAt(data, { from_us, to_us }, { x, y, width }) {
  const lane = data.lanes[Math.floor(y / ROW)];
  const pixel_us = (to_us - from_us) / width;
  const us = from_us + x * pixel_us;
  if (!lane) return null;
  const [box] = visibleBoxes(data, lane, { from_us: us, to_us: us + pixel_us / 8 }, pixel_us);
  return box?.n === 1 ? box.row : null;
}

/** @param {Range} range @param {number} width @param {number} y */
function axis({ from_us, to_us }, width, y) {
  const length_us = to_us - from_us;
  const step_us = ticks(length_us, Math.max(2, width / PIXELS_PER_TICK))[1] ?? length_us;
  const x = linear([from_us, to_us], [0, width]);
  const [unit_us, unit] = unitOf(to_us);
  const drawn = [line(0, y + 0.5, width, y + 0.5, "axis")];
  for (let n = Math.ceil(from_us / step_us); n * step_us <= to_us; n++) {
    const text = `${significant((n * step_us) / unit_us, 9)} ${t(unit)}`;
    const at = x(n * step_us);
    if (at + widthOf(text) > width) break;
    drawn.push(line(at, y, at, y + 5, "axis"), label(at + 3, y + 17, text));
  }
  return drawn;
}

/** The longest spans of the range. @param {TimeSpans} data @param {Range} range */
export function timelineTable(data, { from_us, to_us }) {
  const { start_us, end_us, lanes, pass } = data;
  const time = (/** @type {number} */ row) => end_us[row] - start_us[row];
  const rows = lanes
    .slice(1)
    .flatMap((lane) => [...lane.rows])
    .filter((row) => end_us[row] > from_us && start_us[row] < to_us)
    .sort((a, b) => time(b) - time(a))
    .slice(0, MOST_ROWS_IN_TABLE);
  const length_us = to_us - from_us;
  return dataTable(
    [
      {
        key: "path",
        label: t("col.module"),
        words: true,
        value: (row) => pathOf(data, row),
        text: (row) => pathOf(data, row),
      },
      {
        key: "pass",
        label: t("timeline.col.pass"),
        words: true,
        value: (row) => pass[row],
        text: (row) => passText(pass[row]),
      },
      {
        key: "start",
        label: t("timeline.col.start"),
        value: (row) => start_us[row],
        text: (row) => pointText(start_us[row], length_us, to_us),
      },
      { key: "time", label: t("timeline.col.time"), value: time, text: (row) => timeText(time(row)) },
    ],
    rows,
    { label: t("timeline.title") },
  );
}
