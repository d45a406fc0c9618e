// @ts-check
// Validation of number fields: a message is shown beside the field until its value is valid.

import { element } from "./dom.js";
import { number, t, write } from "./words.js";

/** @import { Key } from "./words.js" */

/** @typedef {{ label: Key, low: number, high: number, is_integer: boolean }} Range */

/**
 * Whether the value of a field is in its range. If not, marks the field and adds the message to its label.
 * @param {HTMLInputElement} field @param {Range} range
 */
export function checkField(field, range) {
  const is_valid = isIn(field.valueAsNumber, range);
  field.setAttribute("aria-invalid", String(!is_valid));
  const shown = field.nextElementSibling;
  if (is_valid) {
    shown?.remove();
  } else if (!shown) {
    field.after(messageFor(range));
    const onInput = () => {
      if (!isIn(field.valueAsNumber, range)) return;
      field.removeEventListener("input", onInput);
      checkField(field, range);
    };
    field.addEventListener("input", onInput);
  }
  return is_valid;
}

/** @param {number} value @param {Range} range */
const isIn = (value, { low, high, is_integer }) =>
  value >= low && value <= high && (!is_integer || Number.isInteger(value));

/** @param {Range} range */
function messageFor({ label, low, high }) {
  const message = element("span", "field-message");
  message.setAttribute("role", "alert");
  write(message, "option.number", {
    name: () => t(label),
    low: () => number(low, low % 1 ? 2 : 0),
    high: () => number(high),
  });
  return message;
}
