// @ts-check
// Tables with sortable columns and bars inside cells: the table alternative of charts, and the chart itself for
// rankings. Columns define how a row is read, formatted and compared.

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} key
 * @property {string} label
 * @property {(row: Row) => number | string | null} value  sort key; null sorts last
 * @property {(row: Row) => string | Node} text
 * @property {(row: Row) => number} [share]  length of the bar in the cell, 0 to 1
 * @property {string} [part]  colour class of the bar
 * @property {boolean} [words]  left-aligned text instead of numbers
 * @property {(row: Row) => string} [cell_class]  class of the cell
 */

/** @typedef {{ key: string, descending: boolean } | null} Order */

/**
 * A table whose first column names the row.
 * @template Row
 * @param {Column<Row>[]} columns @param {Row[]} rows
 * @param {{ label: string, order?: Order, onSort?: (order: Order) => void }} options
 */
export function dataTable(columns, rows, { label, order = null, onSort }) {
  const table = document.createElement("table");
  table.className = "data-table";
  table.setAttribute("aria-label", label);
  const head = table.createTHead().insertRow();
  for (const column of columns) {
    const cell = document.createElement("th");
    cell.scope = "col";
    if (column.words) cell.classList.add("words");
    const sorted = order?.key === column.key;
    if (onSort) {
      if (sorted) cell.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sorter";
      button.dataset.column = column.key;
      button.textContent = column.label;
      button.addEventListener("click", () => {
        // Numbers sort in descending order first, names in ascending order.
        onSort({ key: column.key, descending: sorted ? !order.descending : !column.words });
      });
      cell.append(button);
    } else cell.textContent = column.label;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of inOrder(columns, rows, order)) {
    const line = body.insertRow();
    columns.forEach((column, at) => line.append(cellOf(column, row, at === 0)));
  }
  return table;
}

/** @template Row @param {Column<Row>} column @param {Row} row @param {boolean} first */
function cellOf(column, row, first) {
  const cell = document.createElement(first ? "th" : "td");
  if (first) cell.setAttribute("scope", "row");
  if (column.words) cell.classList.add("words");
  const cell_class = column.cell_class?.(row);
  if (cell_class) cell.classList.add(cell_class);
  cell.append(column.text(row));
  if (column.share) {
    cell.classList.add("in-cell", `part-${column.part ?? "accent"}`);
    cell.style.setProperty("--share", `${(100 * Math.min(1, Math.max(0, column.share(row)))).toFixed(2)}%`);
  }
  return cell;
}

/** @template Row @param {Column<Row>[]} columns @param {Row[]} rows @param {Order} order */
function inOrder(columns, rows, order) {
  const column = columns.find(({ key }) => key === order?.key);
  if (!column || !order) return rows;
  const sign = order.descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1;
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    return sign * String(x).localeCompare(String(y), undefined, { numeric: true });
  });
}
