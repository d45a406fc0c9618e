// @ts-check
// Measures loading in Chromium over a link of a given speed: a plain fetch of the same bytes, a load that stores the
// weights, a prompt given before and after the weights, and a second visit. It is not part of the page or the tests:
//
//   cargo xtask build && node tools/bench/loading.js CHECKPOINT_FOLDER [--mb-per-s 100] [--weights q4] [--threads auto]
//
// The link's bandwidth is shared by all connections and limited by the server below. It prints Markdown.

import { createReadStream, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

/** @import { Page } from "playwright-core" */

const {
  positionals: [folder],
  values,
} = parseArgs({
  allowPositionals: true,
  options: {
    "mb-per-s": { type: "string", default: "100" },
    weights: { type: "string", default: "q4" },
    threads: { type: "string", default: "auto" },
  },
});
if (!folder) throw new Error("usage: node tools/bench/loading.js CHECKPOINT_FOLDER");
const bytes_per_ms = Number(values["mb-per-s"]) * 1000;

/** @type {Record<string, string>} */
const MEDIA_TYPES = { ".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json" };
const ROOTS = { "/pkg/": resolve(import.meta.dirname, "../../pkg"), "/checkpoint/": resolve(folder) };

/**
 * How far transmission may catch up after a pause of the receiver or of this process: a receive window of 6 MB, the
 * largest Linux default, at 100 MB/s.
 */
const CATCH_UP_MS = 60;
/** The link is busy with scheduled bytes until this time. */
let busy_until_ms = performance.now();

/** @param {number} bytes */
async function onTheLine(bytes) {
  const now_ms = performance.now();
  busy_until_ms = Math.max(busy_until_ms, now_ms - CATCH_UP_MS) + bytes / bytes_per_ms;
  if (busy_until_ms - now_ms > 1) await new Promise((done) => setTimeout(done, busy_until_ms - now_ms));
}

/**
 * Until more can be written, or the connection is closed.
 * @param {import("node:http").ServerResponse} response
 * @returns {Promise<void>}
 */
function drained(response) {
  return new Promise((done) => {
    const go = () => {
      response.off("drain", go).off("close", go);
      done();
    };
    response.on("drain", go).on("close", go);
  });
}

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  const [prefix, root] = Object.entries(ROOTS).find(([prefix]) => pathname.startsWith(prefix)) ?? [];
  const file = prefix && root ? join(root, pathname.slice(prefix.length)) : "";
  if (!file || !existsSync(file)) return response.writeHead(404).end();
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
  for await (const chunk of createReadStream(file, { start, end: end - 1, highWaterMark: 256 << 10 })) {
    if (prefix === "/checkpoint/") await onTheLine(chunk.length);
    if (response.destroyed) return;
    if (!response.write(chunk)) await drained(response);
  }
  response.end();
});
await new Promise((done) => server.listen(0, "127.0.0.1", () => done(undefined)));
const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());

/**
 * In a new profile, so that nothing is stored on the device.
 * @template T @param {(page: Page) => Promise<T>} measure @returns {Promise<T>}
 */
async function inNewProfile(measure) {
  const profile = mkdtempSync(join(tmpdir(), "zamba2-loading-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.ZAMBA2_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
  });
  try {
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${port}/pkg/zamba2.js`);
    return await measure(page);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

/** Reads and discards the weight files. @param {Page} page @param {string[]} files */
const fetched = (page, files) =>
  page.evaluate(async (files) => {
    const from_ms = performance.now();
    let bytes = 0;
    for (const file of files) {
      const reader = /** @type {ReadableStream<Uint8Array>} */ (
        (await fetch(`/checkpoint/${file}`, { cache: "no-store" })).body
      ).getReader();
      for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) bytes += chunk.value.length;
    }
    return { seconds: (performance.now() - from_ms) / 1000, bytes };
  }, files);

/** @param {Page} page @param {{ prompt: "early" | "late" | null, keep: boolean }} how */
const loaded = (page, how) =>
  page.evaluate(
    async ({ weights, threads, prompt, keep }) => {
      const { open } = await import(/** @type {any} */ ("/pkg/zamba2.js"));
      const ids = Uint32Array.from({ length: 35 }, (_, i) => 3 + ((i * 7919) % 31_000));
      const from_ms = performance.now();
      let last_byte_ms = from_ms;
      let received_bytes = 0;
      let device_bytes = 0;
      let first_token_ms = 0;
      const model = open({
        source: "/checkpoint/",
        weights,
        threads: threads === "auto" ? threads : Number(threads),
        context: 1024,
        keep,
        onProgress: (/** @type {any} */ progress) => {
          if (progress.received_bytes > received_bytes) last_byte_ms = performance.now();
          ({ received_bytes, device_bytes } = progress);
        },
      });
      const firstToken = async () => {
        for await (const _ of model.generate(ids, { max_tokens: 1, ignore_eos: true }))
          first_token_ms = performance.now();
      };
      const early = prompt === "early" ? firstToken() : null;
      await model.ready;
      const ready_ms = performance.now();
      if (prompt) await (early ?? firstToken());
      const wasm_bytes = model.info.memory.wasm_bytes;
      model.dispose();
      return {
        seconds: (ready_ms - from_ms) / 1000,
        after_last_byte_ms: first_token_ms - last_byte_ms,
        received_bytes,
        device_bytes,
        wasm_bytes,
      };
    },
    { weights: values.weights, threads: values.threads, ...how },
  );

const files = readdirSync(folder).filter((file) => file.endsWith(".safetensors"));
/** @param {number} value @param {number} [digits] */
const figure = (value, digits = 1) => value.toFixed(digits);

const plain = await inNewProfile((page) => fetched(page, files));
const memory_only = await inNewProfile((page) => loaded(page, { prompt: "late", keep: false }));
const [late, again] = await inNewProfile(async (page) => [
  await loaded(page, { prompt: "late", keep: true }),
  await loaded(page, { prompt: null, keep: true }),
]);
const early = await inNewProfile((page) => loaded(page, { prompt: "early", keep: true }));
server.close();

/** @param {string} what @param {{ seconds: number, after_last_byte_ms?: number }} run @param {boolean} prompt */
const row = (what, { seconds, after_last_byte_ms = 0 }, prompt) => {
  const after = prompt ? `${figure(after_last_byte_ms, 0)} ms` : "";
  return `| ${what} | ${figure(seconds)} s | ${figure(seconds / plain.seconds, 2)} | ${after} |`;
};
const gigabytes = (/** @type {number} */ bytes) => figure(bytes / 1e9, 2);
console.log(`${gigabytes(plain.bytes)} GB at ${values["mb-per-s"]} MB/s, ${values.weights}, threads ${values.threads}

| | total | relative to fetch | first token after the last byte |
|---|---:|---:|---:|
${row("fetch, bytes discarded", plain, false)}
${row("load into memory, then a prompt of 35 tokens", memory_only, true)}
${row("load and store, then the prompt", late, true)}
${row("load and store, with the prompt given at the start", early, true)}
${row("second visit, from this device", again, false)}

Second visit: ${again.received_bytes} bytes over the link, ${gigabytes(again.device_bytes)} GB from this device.
wasm memory after loading: ${figure(late.wasm_bytes / 1e9, 2)} GB.`);
