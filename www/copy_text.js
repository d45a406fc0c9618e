// @ts-check
// Copies text to the clipboard, also where the Clipboard API is missing: browsers offer it to secure pages only.

import { t } from "./words.js";

/** @import { Key } from "./words.js" */

/** For how long a button says "Copied". */
const COPIED_MS = 2_000;

/**
 * Copies, and says so on the button for a while.
 * @param {HTMLElement} button @param {Key} label of the button @param {string} text
 */
export async function copyFrom(button, label, text) {
  await copyText(text);
  button.textContent = t("copied");
  setTimeout(() => (button.textContent = t(label)), COPIED_MS);
}

/** Rejects if the browser refuses. @param {string} text */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.className = "visually-hidden";
  field.value = text;
  document.body.append(field);
  field.select();
  const is_copied = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) focused.focus();
  if (!is_copied) throw new Error("the browser refused to copy");
}
