// @ts-check
// The builds of the engine in this package, and ids by which files of different versions are recognised. The package's
// own copy is written with the package (xtask/src/package.rs).

/** An id of each build's files, by its folder. @type {Record<string, string>} */
export const BUILT = {};
/** Differs as soon as any script of the package does. */
export const SCRIPTS_ID = "";
