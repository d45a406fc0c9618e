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

/** Names of fields at the beginning of lines, in order. @param {string} body @param {RegExp} field */
const fields = (body, field) => [...body.matchAll(field)].map(([, name]) => name).sort();

/**
 * The names of a struct's fields in JSON; those of flattened structs are in the same file.
 * @param {string} file @param {string} name @returns {string[]}
 */
function jsonFields(file, name) {
  const text = readFileSync(`${ROOT}src/${file}`, "utf8").replaceAll(/struct (\w+)<'\w+>/g, "struct $1");
  const body = bodyOf(text, `struct ${name}`);
  const flattened = /#\[serde\(flatten\)\]\n +(?:pub )?\w+: (\w+),/g;
  const renamed = /#\[serde\(rename = "(\w+)"\)\]\n +(?:pub )?\w+:/g;
  const own = body.replaceAll(flattened, "").replaceAll(renamed, "$1:");
  const inner = [...body.matchAll(flattened)].flatMap(([, type]) => jsonFields(file, type));
  return [...fields(own, /^ {4}(?:pub )?(\w+): /gm), ...inner].sort();
}

/** Objects on the boundary by the file of their types, with the struct that each is made from, or read into. */
const OBJECTS = {
  "wasm_exports.d.ts": [
    ["NewEngineOptions", "api/mod.rs", "EngineOptions"],
    ["AdapterOptions", "api/mod.rs", "WebGpuOptions"],
    ["OpenedAdapter", "api/mod.rs", "AdapterInfo"],
    ["TestedDevice", "api/self_test.rs", "TestedDevice"],
    ["ChatInfo", "api/generate.rs", "ChatInfo"],
    ["Advance", "api/generate.rs", "AdvanceInfo"],
    ["KeptPrefix", "session/rewind.rs", "KeptPrefix"],
    ["RestOfUnit", "api/load.rs", "RestInfo"],
    ["Unit", "api/load.rs", "UnitInfo"],
    ["RunFacts", "api/profile.rs", "RunFacts"],
    ["EngineInspectOptions", "session/inspect.rs", "InspectOptions"],
    ["ByteRange", "loader/schedule.rs", "ByteRange"],
    ["Pack", "loader/packed.rs", "Manifest"],
    ["PackedFile", "loader/packed.rs", "PackedFile"],
    ["PackedPart", "loader/packed.rs", "PackedPart"],
  ],
  "zamba2.d.ts": [
    ["ModelInfo", "api/load.rs", "ModelInfo"],
    ["MemoryReport", "api/profile.rs", "MemoryInfo"],
  ],
  "inspect.d.ts": [
    ["InspectedParts", "session/inspect.rs", "Inspection"],
    ["Visit", "session/inspect.rs", "Visit"],
    ["Ablation", "session/ablate.rs", "Ablation"],
    ["AblationEffect", "session/ablate.rs", "AblationEffect"],
    ["Prediction", "session/ablate.rs", "Prediction"],
  ],
  "profile.d.ts": [["Ceilings", "ops/device.rs", "Ceilings"]],
  "report.d.ts": [
    ["Run", "report/run.rs", "Run"],
    ["RunModel", "report/run.rs", "ModelFacts"],
    ["RunShapes", "report/run.rs", "Shapes"],
    ["RunConditions", "report/run.rs", "Conditions"],
    ["RunTimer", "report/run.rs", "Timer"],
    ["RunCeilings", "ops/device.rs", "Ceilings"],
    ["RunMemory", "report/run.rs", "Memory"],
    ["ProfiledRun", "report/run.rs", "ProfiledRun"],
    ["UnprofiledRun", "report/run.rs", "UnprofiledRun"],
    ["Spans", "report/run.rs", "Spans"],
    ["Spread", "report/summary/spread.rs", "Spread"],
    ["Summary", "report/summary/figures.rs", "Summary"],
    ["General", "report/summary/figures.rs", "General"],
    ["MemoryAt", "report/summary/figures.rs", "MemoryAt"],
    ["PhaseSummary", "report/summary/figures.rs", "PhaseSummary"],
    ["FlopsByKind", "report/summary/figures.rs", "FlopsByKind"],
    ["BlockRow", "report/summary/figures.rs", "BlockRow"],
    ["TypeRow", "report/summary/figures.rs", "TypeRow"],
    ["ModuleRow", "report/summary/figures.rs", "ModuleRow"],
    ["TreeNode", "report/summary/figures.rs", "TreeNode"],
    ["Sentence", "report/sentence.rs", "Sentence"],
    ["ReferenceReport", "report/reference.rs", "ReferenceReport"],
    ["ReferenceBlock", "report/reference.rs", "ReferenceBlock"],
    ["ReferenceType", "report/reference.rs", "ReferenceType"],
    ["ReferenceModule", "report/reference.rs", "ReferenceModule"],
  ],
};

for (const [types, objects] of Object.entries(OBJECTS)) {
  for (const [own, source, theirs] of objects) {
    test(`\`${own}\` has the fields of the struct \`${theirs}\` of the engine`, () => {
      const declaration = bodyOf(readFileSync(`${ROOT}www/engine/${types}`, "utf8"), `export interface ${own}`);
      const names = jsonFields(source, theirs);
      assert.ok(names.length > 0);
      assert.deepEqual(fields(declaration, /^ {2}(\w+)\??:\s/gm), names);
    });
  }
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
