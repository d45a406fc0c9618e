// @ts-check
// The Prompt API of the packed tarball, used as its explainer does in its examples, and in their order.

import assert from "node:assert/strict";
import { test } from "node:test";

import { adaptersPage } from "./adapters_page.js";

const { onPage } = await adaptersPage("prompt_api");

/** The context of the page's models. */
const CONTEXT = 256;

test("zero-shot prompts are answered, as a whole and as a stream", async () => {
  const { whole, streamed, n_chunks, window } = await onPage(async ({ session }) => {
    const first = await session();
    const whole = await first.prompt("What is ownership?");
    let streamed = "";
    let n_chunks = 0;
    for await (const chunk of (await session()).promptStreaming("What is ownership?")) {
      streamed += chunk;
      n_chunks += 1;
    }
    return { whole, streamed, n_chunks, window: first.contextWindow };
  });
  assert.ok(whole.length > 10, whole);
  assert.equal(streamed, whole);
  assert.ok(n_chunks > 2);
  assert.equal(window, CONTEXT);
});

test("a system prompt is the same when created, appended or prompted, and stands only at the start", async () => {
  const { answers, thrown } = await onPage(async ({ session }) => {
    const system = { role: "system", content: "Write about traits." };
    const user = { role: "user", content: "What is ownership?" };
    const created = await session({ initialPrompts: [system] });
    const appended = await session();
    await appended.append([system]);
    const prompted = await session();
    const answers = [
      await created.prompt("What is ownership?"),
      await appended.prompt([user]),
      await prompted.prompt([system, user]),
      await (await session()).prompt("What is ownership?"),
    ];
    const late = await Promise.allSettled([
      created.prompt([system, user]),
      created.append([system]),
      session({ initialPrompts: [user, system] }),
      created.prompt([{ role: "robot", content: "" }]),
    ]);
    return { answers, thrown: late.map((result) => result.status === "rejected" && result.reason.name) };
  });
  const [created, appended, prompted, without] = answers;
  assert.deepEqual([appended, prompted], [created, created]);
  assert.notEqual(without, created);
  assert.deepEqual(thrown, ["TypeError", "TypeError", "TypeError", "TypeError"]);
});

test("clones of a session with examples answer each for itself", async () => {
  const { clones, direct, usage } = await onPage(async ({ session }) => {
    const initialPrompts = [
      { role: "system", content: "Name a type." },
      { role: "user", content: "An array that grows" },
      { role: "assistant", content: "Vec" },
    ];
    const shots = await session({ initialPrompts });
    const before = shots.contextUsage;
    const ask = async (/** @type {string} */ text) => (await shots.clone()).prompt(text);
    const clones = await Promise.all([ask("A set of keys"), ask("Text")]);
    const direct = await (await session({ initialPrompts })).prompt("Text");
    return { clones, direct, usage: [before, shots.contextUsage] };
  });
  assert.equal(clones[1], direct);
  assert.equal(usage[0], usage[1]);
  assert.ok(usage[0] > 10);
});

test("roles can be given per prompt, also of several messages and with an answer at the end", async () => {
  const answer = await onPage(async ({ session }) =>
    (await session()).prompt([
      {
        role: "user",
        content: [
          { type: "text", value: "Is Vec " },
          { type: "text", value: "on the heap?" },
        ],
      },
      { role: "user", content: "And Box?" },
      { role: "assistant", content: "Both are." },
    ]),
  );
  assert.ok(answer.length > 0);
});

test("tools, images and audio are refused as unsupported", async () => {
  const { names, availability } = await onPage(async ({ session }, LanguageModel) => {
    const plain = await session();
    const image = [{ role: "user", content: [{ type: "image", value: new ImageData(1, 1) }] }];
    const tools = [{ name: "f", description: "", inputSchema: {}, execute: async () => "" }];
    const attempts = await Promise.allSettled([
      session({ tools }),
      session({ expectedInputs: [{ type: "image" }] }),
      plain.prompt(image),
      plain.prompt("A rating", { omitResponseConstraintInput: true }),
    ]);
    return {
      names: attempts.map((result) => result.status === "rejected" && result.reason.name),
      availability: [
        await LanguageModel.availability(),
        await LanguageModel.availability({ expectedInputs: [{ type: "text", languages: ["en", "ja"] }] }),
        await LanguageModel.availability({ expectedInputs: [{ type: "audio" }] }),
        await LanguageModel.availability({ expectedInputs: [{ type: "text", languages: ["no language"] }] }).catch(
          (/** @type {Error} */ { name }) => name,
        ),
      ],
    };
  });
  assert.deepEqual(names, [...Array(3).fill("NotSupportedError"), "TypeError"]);
  assert.deepEqual(availability, ["available", "available", "unavailable", "RangeError"]);
});

test("an answer continues a prefix as the engine continues the same text", async () => {
  const { answer, expected, second, thrown } = await onPage(async ({ session, sentences }) => {
    const question = { role: "user", content: "What is ownership?" };
    const one = await session();
    const answer = await one.prompt([question, { role: "assistant", content: "Ownership is", prefix: true }]);
    const text = `${await sentences.renderChat([question])}Ownership is`;
    const ids = await sentences.tokenize(text, { special: false });
    let expected = "";
    for await (const piece of sentences.generate(ids, { temperature: 0 })) expected += piece;
    // The session keeps prefix and answer as one message.
    const kept = { role: "assistant", content: `Ownership is${answer}` };
    const other = await session({ initialPrompts: [question, kept] });
    const second = [await one.prompt("And borrowing?"), await other.prompt("And borrowing?")];
    const wrong = await Promise.allSettled([
      one.prompt([{ ...question, prefix: true }]),
      one.prompt([{ role: "assistant", content: "", prefix: true }, question]),
      one.prompt([]),
    ]);
    return {
      answer,
      expected,
      second,
      thrown: wrong.map((result) => result.status === "rejected" && result.reason.name),
    };
  });
  assert.ok(answer.length > 0);
  assert.equal(answer, expected);
  assert.equal(second[0], second[1]);
  assert.deepEqual(thrown, ["SyntaxError", "SyntaxError", "SyntaxError"]);
});

test("appended messages are part of the next prompt, and usage counts them", async () => {
  const { appended, whole, usage } = await onPage(async ({ session }) => {
    const messages = ["A struct is given.", "Which traits has it?"].map((content) => ({ role: "user", content }));
    const session1 = await session();
    const measured = await session1.measureContextUsage([messages[0]]);
    await session1.append([messages[0]]);
    const usage = [session1.contextUsage, measured, await session1.measureInputUsage("More"), session1.inputQuota];
    const appended = await session1.prompt([messages[1]]);
    return { appended, whole: await (await session()).prompt(messages), usage };
  });
  assert.equal(appended, whole);
  assert.ok(usage[0] > 0);
  assert.equal(usage[0], usage[1]);
  assert.ok(usage[2] > 0 && usage[2] < usage[0] + 20);
  assert.equal(usage[3], CONTEXT);
});

test("sampling modes and parameters are kept and checked", async () => {
  const { modes, raw, params, thrown } = await onPage(async (_, LanguageModel) => {
    const creative = await LanguageModel.create({ samplingMode: "creative" });
    const { temperature, topK } = await LanguageModel.create({ temperature: Infinity, topK: 3.7 });
    const wrong = await Promise.allSettled([
      LanguageModel.create({ temperature: -1 }),
      LanguageModel.create({ topK: 0 }),
      LanguageModel.create({ samplingMode: "creative", topK: 3 }),
      LanguageModel.create({ samplingMode: "wild" }),
    ]);
    return {
      modes: [creative.samplingMode, (await LanguageModel.create()).samplingMode],
      raw: [temperature, topK],
      params: await LanguageModel.params(),
      thrown: wrong.map((result) => result.status === "rejected" && result.reason.name),
    };
  });
  assert.deepEqual(modes, ["creative", "balanced"]);
  assert.deepEqual(raw, [params.maxTemperature, 3]);
  assert.ok(params.defaultTopK > 1 && params.maxTopK > params.defaultTopK);
  assert.deepEqual(thrown, ["RangeError", "RangeError", "TypeError", "TypeError"]);
});

test("a session remembers, prompts queue, and an aborted one leaves no trace", async () => {
  const result = await onPage(async ({ session }) => {
    const one = await session();
    const name = (/** @type {Error} */ { name }) => name;
    const controller = new AbortController();
    const queued = new AbortController();
    const running = one.prompt("What is a trait?", { signal: controller.signal }).catch(name);
    const waiting = one.prompt("What is a lifetime?", { signal: queued.signal }).catch(name);
    const last = one.prompt("What is ownership?");
    queued.abort();
    controller.abort();
    const aborted = [await running, await waiting];
    const first = await last;
    const usage = [one.contextUsage];
    const second = await one.prompt("And borrowing?");
    usage.push(one.contextUsage);
    const history = [
      { role: "user", content: "What is ownership?" },
      { role: "assistant", content: first },
    ];
    const other = await session({ initialPrompts: history });
    const stopped = new AbortController();
    const reader = one.promptStreaming("More", { signal: stopped.signal }).getReader();
    stopped.abort("enough");
    const reason = await reader.read().catch((/** @type {unknown} */ reason) => reason);
    return { aborted, usage, second, expected: await other.prompt("And borrowing?"), reason };
  });
  assert.deepEqual(result.aborted, ["AbortError", "AbortError"]);
  assert.equal(result.reason, "enough");
  assert.equal(result.second, result.expected);
  assert.ok(result.usage[1] > result.usage[0] && result.usage[0] > 0);
});

test("a session ends by its signal or by destroy, with its calls", async () => {
  const { names } = await onPage(async ({ session }) => {
    const name = (/** @type {Error} */ { name }) => name;
    const controller = new AbortController();
    const signalled = await session({ signal: controller.signal });
    const destroyed = await session();
    const calls = [signalled.prompt("One").catch(name), destroyed.prompt("Two").catch(name)];
    const stream = destroyed.promptStreaming("Three").getReader();
    controller.abort();
    destroyed.destroy();
    const names = await Promise.all([...calls, stream.read().catch(name)]);
    names.push(await destroyed.prompt("Four").catch(name), await destroyed.clone().catch(name));
    names.push(await session({ signal: controller.signal }).catch(name));
    return { names };
  });
  assert.deepEqual(names, [
    "AbortError",
    "AbortError",
    "AbortError",
    "InvalidStateError",
    "InvalidStateError",
    "AbortError",
  ]);
});

test("what is appended is read at once, and the prompt after it reads its own tokens alone", async () => {
  const { appended, prompted, usage } = await onPage(async ({ session, sentences }) => {
    const one = await session();
    await one.append([{ role: "user", content: "word ".repeat(80) }]);
    const [appended, usage] = [sentences.last, one.contextUsage];
    await one.prompt("What is ownership?");
    return { appended, prompted: sentences.last, usage };
  });
  // Up to where the template begins the answer, which the next message follows instead.
  assert.ok(appended.prompt_tokens > 80 && appended.prompt_tokens < usage && appended.tokens === 1);
  assert.equal(prompted.cached_tokens, appended.prompt_tokens);
});

test("an overflow removes the oldest exchanges, and what never fits is a QuotaExceededError", async () => {
  const { events, kept, expected, fault, initial } = await onPage(async ({ session }) => {
    const system = { role: "system", content: "Write about traits." };
    const one = await session({ initialPrompts: [system] });
    let events = 0;
    one.oncontextoverflow = () => (events += 1);
    const long = "word ".repeat(80);
    await one.append([{ role: "user", content: long }]);
    await one.append([{ role: "user", content: long }]);
    const usage = one.contextUsage;
    const fault = await one
      .prompt("word ".repeat(400))
      .catch((/** @type {any} */ { name, requested, quota }) => ({ name, requested, quota }));
    const unchanged = one.contextUsage === usage && events === 0;
    const user = { role: "user", content: "word ".repeat(100) };
    const kept = await one.prompt([user]);
    const fresh = await session({ initialPrompts: [system, { role: "user", content: long }] });
    const expected = await fresh.prompt([user]);
    const initial = await session({ initialPrompts: [{ role: "user", content: "word ".repeat(400) }] }).catch(
      (/** @type {Error} */ { name }) => name,
    );
    return { events, kept, expected, fault: { ...fault, unchanged }, initial };
  });
  assert.equal(fault.name, "QuotaExceededError");
  assert.equal(fault.quota, CONTEXT);
  assert.ok(fault.requested > CONTEXT && fault.unchanged);
  assert.equal(events, 1);
  assert.equal(kept, expected);
  assert.equal(initial, "QuotaExceededError");
});

test("a model that is loaded on demand reports its progress, and one without a template is unavailable", async () => {
  const result = await onPage(async ({ promptApi, loadOne }) => {
    const Chat = promptApi((/** @type {object} */ options) => loadOne("chat", options));
    const availability = [await Chat.availability()];
    /** @type {number[][]} */
    const progress = [];
    const creating = Chat.create({
      monitor: (/** @type {EventTarget} */ monitor) =>
        monitor.addEventListener("downloadprogress", (event) => {
          const { loaded, total } = /** @type {ProgressEvent} */ (event);
          progress.push([loaded, total]);
        }),
    });
    availability.push(await Chat.availability());
    await creating;
    availability.push(await Chat.availability());
    const Plain = promptApi(() => loadOne("rustdoc-5m"));
    const Missing = promptApi(() => loadOne("nothing"));
    const described = (/** @type {Error} */ { name, message }) => `${name}: ${message}`;
    const faults = [await Plain.create().catch(described), await Missing.create().catch(described)];
    return { availability, progress, faults, plain: await Plain.availability() };
  });
  assert.deepEqual(result.availability, ["downloadable", "downloading", "available"]);
  const { progress } = result;
  assert.deepEqual(
    [progress[0], progress.at(-1)],
    [
      [0, 1],
      [1, 1],
    ],
  );
  assert.ok(progress.length > 2);
  assert.ok(progress.every(([loaded], i) => i === 0 || loaded > progress[i - 1][0]));
  assert.match(result.faults[0], /^NotSupportedError: .*no chat template\. /);
  assert.match(result.faults[1], /^(NetworkError|OperationError): /);
  assert.equal(result.plain, "unavailable");
});
