// @ts-check
// Measures in Chromium what drafts from the sequence gain: passes over a few tokens, and texts with and without drafts,
// in turns. It is not part of the page or the tests:
//
//   cargo xtask serve --checkpoint random-1.2b &
//   node tools/bench/lookup.js --model /checkpoints/random-1.2b/ [--site http://127.0.0.1:8080] [--weights q4]
//     [--threads 2] [--tokens 64] [--rounds 3]
//
// It prints Markdown. A grammar of single tokens forces the texts upon the model, so random weights will do, with the
// tokenizer.json that grammars need, such as that of www/models/rustdoc-5m. `edit`, `list` and `quote` are answers as
// people ask for them (repetitive_texts.js); of random tokens are `loop`, eight tokens of the prompt again and again,
// and `copy`, pieces of 24 of its tokens with four new ones between them. `fresh` is sampled, without a grammar. The
// browser is ZAMBA2_CHROMIUM or /usr/bin/chromium.

import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { REPETITIVE } from "./repetitive_texts.js";

const { values } = parseArgs({
  options: {
    site: { type: "string", default: "http://127.0.0.1:8080" },
    model: { type: "string", default: "/www/models/rustdoc-5m/" },
    weights: { type: "string", default: "q4" },
    threads: { type: "string", default: "2" },
    tokens: { type: "string", default: "64" },
    rounds: { type: "string", default: "3" },
  },
});
const n_tokens = Number(values.tokens);
const n_rounds = Number(values.rounds);
const DRAFTS = 10;
const PROMPT_TOKENS = 128;

let state = 7;
/** A token that every vocabulary of a published model has, and no control token. */
function randomToken() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return 100 + ((state >>> 8) % 3000);
}

const prompt = Array.from({ length: PROMPT_TOKENS }, randomToken);
const loop = Array.from({ length: n_tokens }, (_, i) => prompt[40 + (i % 8)]);
/** @type {number[]} */
const copy = [];
for (let at = 8; copy.length < n_tokens; at = (at + 37) % 96)
  copy.push(...prompt.slice(at, at + 24), ...Array.from({ length: 4 }, randomToken));

/** @param {number[]} list */
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

const browser = await chromium.launch({
  executablePath: process.env.ZAMBA2_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const page = await browser.newPage();
await page.goto(`${values.site}/pkg/zamba2.js`);
await page.evaluate(
  async ({ model, weights, threads }) => {
    const { load } = await import(/** @type {any} */ ("/pkg/zamba2.js"));
    const options = { source: model, weights, threads, backend: "cpu", context: 1024, keep: false };
    Object.assign(globalThis, { model: await load(options) });
  },
  { model: values.model, weights: values.weights, threads: Number(values.threads) },
);

/**
 * One run: its tokens and figures.
 * @param {number[]} ids @param {Record<string, unknown>} options
 */
const run = (ids, options) =>
  page.evaluate(
    async ({ ids, options }) => {
      const { model } = /** @type {any} */ (globalThis);
      const tokens = [];
      for await (const { token } of model.generate(ids, { ignore_eos: true, ...options })) tokens.push(token);
      const { prefill_ms, decode_tokens_per_s, drafted, accepted_drafts } = model.last;
      return { tokens, prefill_ms, decode_ms: 1000 / decode_tokens_per_s, drafted, accepted_drafts };
    },
    { ids, options },
  );

// Cached, a prompt would take no pass.
const ONE_PASS = { max_tokens: 1, temperature: 0, cache_prompt: false };
const LENGTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11];
await run(prompt, { max_tokens: 8, lookup: 0 });
/** @type {number[][]} */
const passes_ms = LENGTHS.map(() => []);
for (let round = 0; round < n_rounds; round++) {
  for (const [i, n] of LENGTHS.entries()) {
    const { prefill_ms } = await run(prompt.slice(0, n), { ...ONE_PASS, lookup: 0 });
    passes_ms[i].push(prefill_ms);
  }
}
console.log(`${values.weights}, ${values.threads} threads, ${n_rounds} rounds; a pass, the least of them:

| tokens | ${LENGTHS.join(" | ")} |
|---|${"---:|".repeat(LENGTHS.length)}
| ms | ${passes_ms.map((list) => Math.min(...list).toFixed(0)).join(" | ")} |

Medians:

| text | tokens of the prompt | of the answer | plain, ms per token | with drafts | speedup | drafted | accepted |
|---|---:|---:|---:|---:|---:|---:|---:|`);

/** @param {string} text @returns {Promise<number[]>} */
const tokens = (text) =>
  page.evaluate(
    async (text) => Array.from(await /** @type {any} */ (globalThis).model.tokenize(text, { special: false })),
    text,
  );
/** @type {{ name: string, before: number[], text?: number[] }[]} */
const cases = [];
for (const [name, { question, answer }] of Object.entries(REPETITIVE))
  cases.push({ name, before: await tokens(question), text: await tokens(answer) });
cases.push({ name: "copy", before: prompt, text: copy.slice(0, n_tokens) });
cases.push({ name: "loop", before: prompt, text: loop }, { name: "fresh", before: prompt });

for (const { name, before, text } of cases) {
  const options = text
    ? { temperature: 0, grammar: `start: ${text.map((id) => `<[${id}]>`).join(" ")}` }
    : { temperature: 1, top_k: 0, top_p: 1, seed: 5 };
  const max_tokens = text?.length ?? n_tokens;
  /** @type {Record<number, number[]>} */
  const decode_ms = { 0: [], [DRAFTS]: [] };
  const texts = new Set();
  let counts = "";
  for (let round = 0; round < n_rounds; round++) {
    for (const lookup of round % 2 ? [0, DRAFTS] : [DRAFTS, 0]) {
      const result = await run(before, { max_tokens, lookup, ...options });
      decode_ms[lookup].push(result.decode_ms);
      texts.add(result.tokens.join());
      if (lookup) counts = `${result.drafted} | ${result.accepted_drafts}`;
    }
  }
  if (texts.size !== 1) throw new Error(`${name}: drafts have changed the text`);
  if (text && !texts.has(text.join())) throw new Error(`${name}: the grammar did not force the text`);
  const [plain, drafts] = [median(decode_ms[0]), median(decode_ms[DRAFTS])];
  const gain = (plain / drafts).toFixed(2);
  const lengths = `${before.length} | ${max_tokens}`;
  console.log(`| ${name} | ${lengths} | ${plain.toFixed(1)} | ${drafts.toFixed(1)} | ${gain} | ${counts} |`);
}
await browser.close();
