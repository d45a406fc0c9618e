// @ts-check
// Paired benchmark of built packages: each package loads the same checkpoint in its own page, and the pages take turns
// in every round, so that changes in the machine's speed affect all packages.
//
//   node tools/bench/builds.js CHECKPOINT_FOLDER PKG_FOLDER PKG_FOLDER… [--weights q4] [--threads 2] [--rounds 7]
//                              [--prompt 35] [--decode 16]
//
// It prints medians as Markdown, and for every package but the first the median of its ratios to the first.

import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

/** @import { Page } from "playwright-core" */

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    weights: { type: "string", default: "q4" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "7" },
    prompt: { type: "string", default: "35" },
    decode: { type: "string", default: "16" },
  },
});
const [folder, ...packages] = positionals;
if (!folder || packages.length === 0)
  throw new Error("usage: node tools/bench/builds.js CHECKPOINT_FOLDER PKG_FOLDER...");

/** @type {Record<string, string>} */
const MEDIA_TYPES = { ".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json" };
/** @type {[string, string][]} */
const ROOTS = [["/checkpoint/", resolve(folder)]];
packages.forEach((path, index) => ROOTS.push([`/${index}/`, resolve(path)]));

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  const [prefix, root] = ROOTS.find(([prefix]) => pathname.startsWith(prefix)) ?? [];
  const file = prefix && root ? join(root, pathname.slice(prefix.length)) : "";
  if (!existsSync(file) || !statSync(file).isFile()) return response.writeHead(404).end();
  const size = statSync(file).size;
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const [start, end] = range ? [Number(range[1]), range[2] ? Number(range[2]) + 1 : size] : [0, size];
  response.writeHead(range ? 206 : 200, {
    "Content-Type": MEDIA_TYPES[extname(file)] ?? "application/octet-stream",
    "Content-Length": end - start,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    ...(range ? { "Content-Range": `bytes ${start}-${end - 1}/${size}` } : {}),
  });
  createReadStream(file, { start, end: end - 1 }).pipe(response);
});
await new Promise((done) => server.listen(0, "127.0.0.1", () => done(undefined)));
const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
const browser = await chromium.launch({
  executablePath: process.env.ZAMBA2_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});

/** A page with the package's model loaded. @param {number} index */
async function opened(index) {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${port}/${index}/zamba2.js`);
  await page.evaluate(
    async ({ index, weights, threads }) => {
      const { open } = await import(/** @type {any} */ (`/${index}/zamba2.js`));
      const model = open({ source: "/checkpoint/", weights, threads, backend: "cpu", context: 1024, keep: false });
      await model.ready;
      Object.assign(globalThis, { model });
    },
    { index, weights: values.weights, threads: Number(values.threads) },
  );
  return page;
}

/** @param {Page} page @returns {Promise<{ prefill_ms: number, decode_ms: number }>} */
const measured = (page) =>
  page.evaluate(
    async ({ prompt, decode }) => {
      const { model } = /** @type {any} */ (globalThis);
      const ids = Uint32Array.from({ length: prompt }, (_, i) => 3 + ((i * 7919) % (model.info.vocab_size - 3)));
      const times_ms = [performance.now()];
      // Each round prefills the prompt again.
      const options = { max_tokens: decode + 1, ignore_eos: true, temperature: 0, cache_prompt: false, lookup: 0 };
      for await (const _ of model.generate(ids, options)) times_ms.push(performance.now());
      const steps_ms = times_ms.slice(1).map((end_ms, i) => end_ms - times_ms[i]);
      // The first token is the prefill's.
      const decode_ms = steps_ms.slice(1).sort((a, b) => a - b);
      return { prefill_ms: steps_ms[0], decode_ms: decode_ms[decode_ms.length >> 1] };
    },
    { prompt: Number(values.prompt), decode: Number(values.decode) },
  );

/** @param {number[]} list */
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

const pages = [];
for (const index of packages.keys()) pages.push(await opened(index));
// Caches and the engine's compiler tiers warm up.
for (const page of pages) await measured(page);
/** @type {{ prefill_ms: number, decode_ms: number }[][]} */
const rounds = [];
for (let round = 0; round < Number(values.rounds); round += 1) {
  /** @type {{ prefill_ms: number, decode_ms: number }[]} */
  const row = [];
  const order = [...pages.keys()];
  for (const index of round % 2 ? order.reverse() : order) row[index] = await measured(pages[index]);
  rounds.push(row);
}
await browser.close();
server.close();

const lines = packages.map((path, index) => {
  const cells = /** @type {const} */ (["prefill_ms", "decode_ms"]).flatMap((field) => [
    median(rounds.map((row) => row[index][field])).toFixed(1),
    median(rounds.map((row) => row[index][field] / row[0][field])).toFixed(3),
  ]);
  return `| ${path} | ${cells.join(" | ")} |`;
});
console.log(`${values.weights}, ${values.threads} threads, ${values.rounds} rounds, prompt of ${values.prompt}

| package | first token, ms | ratio | decode step, ms | ratio |
|---|---:|---:|---:|---:|
${lines.join("\n")}`);
