// @ts-check
// Saves a file through the browser's own download.

/** No event says when a download has read the blob; a URL that is revoked too early leaves an empty or broken file. */
const REVOKE_AFTER_MS = 60_000;

/** @param {string} name @param {string | Blob | Uint8Array<ArrayBuffer>} content @param {string} type */
export function saveFile(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), REVOKE_AFTER_MS);
}
