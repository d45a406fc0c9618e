// @ts-check
// The builds of the engine that this package has, by the folders they lie in. The package's own copy is written with
// the package (xtask/src/package.rs): while a developer's other builds are still being compiled, it lists those that
// are there.

export const BUILT = ["threads-relaxed", "threads", "single-relaxed", "single"];
