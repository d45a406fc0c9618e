// @ts-check
// Makes the site as one folder for any static host: `node tools/site/make.js OUT PACKS [--base PATH] [--quick]`. PACKS
// has a folder of the packed embedded model for each format of weights. `cargo xtask dist` makes pkg/ and the packs and
// runs it. It deploys nothing.
//
// Everything but the page, the service worker, the manifest and the models lies in assets/ under names with a hash of
// the content, which hosts and browsers may keep for ever.

import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, extname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build as esbuild } from "esbuild";
import { BUNDLE } from "../package/bundle.js";
import { compressAll } from "./compress.js";

/** @import { Plugin } from "esbuild" */

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const ASSETS = "assets";
const MODELS = "models/rustdoc-5m";
/** What a script refers to as a file beside it. */
const REFERENCE = /new URL\("(\.\/[^"]+)", import\.meta\.url\)/g;

const { values: flags, positionals } = parseArgs({
  options: { base: { type: "string" }, quick: { type: "boolean", default: false } },
  allowPositionals: true,
});
const [out, packs] = positionals.map((path) => resolve(path));
rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, ASSETS), { recursive: true });

// ---- assets ----

/** New names, relative to the site, by source path. @type {Map<string, string>} */
const names = new Map();

/**
 * Writes an asset and gives its name, relative to assets/.
 * @param {string} source @param {string | Uint8Array} content
 */
function emit(source, content) {
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 10);
  // Builds of the engine have files of the same names in folders of their own.
  const folder = basename(dirname(source));
  const stem = basename(source, extname(source)).replace("zamba2_wasm_bg", folder).replace("zamba2_wasm", folder);
  const name = `${stem}-${hash}${extname(source)}`;
  writeFileSync(join(out, ASSETS, name), content);
  names.set(source, `${ASSETS}/${name}`);
  return name;
}

/** The name of the file at `path` as an asset. @param {string} path */
async function asset(path) {
  const known = names.get(path);
  if (known) return basename(known);
  if (path.endsWith(".json")) return emit(path, JSON.stringify(JSON.parse(readFileSync(path, "utf8"))));
  return emit(path, path.endsWith(".js") ? await script(path) : readFileSync(path));
}

/** Replaces references to files beside a script by the names of the assets. @type {Plugin} */
const references = {
  name: "references",
  setup(build) {
    build.onLoad({ filter: /\.js$/ }, async ({ path }) => {
      const text = readFileSync(path, "utf8");
      const found = [...text.matchAll(REFERENCE)].map(([, file]) => file);
      const replaced = new Map();
      for (const file of found) replaced.set(file, await asset(join(dirname(path), file)));
      const contents = text.replaceAll(REFERENCE, (_, file) => `new URL("./${replaced.get(file)}", import.meta.url)`);
      return { contents, loader: "js" };
    });
  },
};

/** A bundled script or style sheet. @param {string} path */
async function script(path) {
  const result = await esbuild({ ...BUNDLE, entryPoints: [path], write: false, outdir: out, plugins: [references] });
  return result.outputFiles[0].text;
}

// ---- pages ----

/**
 * A page whose scripts and style sheets are assets: each kind becomes one file in the place of its first element.
 * @param {string} path @param {string} to  relative to the site @param {string} main  the script that contains the
 * others @returns {Promise<{ html: string, entry: string }>} the page without its script, and where this is
 */
async function page(path, to, main) {
  const folder = dirname(join(ROOT, path));
  let html = readFileSync(join(ROOT, path), "utf8");
  const styles = [...html.matchAll(/<link rel="stylesheet" href="([^"]+)">\n/g)];
  const imports = styles.map(([, href]) => `@import ${JSON.stringify(join(folder, href))};`).join("\n");
  const result = await esbuild({
    ...BUNDLE,
    stdin: { contents: imports, loader: "css", resolveDir: ROOT },
    write: false,
  });
  const up = relative(dirname(to), ".") || ".";
  const style = `${up}/${ASSETS}/${emit(join(folder, `${basename(main, ".js")}.css`), result.outputFiles[0].text)}`;
  const entry = `${up}/${ASSETS}/${await asset(join(folder, main))}`;
  html = html.replace(styles[0][0], `<link rel="stylesheet" href="${style}">\n`);
  for (const [element] of styles.slice(1)) html = html.replace(element, "");
  html = html
    .replaceAll(/<link rel="modulepreload"[^>]*>\n/g, "")
    .replaceAll(/<script type="module"[^>]*><\/script>\n/g, "");
  return { html, entry };
}

/** The page's first script, as text: short enough to be in the page, and in syntax that old browsers parse. */
async function firstScript() {
  const entryPoints = [join(ROOT, "www/site_start.js")];
  const result = await esbuild({ ...BUNDLE, format: "iife", target: "es2015", entryPoints, write: false, outdir: out });
  return result.outputFiles[0].text.trim();
}

/** @param {string} to @param {string} text */
function put(to, text) {
  mkdirSync(dirname(join(out, to)), { recursive: true });
  writeFileSync(join(out, to), text);
}

/** @param {string} text @param {string} from @param {string} to */
function replaced(text, from, to) {
  if (!text.includes(from)) throw new Error(`${from} is not there to be replaced`);
  // A function: a script may have what replacements take for patterns.
  return text.replace(from, () => to);
}

let { html: index, entry } = await page("index.html", "index.html", "www/main.js");
// Before the style sheet, for which scripts after it wait.
const first = await firstScript();
index = replaced(index, '<link rel="stylesheet"', `<script>${first}</script>\n<link rel="stylesheet"`);
const first_hash = createHash("sha256").update(first).digest("base64");
index = replaced(index, "script-src 'self'", `script-src 'self' 'sha256-${first_hash}'`);
index = replaced(index, '<html lang="en"', `<html lang="en" data-entry="${entry}"`);

// Not isolated, so the service worker and hosts know it by its path.
const perfetto = await page("www/perfetto.html", "www/perfetto.html", "perfetto.js");
const perfetto_script = `<script type="module" src="${perfetto.entry}"></script>`;
put("www/perfetto.html", replaced(perfetto.html, "</head>", `${perfetto_script}\n</head>`));

index = replaced(index, "www/app.webmanifest", "app.webmanifest");
const icon = `${ASSETS}/${await asset(join(ROOT, "www/icon.svg"))}`;
const manifest = JSON.parse(readFileSync(join(ROOT, "www/app.webmanifest"), "utf8"));
for (const key of ["id", "start_url", "scope"]) manifest[key] = "./";
manifest.icons[0].src = icon;
const manifest_text = JSON.stringify(manifest);
put("app.webmanifest", manifest_text);

/** @param {string} name */
const isOfEngine = (name) => /\/(?:relaxed-simd|simd128|grammar)-[0-9a-f]{10}\.(?:js|wasm)$/.test(name);
const all = [...names.values()].sort();
const build = createHash("sha256")
  .update(all.join("\n"))
  .update(index + manifest_text)
  .digest("hex")
  .slice(0, 16);

// With an address of its own the page also works where its folder is addressed without the final slash.
if (flags.base) {
  const base = `/${flags.base.replaceAll(/^\/+|\/+$/g, "")}/`.replace("//", "/");
  index = replaced(index, '<meta charset="utf-8">\n', `<meta charset="utf-8">\n<base href="${base}">\n`);
  index = replaced(index, "base-uri 'none'", "base-uri 'self'");
}
put("index.html", replaced(index, '<html lang="en"', `<html lang="en" data-build="${build}"`));
put("build.json", `${JSON.stringify({ build })}\n`);

/** @type {Record<string, string[]>} */
const engine_files = {};
for (const name of all.filter(isOfEngine)) {
  const of_build = /\/(.*)-[0-9a-f]{10}\./.exec(name)?.[1] ?? "";
  (engine_files[of_build] ??= []).push(name);
}
const files = ["./", "app.webmanifest", ...all.filter((name) => !isOfEngine(name) && !name.includes("/perfetto-"))];
const site = JSON.stringify({ build, files, engine_files });
const worker = readFileSync(join(ROOT, "isolation.js"), "utf8");
put(
  "isolation.js",
  replaced(worker, 'const SITE = { build: "", files: [], engine_files: {} };', `const SITE = ${site};`),
);

// ---- models ----

for (const weights of readdirSync(packs)) {
  cpSync(join(packs, weights), join(out, MODELS, weights), { recursive: true });
}
cpSync(join(ROOT, "www/models/rustdoc-5m/README.md"), join(out, MODELS, "README.md"));
// Not packed: as f32 it would take twice the bytes of the checkpoint.
cpSync(join(ROOT, "www/models/rustdoc-5m"), join(out, MODELS, "f32"), { recursive: true });
// GitHub Pages would leave out folders that begin with an underscore, and take time to look.
put(".nojekyll", "");
for (const folder of [ROOT, join(ROOT, "www/playground/vendor")])
  for (const name of readdirSync(folder).filter((name) => name.startsWith("LICENSE")))
    cpSync(join(folder, name), join(out, name));

await compressAll(out, flags.quick);
const total = readdirSync(out, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
console.log(`${out}: build ${build}, ${total} bytes`);
