// The AI SDK's streamText with a model on this page.

import { streamText } from "ai";
import { load } from "zamba2-web";
import { createLanguageModel } from "zamba2-web/ai-sdk";

const [form, input, send, stop, status, answer] = ["form", "input", "button", "[type=button]", "p", "pre"].map(
  (selector) => document.querySelector(selector),
);
const source = new URLSearchParams(location.search).get("model") ?? "hf://Zyphra/Zamba2-1.2B-Instruct-v2";

const loading = load({ source, weights: "q4" });
const model = createLanguageModel(loading);
const show = (text) => (status.textContent = text);
loading.then(
  () => {
    show("Ready");
    send.disabled = false;
  },
  (error) => show(`${error.message}. ${error.nextStep ?? ""}`),
);

form.onsubmit = async (event) => {
  event.preventDefault();
  const controller = new AbortController();
  stop.onclick = () => controller.abort();
  [send.disabled, stop.disabled] = [true, false];
  answer.textContent = "";
  const onError = ({ error }) => show(error.message);
  const stream = streamText({ model, prompt: input.value, abortSignal: controller.signal, onError });
  for await (const text of stream.textStream) answer.append(text);
  if (!controller.signal.aborted) {
    const { inputTokens, outputTokens } = await stream.usage;
    show(`${inputTokens} tokens read, ${outputTokens} written`);
  }
  [send.disabled, stop.disabled] = [false, true];
};
