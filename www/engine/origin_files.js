// @ts-check
// Files in the origin private file system (OPFS), without any knowledge of their contents.

/**
 * Exists in workers only, so the type checker's library for pages lacks it.
 * @typedef {object} SyncHandle
 * @property {(bytes: Uint8Array<ArrayBuffer>, options: { at: number }) => number} read
 * @property {(bytes: Uint8Array<ArrayBuffer>, options: { at: number }) => number} write
 * @property {(bytes: number) => void} truncate
 * @property {() => void} close
 */

const ROOT = "zamba2";

/** @type {Set<object>} */
const in_use = new Set();

/**
 * Calls a method of a handle and keeps a reference to the handle until it settles. Workaround: in Chromium 156 the
 * promise never settles if the handle is garbage collected meanwhile (seen while gigabytes were loading).
 * @template H, T @param {H & object} handle @param {(handle: H) => Promise<T>} ask @returns {Promise<T>}
 */
export async function ofHandle(handle, ask) {
  in_use.add(handle);
  try {
    return await ask(handle);
  } finally {
    in_use.delete(handle);
  }
}

/**
 * Opens a file for writing and creates it if necessary.
 * @param {FileSystemDirectoryHandle} folder @param {string} name @returns {Promise<SyncHandle>}
 */
export async function openFile(folder, name) {
  const file = await ofHandle(folder, () => folder.getFileHandle(name, { create: true }));
  return ofHandle(file, () => /** @type {any} */ (file).createSyncAccessHandle());
}

/** The folder of all stored models. @param {boolean} create */
export async function rootFolder(create) {
  const root = await navigator.storage.getDirectory();
  return ofHandle(root, () => root.getDirectoryHandle(ROOT, { create }));
}

/**
 * Null if there is no such file.
 * @param {FileSystemDirectoryHandle} folder @param {string} name @returns {Promise<Uint8Array<ArrayBuffer> | null>}
 */
export async function fileBytes(folder, name) {
  try {
    const handle = await ofHandle(folder, () => folder.getFileHandle(name));
    const file = await ofHandle(handle, () => handle.getFile());
    return new Uint8Array(await ofHandle(file, () => file.arrayBuffer()));
  } catch (error) {
    if (error instanceof DOMException && (error.name === "NotFoundError" || error.name === "NotReadableError"))
      return null;
    throw error;
  }
}

/**
 * A full disk or quota appears as an exception or, in some contexts, as a short count. Then the message is an id.
 * @param {SyncHandle} handle @param {Uint8Array<ArrayBuffer>} bytes @param {number} at
 */
export function writeWhole(handle, bytes, at) {
  const written = handle.write(bytes, { at });
  if (written !== bytes.byteLength) throw new Error("storage_full");
}
