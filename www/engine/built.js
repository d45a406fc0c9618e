// @ts-check
// The builds of the engine in this package, by folder. xtask/src/package.rs writes the package's own copy, which lists
// the builds that have been compiled.

export const BUILT = ["threads-relaxed", "threads", "single-relaxed", "single"];
