// @ts-check
// The adapters of the packed tarball with the clients that they are for, from npm: they stream, stop, report usage, and
// refuse what is not supported. The Prompt API is in prompt_api.test.js.

import assert from "node:assert/strict";
import { test } from "node:test";

import { adaptersPage } from "./adapters_page.js";

const { page, onPage } = await adaptersPage("adapters");

test("openai streams a chat with usage, and the same answer as a whole", async () => {
  const { streamed, whole, usage, reason } = await onPage(async ({ openai }) => {
    /** @type {{ role: string, content: string }[]} */
    const messages = [{ role: "user", content: "What is ownership?" }];
    const request = { model: "zamba2", messages, max_tokens: 8 };
    const stream = await openai.chat.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    });
    let streamed = "";
    let reason = null;
    let usage = null;
    for await (const chunk of stream) {
      streamed += chunk.choices[0]?.delta.content ?? "";
      reason ??= chunk.choices[0]?.finish_reason;
      usage = chunk.usage ?? usage;
    }
    const whole = await openai.chat.completions.create(request);
    return { streamed, whole, usage, reason };
  });
  assert.ok(streamed.length > 5, streamed);
  assert.equal(reason, "length");
  assert.equal(whole.choices[0].message.content, streamed);
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = whole.usage;
  assert.equal(completion_tokens, 8);
  assert.deepEqual([usage.prompt_tokens, usage.completion_tokens], [prompt_tokens, 8]);
  // The second time the whole prompt is cached.
  assert.equal(prompt_tokens_details.cached_tokens, prompt_tokens);
});

test("openai's logprobs are those that the engine ranks by", async () => {
  const { content, text } = await onPage(async ({ openai }) => {
    const { choices } = await openai.chat.completions.create({
      model: "zamba2",
      messages: [{ role: "user", content: "What is ownership?" }],
      max_tokens: 4,
      logprobs: true,
      top_logprobs: 2,
    });
    return { content: choices[0].logprobs.content, text: choices[0].message.content };
  });
  assert.equal(content.length, 4);
  assert.equal(content.map((/** @type {any} */ { token }) => token).join(""), text);
  const bytes = content.flatMap((/** @type {any} */ token) => token.bytes);
  assert.deepEqual(bytes, [...new TextEncoder().encode(text)]);
  for (const { token, logprob, top_logprobs } of content) {
    // A greedy answer consists of the most probable tokens.
    assert.deepEqual([top_logprobs[0].token, top_logprobs[0].logprob], [token, logprob]);
    assert.ok(top_logprobs.length === 2 && logprob < 0 && top_logprobs[1].logprob <= logprob);
  }
});

test("openai stops at a stop string, completes text and lists the model", async () => {
  const { full, stopped, models } = await onPage(async ({ openai }) => {
    const request = { model: "zamba2", prompt: "Ownership is", max_tokens: 12 };
    const full = (await openai.completions.create(request)).choices[0];
    const stop = full.text.trim().split(" ")[1];
    const stopped = (await openai.completions.create({ ...request, stop: [stop] })).choices[0];
    return { full, stopped, models: (await openai.models.list()).data };
  });
  assert.equal(full.finish_reason, "length");
  assert.equal(stopped.finish_reason, "stop");
  assert.ok(full.text.startsWith(stopped.text) && stopped.text.length < full.text.length, stopped.text);
  assert.deepEqual(
    models.map((/** @type {any} */ { id }) => id),
    ["zamba2"],
  );
});

test("openai aborts a stream and a request that waits, and the others get their turn", async () => {
  const { n_chunks, is_abort, answers } = await onPage(async ({ OpenAI, openai }) => {
    const request = { model: "zamba2", messages: [{ role: "user", content: "What is ownership?" }], max_tokens: 200 };
    const stream = await openai.chat.completions.create({ ...request, stream: true });
    const controller = new AbortController();
    const waiting = openai.chat.completions.create(request, { signal: controller.signal });
    const is_abort = waiting.then(
      () => false,
      (/** @type {unknown} */ error) => error instanceof OpenAI.APIUserAbortError,
    );
    const short = { ...request, max_tokens: 3 };
    const queued = [openai.chat.completions.create(short), openai.chat.completions.create(short)];
    let n_chunks = 0;
    for await (const _ of stream) {
      n_chunks += 1;
      if (n_chunks === 3) controller.abort();
      if (n_chunks === 4) stream.controller.abort();
    }
    const answers = (await Promise.all(queued)).map(({ choices }) => choices[0].message.content);
    return { n_chunks, is_abort: await is_abort, answers };
  });
  assert.ok(n_chunks >= 4 && n_chunks < 100, String(n_chunks));
  assert.equal(is_abort, true);
  assert.equal(answers[0], answers[1]);
  assert.ok(answers[0].length > 0);
});

test("openai gets a refusal that names the parameter, and a chat without a template says what to do", async () => {
  const { refused, without, completed } = await onPage(async ({ OpenAI, openai, plainOpenai }) => {
    const request = { model: "zamba2", messages: [{ role: "user", content: "Hello" }], max_tokens: 2 };
    const thrown = (/** @type {any} */ error) => {
      const { status, param, code, message } = error;
      return { is_bad_request: error instanceof OpenAI.BadRequestError, status, param, code, message };
    };
    const tools = [{ type: "function", function: { name: "f", parameters: {} } }];
    const refused = await openai.chat.completions.create({ ...request, tools }).catch(thrown);
    const plain = plainOpenai();
    const without = await plain.chat.completions.create(request).catch(thrown);
    const { choices } = await plain.completions.create({ model: "zamba2", prompt: "Ownership", max_tokens: 2 });
    return { refused, without, completed: choices[0].text };
  });
  assert.deepEqual([refused.is_bad_request, refused.status, refused.param], [true, 400, "tools"]);
  assert.deepEqual([without.status, without.code], [400, "no_chat_template"]);
  assert.match(without.message, /has no chat template\. Continue plain text/);
  assert.ok(completed.length > 0);
});

test("LangChain streams, stops, reports usage, and is refused what is not supported", async () => {
  const { streamed, invoked, usage, refused, aborted } = await onPage(async ({ langchain }) => {
    const greedy = langchain({ maxTokens: 8, temperature: 0 });
    let streamed = "";
    for await (const chunk of await greedy.stream("What is ownership?")) streamed += chunk.content;
    const invoked = await greedy.invoke("What is ownership?");
    const refused = await langchain({ n: 2 })
      .invoke("Hello")
      .catch((/** @type {any} */ { status, param }) => [status, param]);
    const controller = new AbortController();
    const long = await langchain({ maxTokens: 200 }).stream("Hello", { signal: controller.signal });
    let aborted = "";
    try {
      for await (const _ of long) controller.abort();
    } catch (error) {
      aborted = String(error);
    }
    return { streamed, invoked: invoked.content, usage: invoked.usage_metadata, refused, aborted };
  });
  assert.ok(streamed.length > 5, streamed);
  assert.equal(invoked, streamed);
  assert.equal(usage.output_tokens, 8);
  assert.equal(usage.total_tokens, usage.input_tokens + 8);
  assert.deepEqual(refused, [400, "n"]);
  assert.match(aborted, /Abort/);
});

for (const name of /** @type {const} */ (["aiSdk", "compatible"])) {
  test(`ai streams, stops, reports usage and aborts, with the model ${name}`, async () => {
    const body = async (/** @type {any} */ clients) => {
      const model = clients[name];
      const { streamText, generateText } = clients;
      const request = { model, prompt: "What is ownership?", maxOutputTokens: 8, temperature: 0, maxRetries: 0 };
      const stream = streamText(request);
      let streamed = "";
      for await (const text of stream.textStream) streamed += text;
      const { text, usage, finishReason } = await generateText(request);
      const stop = text.trim().split(" ")[1];
      const stopped = await generateText({ ...request, stopSequences: [stop] });
      const controller = new AbortController();
      const parts = [];
      const long = streamText({ ...request, maxOutputTokens: 200, abortSignal: controller.signal });
      for await (const { type } of long.fullStream) {
        parts.push(type);
        if (type === "text-delta") controller.abort();
      }
      return {
        streamed,
        text,
        usage,
        finishReason,
        streamed_usage: await stream.usage,
        stopped: { text: stopped.text, reason: stopped.finishReason },
        last_part: parts.at(-1),
      };
    };
    const result = await page.evaluate(
      `globalThis.clients.then((clients) => { const name = ${JSON.stringify(name)}; return (${body})(clients); })`,
    );
    const { streamed, text, usage, finishReason, streamed_usage, stopped, last_part } = /** @type {any} */ (result);
    assert.ok(streamed.length > 5, streamed);
    assert.equal(text, streamed);
    assert.equal(finishReason, "length");
    assert.deepEqual([usage.outputTokens, streamed_usage.outputTokens], [8, 8]);
    assert.equal(usage.inputTokens, streamed_usage.inputTokens);
    assert.equal(stopped.reason, "stop");
    assert.ok(text.startsWith(stopped.text) && stopped.text.length < text.length, stopped.text);
    assert.equal(last_part, "abort");
  });
}

/** @param {string} text */
function assertRating(text) {
  const { stars, ...rest } = JSON.parse(text);
  assert.ok([1, 2, 3].includes(stars) && Object.keys(rest).length === 0, text);
}

test("every protocol's answer follows its JSON schema, and the Prompt API's a RegExp", async () => {
  const [chatted, ai, prompt, matched, refused] = await onPage(async ({ aiSdk, openai, session }) => {
    // A schema whose texts are short.
    const stars = { enum: [1, 2, 3] };
    const schema = { type: "object", properties: { stars }, required: ["stars"], additionalProperties: false };
    const messages = [{ role: "user", content: "Rate it" }];
    const request = { model: "zamba2", messages };
    const json_schema = { name: "rating", schema };
    const chat = await openai.chat.completions.create({
      ...request,
      response_format: { type: "json_schema", json_schema },
    });
    const { content } = await aiSdk.doGenerate({
      prompt: [{ role: "user", content: [{ type: "text", text: "Rate it" }] }],
      responseFormat: { type: "json", schema },
    });
    const plain = await session();
    const bad = { type: "json_schema", json_schema: { name: "bad", schema: { type: "colour" } } };
    const refused = await openai.chat.completions
      .create({ ...request, response_format: bad })
      .catch((/** @type {any} */ { status, code }) => [status, code]);
    return [
      chat.choices[0].message.content,
      content[0].text,
      await plain.prompt("Rate it", { responseConstraint: schema }),
      await plain.prompt("Rate it", { responseConstraint: /^[1-5] stars$/ }),
      refused,
    ];
  });
  for (const text of [chatted, ai, prompt]) assertRating(text);
  assert.match(matched, /^[1-5] stars$/);
  assert.deepEqual(refused, [400, "bad_grammar"]);
});

test("ai warns of settings without effect", async () => {
  const warnings = await onPage(async ({ aiSdk, generateText }) => {
    const request = { model: aiSdk, prompt: "Hello", maxOutputTokens: 2, maxRetries: 0 };
    /** @type {any} */ (globalThis).AI_SDK_LOG_WARNINGS = false;
    const { warnings } = await generateText({ ...request, presencePenalty: 1 });
    return warnings;
  });
  assert.deepEqual(warnings, [{ type: "unsupported", feature: "presencePenalty" }]);
});
