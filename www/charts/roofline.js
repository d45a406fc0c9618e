// @ts-check
// Roofline chart: throughput of each part over its arithmetic intensity (FLOPs per byte), below the ceilings measured
// in the same run. Prefill points are circles, decode points are squares; both phases share axes and ceilings.

import { ABOVE_CEILING_PERCENT } from "../../pkg/limits.js";
import { number, significant, t } from "../words.js";
import { dataTable } from "./data_table.js";
import { box, decades, diamond, label, line, logarithmic, picture, svg, widthOf } from "./svg.js";

/** @import { Summary } from "../engine/zamba2.d.ts" */

/**
 * @typedef {object} Point
 * @property {string} name
 * @property {"prefill" | "decode"} phase
 * @property {string} part
 * @property {"whole" | "block" | "module"} group
 * @property {number} gflops
 * @property {number} intensity
 * @property {number} us
 * @property {boolean} above  above the roof by more than measurement noise
 */

const HEIGHT = 360;
const LEFT = 52;
const RIGHT = 14;
const TOP = 14;
const BOTTOM = 40;
/** Module types below this share of their phase are left out. */
const LEAST_SHARE = 0.002;

/** @param {Summary} summary @returns {Point[]} */
export function rooflinePoints(summary) {
  return /** @type {const} */ (["prefill", "decode"]).flatMap((name) => phasePoints(summary, name));
}

/** @param {Summary} summary @param {"prefill" | "decode"} name @returns {Point[]} */
function phasePoints(summary, name) {
  const phase = summary[name];
  const read_gb_per_s = summary.ceilings?.read_gb_per_s ?? 0;
  /** @type {Map<string, { part: string, group: Point["group"], flops: number, bytes: number, us: number }>} */
  const sums = new Map();
  /**
   * @param {string} key
   * @param {string} part
   * @param {Point["group"]} group
   * @param {{ flops: number, bytes: number, us: number }} add
   */
  const add = (key, part, group, { flops, bytes, us }) => {
    const sum = sums.get(key) ?? { part, group, flops: 0, bytes: 0, us: 0 };
    sums.set(key, { ...sum, flops: sum.flops + flops, bytes: sum.bytes + bytes, us: sum.us + us });
  };
  add(t("roof.whole"), "model", "whole", { flops: phase.flops, bytes: phase.bytes, us: phase.wall_us.median });
  for (const row of phase.blocks) {
    add(t(`kind.${row.kind}`), row.kind === "hybrid" ? "attention" : "mamba", "block", {
      flops: row.flops.total,
      bytes: row.bytes,
      us: row.us.median,
    });
  }
  for (const row of phase.modules) {
    // Leaves only: the work of a container is that of its leaves.
    if (row.flops > 0 && row.bytes > 0 && row.self_us > 0.9 * row.us) {
      add(`${row.path.replace(/^.*\.(\w+)\.(\w+)$/, "$1.$2")}`, row.part, "module", {
        flops: row.flops,
        bytes: row.bytes,
        us: row.us,
      });
    }
  }
  return [...sums]
    .filter(([, { us, bytes, flops }]) => bytes > 0 && flops > 0 && us > LEAST_SHARE * phase.wall_us.median)
    .map(([key, { part, group, flops, bytes, us }]) => {
      const gflops = flops / us / 1000;
      const intensity = flops / bytes;
      const roof = Math.min(phase.peak_gflops ?? Infinity, read_gb_per_s ? intensity * read_gb_per_s : Infinity);
      return {
        name: key,
        phase: name,
        part,
        group,
        gflops,
        intensity,
        us,
        above: 100 * gflops > ABOVE_CEILING_PERCENT * roof,
      };
    });
}

/** @param {Summary} summary */
export function rooflineFinding(summary) {
  if (!summary.ceilings) return t("roof.none");
  const findings = /** @type {const} */ (["prefill", "decode"]).map((name) => {
    const { verdict, percent_of_ceiling } = summary[name];
    const percent = number(percent_of_ceiling ?? NaN);
    return t("roof.finding.phase", { phase: t(`phase.${name}`), verdict: t(`report.verdict.${verdict}`), percent });
  });
  const verdicts = t("roof.finding", { prefill: findings[0], decode: findings[1] });
  const above = rooflinePoints(summary).filter((point) => point.above);
  if (above.length === 0) return verdicts;
  const names = above.slice(0, 3).map(({ name }) => name);
  return `${verdicts} ${t("roof.above", { names: names.join(", ") })}`;
}

/**
 * Grid lines with tick labels and axis titles.
 * @param {number} width
 * @param {[number, number]} x_range
 * @param {[number, number]} y_range
 * @param {(value: number) => number} x
 * @param {(value: number) => number} y
 */
function axes(width, x_range, y_range, x, y) {
  const drawn = [];
  for (const value of decades(...x_range)) {
    drawn.push(
      line(x(value), TOP, x(value), HEIGHT - BOTTOM, "grid"),
      label(x(value), HEIGHT - BOTTOM + 16, significant(value), { anchor: "middle" }),
    );
  }
  for (const value of decades(...y_range)) {
    drawn.push(
      line(LEFT, y(value), width - RIGHT, y(value), "grid"),
      label(LEFT - 6, y(value) + 4, significant(value), { anchor: "end" }),
    );
  }
  drawn.push(
    label((LEFT + width - RIGHT) / 2, HEIGHT - 6, t("roof.axis.x"), { anchor: "middle" }),
    label(LEFT + 4, TOP + 6, t("roof.axis.y")),
  );
  return drawn;
}

/** The rate alone where the words do not fit. @param {number} peak @param {number} room */
function peakText(peak, room) {
  const text = t("roof.peak", { value: significant(peak) });
  return widthOf(text) <= room ? text : `${significant(peak)} GFLOP/s`;
}

/** @param {number} read @param {number} room */
function readText(read, room) {
  const text = t("roof.read", { value: significant(read) });
  return widthOf(text) <= room ? text : `${significant(read)} ${t("unit.gb_per_s")}`;
}

/**
 * The slope of the bandwidth and the flat peak, with their rates.
 * @param {{ peak: number, read: number }} rates
 * @param {number} least_x
 * @param {number} least_y
 * @param {number} width
 * @param {(value: number) => number} x
 * @param {(value: number) => number} y
 */
function ceiling({ peak, read }, least_x, least_y, width, x, y) {
  const ridge = peak / read;
  const from = Math.max(least_x, least_y / read);
  const slope = Math.atan2(y(10) - y(1), x(10) - x(1));
  const start = from * 1.15;
  const [text_x, text_y] = [x(start) + 9 * Math.sin(slope), y(start * read) - 9 * Math.cos(slope)];
  return [
    svg("path", {
      d: `M${x(from)} ${y(from * read)}L${x(ridge)} ${y(peak)}L${width - RIGHT} ${y(peak)}`,
      class: "roof",
    }),
    label(width - RIGHT - 2, y(peak) - 7, peakText(peak, width - RIGHT - x(ridge)), {
      anchor: "end",
      kind: "roof-text",
    }),
    label(text_x, text_y, readText(read, Math.hypot(x(ridge) - text_x, y(peak) - text_y)), {
      kind: "roof-text",
      rotate: (slope * 180) / Math.PI,
    }),
  ];
}

/** @param {Summary} summary @param {{ width: number, readout: (text: string) => void }} options */
export function roofline(summary, { width, readout }) {
  const root = picture(width, HEIGHT, rooflineFinding(summary));
  const points = rooflinePoints(summary);
  const { ceilings } = summary;
  const peak = summary.prefill.peak_gflops;
  const read = ceilings?.read_gb_per_s ?? null;
  const least_x = Math.min(0.5, ...points.map(({ intensity }) => intensity)) / 6;
  const most_x = Math.max(100, peak && read ? (peak / read) * 4 : 1, ...points.map(({ intensity }) => intensity)) * 1.6;
  const most_y = Math.max(peak ?? 1, ...points.map(({ gflops }) => gflops)) * 2;
  const least_y = Math.min(...points.map(({ gflops }) => gflops), most_y / 100) / 2;
  const x = logarithmic([least_x, most_x], [LEFT, width - RIGHT]);
  const y = logarithmic([least_y, most_y], [HEIGHT - BOTTOM, TOP]);

  root.append(...axes(width, [least_x, most_x], [least_y, most_y], x, y));

  if (peak && read) root.append(...ceiling({ peak, read }, least_x, least_y, width, x, y));
  const order = { module: 0, block: 1, whole: 2 };
  for (const point of [...points].sort((a, b) => order[a.group] - order[b.group])) {
    const [px, py] = [x(point.intensity), y(point.gflops)];
    const radius = point.group === "whole" ? 8 : point.group === "block" ? 6.5 : 4;
    const kind = `point ${point.group} part-${point.part}`;
    const shape =
      point.phase === "decode"
        ? box(px - radius * 0.9, py - radius * 0.9, radius * 1.8, radius * 1.8, kind)
        : svg("circle", { cx: px, cy: py, r: radius, class: kind });
    if (point.above) root.append(diamond(px, py, radius + 6, "point-above"));
    shape.addEventListener("pointerenter", () =>
      readout(
        t("roof.point", {
          name: point.name,
          phase: t(`phase.${point.phase}`),
          gflops: significant(point.gflops),
          intensity: significant(point.intensity),
        }),
      ),
    );
    shape.addEventListener("pointerleave", () => readout(""));
    root.append(shape);
  }
  const named = points.filter(({ group }) => group !== "module").sort((a, b) => order[b.group] - order[a.group]);
  const at = (/** @type {Point} */ point) => ({ x: x(point.intensity), y: y(point.gflops) });
  /**
   * What a label must not cover. Labels without a free place are left out; readout and table name every point.
   * @type {Area[]}
   */
  const occupied = named.map(at).map((middle) => areaAround(middle, 8));
  if (peak && read) {
    const text = widthOf(peakText(peak, width - RIGHT - x(peak / read)));
    occupied.push({ left: width - RIGHT - 2 - text, top: y(peak) - 20, right: width - RIGHT, bottom: y(peak) + 2 });
    occupied.push(...areasAlong({ x: x(least_x), y: y(least_x * read) }, { x: x(peak / read), y: y(peak) }));
  }
  for (const point of named) {
    const text = point.group === "whole" ? t(`phase.${point.phase}`) : point.name;
    const area = freeArea(at(point), widthOf(text), width, occupied);
    if (!area) continue;
    occupied.push(area);
    root.append(label(area.left, area.bottom - DESCENT, text, { kind: "point-text" }));
  }
  return root;
}

/** @typedef {{ left: number, top: number, right: number, bottom: number }} Area */

const TEXT_HEIGHT = 14;
const DESCENT = 3;
/** The text along the slope is above the line, so more of the area is there. */
const ABOVE_SLOPE = 22;

/** @param {{ x: number, y: number }} middle @param {number} radius @returns {Area} */
const areaAround = ({ x, y }, radius) => ({ left: x - radius, top: y - radius, right: x + radius, bottom: y + radius });

/** Areas that cover a slope with the text above it. @param {{ x: number, y: number }} from @param {typeof from} to */
function areasAlong(from, to) {
  const n_steps = Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / 8);
  return Array.from({ length: n_steps + 1 }, (_, step) => {
    const x = from.x + ((to.x - from.x) * step) / n_steps;
    const y = from.y + ((to.y - from.y) * step) / n_steps;
    return { left: x - 6, top: y - ABOVE_SLOPE, right: x + 2, bottom: y + 2 };
  });
}

/**
 * A free area for a label beside a point, or null.
 * @param {{ x: number, y: number }} point @param {number} label_width @param {number} width @param {Area[]} occupied
 */
function freeArea({ x, y }, label_width, width, occupied) {
  const middle = TEXT_HEIGHT / 2;
  const tries = [
    [x + 11, y - middle],
    [x - 11 - label_width, y - middle],
    [x - label_width / 2, y + 10],
    [x - label_width / 2, y - 10 - TEXT_HEIGHT],
    [x + 9, y + 9],
    [x - 9 - label_width, y + 9],
    [x + 9, y - 9 - TEXT_HEIGHT],
    [x + 9, y + 9 + TEXT_HEIGHT],
  ];
  for (const [left, top] of tries) {
    const area = { left, top, right: left + label_width, bottom: top + TEXT_HEIGHT };
    const is_inside = left > LEFT && area.right < width - RIGHT && top > TOP && area.bottom < HEIGHT - BOTTOM;
    const is_free = occupied.every(
      (other) =>
        area.right < other.left || area.left > other.right || area.bottom < other.top || area.top > other.bottom,
    );
    if (is_inside && is_free) return area;
  }
  return null;
}

/** @param {Summary} summary */
export function rooflineTable(summary) {
  return dataTable(
    [
      { key: "name", label: t("col.module"), words: true, value: (row) => row.name, text: (row) => row.name },
      {
        key: "phase",
        label: t("col.phase"),
        words: true,
        value: (row) => row.phase,
        text: (row) => t(`phase.${row.phase}`),
      },
      {
        key: "intensity",
        label: t("col.intensity"),
        value: (row) => row.intensity,
        text: (row) => significant(row.intensity),
      },
      { key: "gflops", label: "GFLOP/s", value: (row) => row.gflops, text: (row) => significant(row.gflops) },
      {
        key: "above",
        label: t("roof.col.roof"),
        words: true,
        value: (row) => Number(row.above),
        text: (row) => t(row.above ? "roof.col.above" : "roof.col.below"),
      },
    ],
    rooflinePoints(summary),
    { label: t("roof.title") },
  );
}
