// @ts-check
// Building blocks of charts: SVG elements, scales and ticks. Colours are classes of profile.css, so that themes and
// forced colours apply to charts.

const NAMESPACE = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag @param {Record<string, string | number>} [attributes] @param {(Node | string)[]} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, typeof value === "number" ? String(Math.round(value * 100) / 100) : value);
  }
  element.append(...children);
  return element;
}

/**
 * The root element of a picture, with the finding as its text alternative.
 * @param {number} width
 * @param {number} height
 * @param {string} finding
 */
export function picture(width, height, finding) {
  const root = /** @type {SVGSVGElement} */ (
    svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img" })
  );
  root.setAttribute("aria-label", finding);
  return root;
}

/**
 * @param {number} x @param {number} y @param {string} text
 * @param {{ anchor?: "start" | "middle" | "end", kind?: string, rotate?: number }} [options]
 */
export function label(x, y, text, { anchor = "start", kind = "axis-text", rotate = 0 } = {}) {
  /** @type {Record<string, string | number>} */
  const place = rotate
    ? { transform: `translate(${Math.round(x)} ${Math.round(y)}) rotate(${Math.round(rotate * 10) / 10})` }
    : { x, y };
  return svg("text", { ...place, "text-anchor": anchor, class: kind }, text);
}

/** @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 @param {string} kind */
export const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });

/** @param {number} x @param {number} y @param {number} width @param {number} height @param {string} kind */
export const box = (x, y, width, height, kind) =>
  svg("rect", { x, y, width: Math.max(0, width), height: Math.max(0, height), class: kind });

/** The marker of a hybrid block. @param {number} x @param {number} y @param {number} radius @param {string} kind */
export const diamond = (x, y, radius, kind) =>
  svg("path", { d: `M${x} ${y - radius}L${x + radius} ${y}L${x} ${y + radius}L${x - radius} ${y}Z`, class: kind });

/** @param {[number, number]} domain @param {[number, number]} range @returns {(value: number) => number} */
export function linear([from, to], [start, end]) {
  const slope = to === from ? 0 : (end - start) / (to - from);
  return (value) => start + (value - from) * slope;
}

/** @param {[number, number]} domain positive @param {[number, number]} range @returns {(value: number) => number} */
export function logarithmic([from, to], range) {
  const scale = linear([Math.log10(from), Math.log10(to)], range);
  return (value) => scale(Math.log10(value));
}

/** Round values from 0 up to `most`, about `count` of them. @param {number} most @param {number} count */
export function ticks(most, count) {
  if (!(most > 0)) return [0];
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5].find((factor) => factor * power >= rough) ?? 10);
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => i * step);
}

/** Powers of ten inside a range, ends included. @param {number} from @param {number} to */
export function decades(from, to) {
  const first = Math.ceil(Math.log10(from) - 1e-9);
  const last = Math.floor(Math.log10(to) + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => 10 ** (first + i));
}

/** Approximate width of text at 12 px, to decide whether it fits. @param {string} text */
export const widthOf = (text) => text.length * 7.4;
