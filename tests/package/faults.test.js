// @ts-check
// What the package says when a page or a host is in its way: Content Security Policies, missing files, and files of two
// versions after a deployment.

import assert from "node:assert/strict";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { buildWithEsbuild, PLACE, plainPage, project } from "./consumers.js";
import { models, resultAt, served } from "./harness.js";
import { CORS, ISOLATION } from "./servers.js";

const bundled = await buildWithEsbuild(project("csp"));
const cdn = await served({ "/": PLACE }, CORS);

/** The least policy that the engine needs. @type {Record<string, string>} */
const POLICY = {
  "default-src": "'none'",
  "script-src": "'self' 'wasm-unsafe-eval'",
  "worker-src": "'self'",
  "connect-src": `'self' ${models.url}`,
};

/** The result under a policy, which workers get with their script. @param {Record<string, string>} directives */
async function under(directives, base = "/zamba2") {
  const policy = Object.entries({ ...POLICY, ...directives }).map((parts) => parts.join(" "));
  const { url } = await served({ "/": bundled }, { ...ISOLATION, "Content-Security-Policy": policy.join("; ") });
  return resultAt(`${url}/`, `&base=${base}`);
}

test("under the least policy it runs, with threads", async () => {
  const { threads, message } = await under({});
  assert.equal(threads, 2, message);
});

for (const [directive, lacking, source, base] of /** @type {[string, string, string, string?][]} */ ([
  ["script-src", "'self'", "'wasm-unsafe-eval'"],
  ["worker-src", "'none'", "'self'"],
  ["worker-src", "'self'", "blob:", cdn.url],
  ["connect-src", models.url, "'self'"],
  ["connect-src", "'self'", models.url],
])) {
  test(`a policy with ${directive} ${lacking.replace(models.url, "MODELS")} is named with what it lacks`, async () => {
    const { code, message, nextStep } = await under({ [directive]: lacking }, base);
    assert.equal(code, "policy", message);
    assert.ok(message?.endsWith(`${source} is missing in ${directive}`), message);
    assert.match(nextStep ?? "", /^Add /);
  });
}

const plain = plainPage("versions", "./zamba2/zamba2.js");
cpSync(PLACE, join(plain, "zamba2"), { recursive: true });

test("a worker's script without the header that an isolated page needs is named, with the header", async () => {
  const { url } = await served({ "/": plain }, (path) => (path === "/" ? ISOLATION : {}));
  const { code, message } = await resultAt(`${url}/`);
  assert.equal(code, "engine_missing", message);
  assert.match(message ?? "", /sent without Cross-Origin-Embedder-Policy/);
});

/** A copy of one of the package's files as another version has it. @param {string} file */
function ofOtherVersion(file) {
  const other = join(plain, `other-${file.replaceAll("/", "-")}`);
  const id = file.endsWith(".wasm") ? /(?<=zamba2_build)[0-9a-f]{16}/ : /(?<=")[0-9a-f]{16}(?=")/g;
  // latin1 keeps the bytes of a module.
  writeFileSync(other, readFileSync(join(PLACE, file), "latin1").replace(id, "0123456789abcdef"), "latin1");
  return other;
}

for (const file of ["zamba2_worker.js", "relaxed-simd/zamba2_wasm.js", "relaxed-simd/zamba2_wasm_bg.wasm"]) {
  test(`${file} of another version is noticed, and the error says to reload the page`, async () => {
    const { url } = await served({ "/": plain, [`/zamba2/${file}`]: ofOtherVersion(file) });
    const { code, message, nextStep } = await resultAt(`${url}/`);
    assert.equal(code, "outdated", message);
    assert.match(nextStep ?? "", /^Reload the page/);
  });

  test(`${file} that is gone is named, and the error says to reload the page`, async () => {
    const { url } = await served({ "/": plain, [`/zamba2/${file}`]: join(plain, "nothing") });
    const { code, message, nextStep } = await resultAt(`${url}/`);
    assert.equal(code, "engine_missing", message);
    assert.match(nextStep ?? "", /^Reload the page/);
  });
}
