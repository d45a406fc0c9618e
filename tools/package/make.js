// @ts-check
// Makes the npm package `zamba2-web` from pkg/ and npm/, as `npm publish` takes it: `node tools/package/make.js OUT`.
// `cargo xtask package` makes pkg/ and runs it. It publishes nothing.
//
// The engine's two scripts are bundled: bundlers copy the worker's script as it is, so it must import nothing.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { BUNDLE } from "./bundle.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const PKG = join(ROOT, "pkg");
const OWN = join(ROOT, "npm");
const ADAPTERS = "adapters";

const [out = join(ROOT, "target/package")] = process.argv.slice(2).map((path) => resolve(path));
const folder = join(out, "zamba2-web");
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });

/** The version of the workspace. */
function version() {
  const found = /^version = "(.*)"$/m.exec(readFileSync(join(ROOT, "Cargo.toml"), "utf8"));
  if (!found) throw new Error("Cargo.toml has no version");
  return found[1];
}

const manifest = JSON.parse(readFileSync(join(OWN, "package.json"), "utf8"));

const builds = readdirSync(PKG, { withFileTypes: true }).filter((entry) => entry.isDirectory());
if (builds.length === 0) throw new Error("pkg/ has no build of the engine; run `cargo xtask build`");

await build({
  ...BUNDLE,
  entryPoints: ["zamba2.js", "zamba2_worker.js"].map((name) => join(PKG, name)),
  outdir: folder,
});
keepIgnoreComments(join(folder, "zamba2_worker.js"));
for (const { name } of builds) {
  await build({ ...BUNDLE, entryPoints: [join(PKG, name, "zamba2_wasm.js")], outdir: join(folder, name) });
  copyFileSync(join(PKG, name, "zamba2_wasm_bg.wasm"), join(folder, name, "zamba2_wasm_bg.wasm"));
}

/** The names of the adapters' entries, without extension. */
const adapters = Object.values(manifest.exports)
  .filter((entry) => entry.default?.startsWith(`./${ADAPTERS}/`))
  .map((entry) => basename(entry.default, ".js"));
const adapterFile = (/** @type {string} */ name) => join(ROOT, "www/engine", ADAPTERS, name);
await build({
  ...BUNDLE,
  entryPoints: adapters.map((name) => adapterFile(`${name}.js`)),
  outdir: join(folder, ADAPTERS),
  // All adapters of a model share its queue of runs, so the module with it must not be in the package twice.
  splitting: true,
  chunkNames: "shared-[hash]",
});
for (const name of adapters) copyFileSync(adapterFile(`${name}.d.ts`), join(folder, ADAPTERS, `${name}.d.ts`));

/**
 * Puts the comments back that tell bundlers and development servers to leave an import of a computed address alone:
 * minifying removes them. The worker's two imports are that of the bindings, in the engine's worker and in a thread.
 * @param {string} path
 */
function keepIgnoreComments(path) {
  let n = 0;
  const text = readFileSync(path, "utf8").replaceAll(/\bimport\((?=[\w$.]+\))/g, (found) => {
    n += 1;
    return `${found}/* webpackIgnore: true */ /* @vite-ignore */ `;
  });
  if (n !== 2) throw new Error(`${path} has ${n} imports of computed addresses instead of 2`);
  writeFileSync(path, text);
}

/** The declarations that `file` consists of. @param {string} file @param {Set<string>} [seen] */
function declarations(file, seen = new Set()) {
  if (seen.has(file)) return seen;
  seen.add(file);
  const text = readFileSync(join(PKG, file), "utf8");
  for (const [, name] of text.matchAll(/from "\.\/([\w.]+?)(?:\.d\.ts|\.js)"/g)) declarations(`${name}.d.ts`, seen);
  return seen;
}
for (const name of declarations("zamba2.d.ts")) copyFileSync(join(PKG, name), join(folder, name));

for (const name of readdirSync(PKG).filter((name) => name.startsWith("LICENSE"))) {
  copyFileSync(join(PKG, name), join(folder, name));
}
for (const name of ["README.md", "CHANGELOG.md"]) copyFileSync(join(OWN, name), join(folder, name));
const { name, ...rest } = manifest;
writeFileSync(join(folder, "package.json"), `${JSON.stringify({ name, version: version(), ...rest }, null, 2)}\n`);

// On Windows npm is a script of the shell.
const npm = process.platform === "win32" ? "npm.cmd" : "npm";
const packed = execFileSync(npm, ["pack", "--json", "--pack-destination", out], { cwd: folder, encoding: "utf8" });
const reply = JSON.parse(packed);
const [{ filename }] = Array.isArray(reply) ? reply : Object.values(reply);
const tarball = join(out, filename.replace(/^@/, "").replace("/", "-"));
console.log(`${tarball} (${statSync(tarball).size} bytes)`);
