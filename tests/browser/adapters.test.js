// @ts-check
// The adapters with a scripted model: queue, requests, answers and errors. Needs no browser; tests/package/ runs them
// with the engine and with the clients that they are for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTask } from "node:timers/promises";

import { createLanguageModel } from "../../www/engine/adapters/ai_sdk.js";
import { createFetch } from "../../www/engine/adapters/openai.js";
import { turn } from "../../www/engine/adapters/runs.js";
import { Zamba2Error } from "../../www/engine/errors.js";

/** @import { Model, RunOptions, RunSummary } from "../../www/engine/zamba2.d.ts" */

const END_TOKEN = 2;

/** Says the same words to every prompt, one word per token; fails as the engine does if two runs overlap. */
class ScriptedModel {
  ready = Promise.resolve();
  info = { context: 100, eos_token_ids: [END_TOKEN] };
  /** @type {RunSummary | null} */
  last = null;
  /** @type {{ prompt: unknown, options: RunOptions }[]} */
  runs = [];
  #is_running = false;

  /** @param {{ words?: string[], error?: Error, fails_at?: number }} script */
  constructor({ words = ["One", " two", " three"], error, fails_at = 0 } = {}) {
    Object.assign(this, { words, error, fails_at });
  }

  /** @param {unknown} prompt @param {RunOptions} options */
  async *generate(prompt, options) {
    const { words, error, fails_at } = /** @type {any} */ (this);
    if (this.#is_running) throw new Zamba2Error("busy");
    this.#is_running = true;
    this.runs.push({ prompt, options });
    this.last = null;
    const { signal, max_tokens = 256 } = options;
    let tokens = 0;
    try {
      for (const [index, text] of [...words, ""].entries()) {
        await nextTask();
        signal?.throwIfAborted();
        if (error && index === fails_at) throw error;
        const token = index === words.length ? END_TOKEN : 10 + index;
        const bytes = token === END_TOKEN ? null : [...new TextEncoder().encode(text)];
        const alternative = { token, text, bytes, probability: 0.5 };
        const token_rank = { text, bytes, rank: 1, probability: 0.5, alternatives: [alternative, alternative] };
        tokens += 1;
        yield { text, token, index, token_rank };
        if (tokens === max_tokens) break;
      }
      const reason = tokens > words.length ? "eos" : "length";
      this.last = { reason, prompt_tokens: 7, cached_tokens: 3, tokens, ttft_ms: 1 };
    } finally {
      this.#is_running = false;
    }
  }
}

/** @param {ScriptedModel} model */
const asModel = (model) => /** @type {Model} */ (/** @type {unknown} */ (model));

/**
 * The status and JSON of an answer.
 * @param {object} body @param {{ model?: ScriptedModel, path?: string, signal?: AbortSignal }} [more]
 */
async function post(body, { model = new ScriptedModel(), path = "chat/completions", signal } = {}) {
  const fetch = createFetch(asModel(model));
  const init = { method: "POST", body: JSON.stringify({ model: "zamba2", ...body }), signal };
  const response = await fetch(`http://zamba2/v1/${path}`, init);
  const text = await response.text();
  return { status: response.status, text, json: text.startsWith("{") ? JSON.parse(text) : null };
}

const MESSAGES = [{ role: "user", content: "Hello" }];

test("turns come in order, and an aborted wait leaves the queue", async () => {
  const owner = {};
  /** @type {string[]} */
  const order = [];
  const controller = new AbortController();
  const end = await turn(owner);
  const [second, third, fourth] = [undefined, controller.signal, undefined].map((signal, i) =>
    turn(owner, signal).then((end) => {
      order.push(`turn ${i + 2}`);
      return end;
    }),
  );
  controller.abort(new Error("left"));
  await assert.rejects(third, /left/);
  assert.deepEqual(order, []);
  end();
  const end_second = await second;
  await nextTask();
  assert.deepEqual(order, ["turn 2"]);
  end_second();
  (await fourth)();
  assert.deepEqual(order, ["turn 2", "turn 4"]);
  // The queue is empty again.
  (await turn(owner))();
});

test("requests of a model's adapters run one after another, and an aborted one that waits never runs", async () => {
  const model = new ScriptedModel();
  const controller = new AbortController();
  const first = post({ messages: MESSAGES }, { model });
  const aborted = post({ messages: MESSAGES }, { model, signal: controller.signal });
  const last = createLanguageModel(asModel(model)).doGenerate({
    prompt: [{ role: "user", content: [{ type: "text", text: "Hello" }] }],
  });
  controller.abort(new Error("not needed"));
  await assert.rejects(aborted, /not needed/);
  assert.equal((await first).json.choices[0].message.content, "One two three");
  assert.deepEqual((await last).content, [{ type: "text", text: "One two three" }]);
  assert.equal(model.runs.length, 2);
});

test("a stream that nobody reads does not keep the next request waiting", async () => {
  const model = new ScriptedModel();
  const fetch = createFetch(asModel(model));
  const body = JSON.stringify({ model: "zamba2", messages: MESSAGES, stream: true });
  await fetch("http://zamba2/v1/chat/completions", { method: "POST", body });
  assert.equal((await post({ messages: MESSAGES }, { model })).status, 200);
});

test("an aborted stream ends with the signal's reason", async () => {
  const controller = new AbortController();
  const fetch = createFetch(asModel(new ScriptedModel()));
  const body = JSON.stringify({ model: "zamba2", messages: MESSAGES, stream: true });
  const init = { method: "POST", body, signal: controller.signal };
  const response = await fetch("http://zamba2/v1/chat/completions", init);
  controller.abort(new Error("stopped"));
  await assert.rejects(response.text(), /stopped/);
  await assert.rejects(fetch("http://zamba2/v1/chat/completions", init), /stopped/);
});

test("an abort does not wait for the model to load", async () => {
  const fetch = createFetch(new Promise(() => {}));
  const controller = new AbortController();
  const body = JSON.stringify({ model: "zamba2", messages: MESSAGES });
  const response = fetch("http://zamba2/v1/chat/completions", { method: "POST", body, signal: controller.signal });
  await nextTask();
  controller.abort(new Error("left"));
  await assert.rejects(response, /left/);
});

test("a streamed chat has the role, the text, the reason and, if asked for, the usage", async () => {
  const { text } = await post({ messages: MESSAGES, stream: true, stream_options: { include_usage: true } });
  const lines = text.trimEnd().split("\n\n");
  assert.equal(lines.pop(), "data: [DONE]");
  const chunks = lines.map((line) => JSON.parse(line.replace(/^data: /, "")));
  assert.deepEqual(
    chunks.map(({ choices }) => choices[0]?.delta ?? null),
    [
      { role: "assistant", content: "", refusal: null },
      { content: "One" },
      { content: " two" },
      { content: " three" },
      {},
      null,
    ],
  );
  assert.deepEqual(
    chunks.map(({ choices }) => choices[0]?.finish_reason ?? null),
    [null, null, null, null, "stop", null],
  );
  const usage = { prompt_tokens: 7, completion_tokens: 4, total_tokens: 11 };
  assert.deepEqual(chunks.at(-1).usage, { ...usage, prompt_tokens_details: { cached_tokens: 3 } });
  assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
});

test("logprobs are those of the model's distribution, without the token that ends the answer", async () => {
  const half = Math.log(0.5);
  const chat = await post({ messages: MESSAGES, logprobs: true, top_logprobs: 1 });
  assert.deepEqual(
    chat.json.choices[0].logprobs.content,
    ["One", " two", " three"].map((token) => {
      const entry = { token, logprob: half, bytes: [...new TextEncoder().encode(token)] };
      return { ...entry, top_logprobs: [entry] };
    }),
  );
  const completion = await post({ prompt: "Hello", logprobs: 0 }, { path: "completions" });
  assert.deepEqual(completion.json.choices[0].logprobs, {
    tokens: ["One", " two", " three"],
    token_logprobs: [half, half, half],
    top_logprobs: [{}, {}, {}],
    text_offset: [0, 3, 7],
  });
});

test("options reach the engine under its names, with the protocol's defaults", async () => {
  const model = new ScriptedModel();
  const options = { temperature: 0.5, top_p: 0.9, top_k: 5, min_p: 0.1, seed: 3, stop: "\n", max_completion_tokens: 2 };
  const { json } = await post({ messages: MESSAGES, ...options, user: "someone", n: 1, tools: [] }, { model });
  assert.equal(json.choices[0].finish_reason, "length");
  await post({ prompt: [5, 6] }, { model, path: "completions" });
  await post({ messages: MESSAGES, max_tokens: null }, { model });
  const [first, second, third] = model.runs.map(({ prompt, options: { signal, ...rest } }) => ({ prompt, ...rest }));
  const own = { temperature: 0.5, top_p: 0.9, top_k: 5, min_p: 0.1, seed: 3, stop: ["\n"], max_tokens: 2 };
  assert.deepEqual(first, { prompt: { messages: MESSAGES }, ...own });
  assert.deepEqual([second.prompt, second.max_tokens], [[5, 6], 16]);
  assert.equal(third.max_tokens, model.info.context);
  // Without a seed every answer is another one.
  assert.notEqual(second.seed, third.seed);
});

for (const [param, body, code = "unsupported_parameter"] of /** @type {[string, object, string?][]} */ ([
  ["n", { n: 2 }],
  ["tools", { tools: [{ type: "function" }] }],
  ["frequency_penalty", { frequency_penalty: 0.5 }],
  ["logit_bias", { logit_bias: { 5: 1 } }],
  ["modalities", { modalities: ["text", "audio"] }],
  ["invented", { invented: 1 }],
  ["stream_options.other", { stream_options: { other: true } }],
  ["response_format.type", { response_format: { type: "xml" } }, "invalid_value"],
  ["top_logprobs", { logprobs: true, top_logprobs: 21 }, "invalid_value"],
  ["stream", { stream: "yes" }, "invalid_value"],
  ["messages", { messages: [] }, "invalid_value"],
  ["messages[0].role", { messages: [{ role: "tool", content: "4" }] }, "invalid_value"],
  ["messages[0].tool_calls", { messages: [{ role: "assistant", tool_calls: [{}] }] }],
  ["messages[0].content[0].type", { messages: [{ role: "user", content: [{ type: "image_url" }] }] }, "invalid_value"],
])) {
  test(`${JSON.stringify(body)} is refused, and the error names ${param}`, async () => {
    const model = new ScriptedModel();
    const { status, json } = await post({ messages: MESSAGES, ...body }, { model });
    assert.equal(status, 400);
    assert.deepEqual({ ...json.error, message: "" }, { type: "invalid_request_error", message: "", param, code });
    assert.ok(json.error.message.length > 10, json.error.message);
    assert.equal(model.runs.length, 0);
  });
}

test("an error of the engine has the status and the code that clients expect", async () => {
  for (const [error, status, code] of /** @type {const} */ ([
    [new Zamba2Error("prompt_too_long", { tokens: 200, limit: 100 }), 400, "context_length_exceeded"],
    [new Zamba2Error("no_chat_template"), 400, "no_chat_template"],
    [new Zamba2Error("busy"), 503, "busy"],
    [new Zamba2Error("device_lost", { detail: "" }), 500, "device_lost"],
  ])) {
    // Before the first token also a stream has a status.
    for (const stream of [false, true]) {
      const { status: got, json } = await post({ messages: MESSAGES, stream }, { model: new ScriptedModel({ error }) });
      assert.deepEqual([got, json.error.code], [status, code]);
    }
  }
  const error = new Zamba2Error("device_lost", { detail: "" });
  const { status, text } = await post(
    { messages: MESSAGES, stream: true },
    { model: new ScriptedModel({ error, fails_at: 2 }) },
  );
  assert.equal(status, 200);
  assert.match(text, /" two"[^]*\n\ndata: {"error":{[^\n]*"code":"device_lost"}}\n\n$/);
});

test("models are listed, and other models, addresses and methods are refused", async () => {
  const fetch = createFetch(asModel(new ScriptedModel()), { model: "my-model" });
  const get = async (/** @type {string} */ path, /** @type {RequestInit} */ init = {}) => {
    const response = await fetch(`http://zamba2${path}`, init);
    const { data, error, id } = await response.json();
    return [response.status, data?.[0].id ?? error?.code ?? id];
  };
  assert.deepEqual(await get("/v1/models"), [200, "my-model"]);
  assert.deepEqual(await get("/models"), [200, "my-model"]);
  assert.deepEqual(await get("/v1/models/my-model"), [200, "my-model"]);
  assert.deepEqual(await get("/v1/models/other"), [404, "model_not_found"]);
  assert.deepEqual(await get("/v1/embeddings", { method: "POST", body: "{}" }), [404, "unknown_url"]);
  assert.deepEqual(await get("/v1/chat/completions"), [405, "method_not_allowed"]);
  const bad = (/** @type {string} */ body) => get("/v1/chat/completions", { method: "POST", body });
  assert.deepEqual(await bad("{"), [400, "invalid_json"]);
  assert.deepEqual(await bad("{}"), [400, "missing_required_parameter"]);
  assert.deepEqual(await bad('{"model":"gpt"}'), [404, "model_not_found"]);
});

test("the AI SDK's model warns of settings without effect, and rejects what it cannot do", async () => {
  const model = createLanguageModel(asModel(new ScriptedModel()));
  /** @type {import("../../www/engine/adapters/ai_sdk.d.ts").Message[]} */
  const prompt = [{ role: "user", content: [{ type: "text", text: "Hello" }] }];
  const { warnings, usage, finishReason } = await model.doGenerate({
    prompt,
    presencePenalty: 1,
    tools: [{}],
    topK: 3,
  });
  assert.deepEqual(
    warnings.map(({ feature }) => feature),
    ["presencePenalty", "tools"],
  );
  assert.deepEqual(usage.inputTokens, { total: 7, noCache: 4, cacheRead: 3, cacheWrite: undefined });
  assert.deepEqual(finishReason, { unified: "stop", raw: "eos" });
  for (const options of /** @type {const} */ ([
    { prompt, toolChoice: { type: "required" } },
    { prompt: [{ role: "user", content: [{ type: "file" }] }] },
  ])) {
    await assert.rejects(model.doGenerate(/** @type {any} */ (options)), { name: "AI_UnsupportedFunctionalityError" });
  }
});
