import type { GenerateOptions, Model } from "../zamba2.d.ts";

export interface FetchOptions {
  /** The model's name in requests and answers. Default "zamba2". */
  model?: string;
  /** Options of `generate` for what a request leaves open, such as `{ temperature: 1 }`. */
  defaults?: GenerateOptions;
}

/**
 * A `fetch` that answers OpenAI's HTTP API with a model on this page, for clients that take a `fetch`:
 *
 * ```js
 * import OpenAI from "openai";
 * import { load } from "zamba2-web";
 * import { createFetch } from "zamba2-web/openai";
 * const fetch = createFetch(load({ source: "/models/my-model/" }));
 * const client = new OpenAI({ baseURL: "http://zamba2/v1", apiKey: "none", fetch, dangerouslyAllowBrowser: true });
 * ```
 *
 * `POST …/chat/completions`, `POST …/completions`, `GET …/models` and `GET …/models/NAME` are answered, whatever the
 * address is before them. Requests wait for one another. What is not supported is refused with status 400 and the name
 * of the parameter.
 */
export function createFetch(model: Model | PromiseLike<Model>, options?: FetchOptions): typeof globalThis.fetch;
