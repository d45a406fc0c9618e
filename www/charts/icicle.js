// @ts-check
// Icicle chart of the time inside the model: model → block → module, each child below its parent. Time order is the
// order of execution from left to right; left-heavy puts the longest first. Click or Enter zooms.

import { msText, number, t } from "../words.js";
import { dataTable } from "./data_table.js";
import { hasBlockTimes } from "./parts.js";
import { box, linear, svg, widthOf } from "./svg.js";

/** @import { PhaseSummary } from "../engine/zamba2.d.ts" */

/**
 * @typedef {PhaseSummary["tree"][number] & { parent: number, children: number[], left_us: number, kind: string }} Node
 */
/** @typedef {"time" | "heavy"} IcicleOrder */
/**
 * @typedef {{ order: IcicleOrder, zoom: string,
 *   focus: string }} IcicleState  paths of the zoomed and of the focused node
 */

const ROW = 26;
/** Narrower rectangles can neither be seen nor clicked. */
const LEAST_WIDTH = 0.6;
const MOST_ROWS_IN_TABLE = 60;

/**
 * Parents, children and the left edge of every node in the chosen order.
 * @param {PhaseSummary["tree"]} tree
 * @param {IcicleOrder} order
 */
function layout(tree, order) {
  /** @type {Node[]} */
  const nodes = [];
  /** @type {number[]} */
  const open = [];
  tree.forEach((row, at) => {
    open.length = row.depth;
    const parent = row.depth ? open[row.depth - 1] : -1;
    open[row.depth] = at;
    nodes.push({
      ...row,
      parent,
      children: [],
      left_us: row.start_us,
      kind: row.depth < 2 ? (row.block === null ? "model" : "block") : row.part,
    });
    nodes[parent]?.children.push(at);
  });
  if (order === "heavy") {
    // Parents precede children, so one pass is enough.
    for (const node of nodes) {
      let left_us = node.left_us;
      for (const child of [...node.children].sort((a, b) => nodes[b].us - nodes[a].us)) {
        nodes[child].left_us = left_us;
        left_us += nodes[child].us;
      }
    }
  }
  return nodes;
}

/** @param {PhaseSummary} phase */
export function icicleFinding(phase) {
  const { tree } = phase;
  const blocks = tree.filter(({ block, depth }) => depth === 1 && block !== null);
  const root = tree[0];
  if (!root || blocks.length === 0) return t("icicle.none");
  if (!hasBlockTimes(phase)) return t("bars.finding.no_times");
  const inside_us = blocks.reduce((sum, { us }) => sum + us, 0);
  return t("icicle.finding", { percent: number((100 * inside_us) / root.us), modules: number(tree.length - 1) });
}

/**
 * @param {PhaseSummary} phase
 * @param {{ width: number, state: IcicleState, readout: (text: string) => void, onState: (state: IcicleState,
 *   take: boolean) => void }} options
 * `onState` gets the next state and whether focus stays in the picture
 */
export function icicle(phase, { width, state, readout, onState }) {
  const nodes = layout(phase.tree, state.order);
  const hybrids = new Set(phase.blocks.filter(({ kind }) => kind === "hybrid").map(({ block }) => block));
  const deepest = Math.max(0, ...nodes.map(({ depth }) => depth));
  const height = (deepest + 1) * ROW + 2;
  const view = { width, height, viewBox: `0 0 ${width} ${height}` };
  const root = svg("svg", { ...view, class: "plot icicle", role: "group", "aria-label": icicleFinding(phase) });
  const whole = Math.max(
    0,
    nodes.findIndex(({ path }) => path === state.zoom),
  );
  const shown = nodes[whole];
  if (!shown) return root;
  const x = linear([shown.left_us, shown.left_us + shown.us], [0, width]);
  /** @type {Map<number, SVGElement>} */
  const drawn = new Map();
  const focused = Math.max(
    whole,
    nodes.findIndex(({ path }) => path === state.focus),
  );

  nodes.forEach((node, at) => {
    const ancestor = isAbove(nodes, at, whole);
    if (!ancestor && !isAbove(nodes, whole, at)) return;
    const from = ancestor ? 0 : x(node.left_us);
    const box_width = ancestor ? width : (node.us / shown.us) * width;
    // Also false for NaN, if a coarse clock measured no time at all.
    if (!(box_width >= LEAST_WIDTH)) return;
    const percent = (100 * node.us) / nodes[0].us;
    const ms = msText(node.us);
    const description = t("icicle.node", {
      path: node.path,
      type: node.type,
      ms,
      percent: number(percent, 1),
      self: msText(node.self_us),
    });
    const group = nodeShape(node, from, box_width, description, hybrids.has(node.block ?? -1));
    group.addEventListener("pointerenter", () => readout(description));
    group.addEventListener("pointerleave", () => readout(""));
    group.addEventListener("focus", () => {
      readout(description);
      state.focus = node.path;
      for (const other of drawn.values()) other.setAttribute("tabindex", "-1");
      group.setAttribute("tabindex", "0");
    });
    group.addEventListener("click", () => zoomTo(at));
    group.addEventListener("keydown", (event) => onKey(/** @type {KeyboardEvent} */ (event), at));
    drawn.set(at, group);
    root.append(group);
  });
  (drawn.get(focused) ?? drawn.get(whole))?.setAttribute("tabindex", "0");

  /** Zooming into the zoomed node zooms out by one level. @param {number} at */
  function zoomTo(at) {
    const to = at === whole && nodes[at].parent >= 0 ? nodes[at].parent : at;
    onState({ ...state, zoom: nodes[to].path, focus: nodes[to].path }, true);
  }

  /** @param {KeyboardEvent} event @param {number} at */
  function onKey(event, at) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return zoomTo(at);
    }
    if (event.key === "Escape" && whole > 0) {
      event.stopPropagation();
      return onState({ ...state, zoom: nodes[0].path, focus: nodes[at].path }, true);
    }
    const target = neighbours(nodes, at, (node) => drawn.has(node));
    if (!(event.key in target)) return;
    event.preventDefault();
    drawn.get(target[event.key] ?? at)?.focus();
  }
  return root;
}

/**
 * The box of a node with as much text as fits.
 * @param {Node} node @param {number} from @param {number} box_width @param {string} description
 * @param {boolean} is_hybrid
 */
function nodeShape(node, from, box_width, description, is_hybrid) {
  const is_block = node.kind === "block";
  const kind = is_block && is_hybrid ? "part-block hybrid-block" : `part-${node.kind}`;
  const group = svg("g", {
    class: `node ${kind}`,
    role: "button",
    tabindex: "-1",
    "aria-label": description,
    "data-path": node.path,
  });
  group.append(box(from + 0.5, node.depth * ROW + 1, box_width - 1, ROW - 2, "node-box"));
  // A block that is too narrow for its name shows its number.
  const names = [nameOf(node), ...(is_block ? [String(node.block)] : [])];
  const name = names.find((name, at) => widthOf(name) + (at === 0 ? 6 : 0) < box_width);
  if (!name) return group;
  const x = from + Math.min(5, (box_width - widthOf(name)) / 2);
  const text = svg("text", { x, y: node.depth * ROW + 17, class: "node-text" }, name);
  const ms = `${msText(node.us)} ${t("axis.ms")}`;
  if (widthOf(name) + widthOf(ms) + 20 < box_width) text.append(" ", svg("tspan", { dx: 4, class: "node-ms" }, ms));
  group.append(text);
  // The label begins with the visible text, because voice control matches that.
  group.setAttribute("aria-label", `${text.textContent}, ${description}`);
  return group;
}

/**
 * Targets of the arrow keys, Home and End.
 * @param {Node[]} nodes @param {number} at @param {(node: number) => boolean} isDrawn
 * @returns {Record<string, number | undefined>}
 */
function neighbours(nodes, at, isDrawn) {
  const fromLeft = (/** @type {number} */ a, /** @type {number} */ b) => nodes[a].left_us - nodes[b].left_us;
  const drawn = nodes.map((_, node) => node).filter(isDrawn);
  const siblings = drawn.filter((node) => nodes[node].depth === nodes[at].depth).sort(fromLeft);
  const below = nodes[at].children.filter(isDrawn).sort(fromLeft);
  const here = siblings.indexOf(at);
  return {
    ArrowRight: siblings[here + 1],
    ArrowLeft: siblings[here - 1],
    ArrowUp: nodes[at].parent,
    ArrowDown: below[0],
    Home: siblings[0],
    End: siblings[siblings.length - 1],
  };
}

/**
 * Whether `above` is `node` or one of its ancestors.
 * @param {Node[]} nodes
 * @param {number} above
 * @param {number} node
 */
function isAbove(nodes, above, node) {
  for (let at = node; at >= 0; at = nodes[at].parent) if (at === above) return true;
  return false;
}

/** @param {Node} node */
const nameOf = (node) => (node.kind === "block" ? t("cell.block", { n: node.block ?? "" }) : node.name);

/** @param {PhaseSummary} phase */
export function icicleTable({ tree }) {
  const rows = [...tree].sort((a, b) => b.us - a.us).slice(0, MOST_ROWS_IN_TABLE);
  return dataTable(
    [
      { key: "path", label: t("col.module"), words: true, value: (row) => row.path, text: (row) => row.path },
      { key: "type", label: t("col.type"), words: true, value: (row) => row.type, text: (row) => row.type },
      { key: "us", label: t("col.inclusive_ms"), value: (row) => row.us, text: (row) => msText(row.us) },
      { key: "self", label: t("col.self_ms"), value: (row) => row.self_us, text: (row) => msText(row.self_us) },
      {
        key: "percent",
        label: t("col.time_percent"),
        value: (row) => row.us,
        text: (row) => number((100 * row.us) / tree[0].us, 1),
      },
    ],
    rows,
    { label: t("icicle.title") },
  );
}
