// @ts-check
// Invalid checkpoints, servers and prompts: each leads to a typed error that names the file and the next step.

import assert from "node:assert/strict";
import { asBase64, EMBEDDED, fixtureFiles, openModule, test, withSharedModule } from "./harness.js";

/** @import { Page } from "playwright-core" */

const WEIGHTS = "model.safetensors";

/** @typedef {{ code: string, file: string | null, nextStep: string, message: string, typed: boolean }} Refusal */

/** @param {Refusal} refusal @param {string} code @param {string | null} file */
function assertRefusal(refusal, code, file) {
  assert.equal(refusal.code, code, refusal.message);
  assert.equal(refusal.file, file, refusal.message);
  assert.ok(refusal.typed, "the error is a Zamba2Error");
  assert.notEqual(refusal.nextStep, "", "the error has a next step");
  if (file) assert.ok(refusal.message.includes(file), `"${refusal.message}" names ${file}`);
}

/**
 * The error of loading, and of an optional run after it.
 * @param {Page} page
 * @param {{ files?: Record<string, Buffer>, source?: string, prompt?: string | number[], retry?: object }} given
 * @returns {Promise<Refusal>}
 */
function refusalOf(page, { files, source, prompt, retry = { first_delay_ms: 1 } }) {
  return page.evaluate(
    async ({ contents, source, prompt, retry }) => {
      const { zamba2, filesOf } = /** @type {any} */ (globalThis);
      let model;
      try {
        model = await zamba2.load({ source: contents ? await filesOf(contents) : source, weights: "f32", retry });
        for await (const _ of model.generate(prompt ?? [1, 2], { max_tokens: 2 })) {
          /* only the error is checked */
        }
      } catch (error) {
        const { code, file, nextStep, message } = /** @type {any} */ (error);
        return { code, file, nextStep, message, typed: error instanceof zamba2.Zamba2Error };
      } finally {
        model?.dispose();
      }
      return { code: "none", file: null, nextStep: "", message: "nothing failed", typed: false };
    },
    { contents: files && asBase64(files), source, prompt, retry },
  );
}

/** @param {Record<string, Buffer>} files @param {string} name */
function without(files, name) {
  const { [name]: _, ...rest } = files;
  return rest;
}

/** @param {Record<string, Buffer>} files @param {(header: string) => string} edit keeps the length */
function withHeader(files, edit) {
  const bytes = Buffer.from(files[WEIGHTS]);
  const header_bytes = Number(bytes.readBigUInt64LE(0));
  const edited = edit(bytes.toString("utf8", 8, 8 + header_bytes));
  assert.equal(Buffer.byteLength(edited), header_bytes);
  bytes.write(edited, 8);
  return { ...files, [WEIGHTS]: bytes };
}

/**
 * Writes a NaN into the last element of the file.
 * @param {Record<string, Buffer>} files
 */
function withNaN(files) {
  const bytes = Buffer.from(files[WEIGHTS]);
  bytes.writeFloatLE(NaN, bytes.length - 4);
  return { ...files, [WEIGHTS]: bytes };
}

/** @param {Record<string, Buffer>} files @param {object} changes */
const withConfig = (files, changes) => ({
  ...files,
  "config.json": Buffer.from(JSON.stringify({ ...JSON.parse(files["config.json"].toString()), ...changes })),
});

const good = () => fixtureFiles("one_block_adapters_rope");

/** @type {[string, () => Record<string, Buffer>, string, string][]} */
const BAD_FILES = [
  ["a folder without config.json", () => without(good(), "config.json"), "missing_file", "config.json"],
  ["a folder without weights", () => without(good(), WEIGHTS), "missing_file", WEIGHTS],
  ["a config that is not JSON", () => ({ ...good(), "config.json": Buffer.from("{ oh") }), "bad_config", "config.json"],
  ["another architecture", () => withConfig(good(), { model_type: "llama" }), "wrong_architecture", "config.json"],
  ["truncated weights", () => ({ ...good(), [WEIGHTS]: good()[WEIGHTS].subarray(0, -100) }), "truncated", WEIGHTS],
  ["an empty weight file", () => ({ ...good(), [WEIGHTS]: Buffer.alloc(0) }), "truncated", WEIGHTS],
  [
    "a header longer than the file",
    () => {
      const bytes = Buffer.from(good()[WEIGHTS]);
      bytes.writeBigUInt64LE(1n << 60n, 0);
      return { ...good(), [WEIGHTS]: bytes };
    },
    "bad_header",
    WEIGHTS,
  ],
  ["a header that is not JSON", () => withHeader(good(), (header) => header.replace("{", "[")), "bad_header", WEIGHTS],
  [
    "a dtype that is not a float",
    () => withHeader(good(), (header) => header.replace('"BF16"', '"I16" ')),
    "unknown_dtype",
    WEIGHTS,
  ],
  ["a NaN among the weights", () => withNaN(good()), "non_finite_weight", WEIGHTS],
  ["a config of another size", () => withConfig(good(), { intermediate_size: 7 }), "bad_shape", WEIGHTS],
  [
    "a tokenizer that is not JSON",
    () => ({ ...good(), "tokenizer.json": Buffer.from("no") }),
    "bad_tokenizer",
    "tokenizer.json",
  ],
];

for (const [what, files, code, file] of BAD_FILES) {
  test(`${what} is refused as ${code}, with ${file} named`, () =>
    withSharedModule(async (page) => {
      assertRefusal(await refusalOf(page, { files: files() }), code, file);
    }));
}

test("a missing shard is named in the error", () =>
  withSharedModule(async (page) => {
    const files = fixtureFiles("sharded_bf16");
    const shard = Object.keys(files)
      .filter((name) => name.endsWith(".safetensors"))
      .sort()[1];
    assertRefusal(await refusalOf(page, { files: without(files, shard) }), "missing_file", shard);
  }));

test("a missing folder is refused, with config.json named", () =>
  withSharedModule(async (page) => {
    assertRefusal(await refusalOf(page, { source: "/tests/fixtures/nowhere/" }), "missing_file", "config.json");
  }));

/**
 * @param {Page} page
 * @param {(range: [number, number], bytes: Buffer) => object | "offline"} answer for each range request
 */
async function serveBadly(page, answer) {
  const files = good();
  await page.route("**/badly/*", (route) => {
    const name = new URL(route.request().url()).pathname.split("/").at(-1) ?? "";
    const range = /bytes=(\d+)-(\d+)/.exec(route.request().headers().range ?? "");
    if (!files[name]) return route.fulfill({ status: 404 });
    if (!range) return route.fulfill({ body: files[name] });
    const reply = answer([Number(range[1]), Number(range[2])], files[name]);
    return reply === "offline" ? route.abort("internetdisconnected") : route.fulfill(reply);
  });
}

/** @param {number} start @param {number} end @param {Buffer} bytes */
const partial = (start, end, bytes) => ({
  status: 206,
  headers: { "Content-Range": `bytes ${start}-${end}/${bytes.length}` },
  body: bytes.subarray(start, end + 1),
});

test("a range response that is too short is refused as truncated", () =>
  withSharedModule(async (page) => {
    await serveBadly(page, ([start, end], bytes) => ({
      ...partial(start, end, bytes),
      body: bytes.subarray(start, end - start > 2000 ? end - 10 : end + 1),
    }));
    assertRefusal(await refusalOf(page, { source: "/badly/" }), "truncated", WEIGHTS);
  }));

test("a server error is reported with its status", () =>
  withSharedModule(async (page) => {
    await serveBadly(page, ([start, end], bytes) =>
      end - start > 2000 ? { status: 503 } : partial(start, end, bytes),
    );
    const refusal = await refusalOf(page, { source: "/badly/" });
    assertRefusal(refusal, "http_status", WEIGHTS);
    assert.match(refusal.message, /503/);
  }));

test("a dropped connection is reported as a network error", () =>
  withSharedModule(async (page) => {
    await serveBadly(page, ([start, end], bytes) => (end - start > 2000 ? "offline" : partial(start, end, bytes)));
    assertRefusal(await refusalOf(page, { source: "/badly/" }), "network", WEIGHTS);
  }));

/** @param {Page} page @param {string} body of the engine's constructor @param {string | null} panic */
async function replaceEngine(page, body, panic = null) {
  const bindings = `export default async () => {}; export class Engine { constructor() { ${body} } }
    export const take_panic = () => ${JSON.stringify(panic)};`;
  await page.route("**/zamba2_wasm.js", async (route) => {
    // Otherwise they would be of another version than the module.
    const [id] = /export const BUILD_ID.*/.exec(await (await route.fetch()).text()) ?? [];
    await route.fulfill({ contentType: "text/javascript", body: `${bindings}\n${id}` });
  });
}

test("a panic in the engine becomes an internal error with its message, and the model is unusable", async () => {
  const { context, page } = await openModule();
  const trap = 'this.open_config = () => { throw new WebAssembly.RuntimeError("unreachable"); }';
  await replaceEngine(page, trap, "panicked at src/model.rs:1: oh");
  const refusal = await refusalOf(page, { source: EMBEDDED });
  assertRefusal(refusal, "internal", null);
  assert.match(refusal.message, /panicked at src\/model\.rs:1/);
  assert.match(refusal.nextStep, /Reload/);
  await context.close();
});

test("a trap without a panic is a failed allocation and becomes out_of_memory", () =>
  withSharedModule(async (page) => {
    await replaceEngine(page, 'throw new WebAssembly.RuntimeError("unreachable")');
    assertRefusal(await refusalOf(page, { source: EMBEDDED }), "out_of_memory", null);
  }));

test("a missing engine file is named in the error", () =>
  withSharedModule(async (page) => {
    await page.route("**/zamba2_wasm_bg.wasm", (route) => route.fulfill({ status: 404 }));
    const refusal = await refusalOf(page, { source: EMBEDDED });
    assert.equal(refusal.code, "engine_missing");
    assert.equal(refusal.file, "zamba2_wasm_bg.wasm");
    assert.match(refusal.nextStep, /cargo xtask build/);
  }));

/** Sets the final norm's weights to the largest float, so that every logit overflows. */
function withOverflow() {
  const files = good();
  const bytes = Buffer.from(files[WEIGHTS]);
  const header_bytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + header_bytes));
  const {
    dtype,
    data_offsets: [start, end],
  } = header["model.final_layernorm.weight"];
  const data = bytes.subarray(8 + header_bytes + start, 8 + header_bytes + end);
  if (dtype === "BF16") data.fill(Buffer.from([0x7f, 0x7f]));
  else for (let at = 0; at < data.length; at += 4) data.writeFloatLE(3e38, at);
  return { ...files, [WEIGHTS]: bytes };
}

test("overflowing logits are refused as non_finite_logits, and the model is not reloaded", () =>
  withSharedModule(async (page) => {
    const files = withOverflow();
    assertRefusal(await refusalOf(page, { files }), "non_finite_logits", null);
    const seen = await page.evaluate(async (contents) => {
      const { zamba2, filesOf } = /** @type {any} */ (globalThis);
      /** @type {string[]} */
      const seen = [];
      const model = await zamba2.load({
        source: await filesOf(contents),
        weights: "f32",
        backend: "auto",
        onDevice: (/** @type {{ state: string }} */ { state }) => seen.push(`device ${state}`),
      });
      for (let run = 0; run < 2; run++) {
        await model
          .generate([1, 2], { max_tokens: 2 })
          .next()
          .catch((/** @type {{ code: string }} */ { code }) => seen.push(code));
      }
      model.dispose();
      return seen;
    }, asBase64(files));
    assert.deepEqual(seen, ["non_finite_logits", "non_finite_logits"]);
  }));

/** @type {[string, string | number[], object, string][]} */
const BAD_RUNS = [
  ["an empty prompt", "", {}, "empty_prompt"],
  ["a prompt of no tokens", [], {}, "empty_prompt"],
  ["a prompt longer than the context", Array.from({ length: 5000 }, () => 5), {}, "prompt_too_long"],
  ["a token outside the vocabulary", [1, 1_000_000], {}, "bad_token"],
  ["a negative temperature", "Rust", { temperature: -1 }, "bad_option"],
];

for (const [what, prompt, options, code] of BAD_RUNS) {
  test(`${what} is refused as ${code}, and the model stays usable`, () =>
    withSharedModule(async (page) => {
      const { refusal, text } = await page.evaluate(
        async ({ source, prompt, options }) => {
          const scope = /** @type {any} */ (globalThis);
          // One model for all of these tests: after each refusal it must serve the next.
          scope.model ??= await scope.zamba2.load({ source, keep: false });
          const refusal = await scope.model
            .generate(prompt, { max_tokens: 2, ...options })
            .next()
            .then(
              () => ({ code: "none", file: null, nextStep: "", message: "nothing failed", typed: false }),
              (/** @type {any} */ error) => {
                const { code, file, nextStep, message } = error;
                return { code, file, nextStep, message, typed: error instanceof scope.zamba2.Zamba2Error };
              },
            );
          let text = "";
          for await (const piece of scope.model.generate("Rust is", { max_tokens: 4, ignore_eos: true })) text += piece;
          return { refusal, text };
        },
        { source: EMBEDDED, prompt, options },
      );
      assertRefusal(refusal, code, null);
      assert.notEqual(text, "");
    }));
}

for (const retry of [
  { attempts: 0 },
  { attempts: 2.5 },
  { first_delay_ms: -1 },
  { stall_ms: Number.NaN },
  { stall_ms: 2 ** 31 },
  { tries: 3 },
]) {
  test(`the retry option ${JSON.stringify(retry)} is refused with its name`, () =>
    withSharedModule(async (page) => {
      const refusal = await refusalOf(page, { source: EMBEDDED, retry });
      assertRefusal(refusal, "bad_option", null);
      assert.match(refusal.message, new RegExp(`retry\\.${Object.keys(retry)[0]}`));
    }));
}

test("a text prompt without a tokenizer is refused as missing_file, with tokenizer.json named", () =>
  withSharedModule(async (page) => {
    assertRefusal(await refusalOf(page, { files: good(), prompt: "Rust" }), "missing_file", "tokenizer.json");
  }));
