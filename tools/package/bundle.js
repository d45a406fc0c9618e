// @ts-check
// How scripts are bundled, for the npm package and for the site: one file per entry, minified, without a source map.

import { build } from "esbuild";

/** @import { BuildOptions } from "esbuild" */

/** The oldest browsers that have WebAssembly SIMD and module workers. */
const TARGET = ["chrome103", "edge103", "firefox114", "safari16.4"];

/** @param {BuildOptions} options */
export async function bundle(options) {
  const { metafile } = await build({
    bundle: true,
    format: "esm",
    target: TARGET,
    minify: true,
    // Licences are files of the package.
    legalComments: "none",
    charset: "utf8",
    logLevel: "warning",
    metafile: true,
    ...options,
  });
  return metafile;
}
