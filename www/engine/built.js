// @ts-check
// The builds of the engine in this package, and ids by which files of different versions are detected. The package's
// own copy is written when the package is built (xtask/src/package.rs).

/** An id of each build's files, by its folder. @type {Record<string, string>} */
export const BUILT = {};
/** Differs if any script of the package differs. */
export const SCRIPTS_ID = "";
