// @ts-check
// The types of the wasm boundary (www/engine/wasm_exports.d.ts) compared with the generated bindings, which exist after
// a build and type every plain object as `any`, and these objects with the structs behind them. Needs no browser.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/**
 * Functions of an interface, a class or a module: their parameter names, and whether they return a promise.
 * @param {string} text @param {RegExp} signature with groups for name, parameters and result
 */
function signatures(text, signature) {
  const found = [...text.replaceAll(/\/\*[^]*?\*\//g, "").matchAll(signature)];
  const names = (/** @type {string} */ list) => [...list.matchAll(/(\w+)\??: /g)].map(([, name]) => name);
  return Object.fromEntries(found.map(([, name, list, result]) => [name, [names(list), result.startsWith("Promise")]]));
}

/** @param {string} text @param {string} head */
function bodyOf(text, head) {
  const from = text.indexOf(`${head} {\n`);
  assert.ok(from >= 0, `${head} is missing`);
  return text.slice(from, text.indexOf("\n}", from));
}

const METHOD = /^ +(\w+)\(([^()]*)\): ([^;]*);/gm;
const FUNCTION = /^export function (\w+)\(([^()]*)\): ([^;]*);/gm;

const folders = readdirSync(`${ROOT}pkg`, { withFileTypes: true }).filter((entry) => entry.isDirectory());
const builds = folders.filter(({ name }) => name !== "grammar");
const declared = readFileSync(`${ROOT}www/engine/wasm_exports.d.ts`, "utf8");

for (const { name } of builds) {
  const bindings = readFileSync(`${ROOT}pkg/${name}/zamba2_wasm.d.ts`, "utf8");

  test(`the engine of the build \`${name}\` has the methods that the worker calls, with the same parameters`, () => {
    const theirs = signatures(bodyOf(bindings, "export class Engine"), METHOD);
    assert.deepEqual(signatures(bodyOf(declared, "export interface WasmEngine"), METHOD), theirs);
  });

  test(`the build \`${name}\` exports the functions that do not need an engine`, () => {
    const theirs = signatures(bindings, FUNCTION);
    // Used by thread.js only.
    for (const thread_call of ["serve_as_thread", "note_thread_trap", "initSync"]) delete theirs[thread_call];
    const reports = signatures(bodyOf(declared, "export interface ReportFunctions"), METHOD);
    const { default: _, ...others } = signatures(
      bodyOf(declared, "export interface Bindings extends ReportFunctions"),
      METHOD,
    );
    assert.deepEqual({ ...reports, ...others }, theirs);
  });
}

if (folders.length > builds.length) {
  test("the module of grammars has the methods that the worker calls, with the same parameters", () => {
    const bindings = readFileSync(`${ROOT}pkg/grammar/zamba2_wasm.d.ts`, "utf8");
    for (const [own, theirs] of [
      ["GrammarVocabulary", "Vocabulary"],
      ["GrammarConstraint", "Constraint"],
    ]) {
      const { free: _, ...methods } = signatures(bodyOf(bindings, `export class ${theirs}`), METHOD);
      assert.deepEqual(signatures(bodyOf(declared, `export interface ${own}`), METHOD), methods);
    }
  });
}

/** Names of fields at the beginning of lines, in order. @param {string} body */
const fields = (body) => [...body.matchAll(/^(?: {2}| {4})(?:pub )?(\w+)\??: /gm)].map(([, name]) => name).sort();

/** The file and the struct of the engine that an object on the boundary is made from, or read into. */
const OBJECTS = [
  ["wasm_exports.d.ts", "NewEngineOptions", "mod.rs", "EngineOptions"],
  ["wasm_exports.d.ts", "AdapterOptions", "mod.rs", "WebGpuOptions"],
  ["wasm_exports.d.ts", "OpenedAdapter", "mod.rs", "AdapterInfo"],
  ["wasm_exports.d.ts", "TestedDevice", "self_test.rs", "TestedDevice"],
  ["wasm_exports.d.ts", "Advance", "generate.rs", "AdvanceInfo"],
  ["wasm_exports.d.ts", "RestOfUnit", "load.rs", "RestInfo"],
  ["wasm_exports.d.ts", "Unit", "load.rs", "UnitInfo"],
  ["zamba2.d.ts", "ModelInfo", "load.rs", "ModelInfo"],
  ["zamba2.d.ts", "MemoryReport", "profile.rs", "MemoryInfo"],
];

for (const [types, own, source, theirs] of OBJECTS) {
  test(`\`${own}\` has the fields of the struct \`${theirs}\` of the engine`, () => {
    const declaration = bodyOf(readFileSync(`${ROOT}www/engine/${types}`, "utf8"), `export interface ${own}`);
    const structs = readFileSync(`${ROOT}src/api/${source}`, "utf8").replaceAll(/struct (\w+)<'\w+>/g, "struct $1");
    const names = fields(bodyOf(structs, `struct ${theirs}`));
    assert.ok(names.length > 0);
    assert.deepEqual(fields(declaration), names);
  });
}

test("no name is declared twice", () => {
  for (const [, body] of declared.matchAll(/^export interface [^{]*\{\n([^]*?)^\}/gm)) {
    const names = [...body.matchAll(/^ {2}(\w+)\??[(:]/gm)].map(([, name]) => name);
    assert.deepEqual(
      names.filter((name, i) => names.indexOf(name) !== i),
      [],
    );
  }
});

test("the package has builds", () => assert.ok(builds.length > 0));
