// @ts-check
// Converts input of the Prompt API to messages of the engine, with the checks and exceptions that the API specifies.

/** @import { ChatMessage } from "../zamba2.d.ts" */
/** @import * as api from "./prompt_api.d.ts" */
/** @typedef {{ messages: ChatMessage[], prefix: string }} Input  `prefix` begins the answer; empty if nothing does */

const ROLES = ["system", "user", "assistant"];
const TYPES = ["text", "image", "audio", "tool-call", "tool-response"];

/**
 * @param {api.LanguageModelPrompt} input
 * @param {{ is_first: boolean, takes_prefix: boolean }} place  whether the session is empty; whether an answer follows
 * @returns {Input}
 */
export function canonicalInput(input, { is_first, takes_prefix }) {
  const given = Array.isArray(input) ? input : [{ role: /** @type {const} */ ("user"), content: String(input) }];
  if (given.length === 0) throw new DOMException("There is no message.", "SyntaxError");
  let prefix = "";
  /** @type {ChatMessage[]} */
  const messages = [];
  for (const [i, message] of given.entries()) {
    const { role } = message;
    if (!ROLES.includes(role)) throw new TypeError(`'${role}' is not a role: ${ROLES.join(", ")}.`);
    if (role === "system" && !(is_first && i === 0)) {
      throw new TypeError("A system prompt has to be the first message of its session.");
    }
    const content = textOf(message);
    if (!message.prefix) {
      messages.push({ role, content });
      continue;
    }
    if (role !== "assistant" || i !== given.length - 1 || !takes_prefix) {
      throw new DOMException("Only the last message before an answer can be its prefix, as assistant.", "SyntaxError");
    }
    prefix = content;
  }
  return { messages, prefix };
}

/** @param {api.LanguageModelMessage} message */
function textOf({ content }) {
  if (!Array.isArray(content)) return String(content);
  const texts = content.map(({ type, value }) => {
    if (!TYPES.includes(type)) throw new TypeError(`'${type}' is not a type of content: ${TYPES.join(", ")}.`);
    if (type !== "text") throw new DOMException(`Content of the type '${type}' is not supported.`, "NotSupportedError");
    if (typeof value !== "string") throw new TypeError("The value of text content is not a string.");
    return value;
  });
  return texts.join("");
}

/**
 * Why a session with these options cannot be created; null if it can. Throws for options that are invalid.
 * @param {api.LanguageModelCreateCoreOptions} options @returns {string | null}
 */
export function unsupportedOption({ expectedInputs = [], expectedOutputs = [], tools = [] }) {
  const expected = [...expectedInputs, ...expectedOutputs];
  // The languages of a model are unknown here; a RangeError reports a tag that is not a language.
  for (const { languages = [] } of expected) Intl.getCanonicalLocales([...languages]);
  const { type } = expected.find(({ type }) => type !== "text") ?? {};
  if (type !== undefined) return `Content of the type '${type}' is not supported.`;
  return tools.length > 0 ? "Tools are not supported." : null;
}
