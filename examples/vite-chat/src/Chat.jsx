import { useRef, useState } from "react";
import { useModel } from "./useModel.js";

export function Chat({ source }) {
  const { model, progress, error } = useModel(source);
  const [messages, setMessages] = useState([]);
  const [draft, setDraft] = useState("");
  const [running, setRunning] = useState(false);
  const stop = useRef(() => {});

  async function send(event) {
    event.preventDefault();
    const asked = [...messages, { role: "user", content: draft }];
    const controller = new AbortController();
    stop.current = () => controller.abort();
    setDraft("");
    setRunning(true);
    let content = "";
    const show = () => setMessages([...asked, { role: "assistant", content }]);
    show();
    try {
      // A base model has no chat template, and continues the text.
      const prompt = model.info.chat ? { messages: asked } : draft;
      for await (const piece of model.generate(prompt, { max_tokens: 300, signal: controller.signal })) {
        content += piece.text;
        show();
      }
    } catch (thrown) {
      if (!controller.signal.aborted) content += ` (${thrown.message})`;
      show();
    } finally {
      setRunning(false);
    }
  }

  return (
    <main>
      <p role="status">{statusOf({ model, progress, error })}</p>
      <ol>
        {messages.map(({ role, content }, i) => (
          <li key={i} className={role}>
            {content}
          </li>
        ))}
      </ol>
      <form onSubmit={send}>
        <input aria-label="Message" value={draft} onChange={(event) => setDraft(event.target.value)} />
        <button disabled={!model || running || draft === ""}>Send</button>
        <button type="button" disabled={!running} onClick={() => stop.current()}>
          Stop
        </button>
      </form>
    </main>
  );
}

function statusOf({ model, progress, error }) {
  if (error) return `${error.message}. ${error.nextStep ?? ""}`;
  if (model) return `Ready: ${model.info.backend}, ${model.info.threads} threads, storage ${model.info.keeping.state}`;
  if (!progress?.total_bytes) return "Loading";
  return `Loading: ${Math.round((100 * progress.loaded_bytes) / progress.total_bytes)} %`;
}
