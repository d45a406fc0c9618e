// @ts-check
// How a trace gets from the Profile view to perfetto.html: as one file in this origin's private storage, which both can
// reach although one is isolated and the other is not. The next trace replaces it.

const FOLDER = "traces";
const FILE = "perfetto.json";

/** Rejects where the browser gives no storage. @param {string} trace */
export async function leaveTrace(trace) {
  const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
  const writable = await (await folder.getFileHandle(FILE, { create: true })).createWritable();
  await writable.write(trace);
  await writable.close();
}

/** The trace that was left, or null where there is none. @returns {Promise<ArrayBuffer | null>} */
export async function takeTrace() {
  try {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER);
    return await (await (await folder.getFileHandle(FILE)).getFile()).arrayBuffer();
  } catch {
    return null;
  }
}
