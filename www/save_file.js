// @ts-check
// Saves a file as a browser download.

/** There is no event for the end of a download, and revoking the URL too early leaves an empty or broken file. */
const REVOKE_AFTER_MS = 60_000;

/** @param {string} name @param {string | Blob | Uint8Array<ArrayBuffer>} content @param {string} type */
export function saveFile(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), REVOKE_AFTER_MS);
}
