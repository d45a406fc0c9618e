// @ts-check
// A `fetch` that answers requests of OpenAI's HTTP API with a model on this page: chat completions, completions and the
// list of models. Nothing is sent anywhere. Types and documentation: openai.d.ts.

import { anySignal } from "../signals.js";
import { badRequest, errorResponse, jsonResponse } from "./openai_errors.js";
import { chatRequest, completionRequest } from "./openai_requests.js";
import { chatFormat, completionFormat, events, whole } from "./openai_responses.js";
import { begun, loaded, run, streamOf } from "./runs.js";

/** @import * as api from "./openai.d.ts" */
/** @import { Model } from "../zamba2.d.ts" */
/** @import { ParsedRequest } from "./openai_requests.js" */
/** @import { Format } from "./openai_responses.js" */

/** The end of a path, after the client's base address. */
const ROUTE = /\/(chat\/completions|completions|models)(?:\/([^/]+))?\/?$/;

/** @type {Record<string, { parsed: (body: Record<string, unknown>) => ParsedRequest, format: Format }>} */
const POSTS = {
  "chat/completions": { parsed: chatRequest, format: chatFormat },
  completions: { parsed: completionRequest, format: completionFormat },
};

/** @type {typeof api.createFetch} */
export function createFetch(model, { model: name = "zamba2", defaults = {} } = {}) {
  const created_s = nowSeconds();
  return async (input, init) => {
    const request = new Request(input, init);
    const signal = init?.signal ?? request.signal;
    signal.throwIfAborted();
    try {
      return await answer(request, signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      return errorResponse(error);
    }
  };

  /** @param {Request} request @param {AbortSignal} signal */
  async function answer(request, signal) {
    const { pathname } = new URL(request.url);
    const [, route, item] = ROUTE.exec(pathname) ?? [];
    if (route === "models") return models(request.method, item);
    const post = POSTS[item === undefined ? route : ""];
    if (!post) throw badRequest(404, null, "unknown_url", `Unknown request URL: ${request.method} ${pathname}.`);
    if (request.method !== "POST") throw wrongMethod(request.method, "POST");
    const body = await jsonOf(request);
    if (typeof body.model !== "string") throw badRequest(400, "model", "missing_required_parameter", "Name a model.");
    checkName(body.model);
    const parsed = post.parsed(body);
    return complete(await loaded(model, signal), parsed, post.format, signal);
  }

  /** @param {Model} ready @param {ParsedRequest} parsed @param {Format} format @param {AbortSignal} signal */
  async function complete(ready, parsed, format, signal) {
    const { context, eos_token_ids } = ready.info;
    const options = { max_tokens: parsed.default_max_tokens ?? context, ...defaults, ...parsed.options };
    const controller = new AbortController();
    const ended = anySignal([signal, controller.signal]);
    const pieces = await begun(run(ready, parsed.prompt, options, ended));
    const head = { id: `${format.prefix}-${randomId()}`, created: nowSeconds(), model: name };
    const reply = { head, format, parsed, pieces, end_tokens: new Set(eos_token_ids), signal: ended };
    if (!parsed.stream) return jsonResponse(await whole(reply));
    const stream = streamOf(events(reply), controller).pipeThrough(new TextEncoderStream());
    return new Response(stream, { headers: { "Content-Type": "text/event-stream; charset=utf-8" } });
  }

  /** @param {string} method @param {string | undefined} item */
  function models(method, item) {
    if (method !== "GET") throw wrongMethod(method, "GET");
    const entry = { id: name, object: "model", created: created_s, owned_by: "zamba2-web" };
    if (item === undefined) return jsonResponse({ object: "list", data: [entry] });
    checkName(decodeURIComponent(item));
    return jsonResponse(entry);
  }

  /** @param {string} asked */
  function checkName(asked) {
    if (asked === name) return;
    throw badRequest(404, "model", "model_not_found", `The model '${asked}' does not exist. The model is '${name}'.`);
  }
}

/** @param {Request} request @returns {Promise<Record<string, unknown>>} */
async function jsonOf(request) {
  const text = await request.text();
  try {
    const body = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) return body;
  } catch {
    // Refused below, like other values.
  }
  throw badRequest(400, null, "invalid_json", "The body of the request is not a JSON object.");
}

/** @param {string} method @param {string} allowed */
const wrongMethod = (method, allowed) =>
  badRequest(405, null, "method_not_allowed", `The method is ${method} instead of ${allowed}.`);

const nowSeconds = () => Math.floor(Date.now() / 1000);

/** `crypto.randomUUID` is missing in insecure contexts. */
const randomId = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");
