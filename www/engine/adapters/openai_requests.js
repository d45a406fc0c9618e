// @ts-check
// Converts requests of OpenAI's HTTP API to prompts and options of the engine. An unsupported parameter that would
// change the answer is refused by name; parameters for the operator of a service have no effect. The engine checks
// types and ranges of its own options.

import { Refusal } from "./refusals.js";

/** @import { ChatMessage, GenerateOptions, Prompt } from "../zamba2.d.ts" */
/**
 * @typedef {object} ParsedRequest
 * @property {Prompt} prompt
 * @property {GenerateOptions} options
 * @property {number | null} default_max_tokens  null: as many as the context holds
 * @property {boolean} stream
 * @property {boolean} include_usage  in a chunk at the end of the stream
 * @property {boolean} logprobs
 * @property {number} n_top  alternatives of each token
 */
/** @typedef {Record<string, unknown>} Body */

/** Options with the same names in the engine; the last three are not OpenAI's. */
const ENGINE_OPTIONS = ["temperature", "top_p", "seed", "top_k", "min_p", "repetition_penalty"];
/** Handled below. */
const COMMON = ["model", "stream", "stream_options", "stop", "max_tokens", ...ENGINE_OPTIONS];
const CHAT = [...COMMON, "messages", "max_completion_tokens", "logprobs", "top_logprobs", "response_format"];
const COMPLETION = [...COMMON, "prompt", "logprobs"];

/** For the operator of a service only. */
const WITHOUT_EFFECT = new Set([
  "metadata",
  "prompt_cache_key",
  "prompt_cache_options",
  "prompt_cache_retention",
  "safety_identifier",
  "service_tier",
  "user",
]);

/** Values of unsupported parameters that request nothing, as JSON. @type {Record<string, string[]>} */
const ASKS_FOR_NOTHING = {
  best_of: ["1"],
  echo: ["false"],
  frequency_penalty: ["0"],
  function_call: ['"none"'],
  functions: ["[]"],
  logit_bias: ["{}"],
  modalities: ['["text"]'],
  n: ["1"],
  parallel_tool_calls: ["true", "false"],
  presence_penalty: ["0"],
  reasoning_effort: ['"none"'],
  store: ["false"],
  suffix: ['""'],
  tool_choice: ['"none"', '"auto"'],
  tools: ["[]"],
  verbosity: ['"medium"'],
};

/** OpenAI's own limits, and its default for completions. */
const MOST_CHAT_LOGPROBS = 20;
const MOST_COMPLETION_LOGPROBS = 5;
const COMPLETION_MAX_TOKENS = 16;

/** @param {Body} body @returns {ParsedRequest} */
export function chatRequest(body) {
  checkParameters(body, CHAT);
  const messages = chatMessages(body.messages);
  const logprobs = flag(body, "logprobs");
  const n_top = wholeNumber(body, "top_logprobs", MOST_CHAT_LOGPROBS) ?? 0;
  if (n_top > 0 && !logprobs) throw wrong("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.");
  const max_tokens = body.max_completion_tokens ?? body.max_tokens;
  return {
    prompt: { messages },
    options: { ...commonOptions(body, logprobs, n_top, max_tokens), ...responseFormat(body.response_format) },
    default_max_tokens: null,
    ...streaming(body),
    logprobs,
    n_top,
  };
}

/** @param {Body} body @returns {ParsedRequest} */
export function completionRequest(body) {
  checkParameters(body, COMPLETION);
  const n_top = wholeNumber(body, "logprobs", MOST_COMPLETION_LOGPROBS);
  const logprobs = n_top !== null;
  return {
    prompt: textPrompt(body.prompt),
    options: commonOptions(body, logprobs, n_top ?? 0, body.max_tokens),
    default_max_tokens: COMPLETION_MAX_TOKENS,
    ...streaming(body),
    logprobs,
    n_top: n_top ?? 0,
  };
}

/** @param {Body} body @param {string[]} handled */
function checkParameters(body, handled) {
  for (const [name, value] of Object.entries(body)) {
    if (value === null || handled.includes(name) || WITHOUT_EFFECT.has(name)) continue;
    if (ASKS_FOR_NOTHING[name]?.includes(JSON.stringify(value))) continue;
    throw new Refusal(name, `The parameter '${name}' is not supported${hint(name)}.`, "unsupported_parameter");
  }
}

/** @param {string} name */
function hint(name) {
  const allowed = ASKS_FOR_NOTHING[name];
  if (name.endsWith("_penalty")) return "; the engine has 'repetition_penalty'";
  return allowed ? `, except with the value ${allowed.join(" or ")}` : "";
}

/**
 * @param {Body} body @param {boolean} logprobs @param {number} n_top @param {unknown} max_tokens
 * @returns {GenerateOptions}
 */
function commonOptions(body, logprobs, n_top, max_tokens) {
  /** @type {Record<string, unknown>} */
  const options = {};
  for (const name of ENGINE_OPTIONS) if (body[name] != null) options[name] = body[name];
  if (max_tokens != null) options.max_tokens = max_tokens;
  if (body.stop != null) options.stop = typeof body.stop === "string" ? [body.stop] : body.stop;
  // The engine returns a token's own probability with the list of its alternatives.
  if (logprobs) options.alternatives = Math.max(n_top, 1);
  return options;
}

/** @param {Body} body */
function streaming(body) {
  const options = /** @type {Body} */ (body.stream_options ?? {});
  if (typeof options !== "object") throw wrong("stream_options", "'stream_options' is not an object.");
  for (const name of Object.keys(options)) {
    // Obfuscation pads chunks against eavesdroppers on a network; here there is no network.
    if (name === "include_usage" || name === "include_obfuscation") continue;
    throw new Refusal(`stream_options.${name}`, `'stream_options.${name}' is not supported.`, "unsupported_parameter");
  }
  return { stream: flag(body, "stream"), include_usage: options.include_usage === true };
}

/** @param {any} format @returns {GenerateOptions} */
function responseFormat(format) {
  switch (format?.type) {
    case undefined:
      if (format == null) return {};
      throw wrong("response_format", "'response_format' has no type.");
    case "text":
      return {};
    case "json_object":
      return { json_schema: { type: "object" } };
    case "json_schema":
      return { json_schema: format.json_schema?.schema ?? true };
    default:
      throw wrong("response_format.type", `'${format.type}' is not supported.`);
  }
}

/** @param {unknown} messages @returns {ChatMessage[]} */
function chatMessages(messages) {
  if (!Array.isArray(messages) || messages.length === 0)
    throw wrong("messages", "'messages' is not a list of messages.");
  return messages.map((message, i) => chatMessage(Object(message), `messages[${i}]`));
}

/** @param {Body} message @param {string} param @returns {ChatMessage} */
function chatMessage(message, param) {
  for (const [name, value] of Object.entries(message)) {
    if (name === "role" || name === "content" || value === null) continue;
    if (Array.isArray(value) && value.length === 0) continue;
    throw new Refusal(`${param}.${name}`, `'${name}' in a message is not supported.`, "unsupported_parameter");
  }
  const { role, content } = message;
  if (!["system", "developer", "user", "assistant"].includes(String(role))) {
    throw wrong(`${param}.role`, `The role '${role}' is not supported. Use system, developer, user or assistant.`);
  }
  return { role: role === "developer" ? "system" : String(role), content: messageText(content, `${param}.content`) };
}

/** @param {unknown} content @param {string} param */
function messageText(content, param) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) throw wrong(param, "The content is neither a text nor a list of parts.");
  const texts = content.map((part, i) => {
    if (part?.type === "text" && typeof part.text === "string") return part.text;
    throw wrong(`${param}[${i}].type`, `Content of the type '${part?.type}' is not supported; only text is.`);
  });
  return texts.join("");
}

/** A text, token ids, or a list with one of these. @param {unknown} prompt @returns {Prompt} */
function textPrompt(prompt) {
  if (typeof prompt === "string") return prompt;
  if (Array.isArray(prompt) && prompt.length > 0) {
    if (prompt.every((id) => typeof id === "number")) return prompt;
    if (prompt.length === 1) return textPrompt(prompt[0]);
    throw wrong("prompt", "Several prompts in one request are not supported. Send a request for each.");
  }
  throw wrong("prompt", "'prompt' is neither a text nor a list of token ids.");
}

/** @param {Body} body @param {string} name @returns {boolean} */
function flag(body, name) {
  const value = body[name] ?? false;
  if (typeof value !== "boolean") throw wrong(name, `'${name}' is neither true nor false.`);
  return value;
}

/** @param {Body} body @param {string} name @param {number} most @returns {number | null} */
function wholeNumber(body, name, most) {
  const value = body[name] ?? null;
  if (value === null) return null;
  if (Number.isInteger(value) && Number(value) >= 0 && Number(value) <= most) return Number(value);
  throw wrong(name, `'${name}' is not a whole number from 0 to ${most}.`);
}

/** @param {string} param @param {string} message */
const wrong = (param, message) => new Refusal(param, message, "invalid_value");
