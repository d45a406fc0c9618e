// @ts-check
// Hands a file to the reader through the browser's own download. It knows nothing of what is in it.

/** Long enough for every browser to have taken the contents; they are freed after. */
const KEEP_MS = 60_000;

/** @param {string} name @param {string} type @param {string | Blob} contents */
export function saveFile(name, type, contents) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([contents], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEEP_MS);
}
