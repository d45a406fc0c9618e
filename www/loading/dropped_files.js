// @ts-check
// Files dropped anywhere on the page. Their kind decides which view opens them, and unknown files are refused, so that
// no drop makes the browser leave the page.

import { PageError } from "../errors.js";

/** The first bytes of a state file, and the beginning of a run file. */
const STATE_MAGIC = "ZMB2SEQ1";
const RUN_SCHEMA = /^\s*\{\s*"schema"\s*:\s*"zamba2-run\//;
const BEGINNING_BYTES = 256;
/** Files that occur only in checkpoints. */
const OF_CHECKPOINT = /^config\.json$|^zamba2-pack\.json$|\.safetensors(\.index\.json)?$/;

/**
 * @typedef {object} DropHooks
 * @property {(files: File[], folder: string) => void} onCheckpoint  `folder`: the name of a dropped folder, or empty
 * @property {(files: File[]) => void} onRuns
 * @property {(file: File) => void} onState
 * @property {(thrown: unknown) => void} onRefused
 */

/** @param {DropHooks} hooks */
export function listenForDrops(hooks) {
  const mark = (/** @type {boolean} */ on) => document.body.classList.toggle("dropping", on);
  const has_files = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
  document.addEventListener("dragover", (event) => {
    if (!has_files(event)) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) mark(false);
  });
  document.addEventListener("drop", async (event) => {
    mark(false);
    if (!has_files(event) || !event.dataTransfer) return;
    event.preventDefault();
    const { files, folder } = await droppedFiles(event.dataTransfer);
    if (files.length > 0) await hand(files, folder, hooks);
  });
}

/** @param {File[]} files @param {string} folder @param {DropHooks} hooks */
async function hand(files, folder, hooks) {
  if (files.some(({ name }) => OF_CHECKPOINT.test(name))) return hooks.onCheckpoint(files, folder);
  const beginnings = await Promise.all(
    files.map((file) =>
      file
        .slice(0, BEGINNING_BYTES)
        .text()
        .catch(() => ""),
    ),
  );
  // Compare has the best messages for a .json file that is no run.
  const are_runs = files.every(({ name }, i) => name.endsWith(".json") || RUN_SCHEMA.test(beginnings[i]));
  if (are_runs) return hooks.onRuns(files);
  if (files.length === 1 && beginnings[0].startsWith(STATE_MAGIC)) return hooks.onState(files[0]);
  const name = folder || files[0].name;
  hooks.onRefused(new PageError("bad_option", "drop.unknown", "drop.unknown.next", { name }));
}

/**
 * The dropped files, and the files directly inside dropped folders; and a dropped folder's name.
 * @param {DataTransfer} transfer
 */
async function droppedFiles(transfer) {
  // The list is emptied when the event handler yields, so all entries are taken first.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  // Files dragged from another page have no entry.
  if (entries.length === 0) return { files: [...transfer.files], folder: "" };
  /** @type {File[]} */
  const files = [];
  for (const entry of entries) {
    if (entry.isFile) files.push(await fileOf(/** @type {FileSystemFileEntry} */ (entry)));
    else
      for (const inner of await entriesOf(/** @type {FileSystemDirectoryEntry} */ (entry))) {
        if (inner.isFile) files.push(await fileOf(/** @type {FileSystemFileEntry} */ (inner)));
      }
  }
  return { files, folder: entries.find(({ isDirectory }) => isDirectory)?.name ?? "" };
}

/** @param {FileSystemFileEntry} entry @returns {Promise<File>} */
const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

/** A directory reader returns at most 100 entries per call. @param {FileSystemDirectoryEntry} folder */
async function entriesOf(folder) {
  const reader = folder.createReader();
  /** @type {FileSystemEntry[]} */
  const all = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}
