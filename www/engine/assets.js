// @ts-check
// The addresses of the engine's files. Bundlers recognise a file only by a literal `new URL("…", import.meta.url)`:
// they copy it and write its new name into the literal. So all addresses are here, and the workers get them by message.

import { BUILT } from "./built.js";
import { badOption, fact } from "./errors.js";

/** @typedef {{ bindings: string, module: string }} BuildFiles */
/** @typedef {{ worker: string, builds: Record<string, BuildFiles> }} EngineFiles */

/**
 * @param {string | URL | undefined} base  the folder of the package's files, if they are not beside this module
 * @returns {EngineFiles}
 */
export function engineFiles(base) {
  const page = globalThis.document?.baseURI ?? location.href;
  if (base === undefined) return absolute(ownFiles(), page);
  let folder;
  try {
    folder = new URL(base, page);
  } catch (cause) {
    throw badOption("base", fact("not_an_address", { value: String(base) }), { cause });
  }
  // Without a final slash, relative names would replace the folder's own.
  if (!folder.pathname.endsWith("/")) folder.pathname += "/";
  const at = (/** @type {string} */ path) => new URL(path, folder).href;
  const build = (/** @type {string} */ name) => ({
    bindings: at(`${name}/zamba2_wasm.js`),
    module: at(`${name}/zamba2_wasm_bg.wasm`),
  });
  const builds = Object.fromEntries(Object.keys(BUILT).map((name) => [name, build(name)]));
  return { worker: at("zamba2_worker.js"), builds };
}

/**
 * Next.js gives paths in the place of `import.meta.url`.
 * @param {EngineFiles} files @param {string} page @returns {EngineFiles}
 */
function absolute({ worker, builds }, page) {
  const at = (/** @type {string} */ path) => new URL(path, page).href;
  const build = (/** @type {BuildFiles} */ { bindings, module }) => ({ bindings: at(bindings), module: at(module) });
  const all = Object.entries(builds).map(([name, files]) => [name, build(files)]);
  return { worker: at(worker), builds: Object.fromEntries(all) };
}

/**
 * A function, not a constant: where a bundler leaves no `import.meta.url`, `base` still works.
 * @returns {EngineFiles}
 */
function ownFiles() {
  return {
    worker: new URL("./zamba2_worker.js", import.meta.url).href,
    builds: {
      "relaxed-simd": {
        bindings: new URL("./relaxed-simd/zamba2_wasm.js", import.meta.url).href,
        module: new URL("./relaxed-simd/zamba2_wasm_bg.wasm", import.meta.url).href,
      },
      simd128: {
        bindings: new URL("./simd128/zamba2_wasm.js", import.meta.url).href,
        module: new URL("./simd128/zamba2_wasm_bg.wasm", import.meta.url).href,
      },
      grammar: {
        bindings: new URL("./grammar/zamba2_wasm.js", import.meta.url).href,
        module: new URL("./grammar/zamba2_wasm_bg.wasm", import.meta.url).href,
      },
    },
  };
}
