// @ts-check
// What adapters refuse, and messages for errors. Messages are English, as in all of these protocols; programs use the
// codes and the names of parameters.

/** A request for something that is not supported, or that is invalid. */
export class Refusal extends Error {
  /** @param {string | null} param  the parameter at fault @param {string} message @param {string} [code] */
  constructor(param, message, code = "unsupported_value") {
    super(message);
    this.name = "Refusal";
    this.param = param;
    this.code = code;
  }
}

/** The engine's errors that are caused by the request. */
const OF_THE_REQUEST = new Set([
  "bad_chat_template",
  "bad_grammar",
  "bad_option",
  "bad_prompt_token",
  "chat_refused",
  "empty_prompt",
  "no_chat_template",
  "prompt_too_long",
]);

/** The code of an error of the engine; null for other errors. @param {unknown} error @returns {string | null} */
export function engineCode(error) {
  const { name, code } = /** @type {{ name?: unknown, code?: unknown }} */ (Object(error));
  return name === "Zamba2Error" && typeof code === "string" ? code : null;
}

/** @param {unknown} error */
export const isOfTheRequest = (error) => error instanceof Refusal || OF_THE_REQUEST.has(engineCode(error) ?? "");

/** What happened and what to do next. @param {unknown} error @returns {string} */
export function explained(error) {
  const { message, nextStep } = /** @type {{ message?: string, nextStep?: string }} */ (Object(error));
  const what = message ?? String(error);
  return nextStep ? `${what}. ${nextStep}` : what;
}
