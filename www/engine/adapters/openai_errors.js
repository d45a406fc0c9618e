// @ts-check
// Errors in the form of OpenAI's HTTP API: `{ error: { message, type, param, code } }` with a status.

import { engineCode, explained, isOfTheRequest, Refusal } from "./refusals.js";

/** Codes of OpenAI's API for codes of the engine. @type {Record<string, string>} */
const KNOWN_CODES = { prompt_too_long: "context_length_exceeded" };

/** An error with the status of its response. */
class StatusError extends Refusal {
  /** @param {number} status @param {string | null} param @param {string} code @param {string} message */
  constructor(status, param, code, message) {
    super(param, message, code);
    this.status = status;
  }
}

/** @param {number} status @param {string | null} param @param {string} code @param {string} message */
export const badRequest = (status, param, code, message) => new StatusError(status, param, code, message);

/** @param {unknown} error */
export function errorResponse(error) {
  const { status, body } = described(error);
  // Clients repeat requests after server errors; that helps only if the model was busy.
  const headers = { "x-should-retry": String(status === 503) };
  return jsonResponse({ error: body }, status, headers);
}

/**
 * `Response.json` needs Safari 17.
 * @param {object} body @param {number} [status] @param {Record<string, string>} [more]  headers
 */
export function jsonResponse(body, status = 200, more = {}) {
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json", ...more } });
}

/**
 * @param {unknown} error
 * @returns {{ status: number, body: { message: string, type: string, param: string | null, code: string | null } }}
 */
export function described(error) {
  const message = explained(error);
  if (error instanceof Refusal) {
    const status = error instanceof StatusError ? error.status : 400;
    return { status, body: { message, type: "invalid_request_error", param: error.param, code: error.code } };
  }
  const code = engineCode(error);
  if (isOfTheRequest(error)) {
    const { name } = /** @type {{ values: { name?: string } }} */ (error).values;
    const body = { message, type: "invalid_request_error", param: name ?? null, code: KNOWN_CODES[code ?? ""] ?? code };
    return { status: 400, body };
  }
  return { status: code === "busy" ? 503 : 500, body: { message, type: "server_error", param: null, code } };
}
