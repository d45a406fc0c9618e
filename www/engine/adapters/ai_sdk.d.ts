import type { GenerateOptions, Model } from "../zamba2.d.ts";

export interface LanguageModelOptions {
  /** The model's name, which the SDK reports. Default "zamba2". */
  model?: string;
  /** Options of `generate` for what a call leaves open. */
  defaults?: GenerateOptions;
}

/**
 * A language model for the AI SDK (npm's `ai`, version 7), which runs on this page:
 *
 * ```js
 * import { streamText } from "ai";
 * import { load } from "zamba2-web";
 * import { createLanguageModel } from "zamba2-web/ai-sdk";
 * const model = createLanguageModel(load({ source: "/models/my-model/" }));
 * const { textStream } = streamText({ model, prompt: "Hello" });
 * ```
 *
 * Calls wait for one another. Settings without effect are the SDK's warnings; content other than text, required tools
 * and structured output reject with the SDK's UnsupportedFunctionalityError. `providerOptions.zamba2` takes further
 * options of `generate`.
 */
export function createLanguageModel(
  model: Model | PromiseLike<Model>,
  options?: LanguageModelOptions,
): ZambaLanguageModel;

/** The part of the SDK's `LanguageModelV4` that is implemented; assignable to it. */
export interface ZambaLanguageModel {
  readonly specificationVersion: "v4";
  readonly provider: string;
  readonly modelId: string;
  readonly supportedUrls: Record<string, RegExp[]>;
  doGenerate(options: CallOptions): Promise<GenerateResult>;
  doStream(options: CallOptions): Promise<{ stream: ReadableStream<StreamPart> }>;
}

/** The SDK's options of a call, as far as they are used. */
export interface CallOptions {
  prompt: Message[];
  maxOutputTokens?: number;
  temperature?: number;
  stopSequences?: string[];
  topP?: number;
  topK?: number;
  seed?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  reasoning?: string;
  responseFormat?: { type: "text" } | { type: "json"; schema?: object };
  tools?: object[];
  toolChoice?: { type: "auto" | "none" | "required" } | { type: "tool"; toolName: string };
  providerOptions?: Record<string, object>;
  abortSignal?: AbortSignal;
}

export interface Message {
  role: "system" | "user" | "assistant" | "tool";
  content: string | { type: string; text?: string }[];
}

export interface Warning {
  type: "unsupported";
  feature: string;
}

export interface Ending {
  finishReason: { unified: "stop" | "length"; raw: string };
  usage: {
    inputTokens: {
      total: number | undefined;
      noCache: number | undefined;
      cacheRead: number | undefined;
      cacheWrite: undefined;
    };
    outputTokens: { total: number; text: number; reasoning: undefined };
  };
}

export interface ResponseMetadata {
  timestamp: Date;
  modelId: string;
}

export interface GenerateResult extends Ending {
  content: { type: "text"; text: string }[];
  warnings: Warning[];
  response: ResponseMetadata;
}

export type StreamPart =
  | { type: "stream-start"; warnings: Warning[] }
  | ({ type: "response-metadata" } & ResponseMetadata)
  | { type: "text-start" | "text-end"; id: string }
  | { type: "text-delta"; id: string; delta: string }
  | ({ type: "finish" } & Ending)
  | { type: "error"; error: unknown };
