// @ts-check
// The last runs that were measured on this device, in IndexedDB: a run has thousands of spans, too much for
// localStorage. Without IndexedDB, or without room, runs are lost when the page closes.

/** @import { Run } from "../engine/zamba2.d.ts" */

const DATABASE = "zamba2-runs";
const STORE = "runs";
export const STORED_RUNS = 5;

/** The oldest first. @returns {Promise<{ key: number, run: Run }[]>} */
export async function storedRuns() {
  const [keys, runs] = await inStore("readonly", (store) =>
    Promise.all([done(store.getAllKeys()), done(store.getAll())]),
  ).catch(() => [[], []]);
  return keys.map((key, i) => ({ key: Number(key), run: runs[i] })).filter(({ run }) => run?.schema === "zamba2-run/1");
}

/** Stores a run and drops the oldest one; returns its key, or null if it is not stored. @param {Run} run */
export function storeRun(run) {
  return inStore("readwrite", async (store) => {
    const key = Number(await done(store.add(run)));
    const keys = await done(store.getAllKeys());
    for (const old of keys.slice(0, -STORED_RUNS)) store.delete(old);
    return key;
  }).catch(() => null);
}

/** @param {number} key */
export const forgetRun = (key) => inStore("readwrite", (store) => done(store.delete(key))).catch(() => {});

/**
 * Runs `act` in a transaction and closes the database.
 * @template T @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => Promise<T>} act @returns {Promise<T>}
 */
async function inStore(mode, act) {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { autoIncrement: true });
  const database = await done(opening);
  try {
    const transaction = database.transaction(STORE, mode);
    const committed = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    // If both fail, the request's error is thrown.
    committed.catch(() => {});
    const result = await act(transaction.objectStore(STORE));
    await committed;
    return result;
  } finally {
    database.close();
  }
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
