// @ts-check
// Shared by maps of cells: labels of rows, and the cell under the pointer.

import { label } from "./svg.js";

/** Which rows have a label: each one, or every second, fifth or tenth. @param {number} row_height */
export function labelEvery(row_height) {
  return [1, 2, 5, 10].find((every) => every * row_height >= 13) ?? 20;
}

/**
 * The numbers of rows at the left edge.
 * @param {SVGElement} root @param {number} rows
 * @param {{ top: number, left: number, row_height: number }} place
 */
export function rowNumbers(root, rows, { top, left, row_height }) {
  const every = labelEvery(row_height);
  for (let row = 0; row < rows; row += every) {
    root.append(label(left - 6, top + (row + 0.5) * row_height + 4, String(row), { anchor: "end" }));
  }
}

/**
 * Calls `onCell` with the cell under the pointer, and with null outside of cells.
 * @param {SVGElement} root @param {{ top: number, left: number, cell: number, row_height: number }} place
 * @param {{ rows: number, columns: number, event: "pointermove" | "click" }} what
 * @param {(at: { row: number, column: number } | null) => void} onCell
 */
export function onCells(root, { top, left, cell, row_height }, { rows, columns, event }, onCell) {
  root.addEventListener(event, (happened) => {
    const { clientX, clientY } = /** @type {MouseEvent} */ (happened);
    const area = root.getBoundingClientRect();
    const column = Math.floor((clientX - area.left - left) / cell);
    const row = Math.floor((clientY - area.top - top) / row_height);
    const is_inside = row >= 0 && row < rows && column >= 0 && column < columns;
    onCell(is_inside ? { row, column } : null);
  });
  if (event === "pointermove") root.addEventListener("pointerleave", () => onCell(null));
}
