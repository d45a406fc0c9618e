import type { LoadProgress, Model } from "../zamba2.d.ts";

/** Loads the model when the first session is created; pass `onProgress` on to `load` for `downloadprogress` events. */
export type ModelLoader = (options: { onProgress: (progress: LoadProgress) => void }) => PromiseLike<Model>;
export type ModelSource = Model | PromiseLike<Model> | ModelLoader;

/**
 * The browser's Prompt API with a model on this page, for browsers that do not have one:
 *
 * ```js
 * import { load } from "zamba2-web";
 * import { createPromptApi } from "zamba2-web/prompt-api";
 * globalThis.LanguageModel ??= createPromptApi((options) => load({ source: "/models/my-model/", ...options }));
 * const session = await LanguageModel.create();
 * ```
 *
 * The checkpoint needs a chat template. Calls wait for one another. Images, audio, tools and `responseConstraint` are
 * refused with a NotSupportedError.
 */
export function createPromptApi(model: ModelSource): LanguageModelStatic;

export type Availability = "unavailable" | "downloadable" | "downloading" | "available";
export type LanguageModelSamplingMode = "most-predictable" | "predictable" | "balanced" | "creative" | "most-creative";

export interface LanguageModelStatic {
  create(options?: LanguageModelCreateOptions): Promise<LanguageModel>;
  availability(options?: LanguageModelCreateCoreOptions): Promise<Availability>;
  params(): Promise<{
    defaultTopK: number;
    maxTopK: number;
    defaultTemperature: number;
    maxTemperature: number;
  }>;
}

export interface LanguageModelExpected {
  type: "text" | "image" | "audio" | "tool-call" | "tool-response";
  /** Accepted without effect: the languages of a model are unknown. */
  languages?: readonly string[];
}

export interface LanguageModelCreateCoreOptions {
  samplingMode?: LanguageModelSamplingMode;
  temperature?: number;
  topK?: number;
  expectedInputs?: readonly LanguageModelExpected[];
  expectedOutputs?: readonly LanguageModelExpected[];
  tools?: readonly object[];
}

export interface LanguageModelCreateOptions extends LanguageModelCreateCoreOptions {
  initialPrompts?: readonly LanguageModelMessage[];
  /** Aborts the creation, and later ends the session. */
  signal?: AbortSignal;
  monitor?: (monitor: EventTarget) => void;
}

export interface LanguageModelMessage {
  role: "system" | "user" | "assistant";
  content: string | readonly LanguageModelContent[];
  /** Of the last message, of the role "assistant": the answer begins with it. */
  prefix?: boolean;
}

export interface LanguageModelContent {
  type: LanguageModelExpected["type"];
  value: unknown;
}

export type LanguageModelPrompt = string | readonly LanguageModelMessage[];

export interface LanguageModelPromptOptions {
  /** Not supported yet. */
  responseConstraint?: object;
  omitResponseConstraintInput?: boolean;
  signal?: AbortSignal;
}

/** A session, as in the API's explainer except for the differences in docs/adapters.md. */
export interface LanguageModel extends EventTarget {
  prompt(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<string>;
  promptStreaming(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): ReadableStream<string>;
  /** Keeps messages for the next prompt, which reads them. */
  append(input: LanguageModelPrompt, options?: { signal?: AbortSignal }): Promise<void>;
  measureContextUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number>;
  measureInputUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number>;
  clone(options?: { signal?: AbortSignal }): Promise<LanguageModel>;
  destroy(): void;
  /** In tokens, as everything here. */
  readonly contextUsage: number;
  readonly contextWindow: number;
  readonly inputUsage: number;
  readonly inputQuota: number;
  readonly topK: number;
  readonly temperature: number;
  readonly samplingMode: LanguageModelSamplingMode;
  oncontextoverflow: ((event: Event) => void) | null;
  onquotaoverflow: ((event: Event) => void) | null;
}
