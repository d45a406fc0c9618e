// @ts-check
// Projects that use the packed tarball, each made from project/ in every run and built as its bundler does without any
// configuration. They share one node_modules, which is kept between runs.

import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const HERE = fileURLToPath(new URL(".", import.meta.url));
export const ROOT = fileURLToPath(new URL("../../", import.meta.url));
/** Where `cargo xtask package` leaves the tarball. */
const PACKED = join(ROOT, "target/package");
export const WORK = join(ROOT, "target/consumers");
/** The package's folder in the projects' node_modules. */
export const PLACE = join(WORK, "node_modules/zamba2-web");

const npm = (/** @type {string[]} */ ...words) =>
  execFileSync(process.platform === "win32" ? "npm.cmd" : "npm", words, { cwd: WORK, encoding: "utf8" });

/** Installs the tarball and, if their list has changed, the bundlers. */
export function install() {
  mkdirSync(WORK, { recursive: true });
  const record = join(WORK, "node_modules/.package-lock.json");
  const is_fresh = existsSync(record) && statSync(record).mtimeMs >= statSync(join(HERE, "package-lock.json")).mtimeMs;
  if (!is_fresh) {
    for (const name of ["package.json", "package-lock.json", ".npmrc"])
      copyFileSync(join(HERE, name), join(WORK, name));
    npm("ci", "--ignore-scripts");
  }
  const tarballs = readdirSync(PACKED).filter((name) => name.endsWith(".tgz"));
  if (tarballs.length !== 1) throw new Error(`${PACKED} has ${tarballs.length} tarballs instead of one`);
  const tarball = join(PACKED, tarballs[0]);
  rmSync(PLACE, { recursive: true, force: true });
  mkdirSync(PLACE);
  // What npm does with a tarball, without looking for newer versions of everything else.
  execFileSync("tar", ["-xzf", tarball, "-C", PLACE, "--strip-components=1"]);
}

/** A bundler as the projects have it; they are not dependencies of the repository. @param {string} name */
export async function imported(name) {
  const path = createRequire(join(WORK, "package.json")).resolve(name);
  return import(pathToFileURL(path).href);
}

/** A fresh project. @param {string} name @param {string} [source] */
export function project(name, source = join(HERE, "project")) {
  const folder = join(WORK, name);
  rmSync(folder, { recursive: true, force: true });
  cpSync(source, folder, { recursive: true });
  return folder;
}

/** A project whose page maps the package's name to an address. @param {string} name @param {string} address */
export function plainPage(name, address) {
  const folder = project(name);
  const map = JSON.stringify({ imports: { "zamba2-web": address } });
  const html = readFileSync(join(folder, "index.html"), "utf8");
  writeFileSync(
    join(folder, "index.html"),
    html.replace("<script", `<script type="importmap">${map}</script>\n<script`),
  );
  return folder;
}

/** @param {string} folder */
export const vite = (folder) => ({
  root: folder,
  configFile: /** @type {const} */ (false),
  logLevel: /** @type {const} */ ("error"),
  cacheDir: join(folder, ".vite"),
});

/** @param {string} folder  of the project; gives the folder of the build */
export async function buildWithVite(folder) {
  const { build } = await imported("vite");
  await build({ ...vite(folder), base: "./" });
  return join(folder, "dist");
}

/** @param {string} folder */
export async function buildWithWebpack(folder) {
  const { default: webpack } = await imported("webpack");
  const output = join(folder, "dist");
  const compiler = webpack({
    mode: "production",
    context: folder,
    entry: "./main.js",
    output: { path: output, filename: "main.js" },
    performance: false,
  });
  await new Promise((resolve, reject) =>
    compiler.run((/** @type {Error | null} */ error, /** @type {any} */ stats) => {
      if (error || stats.hasErrors() || stats.hasWarnings()) reject(error ?? new Error(stats.toString()));
      else compiler.close(resolve);
    }),
  );
  copyFileSync(join(folder, "index.html"), join(output, "index.html"));
  return output;
}

/** With the package's folder copied into the build, for `base`. @param {string} folder*/
export async function buildWithEsbuild(folder) {
  const { build } = await imported("esbuild");
  const outdir = join(folder, "dist");
  await build({ absWorkingDir: folder, entryPoints: ["main.js"], bundle: true, format: "esm", minify: true, outdir });
  copyFileSync(join(folder, "index.html"), join(outdir, "index.html"));
  cpSync(PLACE, join(outdir, "zamba2"), { recursive: true });
  return outdir;
}

/** @param {string} folder*/
export async function buildWithRollup(folder) {
  const { rollup } = await imported("rollup");
  const { nodeResolve } = await imported("@rollup/plugin-node-resolve");
  const output = join(folder, "dist");
  const bundle = await rollup({ input: join(folder, "main.js"), plugins: [nodeResolve({ browser: true })] });
  await bundle.write({ dir: output, format: "es" });
  await bundle.close();
  copyFileSync(join(folder, "index.html"), join(output, "index.html"));
  cpSync(PLACE, join(output, "zamba2"), { recursive: true });
  return output;
}
