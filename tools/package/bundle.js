// @ts-check
// How scripts and style sheets are bundled, for the npm package and for the site: one file per entry, minified, without
// a source map.

/** @import { BuildOptions } from "esbuild" */

/** @satisfies {BuildOptions} */
export const BUNDLE = {
  bundle: true,
  format: "esm",
  // The oldest browsers that have WebAssembly SIMD and module workers.
  target: ["chrome103", "edge103", "firefox114", "safari16.4"],
  minify: true,
  // Licences are files of the package.
  legalComments: "none",
  charset: "utf8",
  logLevel: "warning",
};
