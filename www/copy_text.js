// @ts-check
// Copies text to the clipboard, also where the Clipboard API is missing: browsers offer it to secure pages only.

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
