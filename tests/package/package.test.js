// @ts-check
// The npm package as others use it: installed from its tarball, bundled or not, on one origin or two, in Chromium and
// in Node.js. `cargo xtask test --only package` makes the tarball and runs it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import {
  buildWithEsbuild,
  buildWithRollup,
  buildWithVite,
  buildWithWebpack,
  imported,
  PLACE,
  plainPage,
  project,
  ROOT,
  vite,
} from "./consumers.js";
import { closing, models, resultAt, served } from "./harness.js";
import { CORS, ISOLATION } from "./servers.js";

/** @import { Result } from "./harness.js" */

/** What the embedded model says; every project must get the same. */
let expected_text = "";

/** @param {Result} result @param {{ build: string, threads: number }} expected */
function assertRan(result, { build, threads }) {
  expected_text ||= result.text ?? "";
  const { bound = "", ...rest } = result;
  assert.deepEqual(rest, { text: expected_text, build, threads });
  assert.match(bound, /^ (good|bad)$/);
  assert.ok(expected_text.length > 10, expected_text);
}

const WITH_THREADS = { build: "relaxed-simd", threads: 2 };
const ON_ONE_THREAD = { build: "relaxed-simd", threads: 1 };

test("the tarball contains what the README says, and nothing of the repository besides", () => {
  const names = readdirSync(PLACE);
  assert.deepEqual(names.filter((name) => !name.endsWith(".d.ts")).sort(), [
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "adapters",
    "grammar",
    "package.json",
    "relaxed-simd",
    "simd128",
    "zamba2.js",
    "zamba2_worker.js",
  ]);
  const { name, version, license } = JSON.parse(readFileSync(join(PLACE, "package.json"), "utf8"));
  const cargo = readFileSync(join(ROOT, "Cargo.toml"), "utf8");
  assert.deepEqual([name, license], ["zamba2-web", "MIT OR Apache-2.0"]);
  assert.ok(cargo.includes(`version = "${version}"`) && cargo.includes(`license = "${license}"`));
  // The changelog has an entry for each version.
  assert.ok(readFileSync(join(PLACE, "CHANGELOG.md"), "utf8").includes(`\n## ${version}\n`));
});

test("on a plain page with an import map it runs with threads", async () => {
  const folder = plainPage("plain", "./zamba2/zamba2.js");
  cpSync(PLACE, join(folder, "zamba2"), { recursive: true });
  const { url } = await served({ "/": folder }, ISOLATION);
  assertRan(await resultAt(`${url}/`), WITH_THREADS);
});

test("where bundlers give paths instead of addresses, as Next.js does, it runs with threads", async () => {
  const folder = plainPage("paths", "./zamba2/zamba2.js");
  cpSync(PLACE, join(folder, "zamba2"), { recursive: true });
  const module = join(folder, "zamba2/zamba2.js");
  let n_files = 0;
  const text = readFileSync(module, "utf8").replace(/new URL\("\.\/([^"]+)",\s*import\.meta\.url\)/g, (_, file) => {
    n_files += 1;
    return `({ href: "/zamba2/${file}" })`;
  });
  // The worker, and bindings and module of three builds.
  assert.equal(n_files, 7);
  writeFileSync(module, text);
  const { url } = await served({ "/": folder }, ISOLATION);
  assertRan(await resultAt(`${url}/`), WITH_THREADS);
});

test("from another origin it runs, with threads if the page is isolated", async () => {
  const cdn = await served({ "/": PLACE }, CORS);
  const folder = plainPage("cdn", `${cdn.url}/zamba2.js`);
  const [isolated, plain] = [await served({ "/": folder }, ISOLATION), await served({ "/": folder })];
  assertRan(await resultAt(`${isolated.url}/`), WITH_THREADS);
  assertRan(await resultAt(`${plain.url}/`), ON_ONE_THREAD);
});

test("in Vite's development server it runs without any configuration", async () => {
  const { createServer } = await imported("vite");
  const server = await createServer({ ...vite(project("vite-dev")), server: { host: "127.0.0.1", port: 0 } });
  await server.listen();
  closing.push(() => server.close());
  const [url] = server.resolvedUrls.local;
  assertRan(await resultAt(url), ON_ONE_THREAD);
  assertRan(await resultAt(url, "&in=worker"), ON_ONE_THREAD);
});

test("a Vite build runs, on the page and in a worker, and in Vite's preview", async () => {
  const folder = project("vite");
  const output = await buildWithVite(folder);
  const { url } = await served({ "/": output }, ISOLATION);
  assertRan(await resultAt(`${url}/`), WITH_THREADS);
  assertRan(await resultAt(`${url}/`, "&in=worker"), WITH_THREADS);
  const { preview } = await imported("vite");
  const server = await preview({ ...vite(folder), preview: { host: "127.0.0.1", port: 0 } });
  closing.push(() => server.close());
  assertRan(await resultAt(server.resolvedUrls.local[0]), ON_ONE_THREAD);
});

test("a webpack build runs, on the page and in a worker", async () => {
  const { url } = await served({ "/": await buildWithWebpack(project("webpack")) }, ISOLATION);
  assertRan(await resultAt(`${url}/`), WITH_THREADS);
  assertRan(await resultAt(`${url}/`, "&in=worker"), WITH_THREADS);
});

for (const [name, build] of /** @type {const} */ ([
  ["esbuild", buildWithEsbuild],
  ["rollup", buildWithRollup],
])) {
  test(`an ${name} build runs with the option base`, async () => {
    const { url } = await served({ "/": await build(project(name)) }, ISOLATION);
    assertRan(await resultAt(`${url}/`, `&base=${url}/zamba2`), WITH_THREADS);
  });
}

test("no request asks for a single byte, and every file comes from where it should", () => {
  assert.ok(models.requests.length > 0);
  for (const { path, range, status } of models.requests) {
    assert.notEqual(range, "bytes=0-0", path);
    assert.ok([200, 206, 404].includes(status), `${path}: ${status}`);
  }
});

test("its types are found and correct, as bundlers and as Node.js look for them", () => {
  const folder = project("types");
  const program = `import { load, Zamba2Error, type LoadProgress, type Model, type Piece } from "zamba2-web";
    import { createLanguageModel } from "zamba2-web/ai-sdk";
    import { createFetch, type FetchOptions } from "zamba2-web/openai";
    import { createPromptApi, type LanguageModel } from "zamba2-web/prompt-api";
    import type { LanguageModelV4 } from "@ai-sdk/provider";
    const onProgress = ({ loaded_bytes }: LoadProgress): number => loaded_bytes;
    export async function text(): Promise<string> {
      const model: Model = await load({ source: "/models/", base: "/zamba2/", onProgress });
      let text = "";
      for await (const piece of model.generate("Rust", { max_tokens: 3 })) text += (piece satisfies Piece).text;
      return text;
    }
    export const languageModel = (model: Promise<Model>): LanguageModelV4 => createLanguageModel(model);
    export const ownFetch = (model: Model, options: FetchOptions): typeof fetch => createFetch(model, options);
    export const session = (): Promise<LanguageModel> =>
      createPromptApi((options) => load({ source: "/", ...options })).create();
    // @ts-expect-error the option does not exist
    export const misspelt = () => load({ sauce: "/models/" });
    export const code = (error: Zamba2Error): "policy" | null => (error.code === "policy" ? error.code : null);`;
  writeFileSync(join(folder, "types.ts"), program);
  const compiler = join(ROOT, "node_modules/typescript/bin/tsc");
  for (const [module, resolution] of [
    ["esnext", "bundler"],
    ["nodenext", "nodenext"],
  ]) {
    const kind = ["--module", module, "--moduleResolution", resolution, "--target", "es2022", "--types", ""];
    execFileSync(process.execPath, [compiler, "--noEmit", "--strict", ...kind, join(folder, "types.ts")], {
      cwd: folder,
      stdio: "pipe",
      encoding: "utf8",
    });
  }
});

test("in Node.js importing is harmless, and load rejects with a code of its own", () => {
  const program = `
    const zamba2 = await import("zamba2-web");
    const adapters = ["openai", "ai-sdk", "prompt-api"];
    await Promise.all(adapters.map((name) => import("zamba2-web/" + name)));
    const thrown = await zamba2.load({ source: "/models/" }).catch((error) => error);
    const report = await zamba2.summarise({}).catch((error) => error);
    console.log(JSON.stringify([thrown instanceof zamba2.Zamba2Error, thrown.code, report.code, thrown.message]));`;
  const node = ["--input-type=module", "--eval", program];
  const output = execFileSync(process.execPath, node, { cwd: join(PLACE, "../.."), encoding: "utf8" });
  assert.deepEqual(JSON.parse(output), [true, "browsers_only", "browsers_only", "the engine runs in browsers only"]);
});
