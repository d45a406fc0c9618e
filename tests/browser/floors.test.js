// @ts-check
// The structure of www/: imports and sizes. Needs no browser.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const WWW = fileURLToPath(new URL("../../www/", import.meta.url));
const ROOT = fileURLToPath(new URL("../../", import.meta.url));
/** Folders with JavaScript besides www/. */
const OTHERS = ["tests", "tools", "npm", "examples"];

/**
 * Folders from top to bottom; those of one row do not import each other. `.` is the files outside of folders.
 */
const PAGE_FLOORS = [["playground", "loading", "profile", "inside", "compare"], ["blocks"], ["charts"], ["."]];
/** These import from every folder and are imported by none. */
const ENTRIES = ["main.js", "perfetto.js"];
/** The engine's module and its constants. */
const PACKAGE = ["../pkg/zamba2.js", "../pkg/limits.js"];
const MOST_LINES = 500;
const MOST_COLUMNS = 120;
const MOST_FUNCTION_LINES = 80;

/** Our own sources; `vendor/` and `node_modules/` have copies of others'. */
const js = (/** @type {string} */ name) => /\.(m?js|jsx|ts)$/.test(name) && !/vendor\/|node_modules\//.test(name);
/** @param {string} folder @returns {string[]} */
const filesIn = (folder) => readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(js).sort();
const files = filesIn(WWW);
const source = (/** @type {string} */ name) => readFileSync(join(WWW, name), "utf8");
const folderOf = (/** @type {string} */ name) => dirname(name).split("/")[0];

/** Imports from www/. Type imports, which are in comments, are not restricted. @param {string} name */
function imports(name) {
  const code = source(name).replaceAll(/\/\*[^]*?\*\//g, "");
  const found = [...code.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)];
  return found.map(([, path]) => relative(WWW, resolve(WWW, dirname(name), path)));
}

test("the engine imports nothing from the page", () => {
  for (const name of files.filter((name) => folderOf(name) === "engine")) {
    for (const target of imports(name)) assert.equal(folderOf(target), "engine", `${name} imports ${target}`);
  }
});

test("the page imports the engine from the package, and its own modules from floors below", () => {
  const floor = (/** @type {string} */ folder) => PAGE_FLOORS.findIndex((row) => row.includes(folder));
  for (const name of files.filter((name) => folderOf(name) !== "engine" && !ENTRIES.includes(name))) {
    const own = folderOf(name);
    assert.ok(floor(own) >= 0, `${own}/ is not assigned to a floor`);
    for (const target of imports(name)) {
      assert.ok(!ENTRIES.includes(target), `${name} imports ${target}`);
      const theirs = folderOf(target);
      if (theirs === own || PACKAGE.includes(target) || theirs === "words") continue;
      assert.ok(floor(theirs) > floor(own), `${name} imports ${target}`);
    }
  }
});

test("no file is longer than 500 lines and no line longer than 120 columns", () => {
  const others = OTHERS.flatMap((folder) => filesIn(join(ROOT, folder)).map((name) => join(ROOT, folder, name)));
  const all = [...files.map((name) => join(WWW, name)), ...others];
  for (const path of all) {
    const lines = readFileSync(path, "utf8").split("\n");
    const name = relative(join(WWW, ".."), path);
    if (path.startsWith(WWW)) assert.ok(lines.length <= MOST_LINES + 1, `${name} has ${lines.length - 1} lines`);
    const long = lines.findIndex((line) => [...line].length > MOST_COLUMNS);
    assert.equal(long, -1, `${name}:${long + 1} is longer than ${MOST_COLUMNS} columns`);
  }
});

test("no function of www/ is longer than 80 lines", () => {
  for (const name of files.filter((name) => name.endsWith(".js"))) {
    for (const [what, lines] of functions(source(name))) {
      assert.ok(lines <= MOST_FUNCTION_LINES, `${name}: \`${what}\` has ${lines} lines`);
    }
  }
});

test("no error of the page or the engine holds a sentence: it has the id of one, or the text of the system", () => {
  const own = files.filter((name) => !name.startsWith("engine/adapters/"));
  const found = own.flatMap((name) => {
    const literals = source(name).matchAll(/(?:new \w*Error\(|\bdetail: )(?:"([^"]*)"|`([^`]*)`)/g);
    const texts = [...literals].map(([, plain, template]) => (plain ?? template).replaceAll(/\$\{[^}]*\}/g, ""));
    return texts.filter((text) => /[a-z]+ [a-z]+/i.test(text)).map((text) => `${name}: ${text}`);
  });
  assert.deepEqual(found, []);
});

/**
 * Functions and methods with their lengths. The formatter aligns a body's closing brace with the line that opens it, so
 * indentation identifies it.
 * @param {string} text @returns {Generator<[string, number]>}
 */
function* functions(text) {
  const lines = text.split("\n");
  for (const [at, line] of lines.entries()) {
    const opening = /^( *)(?!(?:if|for|while|switch|catch|else|return|await)\b)(?=\S).*(?:\) |=> )\{$/.exec(line);
    if (!opening) continue;
    const closing = new RegExp(`^${opening[1]}\\}`);
    const length = lines.slice(at).findIndex((other) => closing.test(other)) + 1;
    yield [line.trim(), length];
  }
}
