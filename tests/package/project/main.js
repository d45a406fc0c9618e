// The application of every project: runs the model at `?model=` on the page, or with `?in=worker` in a worker. `?base=`
// is passed on. The tests wait for `result`.

import { generate } from "./generate.js";

const wishes = new URLSearchParams(location.search);
const base = wishes.get("base") ?? undefined;
const source = wishes.get("model");

function inWorker() {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  worker.postMessage({ source, base });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message || "the application's worker did not start"));
  });
}

globalThis.result = wishes.get("in") === "worker" ? inWorker() : generate(source, { base });
