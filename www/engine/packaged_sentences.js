// @ts-check
// The English sentences of errors, by key. The package's own copy is written when the package is built
// (xtask/src/package.rs), from www/words/en.json.

/** @type {Record<string, string>} */
export const SENTENCES = {};
