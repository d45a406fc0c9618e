// @ts-check
// The id of a deployed site's build, which `cargo xtask dist` writes into index.html; undefined during development.

/** @type {string | undefined} */
export const BUILD = document.documentElement.dataset.build;
