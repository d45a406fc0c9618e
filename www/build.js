// @ts-check
// The id of a deployed site's build, with which `cargo xtask dist` marks index.html; undefined during development.

/** @type {string | undefined} */
export const BUILD = document.documentElement.dataset.build;
