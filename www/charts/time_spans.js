// @ts-check
// The spans of one recorded run, arranged for a timeline: lanes for passes, blocks and nested modules; the part of a
// lane that is visible; search by path. It draws nothing.

/** @import { Part, PhaseSummary, Spans } from "../engine/report.d.ts" */

/**
 * Columns of equal length; the spans of a lane are in the order of their start.
 * @typedef {object} TimeSpans
 * @property {number} length_us  from the first start to the last end
 * @property {Float64Array} start_us  since the first start
 * @property {Float64Array} end_us
 * @property {Uint16Array} pass  0 for the prefill, n for the n-th decode step
 * @property {Int32Array} label  index into `labels`
 * @property {SpanLabel[]} labels
 * @property {Lane[]} lanes  passes, then spans by depth
 */
/** @typedef {{ rows: Int32Array, latest_us: Float64Array }} Lane  `latest_us`: the last end up to each row */
/**
 * @typedef {object} SpanLabel
 * @property {string} path  within the model; empty for a pass
 * @property {string} name  of the span alone
 * @property {number} parent  label, or -1
 * @property {SpanKind} kind
 */
/** @typedef {"pass" | "block" | "hybrid" | Part} SpanKind */
/** @typedef {{ from_us: number, to_us: number }} Range */
/** @typedef {{ rows: Int32Array, is_found: Uint8Array }} Matches  `is_found`: by row of the spans */
/** @typedef {{ from_us: number, to_us: number, row: number, n: number }} Box  `n` spans, of which `row` is the first */

/**
 * The part that each span's time belongs to, as in the summary, by the span's name: the path within its block, without
 * indices of adapter lists.
 * @param {PhaseSummary["tree"]} tree @param {string[]} names
 */
export function partsOf(tree, names) {
  const modules = tree.map(({ path, part }) => ({ path: path.replace(/_list\.\d+/, ""), part }));
  return names.map((name) => modules.find(({ path }) => path.endsWith(`.${name}`))?.part ?? "other");
}

/**
 * @param {Spans} spans @param {{ parts: Part[], blockOf: (name: string) => number, hybrids: Set<number> }} model
 * `parts`: by index of the name; `blockOf`: -1 if the span is no block
 * @returns {TimeSpans}
 */
export function timeSpans(spans, { parts, blockOf, hybrids }) {
  const n = spans.name.length;
  const zero_us = spans.start_us[0] ?? 0;
  const n_passes = spans.pass.reduce((most, pass) => Math.max(most, pass + 1), 0);
  /** @type {SpanLabel[]} */
  const labels = [{ path: "", name: "", parent: -1, kind: "pass" }];
  /** @type {Map<number, number>} */
  const known = new Map();
  const columns = {
    start_us: new Float64Array(n + n_passes),
    end_us: new Float64Array(n + n_passes),
    pass: new Uint16Array(n + n_passes),
    label: new Int32Array(n + n_passes),
  };
  const depth = new Uint8Array(n);
  /** @param {number} row */
  const labelOf = (row) => {
    const parent = spans.parent[row] < 0 ? -1 : columns.label[spans.parent[row]];
    const key = (parent + 1) * spans.names.length + spans.name[row];
    const found = known.get(key);
    if (found !== undefined) return found;
    const name = spans.names[spans.name[row]];
    const block = blockOf(name);
    const own = block < 0 ? parts[spans.name[row]] : hybrids.has(block) ? "hybrid" : "block";
    labels.push({ path: parent < 0 ? name : `${labels[parent].path}.${name}`, name, parent, kind: own });
    known.set(key, labels.length - 1);
    return labels.length - 1;
  };
  columns.start_us.fill(Infinity, n);
  for (let row = 0; row < n; row++) {
    columns.label[row] = labelOf(row);
    columns.start_us[row] = spans.start_us[row] - zero_us;
    columns.end_us[row] = columns.start_us[row] + spans.duration_us[row];
    columns.pass[row] = spans.pass[row];
    // Parents precede their children.
    depth[row] = spans.parent[row] < 0 ? 1 : depth[spans.parent[row]] + 1;
    const pass = n + spans.pass[row];
    columns.start_us[pass] = Math.min(columns.start_us[pass], columns.start_us[row]);
    columns.end_us[pass] = Math.max(columns.end_us[pass], columns.end_us[row]);
    columns.pass[pass] = spans.pass[row];
  }
  const deepest = depth.reduce((most, one) => Math.max(most, one), 0);
  const rows = Array.from({ length: deepest + 1 }, () => /** @type {number[]} */ ([]));
  for (let pass = n; pass < n + n_passes; pass++) if (columns.start_us[pass] < Infinity) rows[0].push(pass);
  depth.forEach((at, row) => rows[at].push(row));
  const lanes = rows.map((lane) => laneOf(Int32Array.from(lane), columns.end_us));
  return { length_us: Math.max(0, ...lanes.map(({ latest_us }) => latest_us.at(-1) ?? 0)), ...columns, labels, lanes };
}

/** @param {Int32Array} rows @param {Float64Array} end_us @returns {Lane} */
function laneOf(rows, end_us) {
  const latest_us = new Float64Array(rows.length);
  let latest = 0;
  rows.forEach((row, at) => (latest_us[at] = latest = Math.max(latest, end_us[row])));
  return { rows, latest_us };
}

/** The first index whose value is greater than `limit`. @param {Float64Array} sorted @param {number} limit */
function firstAbove(sorted, limit) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] > limit) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * The visible boxes of a lane. Neighbouring spans that are narrower than a pixel are merged.
 * @param {TimeSpans} data @param {Lane} lane @param {Range} range @param {number} pixel_us
 * @param {(row: number) => boolean} [isWanted] leaves spans out
 * @returns {Box[]}
 */
export function visibleBoxes({ start_us, end_us }, lane, { from_us, to_us }, pixel_us, isWanted = () => true) {
  /** @type {Box[]} */
  const boxes = [];
  /** The last box, if it is of narrow spans. @type {Box | null} */
  let narrow = null;
  for (let at = firstAbove(lane.latest_us, from_us); at < lane.rows.length; at++) {
    const row = lane.rows[at];
    if (start_us[row] >= to_us) break;
    if (!isWanted(row)) continue;
    const is_narrow = end_us[row] - start_us[row] < pixel_us;
    if (is_narrow && narrow && start_us[row] - narrow.to_us < pixel_us) {
      narrow.to_us = Math.max(narrow.to_us, end_us[row]);
      narrow.n += 1;
      continue;
    }
    const box = { from_us: start_us[row], to_us: end_us[row], row, n: 1 };
    boxes.push(box);
    narrow = is_narrow ? box : null;
  }
  return boxes;
}

/**
 * The spans whose module has `text` in its path, in the order of their start. Of nested modules that all match, only
 * the outermost counts.
 * @param {TimeSpans} data @param {string} text @returns {Matches}
 */
export function findSpans({ labels, label, lanes, start_us }, text) {
  const wanted = text.trim().toLowerCase();
  const has = (/** @type {SpanLabel | undefined} */ one) =>
    one !== undefined && one.path.toLowerCase().includes(wanted);
  const is_match = labels.map((one) => wanted !== "" && has(one) && !has(labels[one.parent]));
  const found = lanes.slice(1).flatMap(({ rows }) => [...rows.filter((row) => is_match[label[row]])]);
  const is_found = new Uint8Array(label.length);
  for (const row of found) is_found[row] = 1;
  return { rows: Int32Array.from(found.sort((a, b) => start_us[a] - start_us[b])), is_found };
}
