// @ts-check
// Copies text to the clipboard. The Clipboard API exists in secure contexts only, so there is a fallback.

import { t } from "./words.js";

/** @import { Key } from "./words.js" */

/** How long a button shows "Copied". */
const COPIED_MS = 2_000;

/**
 * Copies, and shows this on the button for a while.
 * @param {HTMLElement} button @param {Key} label of the button @param {string} text
 */
export async function copyFrom(button, label, text) {
  await copyText(text);
  button.textContent = t("copied");
  setTimeout(() => (button.textContent = t(label)), COPIED_MS);
}

/** Rejects if the browser does not allow it. @param {string} text */
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
  if (!is_copied) throw new Error(t("copy.refused"));
}
