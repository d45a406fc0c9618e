// @ts-check
// A language model of the AI SDK (npm's `ai`) that runs on this page. It implements version 4 of the SDK's interface
// for language models, as ai 7 has it. Types and documentation: ai_sdk.d.ts.

import { anySignal } from "../signals.js";
import { begun, loaded, run, streamOf } from "./runs.js";

/** @import { ChatMessage, GenerateOptions, RunSummary } from "../zamba2.d.ts" */
/** @import { Run } from "./runs.js" */
/** @import * as api from "./ai_sdk.d.ts" */

/** The marker by which the SDK recognises its errors, also those of other copies of its packages. */
const MARK = "vercel.ai.error";
const UNSUPPORTED = "AI_UnsupportedFunctionalityError";

/** The SDK's error for unsupported functionality. */
class UnsupportedError extends Error {
  /** @param {string} functionality @param {string} message */
  constructor(functionality, message) {
    super(message);
    this.name = UNSUPPORTED;
    this.functionality = functionality;
    Object.assign(this, { [Symbol.for(MARK)]: true, [Symbol.for(`${MARK}.${UNSUPPORTED}`)]: true });
  }
}

/** @type {typeof api.createLanguageModel} */
export function createLanguageModel(model, { model: modelId = "zamba2", defaults = {} } = {}) {
  /** @param {api.CallOptions} options @param {AbortController} controller */
  async function started(options, controller) {
    const { messages, own, warnings } = parsed(options);
    const { abortSignal } = options;
    const signal = abortSignal ? anySignal([abortSignal, controller.signal]) : controller.signal;
    signal.throwIfAborted();
    const ready = await loaded(model, signal);
    const all = { max_tokens: ready.info.context, ...defaults, ...own };
    return { pieces: await begun(run(ready, { messages }, all, signal)), warnings, signal };
  }
  const metadata = () => ({ timestamp: new Date(), modelId });

  return {
    specificationVersion: "v4",
    provider: "zamba2",
    modelId,
    supportedUrls: {},

    async doGenerate(options) {
      const { pieces, warnings } = await started(options, new AbortController());
      let text = "";
      let next = await pieces.next();
      for (; !next.done; next = await pieces.next()) text += next.value.text;
      const ending = endOf(next.value);
      return { content: [{ type: "text", text }], ...ending, warnings, response: metadata() };
    },

    async doStream(options) {
      const controller = new AbortController();
      const { pieces, warnings, signal } = await started(options, controller);
      return { stream: streamOf(parts(pieces, warnings, metadata(), signal), controller) };
    },
  };
}

/**
 * @param {Run} pieces @param {api.Warning[]} warnings @param {{ timestamp: Date, modelId: string }} metadata
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<api.StreamPart, void, void>}
 */
async function* parts(pieces, warnings, metadata, signal) {
  const id = "0";
  yield { type: "stream-start", warnings };
  yield { type: "response-metadata", ...metadata };
  yield { type: "text-start", id };
  try {
    let next = await pieces.next();
    for (; !next.done; next = await pieces.next()) {
      const { text } = next.value;
      if (text !== "") yield { type: "text-delta", id, delta: text };
    }
    yield { type: "text-end", id };
    yield { type: "finish", ...endOf(next.value) };
  } catch (error) {
    // The SDK detects aborts by the stream's own error.
    if (signal.aborted) throw error;
    yield { type: "error", error };
  }
}

/** @param {RunSummary} summary @returns {Pick<api.GenerateResult, "finishReason" | "usage">} */
function endOf({ reason, prompt_tokens, cached_tokens, tokens }) {
  const cached = cached_tokens ?? 0;
  const unified = reason === "eos" || reason === "stop" ? "stop" : "length";
  return {
    finishReason: { unified, raw: reason },
    usage: {
      inputTokens: {
        total: prompt_tokens,
        noCache: prompt_tokens === undefined ? undefined : prompt_tokens - cached,
        cacheRead: cached,
        cacheWrite: undefined,
      },
      outputTokens: { total: tokens, text: tokens, reasoning: undefined },
    },
  };
}

/**
 * The conversation, the options of the run, and warnings for settings that have no effect.
 * @param {api.CallOptions} options
 * @returns {{ messages: ChatMessage[], own: GenerateOptions, warnings: api.Warning[] }}
 */
function parsed(options) {
  const { prompt, responseFormat, tools, toolChoice, providerOptions } = options;
  if (toolChoice?.type === "required" || toolChoice?.type === "tool") {
    throw new UnsupportedError("toolChoice", "Tools are not supported, so none can be required.");
  }
  /** @type {Record<string, unknown>} */
  const unsupported = {
    frequencyPenalty: options.frequencyPenalty || undefined,
    presencePenalty: options.presencePenalty || undefined,
    tools: tools?.length || undefined,
    reasoning: ["provider-default", "none"].includes(options.reasoning ?? "none") ? undefined : options.reasoning,
  };
  /** @type {GenerateOptions} */
  const own = {
    max_tokens: options.maxOutputTokens,
    temperature: options.temperature,
    stop: options.stopSequences,
    top_p: options.topP,
    top_k: options.topK,
    seed: options.seed,
    ...providerOptions?.zamba2,
    ...(responseFormat?.type === "json" && { json_schema: responseFormat.schema ?? { type: "object" } }),
  };
  return {
    messages: prompt.map(chatMessage),
    own: Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined)),
    warnings: Object.entries(unsupported).flatMap(([feature, value]) =>
      value === undefined ? [] : [{ type: "unsupported", feature }],
    ),
  };
}

/** @param {api.Message} message @returns {ChatMessage} */
function chatMessage({ role, content }) {
  if (typeof content === "string") return { role, content };
  const texts = content.map((part) => {
    if (part.type === "text" && role !== "tool") return part.text ?? "";
    throw new UnsupportedError(part.type, `Content of the type '${part.type}' is not supported; only text is.`);
  });
  return { role, content: texts.join("") };
}
