// @ts-check
// Passes a trace from the Profile view to perfetto.html as a file in the origin private file system, which both pages
// can access although only one is isolated. The next trace replaces it.

const FOLDER = "traces";
const FILE = "perfetto.json";

/** Rejects if storage is not available. @param {string} trace */
export async function leaveTrace(trace) {
  const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
  const writable = await (await folder.getFileHandle(FILE, { create: true })).createWritable();
  await writable.write(trace);
  await writable.close();
}

/** The stored trace, or null. @returns {Promise<ArrayBuffer | null>} */
export async function takeTrace() {
  try {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER);
    return await (await (await folder.getFileHandle(FILE)).getFile()).arrayBuffer();
  } catch {
    return null;
  }
}
