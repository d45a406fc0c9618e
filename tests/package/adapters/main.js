// The clients that the adapters are for, each on the same model. The tests use what is exported here from outside; they
// wait for `clients`.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, streamText } from "ai";
import OpenAI from "openai";
import { load } from "zamba2-web";
import { createLanguageModel } from "zamba2-web/ai-sdk";
import { createFetch } from "zamba2-web/openai";
import { createPromptApi } from "zamba2-web/prompt-api";

const models = new URLSearchParams(location.search).get("models");
const loadOne = (name, more) =>
  load({
    source: `${models}/${name}/`,
    base: "./zamba2",
    keep: false,
    backend: "cpu",
    threads: 1,
    context: 256,
    ...more,
  });
const loading = loadOne("chat");

/** Greedy, so that equal prompts have equal answers. */
const defaults = { temperature: 0 };
const fetch = createFetch(loading, { defaults });
const baseURL = "http://zamba2/v1";
const clientOf = (fetch) =>
  new OpenAI({ baseURL, apiKey: "none", fetch, dangerouslyAllowBrowser: true, maxRetries: 0 });

const langchain = (fields) =>
  new ChatOpenAI({ model: "zamba2", apiKey: "none", maxRetries: 0, configuration: { baseURL, fetch }, ...fields });

/** With short answers. */
const sentences = loadOne("sentences");
globalThis.LanguageModel = createPromptApi(sentences);

globalThis.clients = loading.then(async () => ({
  sentences: await sentences,
  /** Sessions whose answers can be compared. */
  session: (options) => LanguageModel.create({ samplingMode: "most-predictable", ...options }),
  promptApi: createPromptApi,
  loadOne,
  OpenAI,
  openai: clientOf(fetch),
  /** On the model without a chat template. */
  plainOpenai: () => clientOf(createFetch(loadOne("rustdoc-5m"))),
  langchain,
  compatible: createOpenAICompatible({ name: "zamba2", baseURL, fetch, includeUsage: true })("zamba2"),
  aiSdk: createLanguageModel(loading, { defaults }),
  generateText,
  streamText,
}));
