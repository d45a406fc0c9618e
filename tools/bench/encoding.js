// @ts-check
// Measures what a decoded token costs the host in Chromium when a graphics adapter computes: from the arrival of the
// last reading to the request for the next, and within that from the first command to the last. It stands outside the
// page and the tests, and needs the page served:
//
//   cargo xtask serve        # in another terminal
//   node tools/bench/encoding.js http://127.0.0.1:8080 [--weights q4] [--tokens 24]
//
// On a machine without a graphics card it takes Chromium's software adapter, whose own time says nothing about a card;
// the host's does not depend on it. It prints one line of JSON and judges nothing.

import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const {
  positionals: [site],
  values,
} = parseArgs({
  allowPositionals: true,
  options: { weights: { type: "string", default: "q4" }, tokens: { type: "string", default: "24" } },
});
if (!site) throw new Error("name the address of the served page");

/** Runs at the beginning of the engine's worker, and notes what it asks of the device. */
const NOTES = `{
const notes = [];
let arrived_ms = 0, first_ms = 0, dispatches = 0;
const { mapAsync } = GPUBuffer.prototype;
GPUBuffer.prototype.mapAsync = function (...args) {
  const now_ms = performance.now();
  notes.push({ host_ms: now_ms - arrived_ms, encoding_ms: now_ms - first_ms, dispatches });
  first_ms = dispatches = 0;
  return mapAsync.apply(this, args).then((mapped) => { arrived_ms = performance.now(); return mapped; });
};
const { dispatchWorkgroups } = GPUComputePassEncoder.prototype;
GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...args) {
  dispatches += 1;
  return dispatchWorkgroups.apply(this, args);
};
const { createCommandEncoder } = GPUDevice.prototype;
GPUDevice.prototype.createCommandEncoder = function (...args) {
  first_ms ||= performance.now();
  return createCommandEncoder.apply(this, args);
};
const channel = new BroadcastChannel("notes");
channel.onmessage = () => channel.postMessage(notes);
}
`;

const browser = await chromium.launch({
  executablePath: process.env.ZAMBA2_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--enable-unsafe-webgpu"],
});
try {
  const context = await browser.newContext();
  await context.route("**/pkg/worker.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: NOTES + (await response.text()) });
  });
  const page = await context.newPage();
  const module = new URL("/pkg/zamba2.js", site).href;
  await page.goto(module);
  const result = await page.evaluate(
    async ({ module, weights, tokens }) => {
      const model = await (
        await import(module)
      ).load({ source: "/www/models/rustdoc-5m/", backend: "webgpu", weights, keep: false });
      // Drawn from a list, so that each token has a reading of its own.
      const options = { temperature: 0.7, top_k: 40, max_tokens: tokens + 2, ignore_eos: true };
      for await (const _ of model.generate("Ownership is", options));
      const channel = new BroadcastChannel("notes");
      /** @type {Promise<{ host_ms: number, encoding_ms: number, dispatches: number }[]>} */
      const told = new Promise((resolve) => {
        channel.onmessage = ({ data }) => resolve(data);
      });
      channel.postMessage("");
      const notes = (await told).slice(-tokens);
      const { adapter } = model.info;
      const token_ms = model.last.gap_ms_p50;
      model.dispose();
      return { adapter: adapter.name, token_ms, notes };
    },
    { module, weights: values.weights, tokens: Number(values.tokens) },
  );
  /** @param {"host_ms" | "encoding_ms"} of */
  const median = (of) => result.notes.map((note) => note[of]).sort((a, b) => a - b)[result.notes.length >> 1];
  const { dispatches } = result.notes[0];
  console.log(
    JSON.stringify({
      adapter: result.adapter,
      dispatches,
      host_ms: median("host_ms"),
      encoding_ms: median("encoding_ms"),
      token_ms: result.token_ms,
    }),
  );
} finally {
  await browser.close();
}
